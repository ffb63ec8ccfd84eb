//! `pagetie_tie_*`, and the verbs that act on a tie.

use super::options::{RawAccess, pagetie_tie_options};
use super::region::pagetie_region;
use super::space::pagetie_space;
use super::{
    Failure, free, give, guard, handle, options, output, pagetie_error, pagetie_status, quietly,
};
use crate::error::Op;
use crate::page::Extent;
use crate::{Parked, Tie};
use std::ffi::c_void;

/// One alias: pages of a region, shown in a space, or parked. Made by pagetie_tie_new and
/// pagetie_tie_all.
#[derive(Debug)]
pub struct pagetie_tie(State);

#[derive(Debug)]
enum State {
    Tied(Tie),
    Parked(Parked),
    /// After a panic, and for the moment of a call that takes it.
    Nothing,
}

impl State {
    fn take(&mut self) -> Self {
        std::mem::replace(self, State::Nothing)
    }
}

impl pagetie_tie {
    pub(super) fn new(tie: Tie) -> Self {
        Self(State::Tied(tie))
    }
}

/// One item of pagetie_tie_all. Never grows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pagetie_tie_item {
    /// Whose pages.
    pub region: *const pagetie_region,
    /// Where in the space, in bytes.
    pub at: usize,
    /// The byte of the region that it begins with.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
    /// What it may do.
    pub access: RawAccess,
    /// 0.
    pub reserved: i32,
}

const _: () = assert!(size_of::<pagetie_tie_item>() == 40);

/// Ties [offset, offset + len) of a region to a space at `at`: both addresses show the same pages
/// from now on. What was there is kept and comes back with pagetie_untie, unless the options say
/// otherwise. NULL options are the defaults.
///
/// `at`, `offset` and `len` are multiples of the region's page size, as addresses: where a borrowed
/// space does not start on a page, `at` is shifted by as much. A range may end at a file's end
/// inside its last page. A read of a hole of a sparse region takes memory for it.
///
/// Fails as PAGETIE_NULL, PAGETIE_INVALID, PAGETIE_MISALIGNED, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE,
/// PAGETIE_ENDED (in a forked child), PAGETIE_READ_ONLY, PAGETIE_UNSUPPORTED, PAGETIE_OVERLAP,
/// PAGETIE_NOT_MAPPED, PAGETIE_REFUSED_MEMORY, PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_OS; looked
/// for in this order. On failure the memory is as it was. Release it with pagetie_untie or
/// pagetie_tie_free. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_new(
    space: *const pagetie_space,
    at: usize,
    region: *const pagetie_region,
    offset: usize,
    len: usize,
    access: RawAccess,
    options: *const pagetie_tie_options,
    out: *mut *mut pagetie_tie,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_tie_new", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        // SAFETY: the same.
        let region = unsafe { handle(region, "region")? };
        let out = output(out, "out")?;
        // SAFETY: the same.
        let how = unsafe { options::tie(options)? }(access.check(None)?);
        let tie = space.0.tie_extent(at, &region.0, Extent::new(offset, len), how)?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_tie::new(tie)) };
        Ok(())
    })
}

/// Ties all of a list, or nothing. `items` and `outs` have `count` places. Neighbours that continue
/// each other in space and region are laid in one system call. No items: OK, and both may be NULL.
///
/// Fails as pagetie_tie_new does, with the number of the item in error.index; PAGETIE_OVERLAP also
/// of two items. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_all(
    space: *const pagetie_space,
    items: *const pagetie_tie_item,
    count: usize,
    options: *const pagetie_tie_options,
    outs: *mut *mut pagetie_tie,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_tie_all", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        if count > 0 {
            output(items.cast_mut(), "items")?;
            output(outs, "outs")?;
        }
        // SAFETY: the same.
        let how = unsafe { options::tie(options)? };
        if count > isize::MAX as usize / size_of::<pagetie_tie_item>() {
            return Err(Failure::Invalid("count", count as i64, None));
        }
        if count == 0 {
            return Ok(space.0.tie_extents(std::iter::empty()).map(drop)?);
        }
        // SAFETY: not NULL, `count` readable items by the caller's promise, of integers and pointers.
        let items = unsafe { std::slice::from_raw_parts(items, count) };
        let mut checked = Vec::with_capacity(count);
        for (index, item) in items.iter().enumerate() {
            // SAFETY: the caller's promise.
            let region = unsafe { item.region.as_ref() };
            let region = region.ok_or(Failure::Null("region", Some(index)))?;
            if item.reserved != 0 {
                let value = i64::from(item.reserved);
                return Err(Failure::Invalid("reserved", value, Some(index)));
            }
            let how = how(item.access.check(Some(index))?);
            checked.push((item.at, &region.0, Extent::new(item.offset, item.len), how));
        }
        let ties = space.0.tie_extents(checked.into_iter())?;
        for (index, tie) in ties.into_iter().enumerate() {
            // SAFETY: `outs` has `count` places by the caller's promise, and there are as many ties.
            unsafe { give(outs.add(index), pagetie_tie::new(tie)) };
        }
        Ok(())
    })
}

