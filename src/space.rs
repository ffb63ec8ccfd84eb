//! [`Space`]: addresses that ties may be laid over.
//!
//! ```text
//!   reserved   [guard| ...................... len ...................... |guard]   ours: safe
//!   borrowed         [ an engine's memory, from its start on ......... ]           lent: unsafe
//! ```
//!
//! Source: mmap(2) `PROT_NONE`; proc(5) for what lies at borrowed addresses.

#![allow(unsafe_code, reason = "owns its reservation; borrowing is the caller's promise")]

use crate::alias::Alias;
use crate::beliefs::Beliefs;
use crate::error::{Error, Op, Result, Span, Subject, Why};
use crate::inspect::{self, Confirmed, Layout, NoLayout};
use crate::ledger::{Ledger, Standing};
use crate::loan::{self, Loans};
use crate::page::{self, Bounds, Extent, Pages};
use crate::process::{self, Process};
use crate::reservation::Reservation;
use crate::restrictions::Restrictions;
use crate::sys::{self, Call, Maps, Uffd, Vma};
use crate::zeros::Zeros;
use crate::{Access, untie};
use rangemap::RangeSet;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Addresses that ties may be laid over: reserved by pagetie, or borrowed from their owner.
///
/// A space owns the record of every tie in it. Dropping it ends its ties and brings back what they
/// covered; handles that outlive it have ended. It is not `Clone`: share it in an `Arc`. All its
/// methods take `&self` and may be called by several threads at once.
///
/// ```
/// use pagetie::{Access, Region, Space, page};
/// let page = page::size();
/// let (space, region) = (Space::reserve(16 * page)?, Region::new(page)?);
/// let tie = space.tie(4 * page, &region, .., Access::ReadWrite)?;
/// region.write_at(0, b"seen at both addresses")?;
/// // SAFETY: the tie is live, and nobody writes the byte now.
/// assert_eq!(unsafe { tie.as_ptr().read_volatile() }, b's');
/// # Ok::<(), pagetie::Error>(())
/// ```
pub struct Space {
    shared: Arc<Shared>,
}

/// What a space and its ties share.
pub(crate) struct Shared {
    pub process: &'static Process,
    start: usize,
    /// Grows, in `grown_to`.
    len: AtomicUsize,
    origin: Origin,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Origin {
    /// The addresses are ours, with a guard page at either end.
    Reserved {
        with_guards: Pages,
    },
    Borrowed {
        heap_allowed: bool,
    },
}

/// What a space's lock guards.
#[derive(Debug)]
pub(crate) struct State {
    /// `None` once the space is gone.
    entry: Option<process::Entry>,
    pub ledger: Ledger,
    pub loans: Loans,
    pub zeros: Zeros,
    /// Of borrowed memory.
    pub restrictions: Restrictions,
    /// Set where the kernel cannot be asked.
    pub beliefs: Option<Beliefs>,
}

/// One tie of a space, as [`Space::ties`] lists it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TieInfo {
    /// Where in the space, in bytes.
    pub at: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The byte of the region that it begins with.
    pub offset: usize,
    /// What it may do.
    pub access: Access,
    /// Whether a handle of it lives. `false`: its handle was dropped and could not untie it, or a part
    /// of it was replaced by somebody else; [`Space::untie_all`] tries again.
    pub held: bool,
    /// Whether its address and its offset agree modulo 2 MiB, so that huge pages of the region
    /// ([`Region::collapse`](crate::Region::collapse)) are huge here too, and page tables move whole. A tie
    /// that is not congruent faults and scans page by page.
    pub congruent: bool,
}

