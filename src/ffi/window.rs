//! `pagetie_window_*`.

use super::options::{self, RawAccess, pagetie_tie_options};
use super::region::pagetie_region;
use super::space::pagetie_space;
use super::{Failure, free, give, guard, handle, output, pagetie_error, pagetie_status};
use crate::error::{Error, Op};
use crate::page::Extent;
use crate::{Preparer, Window};

/// A tie that slides along a region much larger than itself. Made by pagetie_window_new.
#[derive(Debug)]
pub struct pagetie_window {
    // None after a panic, and for the moment of a pagetie_window_untie.
    window: Option<Window>,
    // Apart from the window, since one thread prepares while another shows.
    preparer: Preparer,
}

/// A window of `len` bytes at `at` of a space, which shows the region's start at first; if the
/// region is shorter, as long as that. `at` and `len` are as for pagetie_tie_new. NULL options are
/// the defaults.
///
/// Fails as pagetie_tie_new does. Release it with pagetie_window_untie or pagetie_window_free.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_new(
    space: *const pagetie_space,
    at: usize,
    len: usize,
    region: *const pagetie_region,
    access: RawAccess,
    options: *const pagetie_tie_options,
    out: *mut *mut pagetie_window,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_window_new", error, || {
        // SAFETY: the caller's promise.
        let space = unsafe { handle(space, "space")? };
        // SAFETY: the same.
        let region = unsafe { handle(region, "region")? };
        let out = output(out, "out")?;
        // SAFETY: the same.
        let how = unsafe { options::tie(options)? }(access.check(None)?);
        let window = Window::new(&space.0, at, len, &region.0, how)?;
        let preparer = window.preparer();
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { give(out, pagetie_window { window: Some(window), preparer }) };
        Ok(())
    })
}

/// Slides so that [offset, offset + len) of the region is visible, and says in `*at` where in the
/// space its first byte now is. Of any alignment; the pages that the bytes lie in must fit into the
/// window. Nothing happens where they are visible already; what pagetie_window_prepare made ready
/// is moved in, in one step. `at` may be NULL.
///
/// Fails as PAGETIE_NULL, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE, and as pagetie_retie does. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_show(
    window: *mut pagetie_window,
    offset: usize,
    len: usize,
    at: *mut usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_window_show", error, || {
        output(window, "window")?;
        // SAFETY: not NULL. Only this field: another thread may use the other, to prepare.
        let window = unsafe { &mut (*window).window };
        let window = window.as_mut().ok_or_else(ended)?;
        let shown = window.show_extent(Extent::new(offset, len))?;
        if !at.is_null() {
            // SAFETY: writable by the caller's promise.
            unsafe { at.write(shown) };
        }
        Ok(())
    })
}

/// Makes ready what pagetie_window_show of the same bytes will need: mapped in, in steps of
/// at most 256 KiB. For a thread of the caller's, while another one reads what is shown: this call
/// may run beside pagetie_window_show. One range is kept ready.
///
/// Fails as PAGETIE_NULL, PAGETIE_EMPTY, PAGETIE_OUT_OF_RANGE, PAGETIE_ENDED (in a forked child),
/// PAGETIE_LIMIT, PAGETIE_NO_MEMORY, PAGETIE_OS. Showing works all the same. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_prepare(
    window: *const pagetie_window,
    offset: usize,
    len: usize,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_window_prepare", error, || {
        output(window.cast_mut(), "window")?;
        // SAFETY: not NULL. Only this field, which nobody writes: another thread may use the other.
        let preparer = unsafe { &(*window).preparer };
        Ok(preparer.prepare_extent(Extent::new(offset, len))?)
    })
}

/// Takes the window away: what was there before comes back. OK frees the handle; any other status
/// leaves it yours, to retry or to free.
///
/// Fails as PAGETIE_NULL, and as pagetie_untie does. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_untie(
    window: *mut pagetie_window,
    error: *mut pagetie_error,
) -> pagetie_status {
    guard("pagetie_window_untie", error, || {
        // SAFETY: the caller's promise: the only call on this handle.
        let place = unsafe { window.as_mut() }.ok_or(Failure::Null("window", None))?;
        if let Some(taken) = place.window.take() {
            if let Err((error, window)) = taken.try_untie() {
                place.window = Some(window);
                return Err(error.into());
            }
        }
        // SAFETY: made by `give`, not freed by the caller's promise, and not used after this.
        drop(unsafe { Box::from_raw(window) });
        Ok(())
    })
}

/// Unties if it can, and frees the handle; if it cannot, the space keeps the record and tries
/// again. NULL does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_free(window: *mut pagetie_window) {
    // SAFETY: the caller's promise.
    unsafe { free(window) };
}

/// Where in the space it begins, in bytes; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_at(window: *const pagetie_window) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(window) }.map_or(0, Window::at)
}

/// Its length in bytes: whole pages; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_len(window: *const pagetie_window) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(window) }.map_or(0, Window::len)
}

/// The byte of the region that is visible at its start; 0 of NULL. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagetie_window_offset(window: *const pagetie_window) -> usize {
    // SAFETY: the caller's promise.
    unsafe { get(window) }.map_or(0, |window| window.shown().start)
}

/// # Safety
/// NULL, or a window that was not freed, and that nobody shows now.
unsafe fn get<'a>(window: *const pagetie_window) -> Option<&'a Window> {
    // SAFETY: the caller's promise.
    unsafe { window.as_ref() }?.window.as_ref()
}

/// Of a handle that holds nothing: a panic took it.
fn ended() -> Failure {
    Failure::Refused(Error::ended(Op::Show, false))
}
