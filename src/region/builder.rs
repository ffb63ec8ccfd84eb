//! [`RegionBuilder`]: a region with options.

use super::view::Late;
use super::{Identity, Inner, Region, View};
use crate::error::{Error, Op, Result, Span, Subject};
use crate::page::{self, Bounds};
use crate::process::Process;
use crate::sys::{Call, Errno, HugeSize, Object, Stat};
use std::ffi::CString;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Whether a region is made of huge pages.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HugePages {
    /// Base pages.
    #[default]
    Never,
    /// Base pages where the kernel may make huge pages of them: asked for with `MADV_HUGEPAGE`.
    Prefer,
    /// Huge pages of this size in bytes, from the pool the administrator made (hugetlb); 0: of the
    /// system's default size. They are taken at creation, and ties are [`ReadWrite`] only.
    ///
    /// [`ReadWrite`]: crate::Access::ReadWrite
    Require(usize),
}

/// Makes a [`Region`] with options; made by [`Region::builder`].
///
/// ```
/// use pagetie::{Region, page};
/// let region = Region::builder().name("columns").max_len(1 << 30).build(page::size())?;
/// region.grow(16 * page::size())?;
/// # Ok::<(), pagetie::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RegionBuilder {
    name: Option<String>,
    max_len: usize,
    huge_pages: HugePages,
    prefault: bool,
    hide_from_fork: bool,
    read_only: bool,
    allow_discard: bool,
}

impl RegionBuilder {
    /// The name of a new region in `/proc/self/maps`, at most 249 bytes; "pagetie" if none is given.
    pub fn name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// How far [`Region::grow`] may go, in bytes. Takes addresses only, no memory. Ignored where it
    /// is less than the length.
    pub fn max_len(self, len: usize) -> Self {
        Self { max_len: len, ..self }
    }

    /// Huge pages, of a new region.
    pub fn huge_pages(self, huge_pages: HugePages) -> Self {
        Self { huge_pages, ..self }
    }

    /// Takes the memory of a new region, or reads a file in, at once rather than at first touch.
    pub fn prefault(self, yes: bool) -> Self {
        Self { prefault: yes, ..self }
    }

    /// Keeps host view and ties out of a forked child. Without it the child shares the pages, as with
    /// any shared mapping.
    ///
    /// Source: madvise(2) `MADV_DONTFORK`.
    #[doc(alias = "MADV_DONTFORK")]
    pub fn hide_from_fork(self, yes: bool) -> Self {
        Self { hide_from_fork: yes, ..self }
    }

    /// Never writes, whatever the descriptor allows.
    pub fn read_only(self, yes: bool) -> Self {
        Self { read_only: yes, ..self }
    }

    /// Allows discard on a region of a file, where it punches holes on disk.
    pub fn allow_discard(self, yes: bool) -> Self {
        Self { allow_discard: yes, ..self }
    }

