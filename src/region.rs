//! [`Region`]: pages that can be tied, and the host's own view of them.
//!
//! ```text
//!   memory object    [ page 0 | page 1 | page 2 | ... up to max_len ]
//!                        |        |
//!   host view        [ as_ptr() ......................................]   never moves
//! ```
//!
//! A region is a memory object (a memfd of base or huge pages, a file, a descriptor that came from
//! elsewhere) and one view of it. Its bytes can appear at other addresses at any moment, so safe code
//! gets copies and atomics, never slices.
//!
//! Source: memfd_create(2), mmap(2), fallocate(2), fcntl(2) on seals.

#![allow(unsafe_code, reason = "maps and reads the host view")]

mod adopt;
mod builder;
mod view;

pub use builder::{HugePages, RegionBuilder};

use crate::error::{Error, Op, Result, Span, Subject};
use crate::options::Access;
use crate::page::{self, Bounds, Extent, Pages};
use crate::process::Process;
use crate::sys::{self, Advice, Call, Object, Vma};
use std::fmt;
use std::ops::RangeBounds;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use view::Late;
pub(crate) use view::View;

/// Pages that can be tied. A handle: clones are the same pages.
///
/// The pages live as long as a handle or a tie of them does.
///
/// ```
/// use pagetie::{Region, page};
/// let region = Region::new(page::size())?;
/// region.write_at(3, b"hello")?;
/// let mut bytes = [0; 5];
/// region.read_at(3, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// # Ok::<(), pagetie::Error>(())
/// ```
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

struct Inner {
    object: Object,
    view: View,
    /// In bytes; only ever grows, up to `max_len`.
    len: AtomicUsize,
    max_len: usize,
    page_size: usize,
    identity: Identity,
    read_only: bool,
    /// A file on disk, or one that has a name at least.
    is_file: bool,
    allow_discard: bool,
    /// Set: view and ties stay out of a forked child, and this is the process that has them.
    hidden: Option<&'static Process>,
    /// What read-only aliases are lent page tables from.
    private_view: Late,
}

/// What the kernel calls the object in its list of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub device: (u32, u32),
    pub inode: u64,
}

impl Identity {
    /// Whether a mapping shows this object.
    pub fn is_of(&self, vma: &Vma) -> bool {
        vma.inode == self.inode && vma.device == self.device
    }
}

impl Region {
    /// A new region of `len` zero bytes, in memory of its own (a memfd, sealed against shrinking).
    ///
    /// # Units
    /// `len`: bytes, a multiple of [`page::size()`], not 0. No memory is taken before it is touched.
    ///
    /// # Errors
    /// - [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned), [`Empty`](crate::ErrorKind::Empty).
    /// - [`ErrorKind::NoMemory`](crate::ErrorKind::NoMemory), [`Limit`](crate::ErrorKind::Limit),
    ///   [`Os`](crate::ErrorKind::Os): `EMFILE`, or a policy against memfds.
    ///
    /// # Source
    /// memfd_create(2), Linux 3.17; `MFD_NOEXEC_SEAL` where the kernel has it (6.3).
    #[doc(alias = "memfd_create")]
    pub fn new(len: usize) -> Result<Self> {
        Self::builder().build(len)
    }

    /// A region with options: name, room to grow, huge pages, and so on.
    pub fn builder() -> RegionBuilder {
        RegionBuilder::default()
    }

    /// A region of the whole object behind a descriptor: a memfd of another process, or a file. The
    /// descriptor is duplicated, and writes are allowed if it allows them.
    ///
    /// A file that somebody shortens meanwhile raises SIGBUS where its bytes were: use files that
    /// nobody does that to. Regions made by [`Region::new`] cannot be shortened by anybody.
    ///
    /// # Errors
    /// - [`ErrorKind::Empty`](crate::ErrorKind::Empty): the object has no bytes.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): not a regular file.
    /// - [`ErrorKind::Os`](crate::ErrorKind::Os): for one, a descriptor that cannot be read from.
    pub fn from_fd(fd: impl AsFd) -> Result<Self> {
        Self::builder().from_fd(fd)
    }

    /// A region of a file, open for reading and writing where permissions allow that, else read-only
    /// ([`Region::is_read_only`] tells). [`RegionBuilder::read_only`] never opens it for writing.
    ///
    /// Its length is the file's; the last page may be partial. About files that get shorter, see
    /// [`Region::from_fd`].
    ///
    /// # Errors
    /// As [`Region::from_fd`]; [`ErrorKind::Os`](crate::ErrorKind::Os) with the `errno` of open(2).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// Its length in bytes: a multiple of the page size unless it is a file's.
    #[inline]
    pub fn len(&self) -> usize {
        self.inner.len.load(Ordering::Acquire)
    }

