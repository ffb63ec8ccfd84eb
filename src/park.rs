//! [`Parked`]: an alias off its addresses, still warm.
//!
//! ```text
//!   tied       home [ alias, mapped in ]          aside [ what it covers ]
//!   parked     home [ what it covered  ]          place [ alias, mapped in ]
//! ```
//!
//! What a tie costs is not its system call but the page faults after it. A tie that is parked takes its
//! page tables along, and brings them where it is resumed: one mremap, and no fault follows. For a chunk
//! that many short programs look at, one after another, in this space or in others.
//!
//! Source: mremap(2) `MREMAP_DONTUNMAP`, of file maps since Linux 5.13.

#![allow(unsafe_code, reason = "moves aliases of ours")]

use crate::alias::{Alias, Failed};
use crate::error::{Error, Op, ResumeError, UntieError};
use crate::inspect::Confirmed;
use crate::keep::{Cover, Protections, Return};
use crate::ledger::Standing;
use crate::options::{Access, Prefault};
use crate::page::Pages;
use crate::process::Process;
use crate::reservation::{Reservation, congruent_place};
use crate::sys::{self, Call, Errno};
use crate::{Region, Result, Space, Tie, untie};
use std::fmt;
use std::ops::ControlFlow;

/// An alias that was taken off its addresses with [`Tie::park`], its pages still mapped in.
///
/// It keeps the region's pages alive, takes one mapping and the addresses of its length, and nothing
/// of a space. Private pages of a copy-on-write tie stay with it. Dropping it lets go of the alias.
///
/// ```
/// use pagetie::{Access, Region, Space, page};
/// let page = page::size();
/// let region = Region::new(page)?;
/// let (first, second) = (Space::reserve(4 * page)?, Space::reserve(4 * page)?);
/// let tie = first.tie(page, &region, .., Access::ReadWrite)?;
/// region.write_at(0, b"warm")?;
/// let parked = tie.park()?; // what the tie covered is back in the first space
/// let tie = parked.resume(&second, 2 * page)?;
/// // SAFETY: the tie is live, and nobody writes the byte now.
/// assert_eq!(unsafe { tie.as_ptr().read_volatile() }, b'w');
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a parked alias that is dropped is gone"]
pub struct Parked {
    alias: Alias,
    place: Aside,
}

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

impl Tie {
    /// Takes the alias off its addresses with its page tables, to be resumed elsewhere; what it covered
    /// comes back as with [`Tie::untie`].
    ///
    /// Pages of it that were locked are not locked while parked, nor afterwards, nor in a tie that comes
    /// back in an error. The alias has the
    /// protection of its access again, whatever [`Space::protect`] did.
    ///
    /// Worth it from about 2 MiB on, for pages that were touched or populated: page tables move whole
    /// where old and new addresses agree modulo 2 MiB, and page by page otherwise. A region of huge pages
    /// is mapped anew instead, since those do not move this way; that costs next to nothing.
    ///
    /// # Errors
    /// The tie comes back in the error, as live as before, except as [`Tie::untie`] says.
    /// - [`Ended`](crate::ErrorKind::Ended);
    /// - [`Changed`](crate::ErrorKind::Changed): as for [`Tie::untie`];
    /// - [`Unsupported`](crate::ErrorKind::Unsupported): the kernel has the alias as several mappings,
    ///   since parts of it were advised differently (madvise), or since private pages were written in
    ///   parts that differed in protection; or it is older than Linux 5.13;
    /// - [`Limit`](crate::ErrorKind::Limit), [`NoMemory`](crate::ErrorKind::NoMemory),
    ///   [`Os`](crate::ErrorKind::Os).
    ///
    /// # Threads
    /// A thread that reads the range sees each page old or new, never a fault; of a private page of a
    /// copy-on-write tie it may see the region's bytes in between. What another thread writes through
    /// such a tie during the call can be lost.
    ///
    /// # Source
    /// mremap(2) `MREMAP_DONTUNMAP`.
    #[doc(alias = "mremap")]
    pub fn park(self) -> Result<Parked, UntieError> {
        match self.take_off() {
            Ok(parked) => Ok(parked),
            Err(error) => Err(UntieError { error, tie: self }),
        }
    }

