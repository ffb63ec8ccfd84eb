//! [`Cover`]: what a tie covers, how it is moved aside, and how it comes back.
//!
//! ```text
//!   before     home [ engine's pages ]
//!   tied       home [ alias          ]      place [ engine's pages ]
//!   untied     home [ engine's pages ]
//! ```
//!
//! A range may lie over several mappings; each is a [`Piece`] with its own protection and way back. A
//! private mapping moves with `MREMAP_DONTUNMAP`, so that there is never a hole. A shared one is
//! duplicated instead: its object holds the bytes. What nobody wants back comes back as zeros.
//!
//! Source: mremap(2), mlock(2), msync(2), userfaultfd(2).

#![allow(unsafe_code, reason = "moves mappings that were lent, and its own")]

use crate::alias::Failed;
use crate::beliefs::Beliefs;
use crate::inspect::{self, Layout};
use crate::list::OneOrMore;
use crate::options::{Covered, TieOptions};
use crate::page::Pages;
use crate::process::Process;
use crate::reservation::congruent_place;
use crate::sys::{self, Advice, Call, Errno, Protection, Uffd, Vma};
use crate::zeros::Zeros;
use smallvec::SmallVec;

/// What lies under a tie. Dropped, it frees what was kept.
#[derive(Debug)]
pub(crate) struct Cover {
    process: &'static Process,
    /// In the order of addresses, without gaps. What came back is taken off the front. Nearly always one,
    /// which takes no allocation.
    pieces: SmallVec<[Piece; 1]>,
}

/// A part of the covered range that lay in one mapping.
#[derive(Clone, Copy, Debug)]
struct Piece {
    home: Pages,
    /// What its addresses allowed when it was covered.
    protection: Protection,
    back: Back,
}

/// How a piece comes back.
#[derive(Clone, Copy, Debug)]
enum Back {
    /// It is mapped at `place`, with this protection; locked, if it shall be locked again.
    Moved { place: usize, protection: Protection, locked: bool },
    /// As fresh pages of zeros, with this protection; locked, if they shall be.
    Zeros { protection: Protection, locked: bool },
}

/// What is known about locks of a range that is about to be covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locks {
    /// Nothing: the kernel is asked.
    Unknown,
    /// It was just asked about a wider range.
    None,
}

/// What the addresses of a tie allow, part by part.
pub(crate) type Protections = OneOrMore<(Pages, Protection)>;

/// How pieces come back, where it is not as they went.
#[derive(Debug)]
pub(crate) struct Return<'a> {
    /// What the addresses allow now.
    pub now: Option<&'a Protections>,
    /// What the tie was laid with: pages that differ from it come back as they are now.
    pub laid: Protection,
    pub zeros: Zeros,
    /// Told what comes back.
    pub beliefs: Option<&'a mut Beliefs>,
    /// The tie did not come to be: pages that were not moved are still there.
    pub undoing: bool,
    /// Whether bytes stay aside where they cannot be locked again. Not where nobody could try again.
    pub insist_on_locks: bool,
}

/// The moment between moving aside and the alias, in which other threads that touch the range wait.
/// Its end wakes them, on every path.
#[derive(Debug)]
pub(crate) struct Moment {
    uffd: &'static Uffd,
    pages: Pages,
}

impl Drop for Moment {
    fn drop(&mut self) {
        let _ = self.uffd.wake(self.pages.start(), self.pages.len());
    }
}

/// A range that was covered in part only: what was moved has to go back.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub failed: Failed,
    pub cover: Cover,
    pub moment: Option<Moment>,
}