    /// Always false: a region has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The page size of its memory: that of the system, or of its huge pages.
    #[inline]
    pub fn page_size(&self) -> usize {
        self.inner.page_size
    }

    /// Whether nobody can write it through this region.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    /// Makes it longer, up to [`RegionBuilder::max_len`]. The new bytes are zeros, the view stays
    /// where it is, and ties are not affected. Of a file: makes the file longer, unless it has become
    /// so already.
    ///
    /// # Units
    /// Bytes, a multiple of [`Region::page_size`] unless it is a file's. The present length is fine
    /// and changes nothing.
    ///
    /// # Errors
    /// - [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned);
    ///   [`OutOfRange`](crate::ErrorKind::OutOfRange): past `max_len`, or shorter than it is.
    /// - [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly): a read-only file shorter than that.
    /// - [`ErrorKind::NoMemory`](crate::ErrorKind::NoMemory): no huge page left.
    ///
    /// # Threads
    /// Any number may grow it at once, and it ends at the longest; who comes late with less is told that it
    /// is longer already.
    ///
    /// # Source
    /// ftruncate(2); of what may be shortened, fallocate(2), which never shortens.
    #[doc(alias = "ftruncate")]
    pub fn grow(&self, new_len: usize) -> Result<()> {
        let inner = &*self.inner;
        let asked = Span { start: 0, end: new_len };
        if !inner.is_file {
            let page = inner.page_size;
            let bounds =
                Bounds { op: Op::Grow, subject: Subject::Len, page, base: 0, limit: inner.max_len };
            bounds.aligned(new_len, 0)?;
        }
        let old_len = self.len();
        if new_len < old_len {
            return Err(Error::shorter(Op::Grow, new_len, old_len));
        }
        if new_len > inner.max_len {
            return Err(Error::out_of_range(Op::Grow, Subject::MaxLen, asked, inner.max_len));
        }
        self.check_fork(Op::Grow)?;
        let failed = |call, errno| Error::os(Op::Grow, call, errno, asked);
        let stat = inner.object.stat().map_err(|errno| failed(Call::Fstat, errno))?;
        if stat.len < new_len as u64 {
            if inner.read_only {
                return Err(Error::read_only(Op::Grow, asked));
            }
            let longer = inner.object.extend(new_len as u64);
            longer.map_err(|errno| failed(Call::Ftruncate, errno))?;
        }
        if stat.huge_page.is_some() && new_len > old_len && !inner.read_only {
            // Taken now: a touch that finds the pool empty is a SIGBUS.
            let taken = inner.object.allocate(old_len as u64, (new_len - old_len) as u64);
            taken.map_err(|errno| failed(Call::Fallocate, errno.no_space_is_no_memory()))?;
        }
        inner.len.fetch_max(new_len, Ordering::AcqRel);
        Ok(())
    }

    /// Brings pages into memory and maps them into the host view, so that reading them later waits
    /// for nothing. Of a file: reads them in.
    ///
    /// # Units
    /// Bytes; need not be aligned.
    ///
    /// # Errors
    /// [`ErrorKind::Empty`](crate::ErrorKind::Empty), [`OutOfRange`](crate::ErrorKind::OutOfRange);
    /// [`ErrorKind::Os`](crate::ErrorKind::Os): `EFAULT` past the end of a file that got shorter.
    ///
    /// # Source
    /// madvise(2) `MADV_WILLNEED`; `MADV_POPULATE_READ`, Linux 5.14.
    #[doc(alias = "MADV_POPULATE_READ")]
    pub fn prefetch(&self, range: impl RangeBounds<usize>) -> Result<()> {
        self.prefetch_extent(Extent::of(&range, self.len()))
    }

    pub(crate) fn prefetch_extent(&self, extent: Extent) -> Result<()> {
        let range = self.any_bytes(Op::Prefetch, extent)?;
        let page = self.page_size();
        let start = page::round_down(range.start, page);
        let end = page::round_up(range.end, page).unwrap_or(range.end);
        let Some(pages) = Pages::known(self.address(start), self.address(end)) else {
            return Ok(());
        };
        // SAFETY: these pages are the view's; reading ahead changes no byte.
        let _ = unsafe { sys::advise(pages.start(), pages.len(), Advice::WillNeed) };
        // SAFETY: the view stays mapped as long as `self`.
        unsafe { crate::alias::populate(pages, false) }
            .map_err(|errno| Error::os(Op::Prefetch, Call::Madvise, errno, range))
    }

