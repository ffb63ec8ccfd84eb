//! [`Window`]: a tie that slides along a region much larger than itself.
//!
//! ```text
//!   region   [ . . . . . | shown . . . | next . . . . | . . . . . . . . . . ]
//!                              \              |
//!   space          [ . . . | window . . . | . | . ]      mapped in already
//! ```
//!
//! Asked for bytes, it shows the pages they lie in and says where the first one is; nothing needs to be
//! aligned. Its page tables are lent by a view of the region ([`Lender`]), and go back there when it
//! slides on: what was read before, by whomever, is shown without a page fault. Where the next bytes are
//! known ahead, another thread maps them into that view meanwhile. Where there is none to lend, as to
//! copy-on-write windows, it builds the next alias aside.
//!
//! Source: mmap(2) `MAP_FIXED`; mremap(2) `MREMAP_FIXED`; madvise(2) `MADV_POPULATE_READ`.

use crate::alias::{Alias, Failed};
use crate::aside::Aside;
use crate::error::{Error, Op, Result, Span, Subject, UntieError};
use crate::lender::{Lend, Lender};
use crate::options::{Access, TieOptions};
use crate::page::{self, Bounds, Extent, Pages};
use crate::process::Process;
use crate::{Region, Space, Tie};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A tie that slides along a region, to show any bytes of it at one place of a space.
///
/// Each time it shows the pages around the bytes asked for, as many as the window is long. It lives and
/// ends like a [`Tie`]; private pages of [`Access::CopyOnWrite`] are lost when it slides on, as with
/// [`Tie::retie`].
///
/// ```
/// use pagetie::{Access, Region, Space, Window, page};
/// let page = page::size();
/// let region = Region::new(64 * page)?;
/// let space = Space::reserve(8 * page)?;
/// let mut window = Window::new(&space, 2 * page, 4 * page, &region, Access::ReadOnly)?;
/// region.write_at(40 * page + 12, b"rows of any size")?;
/// let at = window.show(40 * page + 12..40 * page + 28)?;
/// let first = space.as_ptr().wrapping_add(at);
/// // SAFETY: shown, hence readable, and nobody writes the byte now.
/// assert_eq!(unsafe { first.read_volatile() }, b'r');
/// # Ok::<(), pagetie::Error>(())
/// ```
#[must_use = "a window that is dropped is untied"]
pub struct Window {
    tie: Tie,
    preparer: Preparer,
}

/// Makes the next alias of a [`Window`] ready, on whatever thread it is called: [`Window::preparer`].
///
/// A handle: clones prepare for the same window. It outlives the window harmlessly.
#[derive(Clone)]
pub struct Preparer {
    inner: Arc<Inner>,
}

struct Inner {
    process: &'static Process,
    region: Region,
    /// Where the window lies, as addresses.
    home: Pages,
    options: TieOptions,
    slot: Mutex<Slot>,
    changed: Condvar,
}

/// What was made ready for the window.
#[derive(Default)]
enum Slot {
    #[default]
    Nothing,
    /// Some thread is at it. The byte of the region that it will begin with.
    Building(usize),
    Ready(usize, Next),
}

/// How what was made ready gets over the window.
enum Next {
    /// Mapped in where it is lent from.
    Lent,
    /// Built aside, to be moved in.
    Built(Aside),
}

/// Page tables move whole, and huge pages appear, where an address and its offset agree modulo this.
const BLOCK: usize = 2 << 20;

impl Window {
    /// A window of `len` bytes at `at` of the space. It shows the region's start at first.
    ///
    /// If the region is shorter than `len`, the window is as long as the region.
    ///
    /// # Units
    /// `at`, `len`: as for [`Space::tie`], multiples of [`Region::page_size`].
    ///
    /// # Errors
    /// Those of [`Space::tie`].
    ///
    /// # Threads
    /// As [`Space::tie`].
    pub fn new(
        space: &Space,
        at: usize,
        len: usize,
        region: &Region,
        how: impl Into<TieOptions>,
    ) -> Result<Self> {
        let options = how.into();
        let place = space.shared().page_bounds(Op::Window, region.page_size());
        Pages::check(place, at, len)?;
        let source = region.page_bounds(Op::Window);
        let len = len.min(source.limit);
        let first = Extent::new(0, len);
        let tie = space.tie_as(at, region, first, options, Lender::or_as_it_is)?;
        let home = tie.record.pages;
        let inner = Inner {
            process: tie.shared.process,
            region: region.clone(),
            home,
            options,
            slot: Mutex::default(),
            changed: Condvar::new(),
        };
        Ok(Self { tie, preparer: Preparer { inner: Arc::new(inner) } })
    }

