//! [`Lender`]: a view of a region, which lends its page tables to aliases.
//!
//! ```text
//!   view     [ mapped in | mapped in | . . . . . | mapped in ]      stays mapped throughout
//!                              |           ^
//!                         lend |           | take back
//!                              v           |
//!   home            [ alias, mapped in without a fault ]
//! ```
//!
//! What makes an alias dear is not its call but its page tables, which the kernel fills in page by page
//! and takes down page by page. A view of the region has them already, where it was read or written. So a
//! piece of them is moved out of the view and over the alias's place, and back before the alias goes: one
//! call each, whatever the length. The view stays mapped; whoever reads there meanwhile sees the same
//! bytes, after page faults as at first touch.
//!
//! Nothing stays in a view but what merges with it. To the kernel, mappings of one object are one if
//! nothing tells them apart: protection, advice, a name, or having been writable once.
//!
//! Source: mremap(2) `MREMAP_DONTUNMAP`, of file maps since Linux 5.13.

#![allow(unsafe_code, reason = "moves page tables between mappings of ours")]

use crate::alias::{Alias, Failed};
use crate::aside::Aside;
use crate::options::Prefault;
use crate::page::{self, Pages};
use crate::process::Process;
use crate::region::View;
use crate::sys::{self, Call, Errno, Maps};

/// The piece of a view that shows what an alias shows.
pub(crate) struct Lender<'a> {
    process: &'a Process,
    maps: &'a Maps,
    alias: &'a Alias,
    view: &'a View,
    piece: Pages,
}

/// Shorter ones are not worth the calls: they are mapped anew, and fault.
const WORTH_LENDING: usize = 512 << 10;

impl<'a> Lender<'a> {
    /// Who can lend to an alias of this length. `None` where that would not pay, where nobody has such page
    /// tables, and where the view is not as it was made: a part of it is locked, advised or protected.
    pub fn of(process: &'a Process, alias: &'a Alias, len: usize) -> Option<Self> {
        let lender = Self::perhaps(process, alias, len)?;
        // Of one mapping, a page tells whether all is locked.
        let unlocked = || sys::is_locked(lender.piece.start(), page::size()) == Ok(false);
        (lender.is_whole() && unlocked() && lender.can_move()).then_some(lender)
    }

    /// [`Lender::of`] before the kernel is asked, and before the alias was checked.
    fn perhaps(process: &'a Process, alias: &'a Alias, len: usize) -> Option<Self> {
        if len < WORTH_LENDING || alias.offset % page::size() != 0 {
            return None;
        }
        let (maps, view) = (process.maps()?, alias.region.lender(alias.options.access)?);
        let start = view.pages().start().checked_add(alias.offset)?;
        let piece = Pages::known(start, start.checked_add(len)?)?;
        view.pages().contains(piece).then_some(Self { process, maps, alias, view, piece })
    }

    /// Maps in what an alias is to be lent that shall be populated, and says whether it shall and was. Where
    /// it fails, as of an alias that is yet to be refused, the alias is built, and that says why.
    pub fn populated(process: &Process, alias: &Alias, len: usize) -> bool {
        alias.options.prefault == Prefault::Populate
            && Lender::perhaps(process, alias, len).is_some_and(|lender| lender.populate().is_ok())
    }

    fn is_whole(&self) -> bool {
        self.view.is_whole(self.maps, self.alias.region.identity())
    }

    /// Whether this kernel moves page tables away from under a file's mapping. Tried once, in a way that fails
    /// without effect: with an address given, kernels before 5.13 unmap that before they refuse.
    fn can_move(&self) -> bool {
        if let Some(&can) = self.process.moves_files.get() {
            return can;
        }
        // SAFETY: a page of the view, which stays mapped and shows the same bytes.
        let tried = unsafe { sys::move_aside(self.piece.start(), page::size(), 0) };
        let can = match tried {
            Ok(aside) => {
                // SAFETY: moved there in the line above, and nobody knows it.
                let _ = unsafe { sys::unmap(aside, page::size()) };
                true
            }
            Err(Errno::INVAL) => false,
            Err(_) => return false,
        };
        *self.process.moves_files.get_or_init(|| can)
    }

    /// Maps all pages in that are to be lent.
    pub fn populate(&self) -> Result<(), Failed> {
        // SAFETY: the view's own mapping of what the alias shows, which stays as long as the region.
        unsafe { self.alias.populate(self.piece, self.process.pagemap()) }
    }

    /// Maps those pages in that are in memory, where that is quick.
    pub fn warm_up(&self) -> Result<(), Failed> {
        // SAFETY: the view's own mapping of what the alias shows, which stays as long as the region.
        unsafe { self.alias.warm_up(self.piece) }
    }

    /// Lays the alias over `home`, with what of its pages the view has mapped in. After a failure the old
    /// mapping is there, or a hole.
    ///
    /// # Safety
    /// As [`Alias::lay`].
    pub unsafe fn lend(&self, home: Pages) -> Result<(), Failed> {
        let (from, len) = (self.piece.start(), self.piece.len());
        // SAFETY: a part of one mapping of ours, which is not locked and stays, so that references into it,
        // which a view lends as atomics, show the same bytes; `home` is the caller's promise.
        unsafe { sys::move_over(from, len, home.start()) }.map_err(|errno| (Call::Mremap, errno))
    }

    /// Takes page tables back from an alias at `home`, which shows the same pages afterwards, to be faulted
    /// in. Where that cannot be done, as of locked memory, they stay there.
    ///
    /// # Safety
    /// `home` is as long as this piece and shows this alias, in one mapping; no reference into it lives.
    pub unsafe fn take_back(&self, home: Pages) {
        let (from, to) = (home.start(), self.piece.start());
        if sys::is_locked(from, home.len()) != Ok(false) {
            return;
        }
        // SAFETY: the caller's promise for `home`, which stays mapped; the view is ours and shows the same
        // bytes before and after, and nobody sees a moment between: the kernel holds its lock.
        let _ = unsafe { sys::move_over(from, home.len(), to) };
        self.settle();
    }

    /// Takes page tables back from an alias that is aside, which goes.
    pub fn receive(&self, aside: Aside) {
        let (from, to) = (aside.pages(), self.piece.start());
        // SAFETY: two mappings of ours that show the same bytes; see `take_back`.
        if unsafe { sys::move_to(from.start(), from.len(), to) }.is_ok() {
            aside.moved();
        }
        self.settle();
    }

    /// What does not merge with the view is thrown away: advice that somebody gave to the addresses of an
    /// alias is not for the view, and what was writable once has private pages, perhaps.
    /// So is the hole that a late failure of the kernel can leave.
    fn settle(&self) {
        if !self.is_whole() {
            let again = || self.alias.region.lay_again(self.view, self.piece);
            let _ = self.process.ballast().sparing(again);
        }
    }
}
