//! The measurements: who takes turns with whom, and for how long.

#![allow(unsafe_code, reason = "reads tied memory through raw pointers")]

use crate::bare::Memory;
use crate::contest::calls::{self, Way};
use crate::contest::memory::{self, Guests};
use crate::contest::stream::stream;
use crate::contest::{Contender, Pages, copy_to, machine, numbered, sum};
use pagetie::Space;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Times for one size, in nanoseconds: round by round, so that two ways can be compared in each.
pub struct Size {
    pub len: usize,
    rounds: Vec<(Way, Vec<f64>)>,
}

impl Size {
    fn of(&self, way: Way) -> Option<&[f64]> {
        self.rounds.iter().find(|(other, _)| *other == way).map(|(_, times)| times.as_slice())
    }

    pub fn time(&self, way: Way) -> Option<f64> {
        self.of(way).map(|times| median(times.to_vec()))
    }

    /// How long it takes, as a part of copying and scanning.
    pub fn part_of_copy(&self, way: Way) -> Option<f64> {
        let copy = self.of(Way::CopyScan)?;
        Some(median(self.of(way)?.iter().zip(copy).map(|(way, copy)| way / copy).collect()))
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Lets all do their thing in turn, in batches of 0.3 ms, for about so long, and gives each one's
/// nanoseconds for doing it once, round by round.
fn take_turns(contenders: &mut [Contender], time: Duration) -> Vec<Vec<f64>> {
    const BATCH: u128 = 300_000;
    const FEWEST: usize = 5;
    const MOST: usize = 301;
    // The first run of two is for warming up.
    let once = |c: &mut Contender| c.run(1).min(c.run(1)).as_nanos().max(1);
    let times: Vec<u64> =
        contenders.iter_mut().map(|c| (BATCH / once(c)).clamp(1, 10_000) as u64).collect();
    let start = Instant::now();
    let mut taken = vec![Vec::new(); contenders.len()];
    for round in 0..MOST {
        if round >= FEWEST && start.elapsed() > time {
            break;
        }
        // Who goes first changes, so that a drift of the machine falls on all of them.
        for turn in 0..contenders.len() {
            let who = (round + turn) % contenders.len();
            taken[who].push(contenders[who].run(times[who]).as_nanos() as f64 / times[who] as f64);
        }
    }
    taken
}

/// Questions (a) and (b).
pub fn sizes() -> Vec<Size> {
    calls::sizes(calls::MOST).into_iter().map(size).collect()
}

fn size(len: usize) -> Size {
    println!("{} KiB ...", len >> 10);
    let (ways, mut contenders): (Vec<_>, Vec<_>) =
        calls::contenders(len, &Way::ALL).into_iter().unzip();
    let taken = take_turns(&mut contenders, Duration::from_millis(1500));
    Size { len, rounds: ways.into_iter().zip(taken).collect() }
}

/// Question (d).
pub struct Streams {
    pub total: usize,
    pub window: usize,
    /// For base and huge pages: ways and their nanoseconds, the plain scan first.
    pub ways: Vec<(&'static str, Vec<(&'static str, f64)>)>,
}

pub fn streams() -> Streams {
    const WINDOW: usize = 64 << 20;
    let total = usize::min(1 << 30, machine::available() / 8).next_multiple_of(WINDOW);
    let mut kinds = vec![("base", Pages::Base)];
    if Pages::huge_works() {
        kinds.push(("huge", Pages::Huge));
    }
    let ways = kinds.into_iter().map(|(name, pages)| {
        println!("streaming, {name} pages ...");
        let mut all = stream_contenders(total, WINDOW, pages);
        let taken = take_turns(&mut all, Duration::from_secs(8));
        let times = taken.into_iter().map(median);
        (name, all.iter().map(|contender| contender.name).zip(times).collect())
    });
    Streams { total, window: WINDOW, ways: ways.collect() }
}

fn stream_contenders(total: usize, window: usize, pages: Pages) -> Vec<Contender> {
    let (region, expected) = numbered(total, pages);
    let plain = {
        let region = region.clone();
        Contender::new("plain scan", move || {
            // SAFETY: the region's own view, which nobody writes.
            let seen = unsafe { sum(black_box(region.as_ptr()), region.len()) };
            assert_eq!(seen, expected);
        })
    };
    let through = {
        let (region, space) = (region.clone(), Space::reserve(window).expect("reserve"));
        Contender::new("window", move || {
            let mut seen = 0_u64;
            let shown = stream(&space, 0, window, &region, |at, len| {
                let start = space.as_ptr().wrapping_add(at);
                // SAFETY: the window shows that much there, and nobody writes it.
                seen = seen.wrapping_add(unsafe { sum(black_box(start), len) });
            });
            shown.untie().expect("untie");
            assert_eq!(seen, expected);
        })
    };
    let copied = |name, piece: usize| {
        let (region, warm) = (region.clone(), Memory::new(piece));
        Contender::new(name, move || {
            let mut seen = 0_u64;
            for offset in (0..region.len()).step_by(piece) {
                copy_to(&region, offset, &warm, piece);
                // SAFETY: memory of that length, which nobody writes meanwhile.
                seen = seen.wrapping_add(unsafe { sum(black_box(warm.as_ptr()), piece) });
            }
            assert_eq!(seen, expected);
        })
    };
    let copies = [copied("copied, 64 MiB a time", window), copied("copied, 1 MiB a time", 1 << 20)];
    [plain, through].into_iter().chain(copies).collect()
}

/// Question (f).
pub fn guests() -> Vec<Guests> {
    const MOST_COPIES: usize = 16;
    println!("memory of guests ...");
    memory::guests(&memory::COUNTS, MOST_COPIES)
}