    /// Slides so that `range` of the region is visible, and returns where in the space its first byte now
    /// is. Nothing happens where it is visible already; what [`Window::prepare`] made ready is moved in.
    ///
    /// While another thread prepares this very range it is waited for, which takes less time than the
    /// page faults would.
    ///
    /// # Units
    /// Bytes of the region, of any alignment. The pages that they lie in must fit into the window.
    ///
    /// # Errors
    /// - [`Empty`](crate::ErrorKind::Empty); [`OutOfRange`](crate::ErrorKind::OutOfRange): past the
    ///   region's end, or longer than the window;
    /// - those of [`Tie::retie`].
    ///
    /// # Threads
    /// As [`Tie::retie`]: a reader sees old or new.
    ///
    /// # Source
    /// mmap(2) `MAP_FIXED`; mremap(2) `MREMAP_FIXED`.
    pub fn show(&mut self, range: Range<usize>) -> Result<usize> {
        self.show_extent(Extent::of(&range, 0))
    }

    pub(crate) fn show_extent(&mut self, extent: Extent) -> Result<usize> {
        let inner = &*self.preparer.inner;
        let range = inner.check(Op::Show, extent)?;
        self.tie.shared.check_fork(Op::Show)?;
        if !self.tie.is_live() {
            return Err(Error::ended(Op::Show, false));
        }
        if !inner.shows(self.tie.offset(), range) {
            match inner.take(range) {
                Some((base, Next::Built(aside))) => {
                    let pages = Some(aside.pages());
                    self.tie.replace(Op::Show, inner.alias(base), pages, Lend::No)?;
                    aside.moved();
                }
                Some((base, Next::Lent)) => {
                    self.tie.replace(Op::Show, inner.alias(base), None, Lend::AsItIs)?;
                }
                None => {
                    let alias = inner.alias(inner.base(range));
                    let lend = Lender::or_as_it_is(inner.process, &alias, inner.home.len());
                    self.tie.replace(Op::Show, alias, None, lend)?;
                }
            }
        }
        Ok(self.tie.at() + (range.start - self.tie.offset()))
    }

    /// Makes ready what [`Window::show`] of this range will need: its pages mapped in. Nothing happens where
    /// it is visible already.
    ///
    /// Of a window of 512 KiB and more they are mapped in where the window has its page tables from: in the
    /// host view where it is read-write, in a view of the region's own where it is read-only. What was
    /// shown before goes back there, so whoever shows it again, through any window, finds it ready. That
    /// takes a five-hundredth of its length as page tables, for as long as the region lives. While shown
    /// through a read-write window, pages fault in again where the host reads them through its view.
    ///
    /// Of shorter windows, of read-only ones above 1 GiB, of [`Access::CopyOnWrite`] and of regions of huge
    /// pages an alias is built aside; also where the host locked, protected or advised its view, and
    /// under a bound on addresses (`RLIMIT_AS`).
    /// One is kept ready; a second range replaces it.
    ///
    /// The work is done in steps of at most 256 KiB, between which other calls that change the
    /// process's mappings get their turn. For another thread, take [`Window::preparer`].
    ///
    /// Pages of a file are read in, which may take long; [`Region::prefetch`] does that alone. With
    /// [`Prefault::Copy`](crate::Prefault::Copy) the bytes are copied now, not when they are shown.
    ///
    /// # Errors
    /// Those of [`Window::show`] about the range; [`NoMemory`](crate::ErrorKind::NoMemory),
    /// [`Limit`](crate::ErrorKind::Limit), [`Os`](crate::ErrorKind::Os). Showing the range works all
    /// the same.
    ///
    /// # Source
    /// madvise(2) `MADV_POPULATE_READ`, Linux 5.14: of one page in each 64 KiB, around which the kernel maps
    /// what is in memory; of all pages of a file.
    pub fn prepare(&self, range: Range<usize>) -> Result<()> {
        if let Ok(asked) = self.preparer.inner.check(Op::Prepare, Extent::of(&range, 0)) {
            if self.preparer.inner.shows(self.tie.offset(), asked) {
                return Ok(());
            }
        }
        self.preparer.prepare(range)
    }

    /// A handle that prepares for this window on another thread, while this one reads.
    pub fn preparer(&self) -> Preparer {
        self.preparer.clone()
    }

    /// The bytes of the region that are visible now.
    pub fn shown(&self) -> Range<usize> {
        let start = self.tie.offset();
        start..self.region().len().min(start + self.tie.len())
    }

    /// Where in the space it begins, in bytes.
    pub fn at(&self) -> usize {
        self.tie.at()
    }

    /// Its length in bytes: whole pages.
    pub fn len(&self) -> usize {
        self.tie.len()
    }

    /// Always false: a window has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What it may do.
    pub fn access(&self) -> Access {
        self.tie.access()
    }

    /// Along what it slides.
    pub fn region(&self) -> &Region {
        &self.preparer.inner.region
    }

    /// Whether it has not ended: see [`Tie::is_live`].
    pub fn is_live(&self) -> bool {
        self.tie.is_live()
    }

    /// Takes the window away, as [`Tie::untie`].
    ///
    /// # Errors
    /// As [`Tie::untie`]. The error holds the window's tie, which no longer slides.
    pub fn untie(self) -> Result<(), UntieError> {
        self.tie.untie()
    }

    /// [`Window::untie`], with the window back where it cannot.
    #[cfg(feature = "capi")]
    pub(crate) fn try_untie(self) -> Result<(), (Error, Self)> {
        let Self { tie, preparer } = self;
        tie.untie().map_err(|failed| (failed.error, Self { tie: failed.tie, preparer }))
    }
}

