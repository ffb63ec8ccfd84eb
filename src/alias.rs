//! [`Alias`]: pages of a region laid over addresses, in place or built aside and moved in.
//!
//! ```text
//!   in place     [ covered ]  --mmap(MAP_FIXED)-->  [ region's pages ]      one system call
//!   aside        [ region's pages, populated, DONTFORK ]  --mremap-->  over the covered ones
//! ```
//!
//! Built aside where something must be done to the alias before anybody sees it: prefaulting, or
//! keeping it out of forked children. Page tables move along where the two places are congruent.
//!
//! Source: mmap(2) `MAP_FIXED`, mremap(2) `MREMAP_FIXED`, madvise(2).

#![allow(unsafe_code, reason = "maps over addresses that its callers own or were lent")]

use crate::options::{Access, Prefault, TieOptions};
use crate::page::{self, Pages};
use crate::region::Region;
use crate::reservation::{self, congruent_place};
use crate::sys::{self, Advice, Call, Errno, Flavour, Pagemap, Protection, Vma};
use std::ops::ControlFlow;

/// What a tie shows: a region from `offset` on.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    pub region: Region,
    pub offset: usize,
    pub options: TieOptions,
    /// Its page tables are a view's, and go back there: see [`Lender`](crate::lender::Lender).
    pub lent: bool,
}

/// The call that failed, and how.
pub(crate) type Failed = (Call, Errno);

impl Access {
    /// The protection a tie of this access is laid with.
    pub(crate) const fn protection(self) -> Protection {
        match self {
            Access::ReadOnly => Protection::READ,
            Access::ReadWrite | Access::CopyOnWrite => Protection::READ_WRITE,
        }
    }

    pub(crate) const fn is_shared(self) -> bool {
        matches!(self, Access::ReadWrite)
    }

    const fn flavour(self) -> Flavour {
        Flavour::of(self.is_shared(), self.protection())
    }
}

impl Alias {
    pub fn new(region: &Region, offset: usize, options: TieOptions) -> Self {
        Self { region: region.clone(), offset, options, lent: false }
    }

    pub fn protection(&self) -> Protection {
        self.options.access.protection()
    }

    /// Whether huge pages of the region are huge at `pages` too.
    pub fn is_congruent(&self, pages: Pages) -> bool {
        reservation::is_congruent(pages.start(), self.offset)
    }

    /// Whether a mapping is this alias, laid at `start`.
    pub fn is_shown_by(&self, vma: &Vma, start: usize) -> bool {
        // The mapping may begin before the alias, where neighbours continue each other.
        let into_alias = vma.start.wrapping_sub(start) as u64;
        self.region.identity().is_of(vma)
            && vma.shared == self.options.access.is_shared()
            && vma.offset == (self.offset as u64).wrapping_add(into_alias)
    }

    /// Lays it over `pages`. After a failure the old mapping is there, or a hole.
    ///
    /// # Safety
    /// - The caller owns `pages` or was lent them to be mapped over, and no reference into them lives.
    /// - `[offset, offset + pages.len())` was checked against the region.
    pub unsafe fn lay(&self, pages: Pages) -> Result<(), Failed> {
        if self.options.prefault == Prefault::No && !self.region.is_hidden_from_fork() {
            // SAFETY: the caller's promise is that of this function.
            return unsafe { self.lay_in_place(pages) };
        }
        let aside = self.build_aside(pages, self.options.prefault)?;
        // SAFETY: `aside` was built for this; the rest is the caller's promise.
        unsafe { self.move_in(aside, pages) }.inspect_err(|_| {
            // SAFETY: ours, and still where it was built: it was not moved.
            let _ = unsafe { sys::unmap(aside.start(), aside.len()) };
        })
    }