impl Space {
    /// Reserves `len` bytes of addresses: the way to run an engine that takes its memory from outside.
    ///
    /// They start at a multiple of 2 MiB (1 GiB where `len` is that large), with an inaccessible guard
    /// page before and after. All of it is inaccessible at first: [`Space::protect`] makes parts of it
    /// memory, zeros at first touch; ties show regions. Dropping the space unmaps it.
    ///
    /// # Units
    /// Bytes, a multiple of [`page::size()`].
    ///
    /// # Errors
    /// - [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned), [`Empty`](crate::ErrorKind::Empty),
    ///   [`OutOfRange`](crate::ErrorKind::OutOfRange).
    /// - [`ErrorKind::NoMemory`](crate::ErrorKind::NoMemory): no such range of addresses is free;
    ///   [`Limit`](crate::ErrorKind::Limit).
    ///
    /// # Source
    /// mmap(2) `PROT_NONE`, `MAP_NORESERVE`.
    #[doc(alias = "mmap")]
    pub fn reserve(len: usize) -> Result<Self> {
        let page = page::size();
        let limit = isize::MAX as usize - 2 * page;
        let bounds = Bounds { op: Op::Reserve, subject: Subject::Len, page, base: 0, limit };
        bounds.whole(len)?;
        bounds.within(0, len)?;
        let process = Process::current(Op::Reserve)?;
        let asked = Span { start: 0, end: len };
        let failed = |errno| process.failed(Op::Reserve, asked, Call::Mmap, errno);
        let reservation = Reservation::guarded(len).map_err(failed)?;
        let with_guards = reservation.pages();
        let start = with_guards.start() + page;
        let covered = Span { start, end: start + len };
        // Addresses that were free cannot be another live space's, unless that was unmapped.
        let entry = process
            .enter(covered)
            .map_err(|refusal| refused(process, Op::Reserve, covered, refusal))?;
        reservation.keep();
        let beliefs = process.maps().is_none().then(Beliefs::default);
        Ok(Self::new(
            process,
            start,
            len,
            Origin::Reserved { with_guards },
            State {
                entry: Some(entry),
                ledger: Ledger::default(),
                loans: Loans::default(),
                zeros: Zeros::NoReserve,
                restrictions: Restrictions::default(),
                beliefs,
            },
        ))
    }

    /// Borrows memory that somebody else owns, such as a WebAssembly engine's linear memory from its
    /// start on.
    ///
    /// Neither `start` nor `len` need be aligned; ties lie over the whole pages between. The kernel is
    /// asked what is there, and holes, code, stacks, the heap, huge pages, special mappings and memory registered with a userfaultfd are
    /// refused. Stacks of other threads and the arenas of an allocator look like any other memory:
    /// that they are none is the caller's promise.
    ///
    /// Where an engine's memory starts, whether it moves when it grows, and what its pools do with a tie that
    /// is left behind, says docs/engines.md in the repository, for each engine.
    ///
    /// # Safety
    /// Until [`Space::untie_all`] returned `Ok` or the space is gone:
    /// - **Consent.** The range is plain data memory whose owner allows other pages to be mapped over
    ///   it and relies on its bytes only.
    /// - **It stays.** It is not unmapped, moved, recycled, reset or shown to another tenant. The
    ///   kernel is asked before anything is undone, which catches an unmapping; a slot recycled in
    ///   place it cannot see, and covered bytes brought back late would be the old tenant's.
    /// - **One at a time.** Nobody else maps, unmaps, protects or advises inside the range during a
    ///   call on this space; the engine's growing its memory counts.
    /// - **No references.** No reference (`&[u8]`, a C++ reference, a cached value) into the range
    ///   lives across a call that changes what it shows, nor while a tied page is written through
    ///   another alias. Rule of thumb: use the space only where you could have called a method that
    ///   borrows the whole memory mutably.
    ///
    /// # Errors
    /// - [`ErrorKind::Empty`](crate::ErrorKind::Empty), [`OutOfRange`](crate::ErrorKind::OutOfRange):
    ///   `start + len` overflows.
    /// - [`ErrorKind::NotMapped`](crate::ErrorKind::NotMapped): NULL, or a hole.
    /// - [`ErrorKind::RefusedMemory`](crate::ErrorKind::RefusedMemory).
    /// - [`ErrorKind::Overlap`](crate::ErrorKind::Overlap): another live space covers some of it.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): without /proc.
    ///
    /// # Source
    /// proc(5) `/proc/self/maps`; `PROCMAP_QUERY`, Linux 6.11.
    pub unsafe fn borrow(start: *mut u8, len: usize) -> Result<Self> {
        Self::borrow_from(start, len, false)
    }