impl Preparer {
    /// As [`Window::prepare`], on any thread, also while the window is shown and read. It does not know
    /// what the window shows, and makes that ready too if asked.
    ///
    /// Two threads that prepare take turns.
    ///
    /// # Errors
    /// As [`Window::prepare`].
    pub fn prepare(&self, range: Range<usize>) -> Result<()> {
        self.prepare_extent(Extent::of(&range, 0))
    }

    pub(crate) fn prepare_extent(&self, extent: Extent) -> Result<()> {
        let (op, inner) = (Op::Prepare, &*self.inner);
        let range = inner.check(op, extent)?;
        if !inner.process.is_current() {
            return Err(Error::ended(op, true));
        }
        let Some(building) = inner.begin(range) else { return Ok(()) };
        let alias = inner.alias(building.base);
        let ready = inner.make_ready(&alias).map_err(|(call, errno)| {
            let asked = Span { start: alias.offset, end: alias.offset + inner.home.len() };
            inner.process.failed(op, asked, call, errno)
        })?;
        building.finish(ready);
        Ok(())
    }
}

/// Some thread is building. Dropped unfinished, it makes room for the next.
struct Building<'a> {
    inner: &'a Inner,
    base: usize,
    ready: Slot,
}

impl Building<'_> {
    fn finish(mut self, next: Next) {
        self.ready = Slot::Ready(self.base, next);
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        *self.inner.slot() = std::mem::take(&mut self.ready);
        self.inner.changed.notify_all();
    }
}

impl Inner {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alias(&self, base: usize) -> Alias {
        Alias::new(&self.region, base, self.options)
    }

    /// Maps the pages of an alias in where they will be lent from. Otherwise it is built, mapped in as well,
    /// to be moved in.
    fn make_ready(&self, alias: &Alias) -> Result<Next, Failed> {
        match Lender::of(self.process, alias, self.home.len()) {
            Some(lender) => lender.prepare().map(|()| Next::Lent),
            None => alias
                .build_warm(self.home)
                .map(|built| Next::Built(Aside::new(self.process, built))),
        }
    }

    /// A range of bytes of the region whose pages fit into the window.
    fn check(&self, op: Op, extent: Extent) -> Result<Span> {
        let limit = self.region.len();
        let bounds = Bounds { op, subject: Subject::Offset, page: 1, base: 0, limit };
        let (start, len) = (extent.start, extent.len(bounds)?);
        bounds.within(start, len)?;
        let end = start + len;
        let page = self.region.page_size();
        let first = page::round_down(start, page);
        let window = self.home.len();
        match page::round_up(end, page) {
            Some(last) if last - first <= window => Ok(Span { start, end }),
            _ => {
                let asked = Span { start: start - first, end: end - first };
                Err(Error::out_of_range(op, Subject::Shown, asked, window))
            }
        }
    }

    /// Whether a window that begins with byte `base` shows the range.
    fn shows(&self, base: usize, range: Span) -> bool {
        base <= range.start && range.end <= base + self.home.len()
    }

    /// The byte with which the window begins to show a range: as early as it can be, so that what
    /// follows is visible too, and congruent with the window's addresses where that is possible.
    fn base(&self, range: Span) -> usize {
        let (page, len) = (self.region.page_size(), self.home.len());
        let whole = page::round_up(self.region.len(), page).unwrap_or(range.end);
        let latest = page::round_down(range.start, page).min(whole.saturating_sub(len));
        let congruent = latest.checked_sub(latest.wrapping_sub(self.home.start()) & (BLOCK - 1));
        match congruent {
            Some(base) if page <= BLOCK && self.shows(base, range) => base,
            _ => latest,
        }
    }

    /// Takes what is ready for a range; waits for a thread that is building just that.
    fn take(&self, range: Span) -> Option<(usize, Next)> {
        let mut slot = self.slot();
        loop {
            match &*slot {
                Slot::Building(base) if self.shows(*base, range) => {
                    slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
                }
                Slot::Ready(base, _) if self.shows(*base, range) => {
                    return match std::mem::take(&mut *slot) {
                        Slot::Ready(base, next) => Some((base, next)),
                        _ => None,
                    };
                }
                _ => return None,
            }
        }
    }

    /// Announces that this thread builds the alias for a range; `None` where it is ready.
    fn begin(&self, range: Span) -> Option<Building<'_>> {
        let mut slot = self.slot();
        loop {
            match &*slot {
                Slot::Ready(base, _) if self.shows(*base, range) => return None,
                Slot::Building(_) => {
                    slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
                }
                _ => break,
            }
        }
        let base = self.base(range);
        let before = std::mem::replace(&mut *slot, Slot::Building(base));
        drop(slot);
        // What was ready is taken down without any lock.
        drop(before);
        Some(Building { inner: self, base, ready: Slot::Nothing })
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("tie", &self.tie).finish_non_exhaustive()
    }
}

impl fmt::Debug for Preparer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preparer").field("region", &self.inner.region).finish_non_exhaustive()
    }
}
