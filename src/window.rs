//! [`Window`]: a tie that slides along a region much larger than itself.
//!
//! ```text
//!   region   [ . . . . . | shown . . . | prepared . . | . . . . . . . . . . ]
//!                              \              |
//!   space          [ . . . | window . . . | . | . ]      aside, mapped in already
//! ```
//!
//! Asked for bytes, it shows the pages they lie in and says where the first one is; nothing needs to be
//! aligned. Where the next bytes are known ahead, another thread maps them in aside meanwhile, and
//! showing them is one mremap without a page fault to follow. The alias that was shown before goes the
//! same way back and stays warm, to be shown again, until there are too many.
//!
//! Source: mmap(2) `MAP_FIXED`; mremap(2) `MREMAP_FIXED`; madvise(2) `MADV_POPULATE_READ`.

use crate::alias::Alias;
use crate::aside::Aside;
use crate::error::{Error, Op, Result, Span, Subject, UntieError};
use crate::options::{Access, TieOptions};
use crate::page::{self, Bounds, Extent, Pages};
use crate::process::Process;
use crate::tie::Ready;
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

/// What is ready for the window, or was shown by it before.
#[derive(Default)]
struct Slot {
    next: Next,
    /// What was shown before, or ready, and the bytes that they begin with: the oldest first.
    warm: Vec<(usize, Aside)>,
}

/// An alias that begins with this byte of the region.
#[derive(Default)]
enum Next {
    #[default]
    Nothing,
    /// Some thread is at it.
    Building(usize),
    Ready(usize, Aside),
}

/// From this length on the alias that was shown is set aside rather than replaced: taking down as many
/// page tables takes longer than the calls that move them.
const WORTH_MOVING: usize = 2 << 20;

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
        let tie = space.tie_extent(at, region, Extent::new(0, len), options)?;
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
            let ready = inner.take(range);
            self.slide(range, ready)?;
        }
        Ok(self.tie.at() + (range.start - self.tie.offset()))
    }

    fn slide(&mut self, range: Span, ready: Option<(usize, Aside)>) -> Result<()> {
        let inner = &*self.preparer.inner;
        let Some((base, aside)) = ready else {
            let base = inner.base(range);
            return self.tie.replace(Op::Show, &inner.region, base, None).map(drop);
        };
        let keep_replaced = inner.home.len() >= WORTH_MOVING && inner.keeps_warm();
        let ready = Ready { aside: &aside, keep_replaced };
        let before = self.tie.offset();
        // On an error it is dropped, and what is shown stays.
        let replaced = self.tie.replace(Op::Show, &inner.region, base, Some(ready))?;
        aside.moved();
        inner.slot().warm.extend(replaced.map(|replaced| (before, replaced)));
        Ok(())
    }

    /// Makes the alias ready that [`Window::show`] of this range will need: mapped in, aside. Nothing
    /// happens where it is visible already. One is kept ready; a second range replaces it. What was shown
    /// or ready before stays mapped in aside for as long as there is room for it, so that coming back to it
    /// takes neither time nor another preparation; not so with [`Access::CopyOnWrite`], and windows below
    /// 2 MiB.
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
    /// madvise(2) `MADV_POPULATE_READ`, Linux 5.14.
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
        let offset = building.base;
        let alias = Alias { region: inner.region.clone(), offset, options: inner.options };
        let built = alias.build_warm(inner.home).map_err(|(call, errno)| {
            let asked = Span { start: offset, end: offset + inner.home.len() };
            inner.process.failed(op, asked, call, errno)
        })?;
        building.finish(Aside::new(inner.process, built));
        Ok(())
    }
}

/// Some thread is building. Dropped unfinished, it makes room for the next.
struct Building<'a> {
    inner: &'a Inner,
    base: usize,
    finished: bool,
    /// What is taken down once the new alias is ready, without any lock.
    _cold: Vec<(usize, Aside)>,
}

impl Building<'_> {
    fn finish(mut self, aside: Aside) {
        self.finished = true;
        self.inner.slot().next = Next::Ready(self.base, aside);
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        let mut slot = self.inner.slot();
        // After the end of this one it may be another thread that builds.
        if !self.finished {
            slot.next = Next::Nothing;
        }
        drop(slot);
        self.inner.changed.notify_all();
    }
}

impl Inner {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn take(&self, range: Span) -> Option<(usize, Aside)> {
        let mut slot = self.slot();
        loop {
            match slot.next {
                Next::Building(base) if self.shows(base, range) => {
                    slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
                }
                Next::Ready(base, _) if self.shows(base, range) => {
                    let Next::Ready(base, aside) = std::mem::take(&mut slot.next) else {
                        return None;
                    };
                    return Some((base, aside));
                }
                _ => return slot.take_warm(|base| self.shows(base, range)),
            }
        }
    }

    /// Whether what was shown may be shown again as it is. Private pages would not be the region's any
    /// more; and leaving first, they would show the region's bytes before the new ones.
    fn keeps_warm(&self) -> bool {
        self.options.access != Access::CopyOnWrite
    }

    /// How many aliases are kept warm: what they cost is page tables, a five-hundredth of their length, and
    /// a mapping each.
    fn most_warm(&self) -> usize {
        const MOST: usize = 64;
        (self.region.len() / self.home.len()).clamp(1, MOST)
    }

    /// Announces that this thread builds the alias for a range; `None` where it is ready.
    fn begin(&self, range: Span) -> Option<Building<'_>> {
        let mut slot = self.slot();
        loop {
            match slot.next {
                Next::Ready(base, _) if self.shows(base, range) => return None,
                Next::Building(_) => {
                    slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
                }
                _ => break,
            }
        }
        let next = match slot.take_warm(|base| self.shows(base, range)) {
            Some((base, aside)) => Next::Ready(base, aside),
            None => Next::Building(self.base(range)),
        };
        let building = match next {
            Next::Building(base) => Some(base),
            _ => None,
        };
        let mut cold = Vec::new();
        if let Next::Ready(base, aside) = std::mem::replace(&mut slot.next, next) {
            match self.keeps_warm() {
                true => slot.warm.push((base, aside)),
                false => cold.push((base, aside)),
            }
        }
        let excess = slot.warm.len().saturating_sub(self.most_warm());
        cold.extend(slot.warm.drain(..excess));
        drop(slot);
        Some(Building { inner: self, base: building?, finished: false, _cold: cold })
    }
}

impl Slot {
    /// Takes out a warm alias, if there is one that will do.
    fn take_warm(&mut self, will_do: impl Fn(usize) -> bool) -> Option<(usize, Aside)> {
        let index = self.warm.iter().position(|&(base, _)| will_do(base))?;
        Some(self.warm.remove(index))
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
