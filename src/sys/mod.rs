//! Every system call and ioctl of this crate, one documented function each, and nothing else.
//!
//! Nothing above this module names `libc` or `rustix`; `clippy.toml` holds that line. No policy
//! here, no rounding, and no text of ours: a failed call is its [`Errno`]. Facts about the kernel
//! that a caller must know stand at the function, with the version that brought them.

#![allow(unsafe_code, clippy::disallowed_methods, reason = "here the crate talks to the kernel")]

mod batch;
mod copy;
mod maps;
mod memory;
mod object;
mod pagemap;
mod process;
mod remap;
mod uffd;

pub(crate) use batch::Batch;
pub(crate) use copy::{load, store};
pub(crate) use maps::{Maps, Vma, max_map_count, page_size_of};
pub(crate) use memory::{
    Advice, Flavour, Protection, advise, hole_filler, is_locked, lock, map_object, map_object_over,
    map_zeros_over, may_lock, protect, reserve, touch, unlock, unmap,
};
pub(crate) use object::{HugeSize, Object, Stat};
pub(crate) use pagemap::Pagemap;
pub(crate) use process::{has_all_addresses, is_filtered, wiped_on_fork};
pub(crate) use remap::{duplicate, move_aside, move_over, move_to};
pub(crate) use uffd::Uffd;

use std::fmt;

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(i32);

impl Errno {
    pub const ACCES: Self = Self(libc::EACCES);
    pub const INVAL: Self = Self(libc::EINVAL);
    pub const NOENT: Self = Self(libc::ENOENT);
    pub const NOMEM: Self = Self(libc::ENOMEM);
    pub const PERM: Self = Self(libc::EPERM);
    pub const ROFS: Self = Self(libc::EROFS);
    pub const TXTBSY: Self = Self(libc::ETXTBSY);

    pub const fn raw(self) -> i32 {
        self.0
    }

    /// fallocate(2) says `ENOSPC` where the pool of huge pages is empty.
    pub const fn no_space_is_no_memory(self) -> Self {
        if self.0 == libc::ENOSPC { Self::NOMEM } else { self }
    }

    /// memfd_create(2) of huge pages that this kernel does not have.
    pub const fn is_no_such_huge_page(self) -> bool {
        matches!(self.0, libc::ENODEV | libc::ENOSYS | libc::ENOENT)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({})", self.0)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

pub(crate) type Result<T, E = Errno> = std::result::Result<T, E>;

/// The system call that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Fallocate,
    Fstat,
    Ftruncate,
    Madvise,
    MemfdCreate,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Msync,
    Munlock,
    Open,
    ProcMaps,
    Userfaultfd,
}

impl Call {
    /// Whether it changes mappings, which sealed memory (mseal) answers with `EPERM`.
    pub const fn maps(self) -> bool {
        matches!(self, Call::Mmap | Call::Mremap | Call::Mprotect)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Call::Fallocate => "fallocate",
            Call::Fstat => "fstat",
            Call::Ftruncate => "ftruncate",
            Call::Madvise => "madvise",
            Call::MemfdCreate => "memfd_create",
            Call::Mlock => "mlock",
            Call::Mmap => "mmap",
            Call::Mprotect => "mprotect",
            Call::Mremap => "mremap",
            Call::Msync => "msync",
            Call::Munlock => "munlock",
            Call::Open => "open",
            Call::ProcMaps => "query of /proc/self/maps",
            Call::Userfaultfd => "userfaultfd",
        }
    }
}

/// The system's page size.
///
/// # References
/// getauxval(3) `AT_PAGESZ`.
#[inline]
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}
