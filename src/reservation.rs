//! [`Reservation`]: inaccessible addresses of ours, placed so that page tables can move.
//!
//! mremap(2) moves whole page tables where source and target lie at the same place of a 2 MiB block
//! (1 GiB for larger ones), and huge pages appear only where address and offset agree that way. So
//! views, spaces and aliases built aside are all placed by this one rule.

#![allow(unsafe_code, reason = "unmaps its own reservation")]

use crate::page::{self, Pages};
use crate::sys::{self, Errno};

const MIB_2: usize = 2 << 20;
const GIB_1: usize = 1 << 30;

/// Addresses that nothing else uses, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    pages: Pages,
}

/// The block whose inside a range of this length should be congruent with; a page for short ones.
fn block(len: usize, page: usize) -> usize {
    match len {
        GIB_1.. => GIB_1,
        MIB_2.. => MIB_2.max(page),
        _ => page,
    }
}

impl Reservation {
    /// Reserves `len` bytes, aligned to their block and at least to `page`.
    pub fn aligned(len: usize, page: usize) -> Result<Self, Errno> {
        Self::placed(len, block(len, page), 0)
    }

    /// Reserves `len` bytes with a guard page before and after them. However short, they are aligned
    /// to 2 MiB, and to 1 GiB where they are that long.
    pub fn guarded(len: usize) -> Result<Self, Errno> {
        let guard = page::size();
        let align = block(len.max(MIB_2), guard);
        let total = len.checked_add(2 * guard).ok_or(Errno::NOMEM)?;
        Self::placed(total, align, align - guard)
    }

    /// Reserves as many bytes as `pages` has, congruent with it.
    pub fn congruent(pages: Pages) -> Result<Self, Errno> {
        let align = block(pages.len(), page::size());
        Self::placed(pages.len(), align, pages.start() & (align - 1))
    }

    /// Reserves `len` bytes whose start is `residue` modulo `align`.
    fn placed(len: usize, align: usize, residue: usize) -> Result<Self, Errno> {
        let slack = align - page::size();
        let total = len.checked_add(slack).ok_or(Errno::NOMEM)?;
        let start = sys::reserve(total)?;
        let lead = residue.wrapping_sub(start) & (align - 1);
        let unmap = |from, to| match Pages::known(from, to) {
            // SAFETY: part of the reservation just made.
            Some(rest) => unsafe { sys::unmap(rest.start(), rest.len()) },
            None => Ok(()),
        };
        let end = start + total;
        let Some(pages) = Pages::known(start + lead, start + lead + len) else {
            return Err(Errno::INVAL);
        };
        // An end that cannot be cut off (it merged with a neighbour, at the mapping limit) stays with
        // us as long as the rest.
        unmap(start, pages.start()).and_then(|()| {
            unmap(pages.end(), end).inspect_err(|_| {
                let _ = unmap(pages.start(), end);
            })
        })?;
        Ok(Self { pages })
    }

    pub const fn pages(&self) -> Pages {
        self.pages
    }

    /// Gives the addresses to whoever maps something over them.
    pub fn keep(self) -> Pages {
        let pages = self.pages;
        std::mem::forget(self);
        pages
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: reserved by us, and nobody was given it.
        let _ = unsafe { sys::unmap(self.pages.start(), self.pages.len()) };
    }
}

/// Whether an address can show the huge page that an offset lies in: they agree modulo 2 MiB.
pub(crate) const fn is_congruent(addr: usize, offset: usize) -> bool {
    addr.wrapping_sub(offset) & (MIB_2 - 1) == 0
}

/// A free place for a mapping of `pages.len()` bytes that is congruent with `pages`, as a hint: it is
/// free now, and whoever uses it must take another answer. 0, no preference, for short ranges, whose
/// page tables are not moved whole.
pub(crate) fn congruent_place(pages: Pages) -> usize {
    let align = block(pages.len(), page::size());
    if align == page::size() {
        return 0;
    }
    // Reserved with room to choose, and given back whole.
    let Some(total) = pages.len().checked_add(align) else { return 0 };
    let Ok(start) = sys::reserve(total) else { return 0 };
    // SAFETY: the reservation just made.
    if unsafe { sys::unmap(start, total) }.is_err() {
        return 0;
    }
    start + (pages.start().wrapping_sub(start) & (align - 1))
}
