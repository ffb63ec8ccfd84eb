//! `pagetie_loan_*`, and what makes a loan.

use super::space::pagetie_space;
use super::{Failure, free, give, guard, handle, options, output, pagetie_error, pagetie_status};
use crate::Loan;
use std::ffi::c_void;

/// Pages of yours that a space shows for a while, moved there and not copied. Made by
/// pagetie_space_lend.
#[derive(Debug)]
pub struct pagetie_loan(
    // None after a panic, and for the moment of a pagetie_loan_give_back.
    Option<Loan>,
);

/// Moves `len` bytes of your own memory at `addr` into a space at `at`, without copying them. Meanwhile
/// the vacated addresses read zeros, or fault with `guarded` 1; pagetie_loan_give_back brings the pages
/// back, with all that was written to them. What was in the space is kept and comes back too.
///
/// `addr` (private anonymous memory, mmap'd by you), `at` and `len` are multiples of the page size, as
/// addresses. pagetie_untie_all and pagetie_space_free give loans back; pagetie_space_leak does not.
/// Ties, loans and borrowing are refused over both ranges, pagetie_protect stays below what the memory
/// allowed you, and pagetie_discard throws your bytes away.
///
/// You promise: the pages are plain data of yours alone; until they are back nobody frees, unmaps, maps
/// or writes the vacated addresses; nobody accesses the pages during this call and pagetie_loan_give_back;
/// no pointer that the compiler may have cached goes into them across these calls; nobody unmaps or
/// replaces them in the space, where they are the only ones.
///
/// Fails as PAGETIE_NULL, PAGETIE_INVALID (guarded), PAGETIE_MISALIGNED, PAGETIE_EMPTY,
/// PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED (in a forked child), PAGETIE_OVERLAP (a tie or loan in the space; a
/// live space or pages that are lent at addr), PAGETIE_NOT_MAPPED, PAGETIE_REFUSED_MEMORY (not private
/// anonymous memory that can be read), PAGETIE_UNSUPPORTED (without /proc), PAGETIE_LIMIT,
/// PAGETIE_NO_MEMORY, PAGETIE_OS. On failure both are as they were. Release it with
/// pagetie_loan_give_back or pagetie_loan_free. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_space_lend(
    space: *const pagetie_space,
    at: usize,
    addr: *mut c_void,
    len: usize,
    guarded: i32,
    out: *mut *mut pagetie_loan,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_space_lend", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        output(addr, "addr")?;
        let out = output(out, "out")?;
        let addr = addr.cast();
        let loan = match options::flag("guarded", guarded)? {
            // SAFETY: the promises of `Space::lend` are those of the header.
            false => unsafe { space.0.lend(at, addr, len) }?,
            // SAFETY: the same.
            true => unsafe { space.0.lend_guarded(at, addr, len) }?,
        };
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_loan(Some(loan))) };
        Ok(())
    })
}

/// Brings the pages back to the addresses they came from, with all that was written to them, and what
/// they covered back into the space.
///
/// OK, also for a loan that a pagetie_untie_all or pagetie_space_free gave back: the handle is freed, do
/// not use it. Any other status: it is still yours, to retry or to free; pagetie_loan_is_live tells
/// whether a retry can help.
///
/// Fails as PAGETIE_NULL; PAGETIE_CHANGED: somebody replaced pages in the space, [value, value_end), which
/// are lost, and all others are back; or something else lies at the vacated addresses now, and the pages
/// are still at pagetie_loan_addr; PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_OS; PAGETIE_ENDED (in a forked
/// child; or the space is gone and left the pages where they are). Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_loan_give_back(
    loan: *mut pagetie_loan,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_loan_give_back", error, || {
        // SAFETY: the caller's promise: the only call on this handle.
        let place = unsafe { loan.as_mut() }.ok_or(Failure::Null("loan", None))?;
        if let Some(taken) = place.0.take() {
            if let Err(failed) = taken.give_back() {
                place.0 = Some(failed.loan);
                return Err(failed.error.into());
            }
        }
        // SAFETY: made by `give`, not freed by the caller's promise, and not used after this.
        drop(unsafe { Box::from_raw(loan) });
        Ok(())
    })
}

/// Gives the pages back if it can, and frees the handle; if it cannot, the space keeps the record and
/// tries again. NULL does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_loan_free(loan: *mut pagetie_loan) {
    // SAFETY: the caller's promise.
    unsafe { free(loan) };
}

/// Where in the space it begins, in bytes; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_loan_at(loan: *const pagetie_loan) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(loan) }.map_or(0, Loan::at)
}

/// Its length in bytes: whole pages; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_loan_len(loan: *const pagetie_loan) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(loan) }.map_or(0, Loan::len)
}

/// The address of its first byte in the space; NULL of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_loan_addr(loan: *const pagetie_loan) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { get(loan) }.map_or(std::ptr::null_mut(), |loan| loan.as_ptr().cast())
}

/// The address that it goes back to; NULL of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_loan_home(loan: *const pagetie_loan) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { get(loan) }.map_or(std::ptr::null_mut(), |loan| loan.home().cast())
}

/// 1 until it ended, 0 afterwards and of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_loan_is_live(loan: *const pagetie_loan) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { get(loan) }.map_or(0, |loan| i32::from(loan.is_live()))
}

/// # Safety
/// NULL, or a loan that was not freed.
unsafe fn get<'a>(loan: *const pagetie_loan) -> Option<&'a Loan> {
    // SAFETY: the caller's promise.
    unsafe { loan.as_ref() }?.0.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    #[test]
    fn a_handle_that_a_panic_emptied_can_be_given_back_and_freed() {
        let emptied = || Box::into_raw(Box::new(pagetie_loan(None)));
        let loan = emptied();
        // SAFETY: handles made here, freed once.
        unsafe {
            assert_eq!(pagetie_loan_is_live(loan), 0);
            assert_eq!((pagetie_loan_at(loan), pagetie_loan_len(loan)), (0, 0));
            assert!(pagetie_loan_addr(loan).is_null() && pagetie_loan_home(loan).is_null());
            assert_eq!(pagetie_loan_give_back(loan, null_mut()), pagetie_status::PAGETIE_OK);
            pagetie_loan_free(emptied());
        }
    }
}