    /// [`Space::borrow`] for memory that may lie in the brk heap (`[heap]`), such as that of an engine
    /// whose memory comes from `malloc`.
    ///
    /// # Safety
    /// As [`Space::borrow`], and nothing in the range is freed while it is tied: a freed block would
    /// stay tied, and later allocations would write the region.
    ///
    /// # Errors
    /// As [`Space::borrow`].
    pub unsafe fn borrow_heap(start: *mut u8, len: usize) -> Result<Self> {
        Self::borrow_from(start, len, true)
    }

    fn borrow_from(start: *mut u8, len: usize, heap_allowed: bool) -> Result<Self> {
        let op = Op::Borrow;
        let addr = start.expose_provenance();
        let covered = check_address_range(op, addr, len)?;
        let process = Process::current(op)?;
        check_memory(process, op, covered, heap_allowed)?;
        let entry =
            process.enter(covered).map_err(|refusal| refused(process, op, covered, refusal))?;
        let (ledger, loans) = (Ledger::default(), Loans::default());
        Ok(Self::new(
            process,
            addr,
            len,
            Origin::Borrowed { heap_allowed },
            State {
                entry: Some(entry),
                ledger,
                loans,
                zeros: Zeros::Untried,
                restrictions: Restrictions::default(),
                beliefs: None,
            },
        ))
    }

    fn new(
        process: &'static Process,
        start: usize,
        len: usize,
        origin: Origin,
        state: State,
    ) -> Self {
        let len = AtomicUsize::new(len);
        Self { shared: Arc::new(Shared { process, start, len, origin, state: Mutex::new(state) }) }
    }

    /// Takes note that borrowed memory grew in place, to `len` bytes from the same start. Live ties stay as
    /// they are.
    ///
    /// Some engines (V8) make their whole memory readable and writable when it grows. What
    /// [`Space::protect`] forbade before, and stores to read-only ties, are forbidden again here: call it
    /// before the guest goes on. (Until then a store to a read-only tie lands on a private page, which is
    /// thrown away here; the region keeps its byte.) Growth by nothing is fine, and does this too.
    ///
    /// # Safety
    /// The clauses of [`Space::borrow`], for the new length.
    ///
    /// # Errors
    /// - [`ErrorKind::Changed`](crate::ErrorKind::Changed): `start` is another one. The engine moved
    ///   its memory: [`Space::leak`] this space, and borrow anew.
    /// - [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange): shorter than before.
    /// - [`ErrorKind::NotMapped`](crate::ErrorKind::NotMapped),
    ///   [`RefusedMemory`](crate::ErrorKind::RefusedMemory), [`Overlap`](crate::ErrorKind::Overlap):
    ///   as [`Space::borrow`], of the part that is new.
    /// - [`ErrorKind::Limit`](crate::ErrorKind::Limit), [`NoMemory`](crate::ErrorKind::NoMemory): the growth
    ///   is noted, and something that was forbidden is still allowed.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): a reserved space.
    pub unsafe fn grown_to(&self, start: *mut u8, len: usize) -> Result<()> {
        let op = Op::GrownTo;
        let shared = &*self.shared;
        let addr = start.expose_provenance();
        let asked = check_address_range(op, addr, len)?;
        let state = shared.lock(op)?;
        let Origin::Borrowed { heap_allowed } = shared.origin else {
            return Err(Error::unsupported(op, "a reserved space has its length for good", None));
        };
        if addr != shared.start {
            return Err(Error::changed(op, asked));
        }
        let old_len = self.len();
        if len < old_len {
            return Err(Error::shorter(op, len, old_len));
        }
        let grown = Span { start: addr + old_len, end: asked.end };
        if grown.start == grown.end {
            return shared.protect_again(&state, op);
        }
        check_memory(shared.process, op, grown, heap_allowed)?;
        let entry = state.entry(op)?;
        shared
            .process
            .extend(entry, grown)
            .map_err(|refusal| refused(shared.process, op, grown, refusal))?;
        shared.len.store(len, Ordering::Release);
        shared.protect_again(&state, op)
    }