impl Cover {
    /// Moves what lies at `pages` aside as `options` ask, or notes that it comes back as zeros.
    ///
    /// # Safety
    /// The caller owns `pages` or was lent them to be mapped over, no reference into them lives, `layout`
    /// is what the kernel has there, and [`Moment::check`] has passed it.
    pub unsafe fn take(
        process: &'static Process,
        pages: Pages,
        layout: &Layout,
        options: TieOptions,
        zeros: Zeros,
        locks: Locks,
    ) -> Result<(Self, Option<Moment>), Refusal> {
        let keep = options.covered == Covered::Keep;
        // From here on, threads that touch a page of the range after it was moved wait for the alias.
        let uffd = Moment::check(process, layout, options).ok().flatten();
        let moment = uffd.map(|uffd| Moment { uffd, pages });
        let mut cover = Self { process, pieces: SmallVec::with_capacity(layout.len()) };
        for vma in layout.iter() {
            let Some(home) = Pages::known(vma.start, vma.end) else {
                continue;
            };
            // SAFETY: the caller's promise, for a part of `pages`.
            match unsafe { Back::prepare(process, vma, home, keep, zeros, locks, moment.as_ref()) }
            {
                Ok(back) => cover.pieces.push(Piece { home, protection: vma.protection, back }),
                Err(failed) => return Err(Refusal { failed, cover, moment }),
            }
        }
        Ok((cover, moment))
    }

    /// Throws away the bytes of what was moved only for the sake of its mapping. Not before the alias
    /// is there: until then it may have to go back.
    pub fn empty(&self) {
        for piece in &self.pieces {
            if let Back::Moved { place, .. } = piece.back {
                // SAFETY: our own mapping, private and anonymous, whose bytes nobody wants.
                let _ = unsafe { sys::advise(place, piece.home.len(), Advice::DontNeed) };
            }
        }
    }

    /// The part that comes back as zeros to merge with what is around it, where nothing is known about
    /// that yet: all of it, of one protection and not locked.
    pub fn to_learn_from(&self) -> Option<(Pages, Protection)> {
        match *self.pieces {
            [Piece { home, back: Back::Zeros { protection, locked: false }, .. }] => {
                Some((home, protection))
            }
            _ => None,
        }
    }

    /// The range that has not come back yet.
    pub fn left(&self) -> Option<Pages> {
        Pages::known(self.pieces.first()?.home.start(), self.pieces.last()?.home.end())
    }

    /// Divides it at an address: what lies before stays here.
    pub fn split_off(&mut self, at: usize) -> Self {
        self.split_piece(at);
        let first = self.pieces.partition_point(|piece| piece.home.start() < at);
        Self { process: self.process, pieces: self.pieces.drain(first..).collect() }
    }

    /// Brings everything back, over whatever lies there now.
    ///
    /// On error what came back is off the list, and the rest may be tried again; at the piece that
    /// failed the old mapping is there, or a hole.
    ///
    /// # Safety
    /// At [`Cover::left`] lies an alias of ours, or what this cover left there; no reference into it
    /// lives.
    pub unsafe fn bring_back(&mut self, how: Return<'_>) -> Result<(), Failed> {
        let Return { now, laid, zeros, mut beliefs, undoing, insist_on_locks } = how;
        if let Some(now) = now.filter(|now| now.iter().any(|part| part.1 != laid)) {
            for (part, _) in now.iter() {
                self.split_piece(part.start());
            }
        }
        let process = self.process;
        let ballast = process.ballast();
        let wanted = |piece: &Piece| {
            // Each piece lies in one part: they were divided where the parts begin.
            let part = now.and_then(|now| now.iter().find(|part| part.0.meets(piece.home)));
            part.map(|part| part.1).filter(|&now| now != laid).unwrap_or(piece.protection)
        };
        // What can fail fails before anything moves. But a piece dressed is a mapping more, and the
        // ballast must have some left for the move: from there on each piece makes room for the next.
        const AHEAD: usize = 8;
        for piece in self.pieces.iter_mut().take(AHEAD) {
            piece.dress(wanted(piece), process, insist_on_locks)?;
        }
        let mut done = 0;
        let mut result = Ok(());
        for (index, piece) in self.pieces.iter_mut().enumerate() {
            if index >= AHEAD {
                result = piece.dress(wanted(piece), process, insist_on_locks);
                if result.is_err() {
                    break;
                }
            }
            let home = piece.home;
            let back = ballast.sparing(|| match piece.back {
                // SAFETY: the caller's promise for `home`; the place is ours and one mapping, since
                // pieces are divided where protections differ.
                Back::Moved { place, .. } => unsafe {
                    sys::move_to(place, home.len(), home.start())
                },
                Back::Zeros { .. } if undoing && !inspect::has_hole(process, home) => Ok(()),
                // SAFETY: the caller's promise for `home`.
                Back::Zeros { protection, .. } => unsafe { zeros.lay(home, protection) },
            });
            if let Err(errno) = back {
                result = Err((piece.back.call(), errno));
                break;
            }
            if let Some(beliefs) = &mut beliefs {
                beliefs.note(home, piece.back.protection());
            }
            done += 1;
            if let Back::Zeros { locked: true, .. } = piece.back {
                // The pages are back, and are never laid again: that would wipe what is written now.
                let lock = ballast.sparing(|| sys::lock(home.start(), home.len()));
                result = result.and(lock.map_err(|errno| (Call::Mlock, errno)));
            }
        }
        self.pieces.drain(..done);
        result
    }

