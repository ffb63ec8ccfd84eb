//! A guest reads every byte once: after a tie, after a memcpy, or of memory mapped all along.
//!
//! A round that ties starts from nothing mapped, so each page faults in at its first read; the
//! call, that first scan and the end of the tie are shown apart too.

use super::{Contender, numbered_region, page_number};
use crate::bare::Memory;
use pagetie::{Access, Covered, Prefault, Region, Space, Tie, TieOptions, page};
use std::{hint::black_box, ptr, rc::Rc};

/// One page to 256 MiB.
pub fn sizes() -> Vec<usize> {
    let mut sizes = vec![page::size(), 64 << 10, 1 << 20, 16 << 20, 256 << 20];
    sizes.dedup();
    sizes
}

/// The sum of all words.
///
/// # Safety
/// `[start, start + len)` is mapped, readable, aligned to words, and not written meanwhile.
#[inline(never)]
unsafe fn sum(start: *const u8, len: usize) -> u64 {
    // SAFETY: the caller's clause; the slice ends with this call.
    let words = unsafe { std::slice::from_raw_parts(start.cast::<u64>(), len / size_of::<u64>()) };
    words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))
}

struct Scene {
    space: Space,
    region: Region,
    warm: Memory,
    len: usize,
    sum: u64,
}

impl Scene {
    fn tie(&self, prefault: Prefault) -> Tie {
        let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard).prefault(prefault);
        self.space.tie(0, &self.region, .., how).expect("tie")
    }

    fn scan(&self, start: *const u8) {
        // SAFETY: every caller passes memory of `len` bytes that is mapped and that nobody writes.
        let sum = unsafe { sum(black_box(start), self.len) };
        assert_eq!(sum, self.sum);
    }

    fn scan_tie(&self, tie: &Tie) {
        self.scan(tie.as_ptr());
    }

    fn copy(&self) {
        // SAFETY: both are `len` bytes long, apart, and nobody else uses them meanwhile.
        unsafe {
            ptr::copy_nonoverlapping(self.region.as_ptr(), self.warm.as_ptr(), self.len);
        }
    }
}

/// What is timed, in the order that [`contenders`] gives.
pub const NAMES: [&str; 7] = [
    "mapped: scan",
    "memcpy + scan",
    "tie + scan",
    "tie, populated, + scan",
    "tie alone",
    "first scan of a tie",
    "untie alone",
];

/// All the ways to read `len` bytes, in the order of [`NAMES`].
pub fn contenders(len: usize) -> Vec<Contender> {
    let space = Space::reserve(len).expect("reserve");
    let (region, sum) = numbered_region(len);
    let scene = Rc::new(Scene { space, region, warm: Memory::new(len), len, sum });

    let tie = scene.tie(Prefault::No);
    scene.scan_tie(&tie);
    // SAFETY: the tie's last page is mapped.
    let last = unsafe { page_number(tie.as_ptr().add(len - page::size())) };
    assert_eq!(last, (len / page::size() - 1) as u64);
    tie.untie().expect("untie");
    // Warms the memory that is copied into, and the region's own view.
    scene.copy();
    scene.scan(scene.warm.as_ptr());
    scene.scan(scene.region.as_ptr());

    let untie = |tie: Tie| tie.untie().expect("untie");
    let clone = || Rc::clone(&scene);
    let (s0, s1, s2, s3, s4, s5, s6) =
        (clone(), clone(), clone(), clone(), clone(), clone(), clone());
    let t5 = clone();
    vec![
        Contender::staged(NAMES[0], || (), move |()| s0.scan(s0.region.as_ptr()), |()| ()),
        Contender::staged(
            NAMES[1],
            || (),
            move |()| {
                s1.copy();
                s1.scan(s1.warm.as_ptr());
            },
            |()| (),
        ),
        Contender::staged(
            NAMES[2],
            || (),
            move |()| {
                let tie = s2.tie(Prefault::No);
                s2.scan_tie(&tie);
                tie
            },
            untie,
        ),
        Contender::staged(
            NAMES[3],
            || (),
            move |()| {
                let tie = s3.tie(Prefault::Populate);
                s3.scan_tie(&tie);
                tie
            },
            untie,
        ),
        Contender::staged(NAMES[4], || (), move |()| s4.tie(Prefault::No), untie),
        Contender::staged(
            NAMES[5],
            move || t5.tie(Prefault::No),
            move |tie| {
                s5.scan_tie(&tie);
                tie
            },
            untie,
        ),
        Contender::staged(
            NAMES[6],
            move || {
                let tie = s6.tie(Prefault::No);
                s6.scan_tie(&tie);
                tie
            },
            untie,
            |()| (),
        ),
    ]
}
