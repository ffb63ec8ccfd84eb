//! Which pages are mapped in, from `/proc/self/pagemap`.
//!
//! References: proc(5); `PAGEMAP_SCAN` in `linux/fs.h`, Linux 6.7.

use super::{Errno, Result};
use crate::page::Pages;
use rustix::fs::{self, Mode, OFlags};
use rustix::ioctl::{Updater, ioctl, opcode};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

/// The kernel's `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<Scan>() == 96);

/// The kernel's `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Run {
    start: u64,
    end: u64,
    categories: u64,
}

const _: () = assert!(size_of::<Run>() == 24);

const PAGEMAP_SCAN: rustix::ioctl::Opcode = opcode::read_write::<Scan>(b'f', 16);

const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;

/// An open `/proc/self/pagemap`. In a forked child it goes on to answer for the parent.
#[derive(Debug)]
pub(crate) struct Pagemap {
    fd: OwnedFd,
}

impl Pagemap {
    pub fn open() -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self { fd: fs::open("/proc/self/pagemap", flags, Mode::empty())? })
    }

    /// Calls `visit` for each run of pages that are not mapped in, in order, until it breaks.
    ///
    /// # References
    /// `PAGEMAP_SCAN`, Linux 6.7: `ENOTTY` before.
    pub fn absent(
        &self,
        pages: Pages,
        mut visit: impl FnMut(Pages) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut runs = [Run::default(); 32];
        let (mut next, end) = (pages.start() as u64, pages.end() as u64);
        while next < end {
            let wanted = Scan {
                start: next,
                end,
                category_inverted: PRESENT,
                category_mask: PRESENT,
                return_mask: PRESENT,
                ..Scan::default()
            };
            let (found, walked) = self.scan(wanted, &mut runs)?;
            for run in &runs[..found] {
                if let Some(run) = Pages::known(run.start as usize, run.end as usize) {
                    if visit(run).is_break() {
                        return Ok(());
                    }
                }
            }
            next = walked;
        }
        Ok(())
    }

    /// Whether some page table entry holds neither a page nor nothing: of a file's mapping a marker, such as
    /// `MADV_GUARD_INSTALL` leaves, or a private page that was swapped out.
    ///
    /// # References
    /// `PAGEMAP_SCAN`, Linux 6.7: `ENOTTY` before.
    pub fn has_markers(&self, pages: Pages) -> Result<bool> {
        let wanted = Scan {
            start: pages.start() as u64,
            end: pages.end() as u64,
            max_pages: 1,
            category_mask: SWAPPED,
            return_mask: SWAPPED,
            ..Scan::default()
        };
        let (found, _) = self.scan(wanted, &mut [Run::default()])?;
        Ok(found > 0)
    }

    /// How many runs it found, and how far it came.
    fn scan(&self, wanted: Scan, runs: &mut [Run]) -> Result<(usize, u64)> {
        runs.fill(Run::default());
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            vec: runs.as_mut_ptr().expose_provenance() as u64,
            vec_len: runs.len() as u64,
            ..wanted
        };
        let from = scan.start;
        // SAFETY: PAGEMAP_SCAN reads and writes one `struct pm_scan_arg`, and writes no more runs than its
        // fields say into the live array that they describe.
        unsafe { ioctl(&self.fd, Updater::<PAGEMAP_SCAN, _>::new(&mut scan)) }?;
        // How many there are is the ioctl's answer, which rustix keeps: an empty one is none.
        let found = runs.iter().take_while(|run| run.end > run.start).count();
        match scan.walk_end > from {
            true => Ok((found, scan.walk_end)),
            false => Err(Errno::INVAL),
        }
    }
}
