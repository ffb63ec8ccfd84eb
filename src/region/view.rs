//! [`View`]: the host's own mapping of a region, with room to grow, that never moves.

use crate::page::{self, Pages};
use crate::process::Process;
use crate::reservation::Reservation;
use crate::sys::{self, Advice, Errno, Flavour, Object, Protection};
use std::ptr::NonNull;

/// A mapping of `[0, max_len)` of an object, past whose end nothing may be touched yet.
#[derive(Debug)]
pub(super) struct View {
    start: NonNull<u8>,
    pages: Pages,
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
        use std::os::fd::AsFd;
        let len = page::round_up(max_len, page_size).ok_or(Errno::NOMEM)?;
        let reservation = Reservation::aligned(len, page_size)?;
        let pages = reservation.pages();
        let protection = match read_only || page_size != page::size() {
            true => Protection::READ,
            false => Protection::READ_WRITE,
        };
        let map = |shared| {
            let flavour = Flavour { shared, protection };
            // SAFETY: over our own fresh reservation.
            unsafe { sys::map_object_over(pages.start(), object.as_fd(), 0, pages.len(), flavour) }
        };

        match map(true) {
            // Sealed against writes: before Linux 6.7 only private maps are allowed, and no byte of
            // it can change any more.
            Err(Errno::PERM) if read_only => map(false)?,
            mapped => mapped?,
        }
        if protection == Protection::READ && !read_only {
            // Mapped writable at once, an object of huge pages becomes as long as its mapping.
            // SAFETY: our own mapping.
            unsafe { sys::protect(pages.start(), pages.len(), Protection::READ_WRITE)? };
        }
        reservation.keep();
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(pages.start()));
        let view = Self { start: start.ok_or(Errno::INVAL)?, pages, hidden, stays: false };
        if huge {
            // SAFETY: our own mapping. Advice only: a kernel without huge pages refuses it.
            let _ = unsafe { sys::advise(pages.start(), pages.len(), Advice::HugePage) };
        }
        if hidden.is_some() {
            // SAFETY: our own mapping, which `Drop` and every access know to be absent in a child.
            unsafe { sys::advise(pages.start(), pages.len(), Advice::DontFork)? };
        }
        Ok(view)
    }

    /// The host's own addresses, at which the object was mapped.
    ///
    /// # Safety
    /// They stay mapped like that as long as the view is there.
    pub unsafe fn adopted(pages: Pages) -> Option<Self> {
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(pages.start()))?;
        Some(Self { start, pages, hidden: None, stays: true })
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
            let _ = unsafe { sys::unmap(self.pages.start(), self.pages.len()) };
        }
    }
}
