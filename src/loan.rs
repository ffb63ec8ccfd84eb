//! [`Loan`]: memory of the host that is no region, moved into a space and brought home again.
//!
//! ```text
//!   before   home [ host's pages ]   place [ engine's pages ]
//!   lent     home [ zeros        ]   place [ host's pages   ]   aside [ engine's pages ]
//!   back     home [ host's pages ]   place [ engine's pages ]
//! ```
//!
//! The pages themselves move, page tables and all: nothing is copied, however much it is, and at any time
//! one address shows them. What is lent is the host's data, so nothing that goes wrong gives it up: what
//! cannot go home stays where it is, and the space tries again.
//!
//! Source: mremap(2) `MREMAP_DONTUNMAP | MREMAP_FIXED`, Linux 5.7.

#![allow(unsafe_code, reason = "moves memory of the caller over the space's addresses")]

mod lent;

pub(crate) use lent::{Lent, Loans, every};

use crate::alias::Failed;
use crate::error::{Error, Met, Op, Result, Span, Subject, Why};
use crate::inspect::{self, Layout, NoLayout};
use crate::keep::{self, Cover, Locks, Refusal};
use crate::options::{Access, TieOptions};
use crate::page::{self, Bounds, Pages};
use crate::process::Process;
use crate::space::{self, Shared, Space, State};
use crate::sys::{self, Call, Errno, Protection, Vma};
use lent::{Body, Piece, Stuck};
use std::fmt;
use std::sync::Arc;

/// Pages of the host that a space shows for a while: made by [`Space::lend`].
///
/// Dropping it gives the pages back, silently; [`Loan::give_back`] says whether that worked. What a drop
/// cannot give back stays with the space, which tries again.
#[must_use = "a loan that is dropped is given back"]
pub struct Loan {
    shared: Arc<Shared>,
    record: Arc<Lent>,
}

/// What the addresses show whose pages are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vacated {
    Zeros,
    Guard,
}

impl Space {
    /// Moves `len` bytes of the host's own memory into this space at `at`, without copying them. Acts on
    /// both addresses: the space shows the pages, guests write them if the host could, and the host's
    /// addresses read zeros until [`Loan::give_back`] brings the pages home, with all that was written.
    ///
    /// For memory that is not a region and is shown once; what is shown often or in several places
    /// belongs in a [`Region`](crate::Region), or becomes one by
    /// [`Region::adopt`](crate::Region::adopt).
    ///
    /// While lent:
    /// - ties, loans and borrowing are refused over the place and over the home;
    /// - [`Space::protect`] changes what the place allows, read-write only where the host could write;
    /// - [`Space::discard`] throws the bytes away for the host too: they come home as zeros (refused
    ///   where the host could only read them);
    /// - pages that were locked are not, and are locked again at home;
    /// - a forked child has copies of the pages in the space, and zeros at home.
    ///
    /// What was in the space is kept aside and comes back, as with a tie. [`Space::untie_all`] and the
    /// end of the space give loans back. [`Space::leak`] does not: it touches no address, so the pages
    /// stay in the space's memory.
    ///
    /// # Units
    /// `at`: bytes of the space; `len`: bytes; `addr`, `at` (as an address) and `len` are multiples of
    /// [`page::size()`].
    ///
    /// # Safety
    /// - **Own.** All pages of `[addr, addr + len)` are plain data of the caller's, and of nobody else's
    ///   (the first page of a large block of malloc(3) holds the allocator's notes).
    /// - **Home stays.** Until the pages are back nobody writes to the vacated addresses (it would be
    ///   lost), or frees, unmaps or maps them.
    /// - **Quiet.** During this call and `give_back` no other thread or system call accesses the pages:
    ///   what it writes can be lost.
    /// - **No references** into either range live across this call, or across the loan's end.
    /// - **It stays.** As long as it is lent, nobody unmaps or replaces the pages in the space: they are the
    ///   only ones. Fresh private memory in their place cannot be told from them.
    ///
    /// # Errors
    /// In this order:
    /// - [`Misaligned`](crate::ErrorKind::Misaligned), [`Empty`](crate::ErrorKind::Empty),
    ///   [`OutOfRange`](crate::ErrorKind::OutOfRange), [`Ended`](crate::ErrorKind::Ended);
    /// - [`Overlap`](crate::ErrorKind::Overlap): the place meets a tie or a loan;
    /// - [`NotMapped`](crate::ErrorKind::NotMapped), [`RefusedMemory`](crate::ErrorKind::RefusedMemory):
    ///   the host's memory has a hole, or is not private anonymous memory that can be read: a file,
    ///   shared, code, a stack, the heap, huge pages (hugetlb), registered with a userfaultfd. The range
    ///   is of addresses. [`Unsupported`](crate::ErrorKind::Unsupported): without /proc;
    /// - [`Overlap`](crate::ErrorKind::Overlap): the host's memory meets a live space, or pages that
    ///   are lent already;
    /// - `NotMapped`, `RefusedMemory` of the place, as for [`Space::tie`];
    /// - [`Limit`](crate::ErrorKind::Limit): a loan takes up to three mappings, as a tie does, and more
    ///   for each of the host's; [`NoMemory`](crate::ErrorKind::NoMemory), [`Os`](crate::ErrorKind::Os):
    ///   for one, locked memory that could not be locked again.
    ///
    /// On error both ranges are as they were.
    ///
    /// # Threads
    /// A thread that reads the place may see zeros for a moment, in this call and when the loan ends, but
    /// never a fault.
    ///
    /// # Source
    /// mremap(2) `MREMAP_DONTUNMAP`, Linux 5.7. Where `addr` and the place are congruent modulo 2 MiB (or
    /// 1 GiB) whole page tables move.
    #[doc(alias = "mremap")]
    #[doc(alias = "MREMAP_DONTUNMAP")]
    pub unsafe fn lend(&self, at: usize, addr: *mut u8, len: usize) -> Result<Loan> {
        self.lend_pages(at, addr.expose_provenance(), len, Vacated::Zeros)
    }

