//! [`Aside`]: an alias off its addresses, at a place that nobody else knows.
//!
//! ```text
//!   home    [ alias, mapped in ]  --mremap(DONTUNMAP)-->  [ alias, nothing mapped in ]
//!   aside                                                 [ alias, mapped in ]
//! ```
//!
//! Its page tables go with it, and its addresses go on to show the same pages, to be faulted in anew.
//!
//! Source: mremap(2) `MREMAP_DONTUNMAP`, of file maps since Linux 5.13.

#![allow(unsafe_code, reason = "moves aliases of ours")]

use crate::alias::{Alias, Failed};
use crate::keep::{self, Protections};
use crate::options::Prefault;
use crate::page::Pages;
use crate::process::Process;
use crate::reservation::{Reservation, congruent_place};
use crate::sys::{self, Call, Errno};
use std::ops::ControlFlow;

/// A mapping of ours at addresses that nobody else knows. Unmapped on drop, but not in a forked child.
#[derive(Debug)]
pub(crate) struct Aside {
    process: &'static Process,
    pages: Pages,
}

impl Aside {
    pub const fn new(process: &'static Process, pages: Pages) -> Self {
        Self { process, pages }
    }

    pub const fn pages(&self) -> Pages {
        self.pages
    }

    pub const fn process(&self) -> &'static Process {
        self.process
    }

    /// Whether this process has it, and is no forked child of one that does.
    pub fn is_ours(&self) -> bool {
        self.process.is_current()
    }

    /// It was moved to other addresses.
    pub fn moved(self) {
        std::mem::forget(self);
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if self.process.is_current() {
            // SAFETY: our own mapping, which nobody else knows the place of.
            let unmap = || unsafe { sys::unmap(self.pages.start(), self.pages.len()) };
            let _ = self.process.ballast().sparing(unmap);
        }
    }
}

/// Moves an alias off `home`, page tables and all. Its addresses show the same pages of the region
/// afterwards, to be faulted in again. On an error it is as before; `failed` is asked what to say of it
/// before that, while the mappings are as many as were too many.
///
/// # Safety
/// At `home` lies the alias, laid there, with the protections `now`; no reference into it lives.
pub(crate) unsafe fn set_aside<E>(
    process: &'static Process,
    alias: &Alias,
    home: Pages,
    now: &Protections,
    failed: impl Fn(Failed) -> E,
) -> Result<Aside, E> {
    if alias.region.is_huge() {
        let built = alias.build_aside(home, Prefault::Populate).map_err(failed);
        return built.map(|pages| Aside::new(process, pages));
    }
    let by = |call| move |errno| (call, errno);
    let locked = sys::is_locked(home.start(), home.len()).map_err(by(Call::Msync));
    if locked.map_err(&failed)? {
        keep::unlock_to_move(process, home).map_err(&failed)?;
    }
    let mremap = by(Call::Mremap);
    if now.len() == 1 {
        // SAFETY: one mapping of ours, or a part of one, that is not locked.
        let start = unsafe { sys::move_aside(home.start(), home.len(), congruent_place(home)) };
        let pages = start.map_err(mremap).map_err(&failed)?;
        let place = Aside::new(process, home.moved_to(pages));
        // SAFETY: moved off in the line above.
        return unsafe { dressed(place, alias, home, now) }.map_err(failed);
    }
    // Its parts differ in protection: moved one by one to their places, they become one there.
    let place = Reservation::congruent(home).map_err(by(Call::Mmap)).map_err(&failed)?;
    let place = Aside::new(process, place.keep());
    let moved_by = place.pages().start().wrapping_sub(home.start());
    for (part, _) in now.iter() {
        let to = part.start().wrapping_add(moved_by);
        // SAFETY: one mapping of ours that is not locked, to a part of our own reservation.
        if let Err(errno) = unsafe { sys::move_over(part.start(), part.len(), to) } {
            let error = failed(mremap(errno));
            // The kernel may have unmapped the target first, and another thread be there by now. At the
            // mapping limit, which is where this fails, it refuses before.
            let ours = sys::hole_filler(to, part.len()).is_ok() || errno == Errno::NOMEM;
            let Aside { pages, .. } = place;
            place.moved();
            let mut rest = Pages::known(to + part.len(), pages.end());
            if ours {
                rest = Pages::known(to, pages.end());
            }
            drop(rest.map(|rest| Aside::new(process, rest)));
            let moved = Pages::known(home.start(), part.start());
            if let (Some(moved), Some(there)) = (moved, Pages::known(pages.start(), to)) {
                // SAFETY: these parts were moved off above, in this order, and nothing since.
                unsafe { move_back(Aside::new(process, there), home, moved, now) };
            }
            return Err(error);
        }
    }
    // SAFETY: all parts of it were moved off in the loop above.
    unsafe { dressed(place, alias, home, now) }.map_err(failed)
}

/// Gives an alias that was moved aside the protection of its access: one mapping again. On an error it
/// goes back.
///
/// # Safety
/// `place` was moved off `home` a moment ago, by [`set_aside`].
unsafe fn dressed(
    place: Aside,
    alias: &Alias,
    home: Pages,
    now: &Protections,
) -> Result<Aside, Failed> {
    let (process, pages) = (place.process, place.pages);
    // SAFETY: our own mapping.
    let protect = || unsafe { sys::protect(pages.start(), pages.len(), alias.protection()) };
    let dressed = process.ballast().sparing(protect).map_err(|errno| (Call::Mprotect, errno));
    let mut mappings = 0;
    if let Some(maps) = process.maps() {
        let _ = maps.visit(pages.start(), pages.end(), |_| {
            mappings += 1;
            ControlFlow::Continue(())
        });
    }
    let dressed = dressed.and(match mappings {
        0 | 1 => Ok(()),
        _ => Err((Call::Mprotect, Errno::INVAL)),
    });
    match dressed {
        Ok(()) => Ok(place),
        Err(failed) => {
            // SAFETY: the caller has just moved it off `home`.
            unsafe { move_back(place, home, home, now) };
            Err(failed)
        }
    }
}

/// Moves what belongs at `part` of `home` back there, in the pieces and with the protections that it had
/// when it was moved, and lets go of the rest. A piece that cannot go back is shown there already, without
/// its private pages.
///
/// # Safety
/// [`set_aside`] moved `place` off `home` with the protections `now`; since then nobody but the kernel
/// has mapped anything at `part`, and no reference into it lives.
pub(crate) unsafe fn move_back(place: Aside, home: Pages, part: Pages, now: &Protections) {
    let (process, pages) = (place.process, place.pages);
    let moved_by = pages.start().wrapping_sub(home.start());
    // Addresses that were moved away are not ours to unmap: piece by piece, then.
    place.moved();
    let unmap = |from: usize, to: usize| {
        if let Some(rest) = Pages::known(from, to) {
            drop(Aside::new(process, rest));
        }
    };
    unmap(pages.start(), part.start().wrapping_add(moved_by));
    for &(piece, protection) in now.iter() {
        let Some(piece) = piece.intersection(part) else { continue };
        let aside = piece.start().wrapping_add(moved_by);
        // SAFETY: our own mapping.
        let protect = || unsafe { sys::protect(aside, piece.len(), protection) };
        // The bytes matter more, should that fail.
        let _ = process.ballast().sparing(protect);
        // SAFETY: a mapping of ours, to where it came from, by the caller's promise.
        let back = || unsafe { sys::move_to(aside, piece.len(), piece.start()) };
        if process.ballast().sparing(back).is_err() {
            unmap(aside, aside + piece.len());
        }
    }
    unmap(part.end().wrapping_add(moved_by), pages.end());
}