/// Shows other pages at the same place, those of `region` from `offset` on, in one step: every
/// reader sees old or new. What is covered stays kept, and the access's own protection returns.
///
/// Fails as PAGETIE_NULL, PAGETIE_MISALIGNED, PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED,
/// PAGETIE_READ_ONLY, PAGETIE_UNSUPPORTED, PAGETIE_OVERLAP: nothing has changed; PAGETIE_LIMIT,
/// PAGETIE_NO_MEMORY, PAGETIE_OS: the old pages are still shown; PAGETIE_CHANGED: the tie has
/// ended. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_retie(
    tie: *mut pagetie_tie,
    region: *const pagetie_region,
    offset: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_retie", error, || {
        // SAFETY: the caller's promise: the only call on this handle.
        let tie = unsafe { tie.as_mut() }.ok_or(Failure::Null("tie", None))?;
        // SAFETY: the caller's promise.
        let region = unsafe { handle(region, "region")? };
        match &mut tie.0 {
            State::Tied(tie) => Ok(tie.retie(&region.0, offset)?),
            State::Parked(_) => Err(not(Op::Retie, "the tie is parked: resume it first")),
            State::Nothing => Err(ended(Op::Retie)),
        }
    })
}

/// Takes the alias away: what was there before comes back, with its bytes, protection and mapping.
///
/// OK, also for a tie that had ended or is parked: the handle is freed, do not use it. Any other
/// status: it is still yours, to retry or to free.
///
/// Fails as PAGETIE_NULL, PAGETIE_CHANGED (nothing was touched, the tie has ended: free it),
/// PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_ENDED (in a forked child), PAGETIE_OS. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_untie(
    tie: *mut pagetie_tie,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_untie", error, || {
        // SAFETY: the caller's promise: the only call on this handle.
        let place = unsafe { tie.as_mut() }.ok_or(Failure::Null("tie", None))?;
        if let State::Tied(taken) = place.0.take() {
            if let Err(failed) = taken.untie() {
                place.0 = State::Tied(failed.tie);
                return Err(failed.error.into());
            }
        }
        // SAFETY: made by `give`, not freed by the caller's promise, and not used after this.
        drop(unsafe { Box::from_raw(tie) });
        Ok(())
    })
}

/// Takes the alias off its addresses with its page tables: parked, the handle may be resumed, here
/// or in another space, without a page fault to follow. What the tie covered comes back, as with
/// pagetie_untie. Worth it from about 2 MiB on, for pages that were touched or populated.
///
/// A parked tie is not live, and its place and address are 0; pagetie_untie, pagetie_tie_free and
/// pagetie_tie_leak let go of it. It keeps its region's pages, and outlives the space it came from.
///
/// Fails as PAGETIE_NULL, PAGETIE_ENDED, PAGETIE_UNSUPPORTED (it is parked already, or parts of it
/// were advised differently), PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_OS: the tie is as live as
/// before; PAGETIE_CHANGED: nothing was touched, the tie has ended. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_park(
    tie: *mut pagetie_tie,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_tie_park", error, || {
        // SAFETY: the caller's promise: the only call on this handle.
        let place = unsafe { tie.as_mut() }.ok_or(Failure::Null("tie", None))?;
        match place.0.take() {
            State::Tied(tied) => match tied.park() {
                Ok(parked) => {
                    place.0 = State::Parked(parked);
                    Ok(())
                }
                Err(failed) => {
                    place.0 = State::Tied(failed.tie);
                    Err(failed.error.into())
                }
            },
            State::Parked(parked) => {
                place.0 = State::Parked(parked);
                Err(not(Op::Park, "the tie is parked already"))
            }
            State::Nothing => Err(ended(Op::Park)),
        }
    })
}

/// Moves a parked tie into a space at `at`, its page tables with it: whole where the addresses agree
/// with those it was parked from modulo 2 MiB. What is there is covered as the options said that the
/// tie was made with.
///
/// Fails as pagetie_tie_new does about `at`, and as PAGETIE_UNSUPPORTED where the tie is not parked.
/// On failure it stays parked, and the memory is as it was. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_resume(
    tie: *mut pagetie_tie,
    space: *const pagetie_space,
    at: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_tie_resume", error, || {
        // SAFETY: the caller's promise: the only call on this handle.
        let place = unsafe { tie.as_mut() }.ok_or(Failure::Null("tie", None))?;
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        match place.0.take() {
            State::Parked(parked) => match parked.resume(&space.0, at) {
                Ok(tie) => {
                    place.0 = State::Tied(tie);
                    Ok(())
                }
                Err(failed) => {
                    place.0 = State::Parked(failed.parked);
                    Err(failed.error.into())
                }
            },
            State::Tied(tie) => {
                place.0 = State::Tied(tie);
                Err(not(Op::Resume, "the tie is not parked"))
            }
            State::Nothing => Err(ended(Op::Resume)),
        }
    })
}

