//! What tells a forked child from its parent.

use super::Result;
use super::memory::ptr;
use rustix::mm::{self, MapFlags, ProtFlags};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// A word that reads zero in every forked child until that child writes it.
///
/// One page of the process, mapped at the first call and never unmapped. No lock is taken: a fork
/// can come at any moment, and would copy a locked lock.
///
/// # References
/// madvise(2) `MADV_WIPEONFORK`, Linux 4.14.
pub(crate) fn wiped_on_fork() -> Result<&'static AtomicU64> {
    static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
    let known = PAGE.load(Ordering::Acquire);
    if !known.is_null() {
        // SAFETY: only a page that stays mapped for good is stored below, zeroed and aligned.
        return Ok(unsafe { &*known });
    }
    let len = super::page_size();
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let page = unsafe { mm::mmap_anonymous(ptr(0), len, prot, MapFlags::PRIVATE)? };
    // SAFETY: the page is ours and nobody else knows it yet.
    let wiped = unsafe { mm::madvise(page, len, mm::Advice::LinuxWipeOnFork) };
    let ours: *mut AtomicU64 = page.cast();
    let stored = wiped.map_err(super::Errno::from).map(|()| {
        let null = std::ptr::null_mut();
        match PAGE.compare_exchange(null, ours, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => ours,
            Err(theirs) => theirs,
        }
    });
    if stored != Ok(ours) {
        // SAFETY: another thread was first, or the advice failed: this page was never published.
        let _ = unsafe { mm::munmap(page, len) };
    }
    // SAFETY: as above: published pages stay mapped for good.
    Ok(unsafe { &*stored? })
}

/// Whether the process may take addresses without bound.
///
/// # References
/// getrlimit(2) `RLIMIT_AS`.
pub(crate) fn has_all_addresses() -> bool {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::As).current.is_none()
}

/// Whether a system call filter is in force, which may answer an unusual call by killing the process.
///
/// # References
/// prctl(2) `PR_GET_SECCOMP`.
pub(crate) fn is_filtered() -> bool {
    // SAFETY: reads one property of this thread.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}
