//! `pagetie_tie_*`, and the verbs that act on a tie.

use super::options::{RawAccess, pagetie_tie_options};
use super::region::pagetie_region;
use super::space::pagetie_space;
use super::{
    Failure, give, guard, handle, options, output, pagetie_error, pagetie_status, quietly,
};
use crate::Tie;
use crate::page::Extent;
use std::ffi::c_void;

/// One alias: pages of a region, shown in a space. Made by pagetie_tie_new and pagetie_tie_all.
#[derive(Debug)]
pub struct pagetie_tie(
    // None after a panic, and for the moment of a pagetie_untie.
    Option<Tie>,
);

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
        unsafe { give(out, pagetie_tie(Some(tie))) };
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
            unsafe { give(outs.add(index), pagetie_tie(Some(tie))) };
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
            Some(tie) => Ok(tie.retie(&region.0, offset)?),
            None => Err(ended()),
        }
    })
}

/// Takes the alias away: what was there before comes back, with its bytes, protection and mapping.
///
/// OK, also for a tie that had ended: the handle is freed, do not use it. Any other status: it is
/// still yours, to retry or to free.
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
        if let Some(taken) = place.0.take() {
            if let Err(failed) = taken.untie() {
                place.0 = Some(failed.tie);
                return Err(failed.error.into());
            }
        }
        // SAFETY: made by `give`, not freed by the caller's promise, and not used after this.
        drop(unsafe { Box::from_raw(tie) });
        Ok(())
    })
}

/// Unties if it can, and frees the handle; if it cannot, the space keeps the record and tries
/// again. NULL does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_free(tie: *mut pagetie_tie) {
    if !tie.is_null() {
        // SAFETY: made by `give`, and not freed by the caller's promise.
        let tie = unsafe { Box::from_raw(tie) };
        quietly((), move || drop(tie));
    }
}

/// Frees the handle and what was covered; the alias stays where it is for good. NULL does nothing.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_leak(tie: *mut pagetie_tie) {
    if !tie.is_null() {
        // SAFETY: made by `give`, and not freed by the caller's promise.
        let tie = unsafe { Box::from_raw(tie) };
        quietly((), move || {
            if let Some(tie) = tie.0 {
                tie.leak();
            }
        });
    }
}

/// Where in the space it begins, in bytes; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_at(tie: *const pagetie_tie) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(0, Tie::at)
}

/// Its length in bytes: whole pages; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_len(tie: *const pagetie_tie) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(0, Tie::len)
}

/// The byte of the region that it begins with; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_offset(tie: *const pagetie_tie) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(0, Tie::offset)
}

/// The address of its first byte; NULL of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_addr(tie: *const pagetie_tie) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(std::ptr::null_mut(), |tie| tie.as_ptr().cast())
}

/// 1 until it ended, 0 afterwards and of NULL: our record, not the kernel's, which pagetie_inspect
/// asks. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_tie_is_live(tie: *const pagetie_tie) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { get(tie) }.map_or(0, |tie| i32::from(tie.is_live()))
}

/// # Safety
/// NULL, or a tie that was not freed.
unsafe fn get<'a>(tie: *const pagetie_tie) -> Option<&'a Tie> {
    // SAFETY: the caller's promise.
    unsafe { tie.as_ref() }?.0.as_ref()
}

/// Of a handle that holds nothing: a panic took it.
fn ended() -> Failure {
    Failure::Refused(crate::Error::ended(crate::error::Op::Retie, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    /// What a panic inside of pagetie_untie leaves behind.
    fn emptied() -> *mut pagetie_tie {
        Box::into_raw(Box::new(pagetie_tie(None)))
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
            assert_eq!(pagetie_untie(tie, null_mut()), pagetie_status::PAGETIE_OK);
            pagetie_tie_free(emptied());
            pagetie_tie_leak(emptied());
        }
    }
}