    /// [`Space::lend`], after which an access to the vacated addresses faults instead of reading zeros.
    /// Costs a system call more.
    ///
    /// # Safety
    /// As [`Space::lend`].
    ///
    /// # Errors
    /// As [`Space::lend`].
    pub unsafe fn lend_guarded(&self, at: usize, addr: *mut u8, len: usize) -> Result<Loan> {
        self.lend_pages(at, addr.expose_provenance(), len, Vacated::Guard)
    }

    fn lend_pages(&self, at: usize, addr: usize, len: usize, vacated: Vacated) -> Result<Loan> {
        let op = Op::Lend;
        let shared = self.shared();
        let process = shared.process;
        let place = shared.page_bounds(op, page::size());
        place.aligned(at, len)?;
        let home = host_pages(op, addr, len)?;
        let pages = Pages::check(place, at, len)?;
        let mut state = shared.lock(op)?;
        shared.check_free(&state, op, pages)?;
        let sources = host_memory(process, op, home)?;
        let entry = state.entry(op)?;
        process
            .extend(entry, home.into())
            .map_err(|refusal| space::refused(process, op, home.into(), refusal))?;
        let lent = shared.survey(&state, op, pages).and_then(|layout| {
            move_in(shared, &mut state, pages, home, &layout, &sources, vacated)
        });
        match lent {
            Ok(record) => Ok(Loan { shared: Arc::clone(shared), record }),
            Err(error) => {
                // Unless the undo failed too, and the space keeps them.
                if state.loans.meets(pages).is_none() {
                    process.retract(home.into());
                }
                Err(error)
            }
        }
    }
}

impl Shared {
    /// Refuses a place at which a tie or a loan is.
    pub(crate) fn check_free(&self, state: &State, op: Op, pages: Pages) -> Result<()> {
        let met = |other, met| Err(Error::overlap(op, self.span(pages), self.span(other), met));
        if let Some(tie) = state.ledger.meets(pages) {
            return met(tie.pages, Met::Tie);
        }
        match state.loans.meets(pages) {
            Some(loan) => met(loan.pages, Met::Loan),
            None => Ok(()),
        }
    }
}

/// A range of the host's addresses.
pub(crate) fn host_pages(op: Op, addr: usize, len: usize) -> Result<Pages> {
    let page = page::size();
    let bounds = Bounds { op, subject: Subject::Addr, page, base: 0, limit: usize::MAX };
    Pages::check(bounds, addr, len)
}

