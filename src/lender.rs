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
//! piece of them is moved out of the view and over the alias's place, and back before the alias goes: in a
//! few calls, whatever the length. The view stays mapped; whoever reads there meanwhile sees the same
//! bytes, after page faults as at first touch.
//!
//! Nothing gets into a view that is not its own. What comes back is looked at aside, where nobody else
//! reaches it; and to the kernel, mappings of one object are one if nothing tells them apart: protection,
//! advice, a name, or having been writable once. What does not merge with the view is thrown away.
//!
//! Source: mremap(2) `MREMAP_DONTUNMAP`, of file maps since Linux 5.13; `PAGEMAP_SCAN`, Linux 6.7.

#![allow(unsafe_code, reason = "moves page tables between mappings of ours")]

use crate::alias::{Alias, Failed};
use crate::aside::Aside;
use crate::options::{Access, Prefault};
use crate::page::{self, Pages};
use crate::process::Process;
use crate::region::View;
use crate::reservation::congruent_place;
use crate::sys::{self, Errno, Maps};
use std::ops::ControlFlow;

/// The piece of a view that shows what an alias shows.
pub(crate) struct Lender<'a> {
    process: &'a Process,
    maps: &'a Maps,
    alias: &'a Alias,
    view: &'a View,
    piece: Pages,
}

/// Whether a view may lend to a tie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lend {
    #[default]
    No,
    /// What is mapped in, and no more.
    AsItIs,
    /// All of it has just been mapped in.
    Populated,
}

/// Shorter ones are not worth the calls: they are mapped anew, and fault.
const WORTH_LENDING: usize = 512 << 10;

/// Longer ones are not lent to if they are read-only. Unlike other ties they are accounted for where an
/// engine makes them writable, and the kernel refuses that of more than there is memory.
const MOST_READ_ONLY: usize = 1 << 30;

impl<'a> Lender<'a> {
    /// Who can lend to an alias of this length. `None` where that would not pay, where nobody has such page
    /// tables, and where the view is not as it was made: a part of it is locked, advised or protected.
    pub fn of(process: &'a Process, alias: &'a Alias, len: usize) -> Option<Self> {
        Self::perhaps(process, alias, len).filter(Self::is_ready)
    }

    /// [`Lender::of`] before the view was looked at, and before the alias was checked.
    fn perhaps(process: &'a Process, alias: &'a Alias, len: usize) -> Option<Self> {
        let access = alias.options.access;
        let most = if access == Access::ReadOnly { MOST_READ_ONLY } else { usize::MAX };
        if !(WORTH_LENDING..=most).contains(&len) || alias.offset % page::size() != 0 {
            return None;
        }
        // With a bound on addresses, a move over others can fail after it has unmapped them; and a second
        // view would take of what is the host's.
        if !sys::has_all_addresses() {
            return None;
        }
        // No such tie can be made any more.
        if access == Access::ReadWrite && alias.region.was_write_sealed() {
            return None;
        }
        let (maps, view) = (process.maps()?, alias.region.lender(access)?);
        let start = view.pages().start().checked_add(alias.offset)?;
        let piece = Pages::known(start, start.checked_add(len)?)?;
        view.pages().contains(piece).then_some(Self { process, maps, alias, view, piece })
    }

    /// How an alias is lent to that is lent to only if it shall be populated: that is done now. Where it fails,
    /// as of an alias that is yet to be refused, the alias is built, and that says why.
    pub fn populated(process: &Process, alias: &Alias, len: usize) -> Lend {
        let lender = || Lender::perhaps(process, alias, len);
        match alias.options.prefault {
            Prefault::Populate if lender().is_some_and(|l| l.populate().is_ok()) => Lend::Populated,
            _ => Lend::No,
        }
    }

    /// How an alias is lent to that is lent to in any case.
    pub fn or_as_it_is(process: &Process, alias: &Alias, len: usize) -> Lend {
        match Lender::populated(process, alias, len) {
            Lend::No => Lend::AsItIs,
            lend => lend,
        }
    }

    /// Lays an alias over `home`, with what of its pages a view has mapped in. `false`: nobody lends, and
    /// at `home` lies what was there, or a hole.
    ///
    /// # Safety
    /// As [`Alias::lay`].
    pub unsafe fn lend(process: &Process, alias: &Alias, home: Pages, lend: Lend) -> bool {
        let Some(lender) = Lender::perhaps(process, alias, home.len()) else { return false };
        let _turn = lender.view.turn(process);
        // Populating meets a marker with an error; and only the host's own view can have some.
        let marked = lend == Lend::AsItIs
            && alias.options.access == Access::ReadWrite
            && lender.has_markers(lender.piece);
        if marked || !lender.is_ready() {
            return false;
        }
        let (from, len) = (lender.piece.start(), lender.piece.len());
        // SAFETY: a part of one mapping of ours, which is not locked and stays, so that references into it,
        // which a view lends as atomics, show the same bytes; `home` is the caller's promise.
        unsafe { sys::move_over(from, len, home.start()) }.is_ok()
    }