    /// The bytes read zero from now on, through the host view and every tie, and their memory goes
    /// back. Private pages of copy-on-write ties keep their bytes.
    ///
    /// Of a file this punches a hole on disk, and is refused unless
    /// [`RegionBuilder::allow_discard`] was set.
    ///
    /// # Units
    /// Bytes, multiples of [`Region::page_size`]; the end may be the region's end.
    ///
    /// # Errors
    /// - [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned),
    ///   [`Empty`](crate::ErrorKind::Empty), [`OutOfRange`](crate::ErrorKind::OutOfRange).
    /// - [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly).
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): a file, or its file system.
    ///
    /// # Source
    /// fallocate(2) `FALLOC_FL_PUNCH_HOLE`, Linux 3.5 on shared memory; 4.3 on huge pages. A huge page
    /// that went back is taken from the pool again when touched, and SIGBUS is raised if there is none.
    #[doc(alias = "fallocate")]
    #[doc(alias = "FALLOC_FL_PUNCH_HOLE")]
    pub fn discard(&self, range: impl RangeBounds<usize>) -> Result<()> {
        self.discard_extent(Extent::of(&range, self.len()))
    }

    pub(crate) fn discard_extent(&self, extent: Extent) -> Result<()> {
        let op = Op::RegionDiscard;
        let pages = self.whole_pages(op, extent)?;
        self.check_fork(op)?;
        self.check_discard(op, pages.into())?;
        self.punch(pages).map_err(|errno| Error::os(op, Call::Fallocate, errno, pages.into()))
    }

    /// Makes huge pages of the memory that the region has, where the kernel does that without privilege,
    /// and returns how many bytes are huge now. Best effort: what cannot become huge stays as it is.
    ///
    /// Works in blocks of 2 MiB of the host view that were written before. A region of huge pages is all
    /// huge already.
    ///
    /// # Errors
    /// [`ErrorKind::Ended`](crate::ErrorKind::Ended): hidden from fork, in a child.
    ///
    /// # Source
    /// madvise(2) `MADV_COLLAPSE`, Linux 6.1; nothing becomes huge before.
    #[doc(alias = "MADV_COLLAPSE")]
    pub fn collapse(&self) -> Result<usize> {
        const BLOCK: usize = 2 << 20;
        self.check_fork(Op::Collapse)?;
        if self.is_huge() {
            return Ok(self.len());
        }
        let view = self.view_pages();
        let first = page::round_up(view.start(), BLOCK).unwrap_or(view.end());
        let end = page::round_down(view.start() + self.len(), BLOCK);
        let mut huge = 0;
        for block in (first..end).step_by(BLOCK) {
            // SAFETY: a block of the view, which stays mapped as long as `self`; no byte changes.
            if unsafe { sys::advise(block, BLOCK, Advice::Collapse) }.is_ok() {
                huge += BLOCK;
            }
        }
        Ok(huge)
    }

    /// Whether [`Region::discard`] is allowed at all.
    pub(crate) fn check_discard(&self, op: Op, asked: Span) -> Result<()> {
        if self.inner.read_only {
            return Err(Error::read_only(op, asked));
        }
        if self.inner.is_file && !self.inner.allow_discard {
            let why = "discard would punch a hole into a file on disk; \
                       RegionBuilder::allow_discard allows it";
            return Err(Error::unsupported(op, why, None));
        }
        Ok(())
    }

    /// Punches a hole; `pages` are offsets.
    pub(crate) fn punch(&self, pages: Pages) -> Result<(), sys::Errno> {
        self.inner.object.punch(pages.start() as u64, pages.len() as u64)
    }

    /// The memory object's descriptor, still owned by the region: to hand to another process, which
    /// makes its own region of it with [`Region::from_fd`].
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.object())
    }

    /// Copies bytes out: relaxed, each byte once. While somebody writes them the copy may tear between
    /// bytes; it never invents one.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange). Reading no bytes is fine anywhere in
    /// the region.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<()> {
        // SAFETY: `into` is exclusive and writable, and no safe reference into a view exists that it could
        // overlap.
        unsafe { self.read_to(offset, into.as_mut_ptr(), into.len()) }
    }

    /// [`Region::read_at`] into memory that need not be initialised.
    ///
    /// # Safety
    /// `[to, to + len)` is writable, the caller's own, and not in this region's view.
    pub(crate) unsafe fn read_to(&self, offset: usize, to: *mut u8, len: usize) -> Result<()> {
        self.check_bytes(Op::Read, offset, len)?;
        let from = self.as_ptr().wrapping_add(offset);
        // SAFETY: the range lies in the view, which is mapped readable as long as `self`; the rest is the
        // caller's promise.
        unsafe { sys::load(from, to, len) };
        Ok(())
    }

    /// Copies bytes in: relaxed, each byte once. See [`Region::read_at`].
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange),
    /// [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly).
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<()> {
        // SAFETY: `from` is readable, and no safe reference into a view exists that it could be.
        unsafe { self.write_from(offset, from.as_ptr(), from.len()) }
    }

    /// [`Region::write_at`] from a raw pointer.
    ///
    /// # Safety
    /// `[from, from + len)` is readable, and not in this region's view.
    pub(crate) unsafe fn write_from(
        &self,
        offset: usize,
        from: *const u8,
        len: usize,
    ) -> Result<()> {
        self.check_bytes(Op::Write, offset, len)?;
        self.check_writable(Op::Write, offset, len)?;
        let to = self.as_ptr().wrapping_add(offset);
        // SAFETY: the range lies in the view, which is mapped writable as long as `self` (it is not
        // read-only); other accesses to it are atomic or promised not to race.
        unsafe { sys::store(from, to, len) };
        Ok(())
    }

    /// The start of the host view: [`Region::len`] bytes, and it never moves. Of an adopted region
    /// ([`Region::adopt`]) the host's own address.
    ///
    /// Use volatile or atomic access while the region is tied anywhere. Read-only regions are mapped
    /// read-only. In a forked child it is not mapped if the region is hidden from forks.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.inner.view.as_ptr()
    }

    /// A raw slice of the host view, checked against the length. Dereferencing it is `unsafe`, and
    /// right only while nothing writes these bytes: neither through this address nor any other.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange).
    pub fn bytes(&self, range: impl RangeBounds<usize>) -> Result<NonNull<[u8]>> {
        let (start, len) = self.bytes_of(Op::View, Extent::of(&range, self.len()))?;
        Ok(NonNull::slice_from_raw_parts(self.inner.view.at(start), len))
    }

    /// The bytes of the host view as atomics.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange);
    /// [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly): atomics can be written.
    pub fn atomic_u8(&self, range: impl RangeBounds<usize>) -> Result<&[AtomicU8]> {
        let (start, len) = self.bytes_of(Op::View, Extent::of(&range, self.len()))?;
        self.check_writable(Op::View, start, len)?;
        let bytes =
            NonNull::slice_from_raw_parts(self.inner.view.at(start).cast::<AtomicU8>(), len);
        // SAFETY: in the view, which stays mapped readable and writable as long as `self`; an
        // `AtomicU8` has the layout of a byte and tolerates any other access.
        Ok(unsafe { bytes.as_ref() })
    }

    /// Four bytes of the host view as an atomic.
    ///
    /// # Safety
    /// Nobody accesses these bytes at the same time in another size, through any address: not with
    /// [`Region::atomic_u8`], and not with [`Region::read_at`] or [`Region::write_at`].
    ///
    /// # Errors
    /// [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned): not a multiple of 4;
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange), [`ReadOnly`](crate::ErrorKind::ReadOnly).
    pub unsafe fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32> {
        let word = self.check_word(offset, size_of::<AtomicU32>())?;
        // SAFETY: aligned and in the writable view, which lives as long as `self`; the sizes of racing
        // accesses are the caller's promise.
        Ok(unsafe { word.cast().as_ref() })
    }

    /// Eight bytes of the host view as an atomic.
    ///
    /// # Safety
    /// As [`Region::atomic_u32`].
    ///
    /// # Errors
    /// As [`Region::atomic_u32`], for multiples of 8.
    pub unsafe fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64> {
        let word = self.check_word(offset, size_of::<AtomicU64>())?;
        // SAFETY: aligned and in the writable view, which lives as long as `self`; the sizes of racing
        // accesses are the caller's promise.
        Ok(unsafe { word.cast().as_ref() })
    }

    fn check_word(&self, offset: usize, size: usize) -> Result<NonNull<u8>> {
        let limit = self.len();
        let bounds = Bounds { op: Op::View, subject: Subject::Word, page: size, base: 0, limit };
        let word = Pages::check(bounds, offset, size)?;
        self.check_fork(Op::View)?;
        self.check_writable(Op::View, offset, size)?;
        Ok(self.inner.view.at(word.start()))
    }

    /// A range of bytes that need not be aligned and may be empty.
    fn bytes_of(&self, op: Op, extent: Extent) -> Result<(usize, usize)> {
        let len = extent.len(self.page_bounds(op))?;
        self.check_bytes(op, extent.start, len)?;
        Ok((extent.start, len))
    }

    fn check_bytes(&self, op: Op, offset: usize, len: usize) -> Result<()> {
        let limit = self.len();
        match offset.checked_add(len) {
            Some(end) if end <= limit => self.check_fork(op),
            end => {
                let asked = Span { start: offset, end: end.unwrap_or(usize::MAX) };
                Err(Error::out_of_range(op, Subject::Offset, asked, limit))
            }
        }
    }

    /// A range of bytes that need not be aligned and is not empty.
    fn any_bytes(&self, op: Op, extent: Extent) -> Result<Span> {
        if extent.len(self.page_bounds(op))? == 0 {
            return Err(Error::empty(op, Subject::Offset, extent.start));
        }
        let (start, len) = self.bytes_of(op, extent)?;
        Ok(Span { start, end: start + len })
    }

    /// A range of whole pages, as offsets; its end may be the region's own end.
    fn whole_pages(&self, op: Op, extent: Extent) -> Result<Pages> {
        let bounds = self.page_bounds(op);
        bounds.aligned(extent.start, extent.len_or_none())?;
        let len = extent.len(bounds)?;
        Pages::check(bounds, extent.start, self.whole_len(extent.start, len))
    }

    /// What ranges of whole pages of this region are checked against.
    pub(crate) fn page_bounds(&self, op: Op) -> Bounds {
        let page = self.page_size();
        let limit = page::round_up(self.len(), page).unwrap_or(self.len());
        Bounds { op, subject: Subject::Offset, page, base: 0, limit }
    }

    /// `len`, or up to the end of the last page where the range ends at the region's end inside one.
    pub(crate) fn whole_len(&self, offset: usize, len: usize) -> usize {
        let len_of_region = self.len();
        if len > 0 && offset.checked_add(len) == Some(len_of_region) {
            page::round_up(len_of_region, self.page_size()).map_or(len, |end| end - offset)
        } else {
            len
        }
    }

    fn check_writable(&self, op: Op, offset: usize, len: usize) -> Result<()> {
        if self.inner.read_only {
            let asked = Span { start: offset, end: offset + len };
            return Err(Error::read_only(op, asked));
        }
        Ok(())
    }

    /// A region that is hidden from forks is not there in a forked child.
    pub(crate) fn check_fork(&self, op: Op) -> Result<()> {
        match self.inner.hidden {
            Some(process) if !process.is_current() => Err(Error::ended(op, true)),
            _ => Ok(()),
        }
    }

    /// Whether both are handles of one region.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn is_hidden_from_fork(&self) -> bool {
        self.inner.hidden.is_some()
    }

    pub(crate) fn is_file(&self) -> bool {
        self.inner.is_file
    }

    pub(crate) fn is_huge(&self) -> bool {
        self.inner.page_size != page::size()
    }

    pub(crate) fn object(&self) -> BorrowedFd<'_> {
        self.inner.object.as_fd()
    }

    /// Whether somebody sealed the object against new writable mappings after this region was made.
    pub(crate) fn was_write_sealed(&self) -> bool {
        !self.inner.read_only && self.inner.object.write_sealed() == Some(true)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// The view whose page tables can be lent to an alias of this access: the host's own one, or for aliases
    /// that are private maps a second one.
    pub(crate) fn lender(&self, access: Access) -> Option<&View> {
        let inner = &*self.inner;
        let view = match access {
            _ if self.is_huge() => None,
            Access::ReadWrite if !inner.read_only => Some(&inner.view),
            Access::ReadOnly => {
                inner.private_view.get(|| inner.view.private(&inner.object, inner.hidden).ok())
            }
            Access::ReadWrite | Access::CopyOnWrite => None,
        };
        view.filter(|view| view.may_lend())
    }

    /// Lays a part of a view anew.
    pub(crate) fn lay_again(&self, view: &View, part: Pages) -> Result<(), sys::Errno> {
        view.lay_again(&self.inner.object, part)
    }

    /// The addresses of the view, room to grow included.
    pub(crate) fn view_pages(&self) -> Pages {
        self.inner.view.pages()
    }

    fn address(&self, offset: usize) -> usize {
        self.inner.view.pages().start() + offset
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("len", &self.len())
            .field("page_size", &self.page_size())
            .field("read_only", &self.is_read_only())
            .field("view", &self.as_ptr())
            .finish_non_exhaustive()
    }
}

impl From<Pages> for Span {
    fn from(pages: Pages) -> Self {
        pages.range().into()
    }
}