    /// Moves an alias that is ready elsewhere over `pages`, page tables and all. After a failure it is
    /// where it was, and at `pages` lies the old mapping, or a hole.
    ///
    /// # Safety
    /// As [`Alias::lay`]; `aside` is one mapping of ours, of this alias and as long as `pages`.
    pub unsafe fn move_in(&self, aside: Pages, pages: Pages) -> Result<(), Failed> {
        // SAFETY: the caller's promise is that of this function.
        let moved = unsafe { sys::move_to(aside.start(), aside.len(), pages.start()) };
        match moved {
            // Before Linux 5.16 huge pages do not move: they are laid in place, and then made ready.
            Err(Errno::INVAL) if self.region.is_huge() => {
                // SAFETY: the caller's promise is that of this function.
                unsafe { self.lay_in_place(pages)? };
                self.prepare(pages, self.options.prefault)?;
                // SAFETY: ours, and of no use any more.
                let _ = unsafe { sys::unmap(aside.start(), aside.len()) };
                Ok(())
            }
            moved => moved.map_err(|errno| (Call::Mremap, errno)),
        }
    }

    /// Builds the alias at a place of the kernel's choice from where it can be moved over `pages`, and
    /// makes it ready there.
    pub fn build_aside(&self, pages: Pages, prefault: Prefault) -> Result<Pages, Failed> {
        let flavour = self.options.access.flavour();
        let (hint, len) = (congruent_place(pages), pages.len());
        let aside = sys::map_object(hint, self.region.object(), self.offset, len, flavour)
            .and_then(|start| Pages::known(start, start + len).ok_or(Errno::INVAL))
            .map_err(|errno| (Call::Mmap, errno))?;
        self.prepare(aside, prefault).inspect_err(|_| {
            // SAFETY: a fresh mapping of ours.
            let _ = unsafe { sys::unmap(aside.start(), aside.len()) };
        })?;
        Ok(aside)
    }

    /// [`Alias::build_aside`] with its pages mapped in, whatever the options say of that.
    pub fn build_warm(&self, pages: Pages) -> Result<Pages, Failed> {
        let asked = self.options.prefault;
        let aside = self.build_aside(pages, asked)?;
        if asked == Prefault::No {
            // SAFETY: a fresh mapping of ours, of this alias.
            unsafe { self.warm_up(aside, None) }.inspect_err(|_| {
                // SAFETY: the same.
                let _ = unsafe { sys::unmap(aside.start(), aside.len()) };
            })?;
        }
        Ok(aside)
    }

    /// Maps all pages of a mapping in that shows what this alias shows. Without a `pagemap` it is fresh, and
    /// nothing of it is mapped in yet.
    ///
    /// # Safety
    /// `pages` are a mapping of ours, which shows the region from this alias's offset on, allows what the
    /// alias allows, and which nobody unmaps meanwhile.
    pub unsafe fn populate(&self, pages: Pages, pagemap: Option<&Pagemap>) -> Result<(), Failed> {
        // A read of a memfd page through a shared map makes it writable too, and costs a fraction; a
        // file's page must hear of the write.
        let write = self.options.access.is_shared() && self.region.is_file();
        // SAFETY: mapped by the caller's promise, readable, and writable where `write` says so.
        let populate = |pages| unsafe { populate(pages, write) };
        let whole = write || self.region.is_huge();
        let each = |run: Pages| {
            if whole || run.len() <= STEP {
                return populate(run);
            }
            // SAFETY: a part of what is mapped by the caller's promise.
            unsafe { populate_around(run)? };
            match pagemap {
                Some(pagemap) => for_absent(Some(pagemap), run, populate),
                None => for_absent(Pagemap::open().ok().as_ref(), run, populate),
            }
        };
        let done = match pagemap {
            Some(pagemap) if !whole => for_absent(Some(pagemap), pages, each),
            _ => each(pages),
        };
        done.map_err(|errno| (Call::Madvise, errno))
    }