    /// Whether the view can lend now.
    fn is_ready(&self) -> bool {
        // Of one mapping, a page tells whether all is locked.
        let unlocked = || sys::is_locked(self.piece.start(), page::size()) == Ok(false);
        self.is_whole() && unlocked() && self.can_move()
    }

    fn is_whole(&self) -> bool {
        self.view.is_whole(self.maps, self.alias.region.identity())
    }

    /// Whether page tables have entries that are neither pages nor nothing, as those of guard pages: they
    /// would come along. Kernels that cannot say have none in a file's mapping.
    fn has_markers(&self, pages: Pages) -> bool {
        let pagemap = self.process.pagemap();
        pagemap.is_some_and(|pagemap| pagemap.has_markers(pages) == Ok(true))
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
    fn populate(&self) -> Result<(), Failed> {
        // SAFETY: the view's own mapping of what the alias shows, which stays as long as the region.
        unsafe { self.alias.populate(self.piece, self.process.pagemap()) }
    }

    /// Maps in what an alias is to be lent: all of it if it shall be populated, else those pages that are in
    /// memory, where that is quick.
    pub fn prepare(&self) -> Result<(), Failed> {
        match self.alias.options.prefault {
            Prefault::Populate => self.populate(),
            Prefault::No | Prefault::Copy => self.warm_up(),
        }
    }

    fn warm_up(&self) -> Result<(), Failed> {
        // SAFETY: the view's own mapping of what the alias shows, which stays as long as the region.
        unsafe { self.alias.warm_up(self.piece, self.process.pagemap()) }
    }

    /// Takes page tables back from an alias at `home`, which shows the same pages afterwards, to be faulted
    /// in. Where that cannot be done, as of locked memory, they stay there.
    ///
    /// # Safety
    /// At `home` lies this alias; no reference into it lives.
    pub unsafe fn take_back(process: &'static Process, alias: &Alias, home: Pages) {
        let (start, len) = (home.start(), home.len());
        let Some(lender) = Lender::perhaps(process, alias, len) else { return };
        if sys::is_locked(start, len) != Ok(false) {
            return;
        }
        // SAFETY: the caller's promise; it stays mapped, and shows the same bytes.
        if let Ok(aside) = unsafe { sys::move_aside(start, len, congruent_place(home)) } {
            lender.receive_aside(Aside::new(process, home.moved_to(aside)));
        }
    }

    /// Takes page tables back from an alias that is aside, which goes.
    pub fn receive(alias: &Alias, aside: Aside) {
        if let Some(lender) = Lender::perhaps(aside.process(), alias, aside.pages().len()) {
            lender.receive_aside(aside);
        }
    }

    fn receive_aside(&self, aside: Aside) {
        let (from, to) = (aside.pages(), self.piece.start());
        if !self.is_own(from) || self.has_markers(from) {
            return;
        }
        // Nobody lends from the view between the move and the look at it.
        let _turn = self.view.turn(self.process);
        if !self.is_whole() {
            return;
        }
        // SAFETY: two mappings of ours that show the same bytes, before and after, and nobody sees a moment
        // between: the kernel holds its lock.
        if unsafe { sys::move_to(from.start(), from.len(), to) }.is_ok() {
            aside.moved();
        }
        if self.is_whole() {
            return;
        }
        // It does not merge; or it is a hole, which a late failure of the kernel can leave.
        let again = || self.alias.region.lay_again(self.view, self.piece);
        if self.process.ballast().sparing(again).is_err() {
            // A view that is not whole lends no more. Nobody else may map anything into it.
            let _ = sys::hole_filler(self.piece.start(), self.piece.len());
        }
    }

    /// Whether what is aside is this alias in one mapping, as it was lent.
    fn is_own(&self, aside: Pages) -> bool {
        let mut own = false;
        let asked = self.maps.visit(aside.start(), aside.end(), |vma| {
            own = vma.start <= aside.start()
                && aside.end() <= vma.end
                && vma.protection == self.alias.protection()
                && self.alias.is_shown_by(vma, aside.start());
            ControlFlow::Break(())
        });
        asked.is_ok() && own
    }
}
