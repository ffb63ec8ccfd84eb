//! The page size, and rounding to it.
//!
//! Verbs refuse misaligned input and never round it; who wants to round does it here, and knows which
//! way.
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
    assert!(page.is_power_of_two(), "a page size is a power of two");
    let rest = page.wrapping_sub(1);
    Some(round_down(n.checked_add(rest)?, page))
}

/// A range that was checked once: `start` and `len` are multiples of a page size, `len > 0`, and
/// `start + len` does not overflow and lies within the bounds it was checked against.
///
/// Made by [`Pages::check`], or by [`Pages::known`] of parts and of what the kernel named. Below that
/// only the type travels, and no code checks again. `start` is an address or an offset; the name of the
/// variable says which.
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

    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The pages that both have.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::known(self.start.max(other.start), self.end().min(other.end()))
    }

    /// From the first to the last page of both, and what lies between.
    pub fn hull(self, other: Self) -> Self {
        let start = self.start.min(other.start);
        Self { start, len: self.end().max(other.end()) - start }
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

/// A range as a caller wrote it: nothing about it is checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub start: usize,
    /// `None`: it runs backwards, or past what a `usize` holds.
    len: Option<usize>,
}

impl Extent {
    pub const fn new(start: usize, len: usize) -> Self {
        Self { start, len: Some(len) }
    }

    /// Of a Rust range, `end` standing for an open end.
    pub fn of(range: &impl RangeBounds<usize>, end: usize) -> Self {
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
            (Some(start), Some(end)) => Self { start, len: end.checked_sub(start) },
            (Some(start), None) => Self { start, len: None },
            (None, _) => Self { start: usize::MAX, len: None },
        }
    }

    /// Its length, or 0 where it has none: for errors about its start.
    pub fn len_or_none(self) -> usize {
        self.len.unwrap_or(0)
    }

    /// Its length; a range without one is out of range.
    pub fn len(self, bounds: Bounds) -> Result<usize, Error> {
        let backwards = Span { start: self.start, end: self.start };
        let refused = Error::out_of_range(bounds.op, bounds.subject, backwards, bounds.limit);
        self.len.ok_or(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn bounds(base: usize, limit: usize) -> Bounds {
        Bounds { op: Op::Tie, subject: Subject::At, page: 0x1000, base, limit }
    }

    fn kind(base: usize, limit: usize, start: usize, len: usize) -> Option<ErrorKind> {
        Pages::check(bounds(base, limit), start, len).err().map(|error| error.kind())
    }

    #[test]
    fn misaligned_comes_before_empty_before_out_of_range() {
        assert_eq!(kind(0, 0x4000, 0x1000, 0x3000), None);
        assert_eq!(kind(0, 0x4000, 0x4000, 0), Some(ErrorKind::Empty));
        assert_eq!(kind(0, 0x4000, 0x8000, 0), Some(ErrorKind::Empty));
        assert_eq!(kind(0, 0x4000, 0x8001, 0), Some(ErrorKind::Misaligned));
        assert_eq!(kind(0, 0x4000, 0x8000, 1), Some(ErrorKind::Misaligned));
        assert_eq!(kind(0, 0x4000, 0x1000, 0x4000), Some(ErrorKind::OutOfRange));
        let last = usize::MAX - 0xfff;
        assert_eq!(kind(0, usize::MAX, last, 0x1000), Some(ErrorKind::OutOfRange));
        assert_eq!(kind(0, 0x4000, last, last), Some(ErrorKind::OutOfRange));
    }

    #[test]
    fn a_base_inside_a_page_shifts_what_is_aligned() {
        let base = 0x7000_0010;
        assert_eq!(kind(base, 0x4000, 0, 0x1000), Some(ErrorKind::Misaligned));
        let pages = Pages::check(bounds(base, 0x4000), 0xff0, 0x1000).unwrap();
        assert_eq!(pages.range(), 0x7000_1000..0x7000_2000);
        let error = Pages::check(bounds(base, 0x4000), 0, 0x1000).unwrap_err();
        assert_eq!(error.nearest(), Some((0xff0, 0xff0)));
        let error = Pages::check(bounds(base, 0x4000), 0x1000, 0x1000).unwrap_err();
        assert_eq!(error.nearest(), Some((0xff0, 0x1ff0)));
    }

    #[test]
    fn ranges_resolve_as_they_are_written() {
        let of = |start, len| Extent { start, len };
        assert_eq!(Extent::of(&.., 7), of(0, Some(7)));
        assert_eq!(Extent::of(&(2..), 7), of(2, Some(5)));
        assert_eq!(Extent::of(&(2..=3), 7), of(2, Some(2)));
        assert_eq!(Extent::of(&(..0), 7), of(0, Some(0)));
        let backwards = std::ops::Range { start: 5, end: 3 };
        assert_eq!(Extent::of(&backwards, 7), of(5, None));
        assert_eq!(Extent::of(&(0..=usize::MAX), 7), of(0, None));
        let nowhere = (Bound::Excluded(usize::MAX), Bound::Unbounded);
        assert_eq!(Extent::of(&nowhere, 7), of(usize::MAX, None));
    }

    #[test]
    fn rounding_meets_its_ends() {
        assert_eq!(round_down(0, 0x1000), 0);
        assert_eq!(round_down(usize::MAX, 0x1000), usize::MAX - 0xfff);
        assert_eq!(round_up(0, 0x1000), Some(0));
        assert_eq!(round_up(usize::MAX - 0xfff, 0x1000), Some(usize::MAX - 0xfff));
        assert_eq!(round_up(usize::MAX - 0xffe, 0x1000), None);
    }
}