/// Asks the kernel what lies at addresses of the host, and refuses what is not plain private anonymous
/// memory: only of that the pages can be moved or replaced without anybody else noticing.
pub(crate) fn host_memory(process: &Process, op: Op, pages: Pages) -> Result<Layout> {
    let asked = Span::from(pages);
    space::check_memory(process, op, asked, false)?;
    let maps = process.maps().ok_or(Error::unsupported(op, space::NO_PROC, None))?;
    let layout = inspect::layout(maps, pages).map_err(|none| match none {
        NoLayout::Hole(hole) => Error::not_mapped(op, asked, hole.into()),
        NoLayout::Os(errno) => Error::os(op, Call::ProcMaps, errno, asked),
    })?;
    for vma in layout.iter() {
        let why = if vma.shared {
            Why::Shared
        } else if vma.inode != 0 {
            Why::File
        } else if !vma.protection.readable() {
            Why::Inaccessible
        } else {
            continue;
        };
        return Err(Error::refused(op, asked, Span { start: vma.start, end: vma.end }, why));
    }
    Ok(layout)
}

/// Moves aside what is at the place, and the host's pages over it. On error both are back, or the space
/// has a record of what is not.
fn move_in(
    shared: &Shared,
    state: &mut State,
    pages: Pages,
    home: Pages,
    layout: &Layout,
    sources: &Layout,
    vacated: Vacated,
) -> Result<Arc<Lent>> {
    let (op, process) = (Op::Lend, shared.process);
    let failed = |(call, errno): Failed| process.failed(op, shared.span(pages), call, errno);
    if !process.ballast().is_ready() {
        return Err(failed((Call::Mprotect, Errno::NOMEM)));
    }
    // Covered pages are always kept: a loan that fails halfway must be able to bring them back.
    let keep = TieOptions::new(Access::ReadWrite);
    // SAFETY: inside the space, whose owner lent it (or which is ours) without references into it; the
    // lock is held, and the layout was just asked for.
    let (cover, result) =
        match unsafe { Cover::take(process, pages, layout, keep, state.zeros, Locks::Unknown) } {
            Ok((cover, _)) => (cover, Ok(())),
            Err(Refusal { failed, cover, .. }) => (cover, Err(failed)),
        };
    let mut body = Body::new(cover);
    let result = result.and_then(|()| {
        sources.iter().try_for_each(|vma| {
            let Some(from) = Pages::known(vma.start, vma.end) else { return Ok(()) };
            let place = from.moved_to(pages.start() + (from.start() - home.start()));
            // SAFETY: `lend`'s promise for `from`, one mapping by `vma`; what was at the place is aside.
            unsafe { body.move_in(process, vma, from, place) }?;
            if vacated == Vacated::Zeros {
                return Ok(());
            }
            // SAFETY: the caller's own addresses, into which no reference lives by `lend`'s promise.
            unsafe { sys::protect(from.start(), from.len(), Protection::NONE) }
                .map_err(|errno| (Call::Mprotect, errno))
        })
    });
    let error = result.err().map(failed);
    let record = Arc::new(Lent::new(pages, home, body, error.is_none()));
    let Some(error) = error else {
        state.loans.insert(&record);
        // What was forbidden there was forbidden of other pages.
        state.restrictions.take(pages);
        return Ok(record);
    };
    if let Err(Stuck::Wait(_)) = record.come_home(shared, state, op, false) {
        state.loans.insert(&record);
    }
    shared.fill_holes(pages);
    Err(error)
}

impl Body {
    /// Moves one mapping of the host's to its place; on error it is where it was.
    ///
    /// # Safety
    /// `from` is what the caller of [`Space::lend`] made its promises for, and lies in one mapping, `vma`.
    /// The caller may map over `place`.
    unsafe fn move_in(
        &mut self,
        process: &Process,
        vma: &Vma,
        from: Pages,
        place: Pages,
    ) -> Result<(), Failed> {
        let (start, len) = (from.start(), from.len());
        let locked = sys::is_locked(start, len).map_err(|errno| (Call::Msync, errno))?;
        if locked {
            // A process may have lost the right to lock what it had locked before.
            sys::may_lock(start, len, vma.protection).map_err(|errno| (Call::Mlock, errno))?;
            keep::unlock_to_move(process, from)?;
        }
        // SAFETY: the caller's promise; it is not locked any more.
        if let Err(errno) = unsafe { sys::move_over(start, len, place.start()) } {
            if locked {
                let _ = process.ballast().sparing(|| sys::lock(start, len));
            }
            return Err((Call::Mremap, errno));
        }
        self.pieces.push(Piece { home: from, place, protection: vma.protection, locked });
        Ok(())
    }
}

