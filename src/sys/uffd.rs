//! userfaultfd(2): lets other threads wait out the moment in which covered pages are moved aside.

use super::Result;
use rustix::ioctl::{Setter, Updater, ioctl, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};
use std::os::fd::OwnedFd;

const UFFD: u8 = 0xaa;
const API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRange {
    start: u64,
    len: u64,
}

#[repr(C)]
struct UffdioRegister {
    range: UffdioRange,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioContinue {
    range: UffdioRange,
    mode: u64,
    mapped: i64,
}

const _: () = assert!(size_of::<UffdioContinue>() == 32);
const _: () = assert!(size_of::<UffdioApi>() == 24);
const _: () = assert!(size_of::<UffdioRange>() == 16);
const _: () = assert!(size_of::<UffdioRegister>() == 32);

/// A descriptor of faults, for the process that opened it.
#[derive(Debug)]
pub(crate) struct Uffd(OwnedFd);

impl Uffd {
    /// Faults from user mode only, which needs no privilege.
    ///
    /// # References
    /// userfaultfd(2) `UFFD_USER_MODE_ONLY`, Linux 5.11.
    pub fn open() -> Result<Self> {
        const USER_MODE_ONLY: u32 = 1;
        let flags = UserfaultfdFlags::CLOEXEC
            | UserfaultfdFlags::NONBLOCK
            | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
        // SAFETY: a new descriptor, which no memory is registered with yet.
        let fd = unsafe { userfaultfd(flags)? };
        let mut api = UffdioApi { api: API, features: 0, ioctls: 0 };
        // SAFETY: UFFDIO_API reads and writes one `struct uffdio_api`.
        unsafe {
            ioctl(
                &fd,
                Updater::<{ opcode::read_write::<UffdioApi>(UFFD, 0x3f) }, _>::new(&mut api),
            )?
        };
        Ok(Self(fd))
    }

    /// From now on an access to a page that is missing from `[start, start + len)` waits.
    ///
    /// # References
    /// ioctl_userfaultfd(2) `UFFDIO_REGISTER`.
    pub fn register(&self, start: usize, len: usize) -> Result<()> {
        let range = UffdioRange { start: start as u64, len: len as u64 };
        let mut register = UffdioRegister { range, mode: MODE_MISSING, ioctls: 0 };
        // SAFETY: UFFDIO_REGISTER reads and writes one `struct uffdio_register`.
        unsafe {
            ioctl(
                &self.0,
                Updater::<{ opcode::read_write::<UffdioRegister>(UFFD, 0) }, _>::new(&mut register),
            )?
        };
        Ok(())
    }

    /// Ends [`Uffd::register`] and wakes who waits.
    ///
    /// # References
    /// ioctl_userfaultfd(2) `UFFDIO_UNREGISTER`.
    pub fn unregister(&self, start: usize, len: usize) -> Result<()> {
        let range = UffdioRange { start: start as u64, len: len as u64 };
        // SAFETY: UFFDIO_UNREGISTER reads one `struct uffdio_range`.
        unsafe {
            ioctl(&self.0, Setter::<{ opcode::read::<UffdioRange>(UFFD, 1) }, _>::new(range))?
        };
        Ok(())
    }

    /// Whether the page at `addr` is registered with a userfaultfd, of whomever.
    ///
    /// Asks for a page of the page cache to be mapped there, which the kernel refuses with `ENOENT`
    /// where nothing is registered, and with another error for private anonymous memory that is. Of
    /// registered shared memory it maps a page that is there, as a read would.
    ///
    /// # References
    /// ioctl_userfaultfd(2) `UFFDIO_CONTINUE`, Linux 5.13.
    pub fn is_registered(&self, addr: usize) -> bool {
        let range = UffdioRange { start: addr as u64, len: super::page_size() as u64 };
        let mut ask = UffdioContinue { range, mode: 0, mapped: 0 };
        // SAFETY: UFFDIO_CONTINUE reads and writes one `struct uffdio_continue`; no byte of any page
        // changes.
        let answer = unsafe {
            ioctl(
                &self.0,
                Updater::<{ opcode::read_write::<UffdioContinue>(UFFD, 7) }, _>::new(&mut ask),
            )
        };
        !matches!(answer, Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTTY))
    }

    /// Lets those who wait on the range look again. The range need not be registered any more.
    ///
    /// # References
    /// ioctl_userfaultfd(2) `UFFDIO_WAKE`.
    pub fn wake(&self, start: usize, len: usize) -> Result<()> {
        let range = UffdioRange { start: start as u64, len: len as u64 };
        // SAFETY: UFFDIO_WAKE reads one `struct uffdio_range`.
        unsafe {
            ioctl(&self.0, Setter::<{ opcode::read::<UffdioRange>(UFFD, 2) }, _>::new(range))?
        };
        Ok(())
    }
}