    fn take_off(&self) -> Result<Parked> {
        let (op, shared, record) = (Op::Park, &*self.shared, &*self.record);
        let (process, home) = (shared.process, record.pages);
        shared.check_fork(op)?;
        if !self.is_live() {
            return Err(Error::ended(op, false));
        }
        let mut state = shared.lock(op)?;
        let state = &mut *state;
        let mut body = record.body();
        let whole = body.cover.as_ref().and_then(Cover::left) == Some(home);
        if !self.is_live() || !whole || body.standing != Standing::Held {
            return Err(Error::ended(op, false));
        }
        let now = match shared.confirm(state, op, home, &body.alias, home.start())? {
            Confirmed::Same(now) => now,
            Confirmed::Changed { some_left } => {
                untie::end_changed(state, record, &mut body, some_left);
                return Err(Error::changed(op, shared.span(home)));
            }
        };
        let failed = |(call, errno)| match errno {
            Errno::INVAL if call == Call::Mremap => Error::unsupported(op, TOO_OLD, None),
            Errno::INVAL if call == Call::Mprotect => Error::unsupported(op, SEVERAL, None),
            _ => process.failed(op, shared.span(home), call, errno),
        };
        // SAFETY: the kernel just confirmed that these are our own alias's, of which no reference was
        // ever lent.
        let place = unsafe { set_aside(process, &body.alias, home, &now, failed)? };
        let laid = body.alias.protection();
        let Some(cover) = body.cover.as_mut() else {
            return Err(Error::ended(op, false));
        };
        let how = Return {
            now: Some(&now),
            laid,
            zeros: state.zeros,
            beliefs: state.beliefs.as_mut(),
            undoing: false,
            insist_on_locks: true,
        };
        // SAFETY: at home lies what the kernel left of our alias.
        if let Err((call, errno)) = unsafe { cover.bring_back(how) } {
            let error = process.failed(op, shared.span(home), call, errno);
            match cover.left() {
                Some(left) => {
                    // SAFETY: moved off above, and what was covered has not come back to `left`.
                    unsafe { move_back(place, home, left, &now) };
                    let again = shared.confirm(state, op, left, &body.alias, home.start());
                    if !matches!(again, Ok(Confirmed::Same(_))) {
                        shared.fill_holes(left);
                        body.standing = Standing::Stranded;
                    }
                }
                None => {
                    // All is back, but for a lock.
                    untie::ended(state, record, &mut body);
                }
            }
            return Err(error);
        }
        let alias = body.alias.clone();
        untie::ended(state, record, &mut body);
        Ok(Parked { alias, place })
    }
}

const SEVERAL: &str = "the kernel has the alias as several mappings, since parts of it were advised \
                       differently (madvise), or written while their protections differed";
const TOO_OLD: &str = "taking an alias off its addresses needs Linux 5.13";

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
        // Moved while locked, DONTUNMAP would unlock its neighbours and miscount.
        let unlocked = sys::unlock(home.start(), home.len()).map_err(by(Call::Munlock));
        unlocked.map_err(&failed)?;
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

impl Parked {
    /// Moves the alias into a space, at `at`: the space it came from, or any other. What is there is
    /// covered as the tie's options say, those it was made with.
    ///
    /// # Units
    /// `at`: bytes of the space, as for [`Space::tie`]. Page tables move whole where the addresses agree
    /// with those it was parked from modulo 2 MiB (1 GiB for a gigabyte and more).
    ///
    /// # Errors
    /// Those of [`Space::tie`]. The parked alias comes back in the error, and the memory is as it was.
    ///
    /// # Threads
    /// As [`Space::tie`].
    ///
    /// # Source
    /// mremap(2) `MREMAP_FIXED`.
    #[doc(alias = "mremap")]
    pub fn resume(self, space: &Space, at: usize) -> Result<Tie, ResumeError> {
        if !self.place.process.is_current() {
            return Err(ResumeError { error: Error::ended(Op::Resume, true), parked: self });
        }
        match space.tie_parked(at, &self.alias, self.place.pages()) {
            Ok(tie) => {
                self.place.moved();
                Ok(tie)
            }
            Err(error) => Err(ResumeError { error, parked: self }),
        }
    }

    /// Whose pages it shows.
    pub fn region(&self) -> &Region {
        &self.alias.region
    }

    /// The byte of the region that it begins with.
    pub fn offset(&self) -> usize {
        self.alias.offset
    }

    /// Its length in bytes: whole pages.
    pub fn len(&self) -> usize {
        self.place.pages().len()
    }

    /// Always false: an alias has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What it may do once it is resumed.
    pub fn access(&self) -> Access {
        self.alias.options.access
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("offset", &self.offset())
            .field("len", &self.len())
            .field("access", &self.access())
            .finish_non_exhaustive()
    }
}
