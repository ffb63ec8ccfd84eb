//! What the benches compare: pagetie's way of doing a thing, and others' ways of doing the same.
//!
//! A [`Contender`] does its thing a number of times and says how long that took. It has asserted
//! its result once before it is handed out: the bytes read through a tie are the region's, and
//! what untying brings back is what was there. A [`Contest`] puts pagetie's contender beside those
//! it is measured by. The criterion benches time each contender by itself, `ratios` in turn.

#![allow(dead_code, reason = "each bench asks its own questions")]
#![allow(unsafe_code, reason = "reads tied memory through raw pointers")]

pub mod batch;
pub mod calls;
pub mod copy;
pub mod machine;
pub mod memory;
pub mod scan;
pub mod stream;
pub mod verbs;
pub mod warm;

use crate::bare::{BLOCK, Memory};
use pagetie::{HugePages, Region, page};
use std::{
    env, ptr,
    time::{Duration, Instant},
};

/// One way to do a thing.
pub struct Contender {
    pub name: &'static str,
    run: Box<dyn FnMut(u64) -> Duration>,
}

impl Contender {
    /// Does `each` over and over; all of it counts.
    pub fn new(name: &'static str, mut each: impl FnMut() + 'static) -> Self {
        Self::within(name, || (), move |()| each(), |()| ())
    }

    /// Does `each` over and over between one `before` and one `after`, which do not count.
    pub fn within<S>(
        name: &'static str,
        mut before: impl FnMut() -> S + 'static,
        mut each: impl FnMut(&mut S) + 'static,
        mut after: impl FnMut(S) + 'static,
    ) -> Self {
        let run = move |times| {
            let mut state = before();
            let start = Instant::now();
            for _ in 0..times {
                each(&mut state);
            }
            let taken = start.elapsed();
            after(state);
            taken
        };
        Self { name, run: Box::new(run) }
    }

    /// Does `before`, `timed` and `after` over and over; only `timed` counts.
    pub fn staged<S, T>(
        name: &'static str,
        mut before: impl FnMut() -> S + 'static,
        mut timed: impl FnMut(S) -> T + 'static,
        mut after: impl FnMut(T) + 'static,
    ) -> Self {
        let run = move |times| {
            let mut taken = Duration::ZERO;
            for _ in 0..times {
                let state = before();
                let start = Instant::now();
                let state = timed(state);
                taken += start.elapsed();
                after(state);
            }
            taken
        };
        Self { name, run: Box::new(run) }
    }

    /// How long it takes to do the thing so many times.
    pub fn run(&mut self, times: u64) -> Duration {
        (self.run)(times)
    }
}

/// What a ratio should reach.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times the other's time.
    Time(f64),
    /// At least so many times the other's speed.
    Speed(f64),
    /// Shown for comparison.
    None,
}

/// What is asked, and of how many bytes. The answer takes memory, so it is built only when wanted.
pub struct Question {
    /// "retie, 64 KiB"
    pub name: String,
    pub len: usize,
    contest: fn(usize) -> Contest,
}

impl Question {
    fn new(what: &str, len: usize, contest: fn(usize) -> Contest) -> Self {
        Self { name: format!("{what}, {}", size_name(len)), len, contest }
    }

    pub fn contest(&self) -> Contest {
        (self.contest)(self.len)
    }
}

/// Pagetie's contender and those it is measured by.
pub struct Contest {
    pub ours: Contender,
    pub others: Vec<(Contender, Goal)>,
}

/// "64 KiB"
pub fn size_name(bytes: usize) -> String {
    match bytes {
        b if b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

/// Whether everything is done once, to see that it works, and nothing is measured: with `--test`, and where
/// `cargo test --benches` starts a bench, without `--bench`. As criterion has it.
pub fn only_once() -> bool {
    let has = |flag| env::args().any(|argument| argument == flag);
    has("--test") || !has("--bench")
}

/// What a region's memory is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    Base,
    /// Huge pages that need no privilege: collapsed once they are filled.
    Huge,
}

impl Pages {
    /// Whether this kernel makes huge pages of a region that was filled.
    pub fn huge_works() -> bool {
        let region = Region::builder().huge_pages(HugePages::Prefer).build(BLOCK).expect("region");
        region.write_at(0, &[1]).expect("write_at");
        let works = region.collapse().expect("collapse") == BLOCK;
        if !works {
            println!("skipped: no huge pages here (MADV_COLLAPSE, Linux 6.1)");
        }
        works
    }
}

/// A word, as everything here is summed by.
const WORD: usize = size_of::<u64>();

fn numbered_region(len: usize) -> (Region, u64) {
    numbered(len, Pages::Base)
}

/// A region whose every page differs: the first word of a page is its number, the others count up
/// over each MiB. Also the sum of all words.
pub fn numbered(len: usize, pages: Pages) -> (Region, u64) {
    const PIECE: usize = 1 << 20;
    let wish = if pages == Pages::Huge { HugePages::Prefer } else { HugePages::Never };
    let region = Region::builder().huge_pages(wish).build(len).expect("a region");
    let page = page::size();
    let mut words: Vec<u64> = (0..(PIECE.min(len) / WORD) as u64).collect();
    let others: u64 =
        words.iter().enumerate().filter(|(k, _)| k * WORD % page != 0).map(|(_, w)| w).sum();
    let mut sum = 0_u64;
    for offset in (0..len).step_by(PIECE) {
        for (k, first) in words.iter_mut().step_by(page / WORD).enumerate() {
            *first = (offset / page + k) as u64;
            sum += *first;
        }
        // SAFETY: plain words seen as bytes, for the length they have.
        let bytes =
            unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), words.len() * WORD) };
        region.write_at(offset, bytes).expect("write_at");
        sum += others;
    }
    if pages == Pages::Huge {
        let huge = region.collapse().expect("collapse");
        if huge < len / BLOCK * BLOCK {
            println!("only {} of {} are huge", size_name(huge), size_name(len));
        }
    }
    (region, sum)
}

/// Copies `len` bytes of the region, from `offset` on, to the memory's start.
pub fn copy_to(region: &Region, offset: usize, memory: &Memory, len: usize) {
    assert!(len <= memory.len() && offset + len <= region.len());
    // SAFETY: both are that long, as just asserted, apart, and nobody else uses them meanwhile.
    unsafe { ptr::copy_nonoverlapping(region.as_ptr().add(offset), memory.as_ptr(), len) };
}

/// The sum of all words.
///
/// # Safety
/// `[start, start + len)` is mapped, readable, aligned to words, and not written meanwhile.
#[inline(never)]
pub unsafe fn sum(start: *const u8, len: usize) -> u64 {
    // SAFETY: the caller's clause; the slice ends with this call.
    let words = unsafe { std::slice::from_raw_parts(start.cast::<u64>(), len / WORD) };
    words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))
}

/// The number of the region's page that is seen at `start`.
///
/// # Safety
/// `start` is mapped, readable and a multiple of the page size.
unsafe fn page_number(start: *const u8) -> u64 {
    // SAFETY: the caller's clause. Volatile, since other addresses show the same byte.
    unsafe { start.cast::<u64>().read_volatile() }
}
