//! [`Region::adopt`]: memory of the host becomes a region, at the address that it has.
//!
//! ```text
//!   before   addr [ host's private pages ]
//!   copied   addr [ host's private pages ]    aside [ a memfd's pages, the same bytes ]
//!   adopted  addr [ the memfd's pages    ]    the region's view: it stays when the region goes
//! ```
//!
//! The new view is built and filled aside, where what can fail changes nothing, and moved over the old
//! pages in one call: whoever reads meanwhile reads the same bytes before and after.
//!
//! Source: memfd_create(2), mremap(2) `MREMAP_FIXED`.

#![allow(unsafe_code, reason = "maps over memory of the caller")]

use super::builder::identity;
use super::view::{Late, View};
use super::{Inner, Region};
use crate::alias::{self, Failed};
use crate::error::{Error, Op, Result, Span, Why};
use crate::inspect;
use crate::loan::{host_memory, host_pages};
use crate::page::{self, Pages};
use crate::process::Process;
use crate::reservation::congruent_place;
use crate::space;
use crate::sys::{self, Call, Errno, Flavour, Object, Protection, Stat};
use std::os::fd::AsFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

impl Region {
    /// Makes a region of memory that the host has already: its bytes are copied once, into a memory object,
    /// and from then on the host's own addresses show that object's pages. They are the region's view
    /// ([`Region::as_ptr`] is `addr`), and can be tied like any region's, many times.
    ///
    /// When the region goes, the host's bytes stay where they are: the view is not unmapped, and keeps the
    /// pages alive. They are memory of the host's again, shared memory now: a forked child sees the
    /// parent's writes. Who wants the addresses back maps something else there, after the region and all
    /// its ties are gone.
    ///
    /// All of it takes memory, pages included that were never touched. For memory that is shown once,
    /// [`Space::lend`](crate::Space::lend) copies nothing.
    ///
    /// # Units
    /// `addr` and `len`: bytes, multiples of [`page::size()`], `len` not 0. The region cannot grow.
    ///
    /// # Safety
    /// - **Own.** All pages of `[addr, addr + len)` are plain data of the caller's, and of nobody else's
    ///   (the first page of a large block of malloc(3) holds the allocator's notes).
    /// - **It stays.** Until the region, its clones and its ties are gone nobody unmaps, moves, protects or
    ///   advises these addresses, or frees them.
    /// - **Quiet.** During this call no other thread or system call writes there; what it writes can be lost.
    /// - **No references** (`&[u8]`, a C++ reference, a cached value) into it live across the call, nor
    ///   later while the region is tied: see [`Region::bytes`].
    ///
    /// # Errors
    /// In this order; the ranges are of addresses.
    /// - [`Misaligned`](crate::ErrorKind::Misaligned), [`Empty`](crate::ErrorKind::Empty),
    ///   [`OutOfRange`](crate::ErrorKind::OutOfRange): past the end of the address space;
    /// - [`NotMapped`](crate::ErrorKind::NotMapped), [`RefusedMemory`](crate::ErrorKind::RefusedMemory):
    ///   what is there is not private anonymous memory that can be read and written: a file, shared (which
    ///   adopted memory is), code, a stack, the heap, huge pages (hugetlb), registered with a userfaultfd;
    /// - [`Unsupported`](crate::ErrorKind::Unsupported): without /proc; a part of it is locked and another
    ///   is not;
    /// - [`Overlap`](crate::ErrorKind::Overlap): the memory of a live space, or pages that are lent;
    /// - [`Limit`](crate::ErrorKind::Limit), [`NoMemory`](crate::ErrorKind::NoMemory),
    ///   [`Os`](crate::ErrorKind::Os): no memory for the copy, no descriptor; of locked memory, that twice
    ///   as much may not be locked for a moment.
    ///
    /// On error the memory is as it was.
    ///
    /// # Threads
    /// Other threads may read the memory during the call: they see the same bytes before and after, never
    /// zeros and never a fault. What they write between the copy of its page and the end of the call is
    /// lost; what they write afterwards is the region's.
    ///
    /// # Source
    /// memfd_create(2), Linux 3.17; mremap(2) `MREMAP_FIXED`. Advice (madvise(2)), names and protection keys
    /// of the old mapping are gone.
    #[doc(alias = "memfd_create")]
    #[doc(alias = "mremap")]
    pub unsafe fn adopt(addr: *mut u8, len: usize) -> Result<Self> {
        let op = Op::Adopt;
        let pages = host_pages(op, addr.expose_provenance(), len)?;
        let process = Process::current(op)?;
        let locked = check(process, pages)?;
        // As long as this takes no space may borrow it, and the ballast is there.
        let entry = process
            .enter(pages.into())
            .map_err(|refusal| space::refused(process, op, pages.into(), refusal))?;
        // SAFETY: the caller's promises; it is plain private memory, as the kernel just said.
        let replaced = unsafe { replace(process, pages, locked) }
            // Before the ballast may go, which counts.
            .map_err(|(call, errno)| process.failed(op, pages.into(), call, errno));
        process.leave(&entry, pages.into());
        let (object, stat) = replaced?;
        // SAFETY: the memfd was mapped there by `replace`, and stays by the caller's promise.
        let view = unsafe { View::adopted(pages) }.ok_or(Error::os(
            op,
            Call::Mmap,
            Errno::INVAL,
            pages.into(),
        ))?;
        let identity = identity(process, &view, &stat);
        Ok(Region {
            inner: Arc::new(Inner {
                object,
                view,
                len: AtomicUsize::new(len),
                max_len: len,
                page_size: page::size(),
                identity,
                read_only: false,
                is_file: false,
                allow_discard: false,
                hidden: None,
                private_view: Late::default(),
            }),
        })
    }
}