    /// Makes a new region of `len` zero bytes. See [`Region::new`].
    ///
    /// # Errors
    /// Those of [`Region::new`], and
    /// - [`ErrorKind::Misaligned`](crate::ErrorKind::Misaligned): `len` is not a multiple of the huge
    ///   page size, or the huge page size not a power of two;
    /// - [`ErrorKind::NoMemory`](crate::ErrorKind::NoMemory): not enough huge pages are free;
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): this kernel has no huge pages of
    ///   that size;
    /// - [`ErrorKind::Os`](crate::ErrorKind::Os), `EINVAL`: the name is too long, or holds a NUL.
    pub fn build(self, len: usize) -> Result<Region> {
        let asked = Span { start: 0, end: len };
        let failed = |call, errno| Error::os(Op::Region, call, errno, asked);
        let huge = match self.huge_pages {
            HugePages::Require(size) => Some(Self::huge_size(size)?),
            _ => None,
        };
        let bounds = |page| Bounds {
            op: Op::Region,
            subject: Subject::Len,
            page,
            base: 0,
            // No object is longer than a file offset can say.
            limit: isize::MAX as usize,
        };
        bounds(page::size()).whole(len)?;
        bounds(page::size()).within(0, len)?;
        let name = CString::new(self.name.as_deref().unwrap_or("pagetie"))
            .map_err(|_| failed(Call::MemfdCreate, Errno::INVAL))?;
        let object = Object::memfd(&name, huge).map_err(|errno| match (huge, errno.raw()) {
            (Some(_), _) if errno.is_no_such_huge_page() => {
                Error::unsupported(Op::Region, "no huge pages of this size", Some(errno))
            }
            _ => failed(Call::MemfdCreate, errno),
        })?;
        let stat = object.stat().map_err(|errno| failed(Call::Fstat, errno))?;
        if let Some(page) = stat.huge_page {
            bounds(page).whole(len)?;
        }
        object.set_len(len as u64).map_err(|errno| failed(Call::Ftruncate, errno))?;
        if stat.huge_page.is_some() {
            // Taken now: a touch that finds the pool empty is a SIGBUS.
            let taken = object.allocate(0, len as u64);
            taken.map_err(|errno| failed(Call::Fallocate, errno.no_space_is_no_memory()))?;
        }
        let object = object.seal_shrink().map_err(|errno| failed(Call::MemfdCreate, errno))?;
        self.finish(object, Stat { len: len as u64, is_unlinked: true, ..stat })
    }

    /// Makes a region of what is behind a descriptor. See [`Region::from_fd`].
    ///
    /// # Errors
    /// Those of [`Region::from_fd`].
    pub fn from_fd(self, fd: impl AsFd) -> Result<Region> {
        let object = Object::duplicate(fd.as_fd());
        self.of_object(object.map_err(|errno| Self::failed(Call::Open, errno))?)
    }

    /// Makes a region of a file. See [`Region::open`].
    ///
    /// # Errors
    /// Those of [`Region::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Region> {
        let object = Object::open(path.as_ref(), self.read_only);
        self.of_object(object.map_err(|errno| Self::failed(Call::Open, errno))?)
    }

    /// 0 is the system's default size. The kernel would take a size of 1 for that too.
    fn huge_size(size: usize) -> Result<HugeSize> {
        if size != 0 && size <= page::size() {
            return Err(Error::unsupported(Op::Region, "no huge pages of this size", None));
        }
        HugeSize::new(size).ok_or_else(|| {
            let below = 1 << size.ilog2();
            Error::misaligned(Op::Region, Subject::HugePage, size, below, size - below, 0)
        })
    }

    fn failed(call: Call, errno: Errno) -> Error {
        Error::os(Op::Region, call, errno, Span::NONE)
    }

    fn of_object(self, object: Object) -> Result<Region> {
        let stat = object.stat().map_err(|errno| Self::failed(Call::Fstat, errno))?;
        if !stat.is_regular {
            return Err(Error::unsupported(Op::Region, "not a regular file", None));
        }
        if stat.len == 0 {
            return Err(Error::empty(Op::Region, Subject::Len, 0));
        }
        self.finish(object, stat)
    }

    fn finish(mut self, object: Object, stat: Stat) -> Result<Region> {
        let len = usize::try_from(stat.len).unwrap_or(usize::MAX);
        let asked = Span { start: 0, end: len };
        let failed = |call, errno| Error::os(Op::Region, call, errno, asked);
        let seals = object.write_sealed();
        let writable = object.is_writable().map_err(|errno| failed(Call::Open, errno))?;
        let read_only = self.read_only || !writable || seals == Some(true);
        self.max_len = self.max_len.max(len);
        let process = Process::current(Op::Region)?;
        let hidden = self.hide_from_fork.then_some(process);
        let page_size = stat.huge_page.unwrap_or_else(page::size);
        let huge = self.huge_pages == HugePages::Prefer;
        let view = View::new(&object, self.max_len, page_size, read_only, huge, hidden)
            .map_err(|errno| process.failed(Op::Region, asked, Call::Mmap, errno))?;
        let identity = identity(process, &view, &stat);
        let region = Region {
            inner: Arc::new(Inner {
                object,
                view,
                len: AtomicUsize::new(len),
                max_len: self.max_len,
                page_size,
                identity,
                read_only,
                is_file: seals.is_none() || !stat.is_unlinked,
                allow_discard: self.allow_discard,
                hidden,
                private_view: Late::default(),
            }),
        };
        if self.prefault {
            region.prefetch(..)?;
        }
        Ok(region)
    }
}

/// What the kernel calls the object in its list of mappings. Asked there, since on some file systems
/// (btrfs, overlayfs) fstat(2) names another device.
pub(super) fn identity(process: &Process, view: &View, stat: &Stat) -> Identity {
    let mut identity = Identity { device: stat.device, inode: stat.inode };
    if let Some(maps) = process.maps() {
        let start = view.pages().start();
        let _ = maps.visit(start, start + 1, |vma| {
            identity = Identity { device: vma.device, inode: vma.inode };
            ControlFlow::Break(())
        });
    }
    identity
}