    /// The address of its first byte.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.shared.start)
    }

    /// Its length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Always false: a space has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The ties of this space, in the order of addresses: our record of them, not the kernel's (that
    /// is [`Space::inspect`]). In a forked child there are none.
    pub fn ties(&self) -> Vec<TieInfo> {
        let Ok(state) = self.shared.lock(Op::Inspect) else {
            return Vec::new();
        };
        let info = |record: &Arc<crate::ledger::Record>| {
            let body = record.body();
            TieInfo {
                at: record.pages.start() - self.shared.start,
                len: record.pages.len(),
                offset: body.alias.offset,
                access: body.alias.options.access,
                held: body.standing == Standing::Held,
                congruent: body.alias.is_congruent(record.pages),
            }
        };
        state.ledger.all().map(info).collect()
    }

    /// Forgets the space: the memory is gone, or going. Touches none of its addresses, ends its ties and
    /// loans, and frees what they had covered; pages that were lent stay there. A reservation stays reserved for good.
    pub fn leak(self) {
        self.shared.forget();
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Space {
    /// Ends every tie and brings back what was covered, or unmaps the reservation. Silent: to know
    /// that nothing is left, call [`Space::untie_all`] first.
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("start", &self.as_ptr())
            .field("len", &self.len())
            .field("origin", &self.shared.origin)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("start", &self.start).finish_non_exhaustive()
    }
}

impl State {
    pub fn entry(&self, op: Op) -> Result<&process::Entry> {
        self.entry.as_ref().ok_or(Error::ended(op, false))
    }
}