/// Refuses what cannot be adopted; answers whether it is locked.
fn check(process: &Process, pages: Pages) -> Result<bool> {
    let op = Op::Adopt;
    let asked = Span::from(pages);
    let layout = host_memory(process, op, pages)?;
    let mut locks = Vec::with_capacity(layout.len());
    for vma in layout.iter() {
        let found = Span { start: vma.start, end: vma.end };
        if vma.protection != Protection::READ_WRITE {
            return Err(Error::refused(op, asked, found, Why::NotWritable));
        }
        let locked = sys::is_locked(vma.start, vma.end - vma.start);
        locks.push(locked.map_err(|errno| Error::os(op, Call::Msync, errno, found))?);
    }
    if locks.iter().any(|locked| *locked != locks[0]) {
        let why = "a part of this memory is locked and another is not";
        return Err(Error::unsupported(op, why, None));
    }
    Ok(locks[0])
}

/// Copies the pages into a memfd, and shows that there.
///
/// # Safety
/// - The caller owns `pages`, private anonymous memory that can be read and written.
/// - No reference into it lives, and nobody writes it meanwhile.
unsafe fn replace(process: &Process, pages: Pages, locked: bool) -> Result<(Object, Stat), Failed> {
    let call = |call| move |errno| (call, errno);
    let len = pages.len();
    let object = Object::memfd(c"pagetie", None).map_err(call(Call::MemfdCreate))?;
    object.set_len(len as u64).map_err(call(Call::Ftruncate))?;
    let object = object.seal_shrink().map_err(call(Call::MemfdCreate))?;
    let stat = object.stat().map_err(call(Call::Fstat))?;
    let flavour = Flavour::of(true, Protection::READ_WRITE);
    let fd = object.as_fd();
    let aside =
        sys::map_object(congruent_place(pages), fd, 0, len, flavour).map_err(call(Call::Mmap))?;
    // SAFETY: `aside` was just mapped, with the length of `pages`; the rest is the caller's promise.
    let moved = unsafe { fill(pages, aside, locked) }.and_then(|()| {
        // SAFETY: one mapping of ours, over memory of the caller's.
        let over = || unsafe { sys::move_to(aside, len, pages.start()) };
        process.ballast().sparing(over).map_err(call(Call::Mremap))
    });
    if let Err(failed) = moved {
        if inspect::has_hole(process, pages) {
            // Before Linux 6.12 a late failure of the kernel can leave one: the copy is all there is.
            // SAFETY: the caller's addresses, at which nothing is mapped.
            let again = || unsafe { sys::map_object_over(pages.start(), fd, 0, len, flavour) };
            if process.ballast().sparing(again).is_err() {
                // Nor can that be mapped: the copy stays where it is rather than go with the error.
                return Err(failed);
            }
            // SAFETY: ours, still where it was built.
            let _ = unsafe { sys::unmap(aside, len) };
            return Ok((object, stat));
        }
        // SAFETY: ours, still where it was built: it was not moved.
        let _ = process.ballast().sparing(|| unsafe { sys::unmap(aside, len) });
        return Err(failed);
    }
    Ok((object, stat))
}

/// Makes what was mapped aside what the pages are.
///
/// # Safety
/// `[aside, aside + pages.len())` is a mapping of ours that can be read and written; the caller owns
/// `pages`, which can be read, and nobody writes them meanwhile.
unsafe fn fill(pages: Pages, aside: usize, locked: bool) -> Result<(), Failed> {
    // Memory that is short is an error here, and would be a SIGBUS in the copy.
    // SAFETY: the caller's promise: a mapping of ours, writable.
    unsafe { alias::populate(pages.moved_to(aside), true) }
        .map_err(|errno| (Call::Madvise, errno))?;
    if locked {
        sys::lock(aside, pages.len()).map_err(|errno| (Call::Mlock, errno))?;
    }
    let from = ptr::with_exposed_provenance(pages.start());
    let to = ptr::with_exposed_provenance_mut(aside);
    // SAFETY: both are mapped and as long, by the caller's promise, and do not overlap: `aside` was free.
    unsafe { sys::load(from, to, pages.len()) };
    Ok(())
}
