//! [`Beliefs`]: what a reserved space allows where, for processes that cannot ask the kernel.
//!
//! Without /proc nobody can be asked. A space of our own is then known by what was done to it through
//! pagetie: inaccessible at first, and as the last verb left it since. Borrowed spaces need the kernel.

use crate::inspect::Layout;
use crate::keep::Protections;
use crate::list::OneOrMore;
use crate::page::Pages;
use crate::sys::{Protection, Vma};
use rangemap::RangeMap;

/// The protections of a reserved space, by address; `NONE` where nothing was noted.
#[derive(Debug, Default)]
pub(crate) struct Beliefs {
    /// Each note has a number, so that neighbours stay apart: the kernel may have them as two mappings,
    /// and dividing too finely does no harm.
    noted: RangeMap<usize, (Protection, u64)>,
    last: u64,
}

impl Beliefs {
    pub fn note(&mut self, pages: Pages, protection: Protection) {
        self.last += 1;
        self.noted.insert(pages.range(), (protection, self.last));
    }

    pub fn protections(&self, pages: Pages) -> Protections {
        let whole = pages.range();
        let mut parts: Vec<(Pages, Protection)> = Vec::new();
        for (range, (protection, _)) in self.noted.overlapping(&whole) {
            let part = Pages::known(range.start.max(whole.start), range.end.min(whole.end));
            parts.extend(part.map(|part| (part, *protection)));
        }
        for gap in self.noted.gaps(&whole) {
            parts.extend(Pages::known(gap.start, gap.end).map(|gap| (gap, Protection::NONE)));
        }
        parts.sort_by_key(|(part, _)| part.start());
        OneOrMore::collect(parts).unwrap_or(OneOrMore::one((pages, Protection::NONE)))
    }

    /// The same as mappings: of a reserved space, outside of its ties, all is private and anonymous.
    pub fn layout(&self, pages: Pages) -> Layout {
        self.protections(pages).map(|&(part, protection)| Vma {
            start: part.start(),
            end: part.end(),
            protection,
            shared: false,
            offset: 0,
            device: (0, 0),
            inode: 0,
            page_size: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page;

    #[test]
    fn what_was_noted_last_holds_and_the_rest_is_inaccessible() {
        let page = page::size();
        let pages = |from: usize, to: usize| Pages::known(from * page, to * page).unwrap();
        let mut beliefs = Beliefs::default();
        beliefs.note(pages(2, 6), Protection::READ_WRITE);
        beliefs.note(pages(3, 4), Protection::READ);
        let expected = [
            (pages(1, 2), Protection::NONE),
            (pages(2, 3), Protection::READ_WRITE),
            (pages(3, 4), Protection::READ),
            (pages(4, 5), Protection::READ_WRITE),
        ];
        let found: Vec<_> = beliefs.protections(pages(1, 5)).iter().copied().collect();
        assert_eq!(found, expected);
        assert_eq!(beliefs.layout(pages(1, 5)).len(), 4);
        assert_eq!(
            beliefs.protections(pages(8, 9)),
            OneOrMore::one((pages(8, 9), Protection::NONE))
        );
    }
}
