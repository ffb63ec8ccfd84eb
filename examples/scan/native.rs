//! The same scan without a guest: the algorithm of `guest.wat` in Rust, over the region's own view.

#![allow(unsafe_code, reason = "reads the mapped file in place")]

use std::ptr::NonNull;
use std::time::Instant;

use pagetie::Region;

use crate::progress::Progress;
use crate::run::{Findings, Memory, Run};
use crate::{Result, STEP, pieces};

pub fn scan(region: &Region) -> Result<Run> {
    let mut progress = Progress::new("native", region.len());
    let memory = Memory::now();
    let mut scanner = Scanner::new();
    let start = Instant::now();

    for piece in pieces(region.len(), STEP) {
        // SAFETY: The region outlives the call, and its view is readable as far as it is long.
        unsafe { scanner.scan(region.bytes(piece.clone())?) };
        progress.reached(piece.end);
    }

    let time = start.elapsed();
    let memory = memory.growth();
    Ok(Run { way: "native", findings: scanner.findings(), time, copied: 0, memory })
}

/// `TABLES[k]` advances a byte of the CRC past `k` further bytes.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][n] = crc;
        n += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut n = 0;
        while n < 256 {
            let crc = tables[k - 1][n];
            tables[k][n] = crc >> 8 ^ tables[0][crc as usize & 0xff];
            n += 1;
        }
        k += 1;
    }
    tables
}

struct Scanner {
    crc: u32,
    /// How often each value was met in each lane of a word; emptied by every scan.
    lanes: [[u32; 256]; 8],
    histogram: [u64; 256],
}

impl Scanner {
    fn new() -> Self {
        Self { crc: !0, lanes: [[0; 256]; 8], histogram: [0; 256] }
    }

    /// Goes on over `bytes`, fewer than 4 GiB.
    ///
    /// # Safety
    /// They are mapped and readable.
    unsafe fn scan(&mut self, bytes: NonNull<[u8]>) {
        let words = bytes.len() / 8;
        let start = bytes.cast::<u8>();
        for i in 0..words {
            // SAFETY: `bytes` holds that many words. Another process may write the file meanwhile:
            // hence no slice, and volatile reads, each byte once.
            let word = unsafe { start.cast::<[u8; 8]>().add(i).read_volatile() };
            self.word(word);
        }
        for i in words * 8..bytes.len() {
            // SAFETY: As above.
            let byte = unsafe { start.add(i).read_volatile() };
            self.crc = self.crc >> 8 ^ TABLES[0][usize::from(self.crc as u8 ^ byte)];
            self.histogram[usize::from(byte)] += 1;
        }
        self.add_up();
    }

    fn word(&mut self, word: [u8; 8]) {
        let [a, b, c, d, e, f, g, h] = word;
        self.lanes[0][a as usize] += 1;
        self.lanes[1][b as usize] += 1;
        self.lanes[2][c as usize] += 1;
        self.lanes[3][d as usize] += 1;
        self.lanes[4][e as usize] += 1;
        self.lanes[5][f as usize] += 1;
        self.lanes[6][g as usize] += 1;
        self.lanes[7][h as usize] += 1;
        let [p, q, r, s] = self.crc.to_le_bytes();
        self.crc = TABLES[7][(a ^ p) as usize]
            ^ TABLES[6][(b ^ q) as usize]
            ^ TABLES[5][(c ^ r) as usize]
            ^ TABLES[4][(d ^ s) as usize]
            ^ TABLES[3][e as usize]
            ^ TABLES[2][f as usize]
            ^ TABLES[1][g as usize]
            ^ TABLES[0][h as usize];
    }

    fn add_up(&mut self) {
        for lane in &mut self.lanes {
            for (total, count) in self.histogram.iter_mut().zip(lane) {
                *total += u64::from(std::mem::take(count));
            }
        }
    }

    fn findings(self) -> Findings {
        Findings { crc32: !self.crc, histogram: self.histogram }
    }
}
