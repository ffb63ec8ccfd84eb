//! All mappings that a process may have, and the kernel's list of them where it is that long.
//!
//! mmap refuses where there is one more than `vm.max_map_count`, and what splits a mapping refuses at the
//! limit itself: so a full process has one more, and nothing can be mapped or split in it. Use it in
//! processes of their own.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

use std::fs::{self, File};
use std::io::{self, BufRead as _};
use std::ops::Range;
use std::ptr;

use libc::{PROT_NONE, PROT_READ};

use crate::common::{PRIVATE, map, mprotect, page, skip, unmap};

/// Where the sysctl is larger than this, filling it up takes too long and too much kernel memory.
const LARGEST: usize = 4 << 20;

/// How many mappings a full [`Filler`] can give back one by one.
const SPARE: usize = 256;

// ------------------------------------------------------------------------------ the kernel's list

/// The kernel's list of mappings, line by line in the order of addresses, until told to stop.
pub fn each_line(mut wanted: impl FnMut(&[u8]) -> bool) {
    // Small buffers: blocks of the heap, which need no mapping.
    let mut file = io::BufReader::new(File::open("/proc/self/maps").expect("the list of mappings"));
    let mut line = Vec::with_capacity(256);
    while file.read_until(b'\n', &mut line).expect("read the list of mappings") > 0 {
        if !wanted(&line) {
            return;
        }
        line.clear();
    }
}

/// How many mappings the list has.
pub fn listed() -> usize {
    let mut count = 0;
    each_line(|line| {
        // Not a mapping of the process: the kernel lists it for all.
        count += usize::from(!line.ends_with(b"[vsyscall]\n"));
        true
    });
    count
}

/// The lines that touch some ranges.
pub fn lines(ranges: &[Range<usize>]) -> Vec<String> {
    let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    let mut found = Vec::new();
    each_line(|line| {
        let (start, rest) = hex(line);
        let (stop, _) = hex(&rest[1..]);
        if ranges.iter().any(|range| start < range.end && range.start < stop) {
            found.push(String::from_utf8_lossy(line).into_owned());
        }
        start < end
    });
    found
}

/// A hexadecimal number, and what follows it.
pub fn hex(text: &[u8]) -> (usize, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let value =
        std::str::from_utf8(&text[..digits]).map(|digits| usize::from_str_radix(digits, 16));
    (value.expect("ASCII").expect("a number"), &text[digits..])
}

// ------------------------------------------------------------------------------ the filler

/// Mappings that are there to be counted. All of it goes when it is dropped.
#[derive(Debug)]
pub struct Filler {
    pub limit: usize,
    /// How many mappings there were before it.
    before: usize,
    bulk: Range<usize>,
    /// Single pages, each a mapping that merges with no other.
    singles: Vec<usize>,
}

impl Filler {
    /// Mappings up to `room` below the limit; `None`, visibly, where the limit is out of reach.
    pub fn new(room: usize) -> Option<Self> {
        let limit: usize = fs::read_to_string("/proc/sys/vm/max_map_count")
            .expect("the sysctl")
            .trim()
            .parse()
            .expect("a number");
        if limit > LARGEST {
            skip(format_args!("vm.max_map_count is {limit}, too many to fill"));
            return None;
        }
        lay_heap_aside();
        let before = listed();
        let len = limit * page();
        // Above what is mapped from now on, and so behind it in the kernel's list.
        let start = map(0, len, PROT_NONE, PRIVATE, None);
        // Every other page is protected differently from its neighbours.
        let splits = (limit - before - room) / 2;
        for i in 0..splits {
            let addr = start + (2 * i + 1) * page();
            mprotect(addr..addr + page(), PROT_READ);
        }
        let singles = Vec::with_capacity(room + 4096);
        Some(Self { limit, before, bulk: start..start + len, singles })
    }

    /// Mappings until not one more can be made; `None`, visibly, where the limit is out of reach.
    pub fn full() -> Option<Self> {
        let mut filler = Self::new(SPARE)?;
        filler.fill();
        Some(filler)
    }

    /// Maps pages until the kernel refuses, which must be for their number; says how many.
    pub fn fill(&mut self) -> usize {
        let before = self.singles.len();
        while let Some(addr) = Self::single() {
            assert!(self.singles.len() < self.singles.capacity(), "no limit was met");
            self.singles.push(addr);
        }
        let errno = io::Error::last_os_error().raw_os_error();
        assert_eq!(errno, Some(libc::ENOMEM), "what stops the filler");
        self.singles.len() - before
    }

    /// How many mappings there are besides the single pages. The kernel counts: mmap refuses where
    /// there is one more than the limit.
    pub fn others(&mut self) -> usize {
        let room = self.fill();
        let others = self.limit + 1 - self.singles.len();
        self.free(room);
        others
    }

    fn single() -> Option<usize> {
        // Shared: an object of its own, which merges with no neighbour.
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: maps a new page wherever the kernel likes.
        let got = unsafe { libc::mmap(ptr::null_mut(), page(), PROT_NONE, flags, -1, 0) };
        (got != libc::MAP_FAILED).then(|| got.expose_provenance())
    }

    /// Makes room for `room` mappings.
    pub fn free(&mut self, room: usize) {
        for _ in 0..room {
            let addr = self.singles.pop().expect("a single page to give back");
            unmap(addr..addr + page());
        }
    }

    /// The kernel refuses one more mapping, and its list says why.
    pub fn assert_full(&self) {
        assert_eq!(Self::single(), None, "there is room for a mapping");
        assert_eq!(listed(), self.limit + 1, "mappings in the list");
    }

    /// Takes all of it away; how many mappings are left more than there were before it.
    pub fn clear(mut self) -> isize {
        self.release();
        listed() as isize - self.before as isize
    }

    fn release(&mut self) {
        // First, since unmapping the bulk may split what it has merged with.
        self.free(self.singles.len());
        unmap(std::mem::take(&mut self.bulk));
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.release();
    }
}

/// Leaves the allocator with free memory that needs no mapping later on.
pub fn lay_heap_aside() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets parameters of the allocator; glibc takes its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 16 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
    let blocks: Vec<Vec<u8>> = (0..128).map(|_| vec![1; 64 << 10]).collect();
    assert!(blocks.iter().all(|block| block[0] == 1));
}
