//! One way of scanning, done: what it found, and what it cost.

use std::fs;
use std::time::Duration;

/// One way of scanning, done.
pub struct Run {
    pub way: &'static str,
    pub findings: Findings,
    pub time: Duration,
    /// Bytes of the file that were copied.
    pub copied: usize,
    /// Growth of Pss in KiB; `None` where the kernel does not tell.
    pub memory: Option<i64>,
}

/// What a scan finds out about its bytes.
#[derive(PartialEq, Eq)]
pub struct Findings {
    /// As zlib and PNG compute it.
    pub crc32: u32,
    /// How often each byte value occurs.
    pub histogram: [u64; 256],
}

impl Findings {
    /// How many bytes were scanned.
    pub fn len(&self) -> u64 {
        self.histogram.iter().sum()
    }

    pub fn newlines(&self) -> u64 {
        self.histogram[usize::from(b'\n')]
    }
}

/// How much memory this process used at some moment: its Pss, in KiB.
pub struct Memory(Option<i64>);

impl Memory {
    pub fn now() -> Self {
        let pss = || {
            let rollup = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim_end_matches("kB").trim().parse().ok()
        };
        Self(pss())
    }

    /// What was added since.
    pub fn growth(&self) -> Option<i64> {
        Some(Self::now().0? - self.0?)
    }
}
