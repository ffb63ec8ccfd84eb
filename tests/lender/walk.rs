//! Walks at random, over regions long enough to lend.

use std::mem;

use pagetie::{Access, ErrorKind, Parked, Prefault, Region, Space, Tie, TieOptions};

use crate::common::*;
use crate::{assert_whole, start, written};

/// Steps at random, of everything that lends, takes back or changes what is lent, against plain bytes.
struct Walk {
    random: u64,
    region: Region,
    bytes: Vec<u8>,
    memory: Memory,
    space: Space,
    old: Vec<u8>,
    ties: Vec<Tie>,
    parked: Vec<Parked>,
}

impl Walk {
    /// Lengths and places are multiples of this: some are lent, and some are too short.
    const UNIT: usize = 256 << 10;
    const UNITS: usize = 16;

    fn new(seed: u64) -> Self {
        let (region, bytes) = written(seed, Self::UNITS * Self::UNIT);
        let memory = Memory::private(2 * bytes.len() / page());
        let old = memory.fill(seed + 1);
        let (space, random) = (memory.borrow(), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (ties, parked) = (Vec::new(), Vec::new());
        Self { random, region, bytes, memory, space, old, ties, parked }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as usize % end
    }

    fn units(&mut self, end: usize) -> usize {
        self.below(end) * Self::UNIT
    }

    fn step(&mut self) {
        let which = self.below(self.ties.len().max(1));
        match self.below(9) {
            0 | 1 => {
                let len = Self::UNIT + self.units(Self::UNITS / 2);
                let offset = self.units((self.bytes.len() - len) / Self::UNIT + 1);
                // Sometimes where page tables do not move whole.
                let odd = self.below(2) * page();
                let at = self.units((self.memory.len() - len) / Self::UNIT) + odd;
                let access = ACCESSES[self.below(3)];
                let mut how = TieOptions::new(access);
                if self.below(3) > 0 {
                    how = how.prefault(Prefault::Populate);
                }
                match self.space.tie(at, &self.region, offset..offset + len, how) {
                    Ok(tie) => self.ties.push(tie),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Overlap, "{error}"),
                }
            }
            2 if !self.ties.is_empty() => self.ties.swap_remove(which).untie().expect("untie"),
            3 if !self.ties.is_empty() => {
                let room = self.bytes.len() - self.ties[which].len();
                let offset = self.units(room / Self::UNIT + 1);
                self.ties[which].retie(&self.region, offset).expect("retie");
            }
            4 if !self.ties.is_empty() => {
                self.parked.push(self.ties.swap_remove(which).park().expect("park"));
            }
            5 if !self.parked.is_empty() => {
                let parked = self.parked.remove(0);
                let at = self.units((self.memory.len() - parked.len()) / Self::UNIT);
                match parked.resume(&self.space, at) {
                    Ok(tie) => self.ties.push(tie),
                    Err(refused) => assert_eq!(refused.error.kind(), ErrorKind::Overlap),
                }
            }
            6 => {
                let (at, byte) = (self.below(self.bytes.len()), self.below(256) as u8);
                self.region.write_at(at, &[byte]).expect("write");
                self.bytes[at] = byte;
            }
            7 if !self.ties.is_empty() && self.ties[which].access() == Access::ReadWrite => {
                let tie = &self.ties[which];
                let (addr, offset, len) = (start(tie), tie.offset(), tie.len());
                let (at, byte) = (self.below(len), self.below(256) as u8);
                poke(addr + at, byte);
                self.bytes[offset + at] = byte;
            }
            _ => {
                let offset = self.units(Self::UNITS);
                self.region.discard(offset..offset + 3 * page()).expect("discard");
                self.bytes[offset..offset + 3 * page()].fill(0);
            }
        }
    }

    /// A byte of each page, and what was written last.
    fn check(&self, step: usize) {
        let same = |addr: usize, expected: &[u8], what: &str| {
            for at in (step * 37 % page()..expected.len()).step_by(page()) {
                assert_eq!(peek(addr + at), expected[at], "step {step}: {what}, byte {at:#x}");
            }
        };
        same(self.region.as_ptr().addr(), &self.bytes, "the view");
        assert_whole(&self.region);
        let mut free = vec![true; self.memory.len() / page()];
        for tie in &self.ties {
            same(start(tie), &self.bytes[tie.offset()..tie.offset() + tie.len()], "a tie");
            free[tie.at() / page()..(tie.at() + tie.len()) / page()].fill(false);
        }
        for (k, _) in free.iter().enumerate().filter(|(_, free)| **free) {
            let at = k * page() + step * 37 % page();
            assert_eq!(peek(self.memory.start() + at), self.old[at], "step {step}: {at:#x}");
        }
    }
}

#[test]
fn walks_at_random_end_where_plain_bytes_say() {
    for seed in 1..=8 {
        let mut walk = Walk::new(seed);
        for step in 0..150 {
            walk.step();
            walk.check(step);
        }
        let (ties, parked) = (mem::take(&mut walk.ties), mem::take(&mut walk.parked));
        drop(ties);
        drop(parked);
        walk.check(0);
        assert_bytes(walk.memory.start(), &walk.old, "what was covered");
        assert_eq!(region_bytes(&walk.region), walk.bytes);
    }
}