impl Shared {
    /// The lock, for a verb. A forked child never gets as far as the lock.
    pub fn lock(&self, op: Op) -> Result<MutexGuard<'_, State>> {
        self.check_fork(op)?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.entry.is_none() {
            return Err(Error::ended(op, false));
        }
        Ok(state)
    }

    pub fn check_fork(&self, op: Op) -> Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(Error::ended(op, true)) }
    }

    pub fn is_borrowed(&self) -> bool {
        matches!(self.origin, Origin::Borrowed { .. })
    }

    pub fn start(&self) -> usize {
        self.start
    }

    pub fn addresses(&self) -> Range<usize> {
        self.start..self.start + self.len.load(Ordering::Acquire)
    }

    /// Addresses as bytes of the space.
    pub fn span(&self, pages: Pages) -> Span {
        Span { start: pages.start() - self.start, end: pages.end() - self.start }
    }

    /// What ranges of whole pages of this space are checked against.
    pub fn page_bounds(&self, op: Op, page: usize) -> Bounds {
        let limit = self.len.load(Ordering::Acquire);
        Bounds { op, subject: Subject::At, page, base: self.start, limit }
    }

    /// A range of whole pages, as addresses.
    pub fn whole_pages(&self, op: Op, extent: Extent) -> Result<Pages> {
        let bounds = self.page_bounds(op, page::size());
        bounds.aligned(extent.start, extent.len_or_none())?;
        let pages = Pages::check(bounds, extent.start, extent.len(bounds)?)?;
        self.check_fork(op)?;
        Ok(pages)
    }

    /// A range of bytes that need not be aligned: as bytes of the space, and as addresses.
    pub fn any_bytes(&self, op: Op, extent: Extent) -> Result<(Span, Range<usize>)> {
        let bounds = self.page_bounds(op, 1);
        let (at, len) = (extent.start, extent.len(bounds)?);
        bounds.within(at, len)?;
        Ok((Span { start: at, end: at + len }, self.start + at..self.start + at + len))
    }

    /// The kernel's list of mappings.
    pub fn maps(&self, op: Op) -> Result<&'static Maps> {
        self.process.maps().ok_or(Error::unsupported(op, NO_PROC, None))
    }

    /// What the kernel has at `pages`, without a hole and nothing that may not be changed.
    pub fn survey(&self, state: &State, op: Op, pages: Pages) -> Result<Layout> {
        let asked = self.span(pages);
        let Some(maps) = self.process.maps() else {
            let beliefs = state.beliefs.as_ref().ok_or(Error::unsupported(op, NO_PROC, None))?;
            return Ok(beliefs.layout(pages));
        };
        let layout = inspect::layout(maps, pages).map_err(|none| match none {
            NoLayout::Hole(hole) => Error::not_mapped(op, asked, self.span(hole)),
            NoLayout::Os(errno) => Error::os(op, Call::ProcMaps, errno, asked),
        })?;
        // Huge pages that are there now can only be a tie of ours.
        let ours = |vma: &Vma| {
            Pages::known(vma.start, vma.end).is_some_and(|part| state.ledger.meets(part).is_some())
        };
        inspect::refuse_special(&layout, ours).map_err(|(found, why)| {
            let found = Span { start: found.start - self.start, end: found.end - self.start };
            Error::refused(op, asked, found, why)
        })?;
        Ok(layout)
    }

    /// Whether `pages` still show what was left there: `alias`, which begins at `laid_at`.
    pub fn confirm(
        &self,
        state: &State,
        op: Op,
        pages: Pages,
        alias: &Alias,
        laid_at: usize,
    ) -> Result<Confirmed> {
        let Some(maps) = self.process.maps() else {
            let beliefs = state.beliefs.as_ref().ok_or(Error::unsupported(op, NO_PROC, None))?;
            return Ok(Confirmed::Same(beliefs.protections(pages)));
        };
        inspect::confirm(maps, pages, alias, laid_at)
            .map_err(|errno| Error::os(op, Call::ProcMaps, errno, self.span(pages)))
    }

    /// Whether a range shows nothing but what a failure of ours can leave: our alias, private memory
    /// without a file, or nothing at all.
    pub fn is_stranded(&self, pages: Pages, alias: &Alias, laid_at: usize) -> bool {
        let Some(maps) = self.process.maps() else { return true };
        let mut ours = true;
        let asked = maps.visit(pages.start(), pages.end(), |vma| {
            ours &= alias.is_shown_by(vma, laid_at) || (vma.inode == 0 && !vma.shared);
            if ours { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        asked.is_ok() && ours
    }

    /// Fills holes that a failed call of the kernel left, so that nobody else is given the addresses.
    pub fn fill_holes(&self, pages: Pages) {
        let Some(maps) = self.process.maps() else {
            let _ = sys::hole_filler(pages.start(), pages.len());
            return;
        };
        let mut left = Some(pages);
        while let Some(NoLayout::Hole(hole)) =
            left.and_then(|left| inspect::layout(maps, left).err())
        {
            let fill = || sys::hole_filler(hole.start(), hole.len());
            if self.process.ballast().sparing(fill).is_err() {
                break;
            }
            left = Pages::known(hole.end(), pages.end());
        }
    }

    /// The space goes: its ties end, and what they covered comes back.
    fn end(&self) {
        let Ok(mut state) = self.lock(Op::UntieAll) else { return };
        match self.origin {
            Origin::Reserved { with_guards } => {
                let _ = loan::every(self, &mut state, Op::UntieAll, false);
                // Lent pages that cannot go home stay: they are the only ones.
                let lent: RangeSet<usize> =
                    state.loans.places().iter().map(|p| p.range()).collect();
                self.forget_records(&mut state);
                // Before the addresses are free for another space of another thread.
                self.leave(&mut state);
                for ours in lent.gaps(&with_guards.range()) {
                    // SAFETY: the reservation is ours, and the caller gave up the space.
                    let unmap = || unsafe { sys::unmap(ours.start, ours.len()) };
                    let _ = self.process.ballast().sparing(unmap);
                }
            }
            Origin::Borrowed { .. } => {
                let _ = untie::every(self, &mut state, Op::UntieAll, false);
                self.forget_records(&mut state);
                self.leave(&mut state);
            }
        }
    }

    fn forget(&self) {
        let Ok(mut state) = self.lock(Op::UntieAll) else {
            return;
        };
        self.forget_records(&mut state);
        self.leave(&mut state);
    }

    /// Ends what is left on the list, and frees what it covered.
    fn forget_records(&self, state: &mut State) {
        for record in state.ledger.all() {
            record.end();
            record.body().cover = None;
        }
        state.ledger = Ledger::default();
        state.loans.forget(self.process);
    }

    fn leave(&self, state: &mut State) {
        if let Some(entry) = state.entry.take() {
            self.process.leave(&entry, self.addresses().into());
        }
    }
}

pub(crate) const NO_PROC: &str =
    "the kernel cannot be asked what is mapped: /proc/self/maps could not be opened";

pub(crate) fn refused(process: &Process, op: Op, asked: Span, refusal: process::Refusal) -> Error {
    match refusal {
        process::Refusal::Overlap(met) => Error::overlap(op, asked, met, crate::error::Met::Space),
        process::Refusal::Ballast(_, Some((count, limit))) => Error::limit(op, asked, count, limit),
        process::Refusal::Ballast(errno, None) => process.failed(op, asked, Call::Mmap, errno),
    }
}

/// A range of addresses to borrow, which need not be aligned.
fn check_address_range(op: Op, start: usize, len: usize) -> Result<Span> {
    if start == 0 {
        let nothing = Span { start, end: len };
        return Err(Error::not_mapped(op, nothing, nothing));
    }
    let limit = usize::MAX;
    let bounds = Bounds { op, subject: Subject::Addr, page: 1, base: 0, limit };
    bounds.within(start, len)?;
    Ok(Span { start, end: start + len })
}

/// Asks the kernel what lies at addresses of somebody else's, and refuses what is not plain data memory.
pub(crate) fn check_memory(
    process: &Process,
    op: Op,
    asked: Span,
    heap_allowed: bool,
) -> Result<()> {
    let maps = process.maps().ok_or(Error::unsupported(op, NO_PROC, None))?;
    // The stack this call runs on, whatever the kernel calls it.
    let here = 0u8;
    let here = std::ptr::from_ref(&here).addr();
    // A filter of system calls may kill a process for opening a userfaultfd.
    let probe = if sys::is_filtered() { None } else { Uffd::open().ok() };
    let mut next = asked.start;
    let mut found = Ok(());
    maps.visit_named(asked.start, asked.end, |vma, name| {
        let span = Span { start: vma.start.max(asked.start), end: vma.end.min(asked.end) };
        let why = if vma.start > next {
            found = Err(Error::not_mapped(op, asked, Span { start: next, end: vma.start }));
            return ControlFlow::Break(());
        } else if vma.protection.executable() {
            Some(Why::Executable)
        } else if vma.start <= here && here < vma.end || name.starts_with(b"[stack") {
            Some(Why::Stack)
        } else if name == b"[heap]" {
            (!heap_allowed).then_some(Why::Heap)
        } else if name.starts_with(b"[") && !name.starts_with(b"[anon") {
            Some(Why::Special)
        } else if sys::page_size_of(vma) != Some(page::size()) {
            Some(Why::HugePages)
        } else if probe.as_ref().is_some_and(|probe| probe.is_registered(vma.start)) {
            Some(Why::Watched)
        } else {
            None
        };
        next = vma.end;
        match why {
            Some(why) => {
                found = Err(Error::refused(op, asked, span, why));
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    })
    .map_err(|errno| Error::os(op, Call::ProcMaps, errno, asked))?;
    found?;
    if next < asked.end {
        return Err(Error::not_mapped(op, asked, Span { start: next, end: asked.end }));
    }
    Ok(())
}