/// Unties if it can, and frees the handle; if it cannot, the space keeps the record and tries
/// again. NULL does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_free(tie: *mut pagetie_tie) {
    // SAFETY: the caller's promise.
    unsafe { free(tie) };
}

/// Frees the handle and what was covered; the alias stays where it is for good. NULL does nothing.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_leak(tie: *mut pagetie_tie) {
    if !tie.is_null() {
        // SAFETY: made by `give`, and not freed by the caller's promise.
        let tie = unsafe { Box::from_raw(tie) };
        quietly((), move || {
            if let State::Tied(tie) = tie.0 {
                tie.leak();
            }
        });
    }
}

/// Where in the space it begins, in bytes; 0 of NULL and where it is parked. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_at(tie: *const pagetie_tie) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(0, Tie::at)
}

/// Its length in bytes: whole pages; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_len(tie: *const pagetie_tie) -> usize {
    // SAFETY: the caller's promise.
    unsafe { tie.as_ref() }.map_or(0, |tie| match &tie.0 {
        State::Tied(tie) => tie.len(),
        State::Parked(parked) => parked.len(),
        State::Nothing => 0,
    })
}

/// The byte of the region that it begins with; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_offset(tie: *const pagetie_tie) -> usize {
    // SAFETY: the caller's promise.
    unsafe { tie.as_ref() }.map_or(0, |tie| match &tie.0 {
        State::Tied(tie) => tie.offset(),
        State::Parked(parked) => parked.offset(),
        State::Nothing => 0,
    })
}

/// The address of its first byte; NULL of NULL and where it is parked. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_addr(tie: *const pagetie_tie) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(std::ptr::null_mut(), |tie| tie.as_ptr().cast())
}

/// 1 until it ended, 0 afterwards, while it is parked, and of NULL: our record, not the kernel's,
/// which pagetie_inspect asks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_is_live(tie: *const pagetie_tie) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(0, |tie| i32::from(tie.is_live()))
}

/// 1 where its address and its offset agree modulo 2 MiB, so that huge pages of the region
/// (pagetie_region_collapse) are huge here too and page tables move whole; 0 where they do not, while
/// it is parked, and of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_is_congruent(tie: *const pagetie_tie) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(0, |tie| i32::from(tie.is_congruent()))
}

/// # Safety
/// NULL, or a tie that was not freed.
unsafe fn get<'a>(tie: *const pagetie_tie) -> Option<&'a Tie> {
    // SAFETY: the caller's promise.
    match &unsafe { tie.as_ref() }?.0 {
        State::Tied(tie) => Some(tie),
        State::Parked(_) | State::Nothing => None,
    }
}

/// Of a handle that holds nothing: a panic took it.
fn ended(op: Op) -> Failure {
    Failure::Refused(crate::Error::ended(op, false))
}

/// Of a handle that is in another state than the call needs.
fn not(op: Op, why: &'static str) -> Failure {
    Failure::Refused(crate::Error::unsupported(op, why, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    /// What a panic inside of pagetie_untie leaves behind.
    fn emptied() -> *mut pagetie_tie {
        Box::into_raw(Box::new(pagetie_tie(State::Nothing)))
    }

    #[test]
    fn a_handle_that_a_panic_emptied_has_ended_and_can_be_freed() {
        let tie = emptied();
        let region = super::super::region::pagetie_region(
            crate::Region::new(crate::page::size()).expect("a region"),
        );
        // SAFETY: handles made here, freed once.
        unsafe {
            assert_eq!(pagetie_tie_is_live(tie), 0);
            assert_eq!((pagetie_tie_at(tie), pagetie_tie_len(tie)), (0, 0));
            assert!(pagetie_tie_addr(tie).is_null());
            let status = pagetie_retie(tie, &raw const region, 0, null_mut());
            assert_eq!(status, pagetie_status::PAGETIE_ENDED);
            assert_eq!(pagetie_tie_park(tie, null_mut()), pagetie_status::PAGETIE_ENDED);
            assert_eq!(pagetie_untie(tie, null_mut()), pagetie_status::PAGETIE_OK);
            pagetie_tie_free(emptied());
            pagetie_tie_leak(emptied());
        }
    }
}
