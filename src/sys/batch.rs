//! process_madvise(2) on the own process: one piece of advice on many ranges.

use super::memory::{Advice, ptr};
use super::{Errno, Result};
use crate::page::Pages;
use rustix::fd::{AsRawFd, OwnedFd};

/// The own process, as the kernel wants it named.
#[derive(Debug)]
pub(crate) struct Batch {
    pidfd: OwnedFd,
}

impl Batch {
    /// # References
    /// pidfd_open(2), Linux 5.3.
    pub fn open() -> Result<Self> {
        use rustix::process::{PidfdFlags, getpid, pidfd_open};
        Ok(Self { pidfd: pidfd_open(getpid(), PidfdFlags::empty())? })
    }

    /// Gives advice on ranges, as many as one call takes, and says how many it was done for, in order.
    /// `EINVAL` before Linux 6.13, and where the first range refuses it.
    ///
    /// # Safety
    /// As [`super::advise`], for each range.
    ///
    /// # References
    /// process_madvise(2), Linux 5.10; on the own process with any advice, Linux 6.13. At most
    /// `IOV_MAX` ranges a call.
    pub unsafe fn advise(&self, ranges: &[Pages], advice: Advice) -> Result<usize> {
        const IOV_MAX: usize = 1024;
        let advice = match advice {
            Advice::DontNeed => libc::MADV_DONTNEED,
            _ => return Err(Errno::INVAL),
        };
        let ranges = &ranges[..ranges.len().min(IOV_MAX)];
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; IOV_MAX];
        for (vector, range) in vectors.iter_mut().zip(ranges) {
            *vector = libc::iovec { iov_base: ptr(range.start()), iov_len: range.len() };
        }
        // SAFETY: the vectors are as many as are said; what becomes of the ranges is the caller's promise.
        let bytes = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                self.pidfd.as_raw_fd(),
                vectors.as_ptr(),
                ranges.len(),
                advice,
                0,
            )
        };
        let Ok(mut bytes) = usize::try_from(bytes) else {
            return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)));
        };
        // It may stop at any range, and inside one: that one is done again.
        let done = ranges.iter().take_while(|range| match bytes.checked_sub(range.len()) {
            Some(rest) => {
                bytes = rest;
                true
            }
            None => false,
        });
        Ok(done.count())
    }
}