    /// Makes a piece begin at `at`, if one contains it.
    fn split_piece(&mut self, at: usize) {
        let index = self.pieces.partition_point(|piece| piece.home.end() <= at);
        let Some(piece) = self.pieces.get(index).copied() else {
            return;
        };
        let before = Pages::known(piece.home.start(), at);
        let after = Pages::known(at, piece.home.end());
        let (Some(before), Some(after)) = (before, after) else {
            return;
        };
        let mut back = piece.back;
        if let Back::Moved { place, .. } = &mut back {
            *place += before.len();
        }
        self.pieces[index].home = before;
        self.pieces.insert(index + 1, Piece { home: after, back, ..piece });
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        if !self.process.is_current() {
            return;
        }
        for piece in &self.pieces {
            if let Back::Moved { place, .. } = piece.back {
                // SAFETY: our own mapping, which nobody else knows the place of.
                let unmap = || unsafe { sys::unmap(place, piece.home.len()) };
                let _ = self.process.ballast().sparing(unmap);
            }
        }
    }
}

impl Piece {
    /// Gives it the protection that it shall come back with, and its lock, while it is still aside:
    /// so that what can fail fails before anything moves.
    fn dress(
        &mut self,
        wanted: Protection,
        process: &Process,
        insist_on_locks: bool,
    ) -> Result<(), Failed> {
        let len = self.home.len();
        match &mut self.back {
            Back::Zeros { protection, .. } => *protection = wanted,
            Back::Moved { place, protection, locked } => {
                if *protection != wanted {
                    // SAFETY: our own mapping.
                    let protect = || unsafe { sys::protect(*place, len, wanted) };
                    match process.ballast().sparing(protect) {
                        Ok(()) => *protection = wanted,
                        // A shared map of a read-only file, which cannot be made writable.
                        Err(Errno::ACCES) => {}
                        Err(errno) => return Err((Call::Mprotect, errno)),
                    }
                }
                if *locked {
                    let lock = process.ballast().sparing(|| sys::lock(*place, len));
                    if insist_on_locks {
                        lock.map_err(|errno| (Call::Mlock, errno))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Back {
    /// What the addresses allow once it is back.
    const fn protection(&self) -> Protection {
        match *self {
            Back::Moved { protection, .. } | Back::Zeros { protection, .. } => protection,
        }
    }

    /// Decides how a piece will come back, and moves it aside where that takes it.
    ///
    /// # Safety
    /// As [`Cover::take`]; `vma` is the mapping at `home`.
    unsafe fn prepare(
        process: &Process,
        vma: &Vma,
        home: Pages,
        keep: bool,
        zeros: Zeros,
        locks: Locks,
        moment: Option<&Moment>,
    ) -> Result<Self, Failed> {
        let (start, len) = (home.start(), home.len());
        let locked = match locks {
            Locks::None => false,
            Locks::Unknown => sys::is_locked(start, len).map_err(|errno| (Call::Msync, errno))?,
        };
        if locked {
            // A process may have lost the right to lock what it had locked before.
            sys::may_lock(start, len, vma.protection).map_err(|errno| (Call::Mlock, errno))?;
        }
        if !keep && !zeros.need_the_mapping(vma) {
            return Ok(Back::Zeros { protection: vma.protection, locked });
        }
        if locked {
            unlock_to_move(process, home)?;
        }
        // SAFETY: the caller's promise; it is not locked any more.
        match unsafe { Self::move_aside(process, vma, home, moment) } {
            Ok(place) => Ok(Back::Moved { place, protection: vma.protection, locked }),
            Err(failed) => {
                if locked {
                    let _ = sys::lock(start, len);
                }
                Err(failed)
            }
        }
    }

    /// Moves one piece aside; on error it is as before.
    ///
    /// # Safety
    /// As [`Cover::take`]; `vma` is the mapping at `home`, and is not locked.
    unsafe fn move_aside(
        process: &Process,
        vma: &Vma,
        home: Pages,
        moment: Option<&Moment>,
    ) -> Result<usize, Failed> {
        let (start, len) = (home.start(), home.len());
        if vma.shared {
            // SAFETY: one shared mapping, by `vma`.
            return unsafe { sys::duplicate(start, len) }.map_err(|errno| (Call::Mremap, errno));
        }
        if let Some(Moment { uffd, .. }) = moment {
            if let Err(errno) = uffd.register(start, len) {
                // It may have split a mapping and no more: once done, unregistering merges it again.
                let _ = process.ballast().sparing(|| {
                    uffd.register(start, len)?;
                    uffd.unregister(start, len)
                });
                return Err((Call::Userfaultfd, errno));
            }
        }
        // SAFETY: the caller's promise.
        unsafe { sys::move_aside(start, len, congruent_place(home)) }.map_err(|errno| {
            if let Some(Moment { uffd, .. }) = moment {
                let _ = uffd.unregister(start, len);
            }
            (Call::Mremap, errno)
        })
    }

    const fn call(&self) -> Call {
        match self {
            Back::Moved { .. } => Call::Mremap,
            Back::Zeros { .. } => Call::Mmap,
        }
    }
}

/// Unlocks memory that is locked: moved as it is, DONTUNMAP would unlock its neighbours and miscount. On
/// an error it is locked still.
pub(crate) fn unlock_to_move(process: &Process, pages: Pages) -> Result<(), Failed> {
    let (start, len) = (pages.start(), pages.len());
    sys::unlock(start, len).map_err(|errno| {
        // It may have split a mapping and no more: once done, locking merges it again.
        let _ = process.ballast().sparing(|| {
            sys::unlock(start, len)?;
            sys::lock(start, len)
        });
        (Call::Munlock, errno)
    })
}

impl Moment {
    /// What could not be brought back stays as it was left: nobody may wait there for good.
    pub fn abandon(&self, cover: &Cover) {
        for piece in &cover.pieces {
            let _ = self.uffd.unregister(piece.home.start(), piece.home.len());
        }
    }

    /// Whether threads can be made to wait over these mappings; why not, otherwise.
    pub fn check(
        process: &'static Process,
        layout: &Layout,
        options: TieOptions,
    ) -> Result<Option<&'static Uffd>, (&'static str, Option<Errno>)> {
        let keep = options.covered == Covered::Keep;
        if !keep || !options.concurrent || layout.iter().all(|vma| vma.shared) {
            return Ok(None);
        }
        if layout.iter().any(|vma| !vma.shared && vma.inode != 0) {
            let why = "concurrent: the tie covers a private mapping of a file, \
                       and faults there cannot be made to wait";
            return Err((why, None));
        }
        let why = "concurrent needs userfaultfd, which this process may not use";
        process.uffd().map(Some).map_err(|errno| (why, Some(errno)))
    }
}
