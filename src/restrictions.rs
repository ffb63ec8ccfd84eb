//! [`Restrictions`]: what `protect` forbade in borrowed memory, to be forbidden again where its engine
//! allowed it by growing.
//!
//! V8 makes a whole memory readable and writable each time it grows. The kernel does not tell who set a
//! protection, so it is remembered here what pagetie set, and only that is set again: an engine's own
//! protections are its affair. What a tie covers is remembered with the tie, until it comes back.

use crate::page::Pages;
use crate::sys::Protection;
use rangemap::RangeMap;

/// Ranges that allow less than loads and stores, because somebody asked for that through pagetie.
#[derive(Debug, Default)]
pub(crate) struct Restrictions {
    ranges: RangeMap<usize, Protection>,
}

/// Those of a range that a tie covers.
pub(crate) type Covered = Vec<(Pages, Protection)>;

impl Restrictions {
    pub fn note(&mut self, pages: Pages, protection: Protection) {
        match protection {
            Protection::READ_WRITE => self.ranges.remove(pages.range()),
            restricted => self.ranges.insert(pages.range(), restricted),
        }
    }

    /// Takes out those of a range: it is covered, or shows something else.
    pub fn take(&mut self, pages: Pages) -> Covered {
        let mut taken = Vec::new();
        if self.ranges.is_empty() {
            return taken;
        }
        for (range, &protection) in self.ranges.overlapping(pages.range()) {
            let (start, end) = (range.start.max(pages.start()), range.end.min(pages.end()));
            taken.extend(Pages::known(start, end).map(|part| (part, protection)));
        }
        if !taken.is_empty() {
            self.ranges.remove(pages.range());
        }
        taken
    }

    /// What a tie covered is back, at `pages`. What was forbidden while it was tied stays forbidden, but
    /// for what the tie itself forbade.
    pub fn restore(&mut self, pages: Pages, laid: Protection, covered: Covered) {
        if self.ranges.is_empty() && covered.is_empty() {
            return;
        }
        let overlapping = self.ranges.overlapping(pages.range());
        let of_tie = overlapping.filter(|(_, protection)| **protection == laid);
        for range in of_tie.map(|(range, _)| range.clone()).collect::<Vec<_>>() {
            let part = range.start.max(pages.start())..range.end.min(pages.end());
            self.ranges.remove(part);
        }
        for (pages, protection) in covered {
            let gaps: Vec<_> = self.ranges.gaps(&pages.range()).collect();
            for gap in gaps {
                self.ranges.insert(gap, protection);
            }
        }
    }

    pub fn all(&self) -> impl Iterator<Item = (Pages, Protection)> {
        self.ranges.iter().filter_map(|(range, &protection)| {
            Some((Pages::known(range.start, range.end)?, protection))
        })
    }

    /// Those of a range.
    pub fn within(&self, pages: Pages) -> impl Iterator<Item = Pages> {
        self.ranges
            .overlapping(pages.range())
            .filter_map(|(range, _)| Pages::known(range.start, range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page;

    #[test]
    fn what_is_covered_comes_back_below_what_was_asked_meanwhile() {
        let page = page::size();
        let pages = |from: usize, to: usize| Pages::known(from * page, to * page).unwrap();
        let mut restrictions = Restrictions::default();
        restrictions.note(pages(2, 6), Protection::READ);
        let covered = restrictions.take(pages(0, 4));
        assert_eq!(covered, [(pages(2, 4), Protection::READ)]);
        restrictions.note(pages(3, 4), Protection::NONE);
        restrictions.note(pages(1, 2), Protection::READ);
        restrictions.restore(pages(0, 4), Protection::READ, covered);
        restrictions.note(pages(5, 6), Protection::READ_WRITE);
        let all: Vec<_> = restrictions.all().collect();
        let expected = [
            (pages(2, 3), Protection::READ),
            (pages(3, 4), Protection::NONE),
            (pages(4, 5), Protection::READ),
        ];
        assert_eq!(all, expected);
        assert_eq!(restrictions.within(pages(0, 3)).collect::<Vec<_>>(), [pages(2, 3)]);
    }
}
