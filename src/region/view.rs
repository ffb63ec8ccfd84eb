//! [`View`]: the host's own mapping of a region, with room to grow, that never moves.

use crate::page::{self, Pages};
use crate::process::Process;
use crate::region::Identity;
use crate::reservation::Reservation;
use crate::sys::{self, Advice, Errno, Flavour, Maps, Object, Protection};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// A mapping of `[0, max_len)` of an object, past whose end nothing may be touched yet.
#[derive(Debug)]
pub(crate) struct View {
    start: NonNull<u8>,
    pages: Pages,
    /// What is mapped: a page more, past all that is ever shown. No part that an alias can have is the
    /// whole mapping, so that one which differs from the rest shows, by not merging with it.
    mapped: Pages,
    flavour: Flavour,
    /// Advised to be huge pages.
    huge: bool,
    /// Set: not in a forked child, which must not unmap what it has there instead.
    hidden: Option<&'static Process>,
    /// The addresses are the host's own, and stay mapped.
    stays: bool,
}

// SAFETY: the pointer is the start of a mapping that belongs to no thread and stays until `Drop`;
// what is done through it is atomic, or the user's `unsafe`.
unsafe impl Send for View {}
// SAFETY: as for `Send`: `&View` gives out addresses only.
unsafe impl Sync for View {}

impl View {
    /// Maps the object where its pages can become huge pages: aligned to 2 MiB or 1 GiB.
    ///
    /// `max_len` is rounded up to `page_size`, which is the object's.
    pub fn new(
        object: &Object,
        max_len: usize,
        page_size: usize,
        read_only: bool,
        huge: bool,
        hidden: Option<&'static Process>,
    ) -> Result<Self, Errno> {
        let len = page::round_up(max_len, page_size).ok_or(Errno::NOMEM)?;
        // Mapped writable at once, an object of huge pages becomes as long as its mapping.
        let late = page_size != page::size() && !read_only;
        let protection = match read_only || late {
            true => Protection::READ,
            false => Protection::READ_WRITE,
        };
        // Huge pages cannot be lent, and one more of them is dear.
        let spare = if page_size == page::size() { page_size } else { 0 };
        let mut view =
            Self::over(len, spare, page_size, Flavour::of(true, protection), huge, hidden)?;
        match view.lay(object, view.mapped) {
            // Sealed against writes: before Linux 6.7 only private maps are allowed, and no byte of
            // it can change any more.
            Err(Errno::PERM) if read_only => {
                view.flavour.shared = false;
                view.lay(object, view.mapped)?;
            }
            laid => laid?,
        }
        if late {
            view.flavour.protection = Protection::READ_WRITE;
            // SAFETY: our own mapping.
            unsafe { sys::protect(view.pages.start(), view.pages.len(), Protection::READ_WRITE)? };
        }
        Ok(view)
    }

    /// A second view of the same length, private and read-only, and never handed out: it has the page
    /// tables that read-only aliases are [lent](crate::warm::Warm).
    ///
    /// Accounted, so that whatever is made writable for a moment differs from it for good.
    pub fn private(
        &self,
        object: &Object,
        hidden: Option<&'static Process>,
    ) -> Result<Self, Errno> {
        let flavour = Flavour { accounted: true, ..Flavour::of(false, Protection::READ) };
        let (len, page) = (self.pages.len(), page::size());
        let view = Self::over(len, page, page, flavour, self.huge, hidden)?;
        view.lay(object, view.mapped)?;
        Ok(view)
    }

    /// A place for a view of `len` bytes, where nothing is mapped yet.
    fn over(
        len: usize,
        spare: usize,
        page_size: usize,
        flavour: Flavour,
        huge: bool,
        hidden: Option<&'static Process>,
    ) -> Result<Self, Errno> {
        let place = Reservation::aligned(len.checked_add(spare).ok_or(Errno::NOMEM)?, page_size)?;
        let mapped = place.pages();
        let pages = Pages::known(mapped.start(), mapped.start() + len).ok_or(Errno::INVAL)?;
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(pages.start()));
        let start = start.ok_or(Errno::INVAL)?;
        place.keep();
        Ok(Self { start, pages, mapped, flavour, huge, hidden, stays: false })
    }

    /// The host's own addresses, at which the object was mapped.
    ///
    /// # Safety
    /// They stay mapped like that as long as the view is there.
    pub unsafe fn adopted(pages: Pages) -> Option<Self> {
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(pages.start()))?;
        let flavour = Flavour::of(true, Protection::READ_WRITE);
        Some(Self { start, pages, mapped: pages, flavour, huge: false, hidden: None, stays: true })
    }

    /// Maps a part of the object where the view has it, as it was mapped at first: the bytes are the same,
    /// and nothing is mapped in.
    pub fn lay(&self, object: &Object, part: Pages) -> Result<(), Errno> {
        assert!(self.mapped.contains(part) && !self.stays);
        let (start, len) = (part.start(), part.len());
        let offset = start - self.pages.start();
        // SAFETY: over our own reservation, or what was laid there before: other pages do not appear.
        unsafe { sys::map_object_over(start, object.as_fd(), offset, len, self.flavour)? };
        if self.huge {
            // SAFETY: our own mapping. Advice only: a kernel without huge pages refuses it.
            let _ = unsafe { sys::advise(start, len, Advice::HugePage) };
        }
        if self.hidden.is_some() {
            // SAFETY: our own mapping, which `Drop` and every access know to be absent in a child.
            unsafe { sys::advise(start, len, Advice::DontFork)? };
        }
        Ok(())
    }

    /// Whether the kernel has it as one mapping, with the protection it was laid with. Not so where a part
    /// of it was protected, advised, or replaced by something else.
    pub fn is_whole(&self, maps: &Maps, identity: Identity) -> bool {
        let (start, end) = (self.mapped.start(), self.mapped.end());
        let mut whole = false;
        let asked = maps.visit(start, end, |vma| {
            whole = vma.start <= start
                && end <= vma.end
                && identity.is_of(vma)
                && vma.offset == (vma.start.wrapping_sub(start)) as u64
                && vma.protection == self.flavour.protection
                && vma.shared == self.flavour.shared;
            ControlFlow::Break(())
        });
        asked.is_ok() && whole
    }

    /// Whether its page tables may be lent: the addresses are ours.
    pub const fn may_lend(&self) -> bool {
        !self.stays
    }

    pub const fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The address of a byte of the view.
    pub fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.pages.len());
        // SAFETY: within the mapping, or just past its end.
        unsafe { self.start.add(offset) }
    }

    pub const fn pages(&self) -> Pages {
        self.pages
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if !self.stays && self.hidden.is_none_or(Process::is_current) {
            // SAFETY: mapped by `new`, and the region that lent references into it is gone.
            let _ = unsafe { sys::unmap(self.mapped.start(), self.mapped.len()) };
        }
    }
}
