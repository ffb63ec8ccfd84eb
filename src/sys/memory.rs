//! mmap(2), mprotect(2), madvise(2), mlock(2): one call, one function.

use super::{Errno, Result};
use rustix::mm::{self, MapFlags, MprotectFlags, MsyncFlags, ProtFlags};
use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr;

/// What loads, stores and jumps a mapping allows: the kernel's `PROT_*` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protection(u8);

impl Protection {
    pub const NONE: Self = Self(0);
    pub const READ: Self = Self(libc::PROT_READ as u8);
    pub const READ_WRITE: Self = Self((libc::PROT_READ | libc::PROT_WRITE) as u8);

    pub const fn new(read: bool, write: bool, execute: bool) -> Self {
        let mut bits = 0;
        if read {
            bits |= libc::PROT_READ;
        }
        if write {
            bits |= libc::PROT_WRITE;
        }
        if execute {
            bits |= libc::PROT_EXEC;
        }
        Self(bits as u8)
    }

    pub const fn readable(self) -> bool {
        self.0 & libc::PROT_READ as u8 != 0
    }

    pub const fn writable(self) -> bool {
        self.0 & libc::PROT_WRITE as u8 != 0
    }

    pub const fn executable(self) -> bool {
        self.0 & libc::PROT_EXEC as u8 != 0
    }

    /// Whether it allows something that `other` does not.
    pub const fn exceeds(self, other: Self) -> bool {
        self.0 & !other.0 != 0
    }

    const fn map(self) -> ProtFlags {
        ProtFlags::from_bits_retain(self.0 as u32)
    }
}

/// How a memory object is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flavour {
    pub shared: bool,
    pub protection: Protection,
    /// Whether the kernel accounts for private pages once it is made writable, and never forgets that it
    /// was. Without it a copy-on-write tie of a region larger than the memory is no overcommitment until
    /// it is written, and a view takes no huge pages for its room to grow.
    pub accounted: bool,
}

impl Flavour {
    pub const fn of(shared: bool, protection: Protection) -> Self {
        Self { shared, protection, accounted: false }
    }

    fn flags(self) -> MapFlags {
        let visibility = if self.shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        match self.accounted {
            true => visibility,
            false => visibility | MapFlags::NORESERVE,
        }
    }
}

pub(super) fn ptr(addr: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(addr)
}

/// Inaccessible addresses of the kernel's choice, without memory behind them.
///
/// # References
/// mmap(2) `PROT_NONE`, `MAP_NORESERVE`.
pub(crate) fn reserve(len: usize) -> Result<usize> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: no address is asked for, so nothing that is mapped now changes.
    let start = unsafe { mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags)? };
    Ok(start.expose_provenance())
}

/// Fills addresses with inaccessible memory, only if nothing at all is mapped there.
///
/// # References
/// mmap(2) `MAP_FIXED_NOREPLACE`, Linux 4.17.
pub(crate) fn hole_filler(addr: usize, len: usize) -> Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: the call fails where something is mapped.
    unsafe { mm::mmap_anonymous(ptr(addr), len, ProtFlags::empty(), flags)? };
    Ok(())
}

/// Maps an object where the kernel chooses, near `hint` where that is free.
///
/// # References
/// mmap(2).
pub(crate) fn map_object(
    hint: usize,
    fd: BorrowedFd<'_>,
    offset: usize,
    len: usize,
    flavour: Flavour,
) -> Result<usize> {
    let prot = flavour.protection.map();
    // SAFETY: without MAP_FIXED the address is a hint, so nothing that is mapped now changes.
    let start = unsafe { mm::mmap(ptr(hint), len, prot, flavour.flags(), fd, offset as u64)? };
    Ok(start.expose_provenance())
}

/// Maps an object over the addresses `[addr, addr + len)`, whatever is there now.
///
/// On failure Linux 6.12 and later leave the old mapping; before, some late failures leave a hole.
///
/// # Safety
/// - The caller owns these addresses, or was lent them to be mapped over.
/// - No reference into them lives.
///
/// # References
/// mmap(2) `MAP_FIXED`.
pub(crate) unsafe fn map_object_over(
    addr: usize,
    fd: BorrowedFd<'_>,
    offset: usize,
    len: usize,
    flavour: Flavour,
) -> Result<()> {
    let flags = flavour.flags() | MapFlags::FIXED;
    let prot = flavour.protection.map();
    // SAFETY: the caller's promise is that of this function.
    let start = unsafe { mm::mmap(ptr(addr), len, prot, flags, fd, offset as u64)? };
    assert_eq!(start.addr(), addr, "MAP_FIXED mapped elsewhere");
    Ok(())
}

/// Maps private pages of zeros over the addresses, whatever is there now.
///
/// # Safety
/// As [`map_object_over`].
///
/// # References
/// mmap(2) `MAP_FIXED`, `MAP_ANONYMOUS`.
pub(crate) unsafe fn map_zeros_over(
    addr: usize,
    len: usize,
    protection: Protection,
    reserve: bool,
) -> Result<()> {
    let mut flags = MapFlags::PRIVATE | MapFlags::FIXED;
    if !reserve {
        flags |= MapFlags::NORESERVE;
    }
    // SAFETY: the caller's promise is that of this function.
    let start = unsafe { mm::mmap_anonymous(ptr(addr), len, protection.map(), flags)? };
    assert_eq!(start.addr(), addr, "MAP_FIXED mapped elsewhere");
    Ok(())
}

/// Unmaps addresses.
///
/// # Safety
/// The caller owns what is mapped there, and no reference into it lives.
///
/// # References
/// munmap(2).
pub(crate) unsafe fn unmap(addr: usize, len: usize) -> Result<()> {
    // SAFETY: the caller's promise is that of this function.
    unsafe { mm::munmap(ptr(addr), len) }.map_err(Errno::from)
}

