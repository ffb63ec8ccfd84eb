//! Page arithmetic, and ranges that were checked once.
//!
//! [`Pages`] is the proof that a run of addresses or offsets is whole: start and length are
//! multiples of a page size, the length is not zero, the end does not overflow. It is made by
//! [`Pages::check`] only; below that point only the type travels, and no code checks again.
//!
//! Source: sysconf(3) `_SC_PAGESIZE`, mmap(2) on alignment.

use crate::error::{Error, Op, Span, Subject};
use std::ops::{Bound, Range, RangeBounds};

/// The page size of this system in bytes: 4096 on x86-64, up to 65536 elsewhere.
///
/// Asked of the kernel (through the auxiliary vector), never assumed. Regions of huge pages have a
/// larger one of their own: [`Region::page_size`](crate::Region::page_size).
///
/// ```
/// assert!(pagetie::page::size().is_power_of_two());
/// ```
#[inline]
pub fn size() -> usize {
    crate::sys::page_size()
}

/// Rounds `n` down to a multiple of `page`.
///
/// # Panics
///
/// If `page` is not a power of two.
///
/// ```
/// assert_eq!(pagetie::page::round_down(0x1fff, 0x1000), 0x1000);
/// ```
#[inline]
pub const fn round_down(n: usize, page: usize) -> usize {
    assert!(page.is_power_of_two(), "a page size is a power of two");
    n & !(page.wrapping_sub(1))
}

/// Rounds `n` up to a multiple of `page`; `None` where that is more than `usize` holds.
///
/// # Panics
///
/// If `page` is not a power of two.
///
/// ```
/// assert_eq!(pagetie::page::round_up(0x1001, 0x1000), Some(0x2000));
/// assert_eq!(pagetie::page::round_up(usize::MAX, 0x1000), None);
/// ```
#[inline]
pub fn round_up(n: usize, page: usize) -> Option<usize> {
    let rest = page.wrapping_sub(1);
    Some(round_down(n.checked_add(rest)?, page))
}

/// A run of whole pages: `start` and `len` are multiples of a page, `len > 0`, `start + len` does
/// not overflow and lies within the bounds it was checked against.
///
/// `start` is an address or an offset; the name of the variable says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    start: usize,
    len: usize,
}

/// What [`Pages::check`] measures a range against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub op: Op,
    /// What `start` is called in the error.
    pub subject: Subject,
    /// The page size that start and length must be multiples of.
    pub page: usize,
    /// Added to `start` before its alignment is judged: the address of a space, 0 for a region.
    pub base: usize,
    /// The first byte past the end, counted like `start`.
    pub limit: usize,
}

impl Bounds {
    /// Refuses a `start` that is not on a page; `len`, for the error, is that of the range it begins.
    pub fn aligned(&self, start: usize, len: usize) -> Result<(), Error> {
        match self.base.wrapping_add(start) & self.page.wrapping_sub(1) {
            0 => Ok(()),
            rest => Err(Error::misaligned(self.op, self.subject, start, self.page, rest, len)),
        }
    }

    /// Refuses a length that is not a multiple of the page size.
    pub fn whole(&self, len: usize) -> Result<(), Error> {
        Bounds { subject: Subject::Len, base: 0, ..*self }.aligned(len, 0)
    }

    /// Refuses a range without bytes, and one that does not end within the limit.
    pub fn within(&self, start: usize, len: usize) -> Result<(), Error> {
        if len == 0 {
            return Err(Error::empty(self.op, self.subject, start));
        }
        match start.checked_add(len) {
            Some(end) if end <= self.limit => Ok(()),
            end => {
                let asked = Span { start, end: end.unwrap_or(usize::MAX) };
                Err(Error::out_of_range(self.op, self.subject, asked, self.limit))
            }
        }
    }
}

impl Pages {
    /// Checks a range of whole pages: misaligned, then empty, then out of range. The result
    /// starts at `base + start`.
    pub fn check(bounds: Bounds, start: usize, len: usize) -> Result<Self, Error> {
        bounds.aligned(start, len)?;
        bounds.whole(len)?;
        bounds.within(start, len)?;
        // `base + limit` is an address that exists, and `start + len <= limit`.
        Ok(Self { start: bounds.base.wrapping_add(start), len })
    }

    /// The whole pages of `[start, end)`, which are known to be whole: mappings that the kernel
    /// named, and parts of runs that were checked. `None` where the range is empty or backwards.
    pub fn known(start: usize, end: usize) -> Option<Self> {
        let len = end.checked_sub(start).filter(|&len| len > 0)?;
        debug_assert_eq!((start | len) & size().wrapping_sub(1), 0, "not whole pages");
        Some(Self { start, len })
    }

    #[inline]
    pub const fn start(self) -> usize {
        self.start
    }

    #[inline]
    pub const fn len(self) -> usize {
        self.len
    }

    #[inline]
    pub const fn end(self) -> usize {
        self.start.wrapping_add(self.len)
    }

    #[inline]
    pub const fn range(self) -> Range<usize> {
        self.start..self.end()
    }

    /// The pages that both have.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::known(self.start.max(other.start), self.end().min(other.end()))
    }

    /// Both as one; `next` begins where this ends.
    pub fn joined_with(self, next: Self) -> Self {
        debug_assert_eq!(self.end(), next.start);
        Self { start: self.start, len: self.len.wrapping_add(next.len) }
    }

    /// Its pages one by one.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let len = size();
        self.range().step_by(len).map(move |start| Self { start, len })
    }

    /// Whether they share a page.
    pub const fn meets(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// The same number of pages at another place.
    pub const fn moved_to(self, start: usize) -> Self {
        Self { start, len: self.len }
    }
}

/// Start and length of a range as the caller wrote it, `end` standing for an open end.
///
/// A backwards range has no length: `None`, as has one whose end is past `usize::MAX`.
pub(crate) fn resolve(range: &impl RangeBounds<usize>, end: usize) -> (usize, Option<usize>) {
    let start = match range.start_bound() {
        Bound::Included(&start) => Some(start),
        Bound::Excluded(&start) => start.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.checked_add(1),
        Bound::Excluded(&end) => Some(end),
        Bound::Unbounded => Some(end),
    };
    match (start, end) {
        (Some(start), Some(end)) => (start, end.checked_sub(start)),
        (Some(start), None) => (start, None),
        (None, _) => (usize::MAX, None),
    }
}