impl Loan {
    /// Brings the pages home, with all that was written to them, and what they covered back into the
    /// space.
    ///
    /// At home they allow what they did before, and are locked if they were. What was covered comes back
    /// as from [`Tie::untie`](crate::Tie::untie). The loan of a space that ended and gave it back has ended,
    /// and this is `Ok`.
    ///
    /// # Errors
    /// The loan comes back in the error, as live as before, except after the first two:
    /// - [`Changed`](crate::ErrorKind::Changed), about a range of the space: somebody else replaced pages
    ///   there, and those are lost. All others are home, and the loan has ended.
    /// - [`Os`](crate::ErrorKind::Os) of mlock(2): all is home but its lock, and the loan has ended. (That
    ///   it may be locked is tried before.)
    /// - [`Changed`](crate::ErrorKind::Changed), about addresses: something else lies at home now.
    ///   Nothing was touched, and the pages are still at [`Loan::as_ptr`]. Once private memory is mapped
    ///   at home again this may be repeated.
    /// - [`Limit`](crate::ErrorKind::Limit), [`NoMemory`](crate::ErrorKind::NoMemory): of a loan of several
    ///   mappings some may be home, and the rest still in the space. At the mapping limit giving back
    ///   still works.
    /// - [`Ended`](crate::ErrorKind::Ended): a forked child; or the space is gone, and left the pages where
    ///   they are: because it was leaked, or because they could not go home.
    ///
    /// # Threads
    /// As [`Space::lend`], and its promise to be quiet holds here.
    ///
    /// # Source
    /// mremap(2) `MREMAP_DONTUNMAP | MREMAP_FIXED`.
    pub fn give_back(self) -> Result<(), GiveBackError> {
        match self.end() {
            Ok(()) => Ok(()),
            Err(error) => Err(GiveBackError { error, loan: self }),
        }
    }

    fn end(&self) -> Result<()> {
        let op = Op::GiveBack;
        self.shared.check_fork(op)?;
        if self.record.is_home() {
            return Ok(());
        }
        let mut state = match self.shared.lock(op) {
            Ok(state) => state,
            Err(_) if self.record.is_home() => return Ok(()),
            Err(ended) => return Err(ended),
        };
        lent::end(&self.shared, &mut state, op, &self.record, true)
    }

    /// The address of its first byte in the space.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.record.pages.start())
    }

    /// The address that it goes home to.
    #[inline]
    pub fn home(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.record.home.start())
    }

    /// Where in the space it begins, in bytes.
    #[inline]
    pub fn at(&self) -> usize {
        self.record.pages.start() - self.shared.start()
    }

    /// Its length in bytes: whole pages.
    #[inline]
    pub fn len(&self) -> usize {
        self.record.pages.len()
    }

    /// Always false: a loan has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether it has not ended. `false` in a forked child.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.record.is_live() && self.shared.process.is_current()
    }
}

impl Drop for Loan {
    /// Gives the pages back, silently. What cannot go home stays in the space, which tries again.
    fn drop(&mut self) {
        if self.is_live() {
            let _ = self.end();
        }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("at", &self.at())
            .field("len", &self.len())
            .field("home", &self.home())
            .field("live", &self.is_live())
            .finish_non_exhaustive()
    }
}

/// What [`Loan::give_back`] gives back when it cannot: the error, and the loan.
///
/// Converts into [`Error`] and [`std::io::Error`], so `?` works; the loan is dropped then, which tries
/// once more.
#[derive(Debug)]
pub struct GiveBackError {
    /// Why.
    pub error: Error,
    /// The loan; [`Loan::is_live`] tells whether it may be tried again.
    pub loan: Loan,
}

impl fmt::Display for GiveBackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for GiveBackError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<GiveBackError> for Error {
    fn from(failed: GiveBackError) -> Self {
        failed.error
    }
}

impl From<GiveBackError> for std::io::Error {
    fn from(failed: GiveBackError) -> Self {
        failed.error.into()
    }
}
