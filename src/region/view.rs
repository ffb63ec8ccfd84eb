//! [`View`]: the host's own mapping of a region, with room to grow, that never moves.

use crate::page::{self, Pages};
use crate::process::Process;
use crate::region::Identity;
use crate::reservation::Reservation;
use crate::sys::{self, Advice, Errno, Flavour, Maps, Object, Protection};
use crate::turns::{Turn, Turns};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

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
    /// Who lends or takes back: what came back is looked at before the next one has it.
    turns: Turns,
}

/// A view that is made when it is first needed. No lock: a fork would copy it.
#[derive(Debug, Default)]
pub(super) struct Late(AtomicPtr<View>);

impl Late {
    pub fn get(&self, make: impl FnOnce() -> Option<View>) -> Option<&View> {
        let mut view = self.0.load(Ordering::Acquire);
        if view.is_null() {
            let made = Box::into_raw(Box::new(make()?));
            let null = std::ptr::null_mut();
            view = match self.0.compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => made,
                Err(theirs) => {
                    // SAFETY: boxed above, and nobody else has it.
                    drop(unsafe { Box::from_raw(made) });
                    theirs
                }
            };
        }
        // SAFETY: only boxes are stored above, once, and they go with `self`.
        Some(unsafe { &*view })
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let view = *self.0.get_mut();
        if !view.is_null() {
            // SAFETY: a box that was stored by `get`, whose borrows have ended.
            drop(unsafe { Box::from_raw(view) });
        }
    }
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
    /// tables that read-only aliases are [lent](crate::lender::Lender).
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
        if sys::is_locked(view.mapped.start(), page)? {
            // As all that is mapped will be (mlockall): all of the object would be read in, and stay.
            return Err(Errno::PERM);
        }
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
        Ok(Self {
            start,
            pages,
            mapped,
            flavour,
            huge,
            hidden,
            stays: false,
            turns: Turns::default(),
        })
    }

    /// The host's own addresses, at which the object was mapped.
    ///
    /// # Safety
    /// They stay mapped like that as long as the view is there.
    pub unsafe fn adopted(pages: Pages) -> Option<Self> {
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(pages.start()))?;
        let flavour = Flavour::of(true, Protection::READ_WRITE);
        Some(Self {
            start,
            pages,
            mapped: pages,
            flavour,
            huge: false,
            hidden: None,
            stays: true,
            turns: Turns::default(),
        })
    }

    fn lay(&self, object: &Object, part: Pages) -> Result<(), Errno> {
        assert!(self.mapped.contains(part) && !self.stays);
        let (start, len) = (part.start(), part.len());
        let offset = start - self.pages.start();
        // SAFETY: over our own reservation, or what was laid there before: other pages do not appear.
        unsafe { sys::map_object_over(start, object.as_fd(), offset, len, self.flavour)? };
        // SAFETY: laid in the line above.
        unsafe { self.advise(part) }
    }

    /// # Safety
    /// `pages` are a mapping of ours, of the object.
    unsafe fn advise(&self, pages: Pages) -> Result<(), Errno> {
        let (start, len) = (pages.start(), pages.len());
        if self.huge {
            // SAFETY: the caller's promise. Advice only: a kernel without huge pages refuses it.
            let _ = unsafe { sys::advise(start, len, Advice::HugePage) };
        }
        if self.hidden.is_some() {
            // SAFETY: the caller's promise; `Drop` and every access know it to be absent in a child.
            unsafe { sys::advise(start, len, Advice::DontFork)? };
        }
        Ok(())
    }

    /// Maps a part anew, as it was at first: the bytes are the same, and nothing is mapped in. On an error all
    /// is as it was, unless the kernel left a hole.
    pub fn lay_again(&self, object: &Object, part: Pages) -> Result<(), Errno> {
        assert!(self.mapped.contains(part) && !self.stays);
        let (len, offset) = (part.len(), part.start() - self.pages.start());
        // Aside first: nobody may fork while it is there and not hidden yet.
        let start = sys::map_object(0, object.as_fd(), offset, len, self.flavour)?;
        let done = Pages::known(start, start + len).map_or(Err(Errno::INVAL), |aside| {
            // SAFETY: mapped above, and nobody knows it; it shows the same bytes as what it replaces.
            unsafe {
                self.advise(aside)?;
                sys::move_to(start, len, part.start())
            }
        });
        if done.is_err() {
            // SAFETY: ours, and still there.
            let _ = unsafe { sys::unmap(start, len) };
        }
        done
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

    pub fn turn(&self, process: &Process) -> Turn<'_> {
        self.turns.take(process)
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