    /// Maps those pages in that are in memory, where that is quick; reads a file in.
    ///
    /// # Safety
    /// As [`Alias::populate`].
    pub unsafe fn warm_up(&self, pages: Pages, pagemap: Option<&Pagemap>) -> Result<(), Failed> {
        let whole = self.region.is_file() || self.region.is_huge();
        // SAFETY: mapped by the caller's promise, and readable.
        let map_in =
            |run| unsafe { if whole { populate(run, false) } else { populate_around(run) } };
        for_absent(pagemap, pages, map_in).map_err(|errno| (Call::Madvise, errno))
    }

    /// # Safety
    /// As [`Alias::lay`].
    unsafe fn lay_in_place(&self, pages: Pages) -> Result<(), Failed> {
        let (start, len) = (pages.start(), pages.len());
        let flavour = self.options.access.flavour();
        // SAFETY: the caller's promise is that of this function.
        unsafe { sys::map_object_over(start, self.region.object(), self.offset, len, flavour) }
            .map_err(|errno| (Call::Mmap, errno))
    }

    /// Does to a mapping of ours what must be done before it is used.
    fn prepare(&self, aside: Pages, prefault: Prefault) -> Result<(), Failed> {
        if self.region.is_hidden_from_fork() {
            // SAFETY: a fresh mapping of ours.
            unsafe { sys::advise(aside.start(), aside.len(), Advice::DontFork) }
                .map_err(|errno| (Call::Madvise, errno))?;
        }
        match prefault {
            Prefault::No => Ok(()),
            // SAFETY: a fresh mapping of ours, of this alias.
            Prefault::Populate => unsafe { self.populate(aside, None) },
            Prefault::Copy => {
                // SAFETY: a fresh mapping of ours, readable and writable.
                let copied = unsafe { populate(aside, true) };
                copied.map_err(|errno| (Call::Madvise, errno))
            }
        }
    }
}

/// What is populated at once: the kernel holds the lock of the whole address space during that.
const STEP: usize = 256 << 10;

/// Populates a page of each block, around which the kernel maps what is in memory: what populating all
/// does, without a second walk over those that this has mapped in. Holes beside the page are left alone.
///
/// # Safety
/// As [`populate`].
unsafe fn populate_around(pages: Pages) -> Result<(), Errno> {
    /// What `fault_around_bytes` of the kernel is, unless somebody changed it: then pages are left over.
    const AROUND: usize = 64 << 10;
    let block = AROUND.max(page::size());
    let mut start = pages.start();
    while start < pages.end() {
        // SAFETY: within `pages`; the caller's promise covers it.
        match unsafe { sys::advise(start, page::size(), Advice::PopulateRead) } {
            // Before Linux 5.14: they are left over.
            Err(Errno::INVAL) => return Ok(()),
            populated => populated?,
        }
        start = page::round_down(start, block) + block;
    }
    Ok(())
}

/// Does something for each run of pages that are not mapped in; for all of them where the kernel does not
/// tell which those are.
fn for_absent(
    pagemap: Option<&Pagemap>,
    pages: Pages,
    mut each: impl FnMut(Pages) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut done = Ok(());
    let asked = pagemap.map(|pagemap| {
        pagemap.absent(pages, |run| {
            done = each(run);
            if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    });
    if let Some(Ok(())) = asked { done } else { each(pages) }
}

/// Maps the pages in, as loads or stores would.
///
/// In steps of [`STEP`].
///
/// # Safety
/// The pages are mapped, readable (and writable, for `write`), and nobody unmaps them meanwhile.
pub(crate) unsafe fn populate(pages: Pages, write: bool) -> Result<(), Errno> {
    let advice = if write { Advice::PopulateWrite } else { Advice::PopulateRead };
    let step = STEP.max(page::size());
    for start in (pages.start()..pages.end()).step_by(step) {
        let len = step.min(pages.end() - start);
        // SAFETY: within `pages`; the caller's promise covers them.
        match unsafe { sys::advise(start, len, advice) } {
            // Before Linux 5.14.
            // SAFETY: as above.
            Err(Errno::INVAL) => unsafe { sys::touch(start, len, page::size(), write) },
            populated => populated?,
        }
    }
    Ok(())
}