/// Changes what the addresses allow. Over a hole: `ENOMEM`, after the part before it was changed.
///
/// # Safety
/// The caller owns these addresses or was lent them, and no reference into them becomes invalid.
///
/// # References
/// mprotect(2).
pub(crate) unsafe fn protect(addr: usize, len: usize, protection: Protection) -> Result<()> {
    let flags = MprotectFlags::from_bits_retain(protection.0.into());
    // SAFETY: the caller's promise is that of this function.
    unsafe { mm::mprotect(ptr(addr), len, flags) }.map_err(Errno::from)
}

/// What [`advise`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Makes a huge page of the range now. Linux 6.1.
    Collapse,
    /// The child of a fork does not get these addresses.
    DontFork,
    /// Private changes go: zeros or the file's bytes show again. `EINVAL` on locked memory.
    /// (rustix's `DontNeed` is the POSIX no-op; this is the real one.)
    DontNeed,
    /// The same for locked memory. Linux 5.18.
    DontNeedLocked,
    /// Transparent huge pages are welcome.
    HugePage,
    /// Maps the pages as a load would. Linux 5.14.
    PopulateRead,
    /// Maps the pages as a store would. Linux 5.14.
    PopulateWrite,
    /// Starts reading a file's pages in.
    WillNeed,
}

/// Gives the kernel advice on pages.
///
/// # Safety
/// As [`protect`]; for the two `DontNeed`, the bytes are the caller's to throw away.
///
/// # References
/// madvise(2).
pub(crate) unsafe fn advise(addr: usize, len: usize, advice: Advice) -> Result<()> {
    let advice = match advice {
        // rustix has no name for it, and its advice is a closed enum.
        // SAFETY: the caller's promise is that of this function.
        Advice::Collapse => return unsafe { madvise_raw(addr, len, libc::MADV_COLLAPSE) },
        Advice::DontFork => mm::Advice::LinuxDontFork,
        Advice::DontNeed => mm::Advice::LinuxDontNeed,
        Advice::DontNeedLocked => mm::Advice::LinuxDontneedLocked,
        Advice::HugePage => mm::Advice::LinuxHugepage,
        Advice::PopulateRead => mm::Advice::LinuxPopulateRead,
        Advice::PopulateWrite => mm::Advice::LinuxPopulateWrite,
        Advice::WillNeed => mm::Advice::WillNeed,
    };
    // SAFETY: the caller's promise is that of this function.
    unsafe { mm::madvise(ptr(addr), len, advice) }.map_err(Errno::from)
}

/// # Safety
/// As [`advise`].
unsafe fn madvise_raw(addr: usize, len: usize, advice: libc::c_int) -> Result<()> {
    // SAFETY: the caller's promise is that of this function.
    match unsafe { libc::madvise(ptr(addr), len, advice) } {
        0 => Ok(()),
        _ => Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
    }
}

/// Touches a byte of every `step`: of every page, for kernels without `MADV_POPULATE_*` (before 5.14).
///
/// # Safety
/// The pages are mapped, readable (and writable, for `write`), and nobody unmaps them during the
/// call. Past the end of a file the process dies of SIGBUS.
pub(crate) unsafe fn touch(addr: usize, len: usize, step: usize, write: bool) {
    use std::sync::atomic::{AtomicU8, Ordering};
    for page in (addr..addr + len).step_by(step) {
        // SAFETY: the caller promises a mapped page; an atomic tolerates any concurrent access.
        let byte = unsafe { AtomicU8::from_ptr(ptr(page).cast()) };
        let value = byte.load(Ordering::Relaxed);
        if write {
            // A store of the same value, which compilers do not drop as they do `fetch_or(0)`.
            let _ = byte.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Whether some of the pages are locked. No effect on them. A hole is `ENOMEM`.
///
/// Asked through msync(2), whose `MS_INVALIDATE` is `EBUSY` on locked memory and does nothing else
/// on Linux.
///
/// # References
/// msync(2) `MS_INVALIDATE`.
pub(crate) fn is_locked(addr: usize, len: usize) -> Result<bool> {
    // SAFETY: MS_INVALIDATE without MS_SYNC looks at the mappings and changes nothing.
    match unsafe { mm::msync(ptr(addr), len, MsyncFlags::INVALIDATE) } {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::BUSY) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether locked pages could be locked again: `EPERM` where the process lost the right to. Locks them
/// again, which counts once.
///
/// # References
/// mlock(2).
pub(crate) fn may_lock(addr: usize, len: usize, protection: Protection) -> Result<()> {
    // SAFETY: locking changes no byte and no address.
    match unsafe { mm::mlock(ptr(addr), len) } {
        // Inaccessible pages are marked locked, and cannot be read in.
        Err(rustix::io::Errno::NOMEM) if !protection.readable() => Ok(()),
        answer => answer.map_err(Errno::from),
    }
}

/// Locks pages into memory. Inaccessible pages are marked locked although they cannot be read in.
///
/// # References
/// mlock(2).
pub(crate) fn lock(addr: usize, len: usize) -> Result<()> {
    // SAFETY: locking changes no byte and no address.
    match unsafe { mm::mlock(ptr(addr), len) } {
        Ok(()) => Ok(()),
        // Marked first, read in afterwards: what could not be read in is locked all the same.
        Err(_) if is_locked(addr, len) == Ok(true) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Unlocks pages.
///
/// # References
/// munlock(2).
pub(crate) fn unlock(addr: usize, len: usize) -> Result<()> {
    // SAFETY: unlocking changes no byte and no address.
    unsafe { mm::munlock(ptr(addr), len) }.map_err(Errno::from)
}
