//! The measurements: who takes turns with whom, and for how long.

#![allow(unsafe_code, reason = "reads tied memory through raw pointers, and lends memory")]

use crate::bare::{BLOCK, Memory};
use crate::contest::scan::{BAREST, Scene};
use crate::contest::stream::{Usage, stream};
use crate::contest::{Contender, Pages, numbered, sum};
use pagetie::{Parked, Prefault, Region, Space, Tie, page};
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{fs, ptr};

/// One way to make bytes appear elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Copy,
    Tie,
    Resume,
    Lend,
    /// The scan alone, of memory that is mapped in.
    ScanInPlace,
    CopyScan,
    TieScan,
    ResumeScan,
    LendScan,
    PopulatedScan,
    HugeScan,
}

impl Way {
    pub const CALLS: [Self; 4] = [Self::Copy, Self::Tie, Self::Resume, Self::Lend];
    pub const SCANS: [Self; 5] =
        [Self::CopyScan, Self::TieScan, Self::ResumeScan, Self::LendScan, Self::ScanInPlace];
    pub const TIES: [Self; 4] =
        [Self::TieScan, Self::PopulatedScan, Self::HugeScan, Self::ResumeScan];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "memcpy",
            Self::Tie => "mmap (tie)",
            Self::Resume => "mremap (resume)",
            Self::Lend => "loan",
            Self::ScanInPlace => "scan in place",
            Self::CopyScan => "memcpy, scan",
            Self::TieScan => "mmap (tie), scan",
            Self::ResumeScan => "mremap (resume), scan",
            Self::LendScan => "loan, scan",
            Self::PopulatedScan => "tie, prefaulted, scan",
            Self::HugeScan => "tie, huge, scan",
        }
    }

    /// What kind of tie it is.
    pub const fn short(self) -> &'static str {
        match self {
            Self::TieScan => "base pages",
            Self::PopulatedScan => "prefaulted",
            Self::HugeScan => "huge (collapsed)",
            Self::ResumeScan => "warm (resumed)",
            other => other.name(),
        }
    }
}

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

fn available() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok()
    });
    kib.unwrap_or(0) << 10
}

/// Questions (a) and (b): a page to 1 GiB, or less where memory is short.
pub fn sizes() -> Vec<Size> {
    // A region, a huge one, the copy, what is lent; and as much again for others.
    let most = usize::min(1 << 30, available() / 8);
    let huge = Pages::huge_works();
    let mut sizes = Vec::new();
    let mut len = page::size();
    while len <= most {
        sizes.push(size(len, huge && len >= BLOCK));
        len *= 4;
    }
    sizes
}

fn size(len: usize, huge: bool) -> Size {
    println!("{} KiB ...", len >> 10);
    let scene = Scene::new(len, Pages::Base);
    let mut ways = vec![Way::Copy, Way::CopyScan, Way::ScanInPlace, Way::Tie, Way::TieScan];
    ways.extend([Way::PopulatedScan, Way::Resume, Way::ResumeScan, Way::Lend, Way::LendScan]);
    let scans = |way| Way::SCANS.contains(&way) || Way::TIES.contains(&way);
    let copy = Rc::new(Memory::new(len));
    let lent = Rc::new(Memory::new(len));
    copy_to(&scene.region, 0, &lent, len);
    let mut contenders: Vec<Contender> = ways
        .iter()
        .map(|&way| {
            let (s, name) = (Rc::clone(&scene), way.name());
            match way {
                Way::Copy | Way::CopyScan => copied(name, s, Rc::clone(&copy), scans(way)),
                Way::Resume | Way::ResumeScan => resumed(name, s, scans(way)),
                Way::Lend | Way::LendScan => loaned(name, s, Rc::clone(&lent), scans(way)),
                Way::ScanInPlace => Contender::new(name, move || s.scan(s.region.as_ptr())),
                _ => tied(name, s, way == Way::PopulatedScan, scans(way)),
            }
        })
        .collect();
    if huge {
        ways.push(Way::HugeScan);
        let scene = Scene::new(len, Pages::Huge);
        contenders.push(tied(Way::HugeScan.name(), scene, false, true));
    }
    let taken = take_turns(&mut contenders, Duration::from_millis(1500));
    Size { len, rounds: ways.into_iter().zip(taken).collect() }
}

fn copy_to(region: &Region, offset: usize, memory: &Memory, len: usize) {
    assert!(len <= memory.len() && offset + len <= region.len());
    // SAFETY: both are that long, as just asserted, apart, and nobody else uses them meanwhile.
    unsafe { ptr::copy_nonoverlapping(region.as_ptr().add(offset), memory.as_ptr(), len) };
}

fn copied(name: &'static str, s: Rc<Scene>, warm: Rc<Memory>, scans: bool) -> Contender {
    Contender::new(name, move || {
        copy_to(&s.region, 0, black_box(&warm), s.len);
        if scans {
            s.scan(warm.as_ptr());
        }
    })
}

fn tied(name: &'static str, s: Rc<Scene>, populated: bool, scans: bool) -> Contender {
    let how = if populated { BAREST.prefault(Prefault::Populate) } else { BAREST };
    Contender::new(name, move || {
        let tie = s.tie(how);
        if scans {
            s.scan(tie.as_ptr());
        }
        tie.untie().expect("untie");
    })
}

fn resumed(name: &'static str, s: Rc<Scene>, scans: bool) -> Contender {
    let tie: Tie = s.tie(BAREST.prefault(Prefault::Populate));
    let mut parked: Option<Parked> = Some(tie.park().expect("park"));
    Contender::new(name, move || {
        let tie = parked.take().expect("parked").resume(&s.space, 0).expect("resume");
        if scans {
            s.scan(tie.as_ptr());
        }
        parked = Some(tie.park().expect("park"));
    })
}

fn loaned(name: &'static str, s: Rc<Scene>, lent: Rc<Memory>, scans: bool) -> Contender {
    Contender::new(name, move || {
        // SAFETY: private memory of ours, which lives as long as the contender; one thread, which has no
        // references into it and uses the loan only.
        let loan = unsafe { s.space.lend(0, lent.as_ptr(), s.len) }.expect("lend");
        if scans {
            s.scan(loan.as_ptr());
        }
        loan.give_back().expect("give back");
    })
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
    let total = usize::min(1 << 30, available() / 8).next_multiple_of(WINDOW);
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

/// Question (f): KiB that so many guests take, the region included.
pub struct Guests {
    pub count: usize,
    pub tied: Usage,
    pub copied: Option<Usage>,
}

pub fn guests() -> Vec<Guests> {
    const LEN: usize = 64 << 20;
    const MOST_COPIES: usize = 16;
    println!("memory of guests ...");
    let counts = [1, 2, 4, 8, 16, 32, 64];
    let before = Usage::now();
    let (region, expected) = numbered(LEN, Pages::Base);
    let grown = || {
        let now = Usage::now();
        Usage {
            pss: now.pss.saturating_sub(before.pss),
            tables: now.tables.saturating_sub(before.tables),
        }
    };
    let read = |start: *const u8| {
        // SAFETY: callers pass memory of that length that is mapped, and nobody writes it.
        assert_eq!(unsafe { sum(black_box(start), LEN) }, expected);
    };
    read(region.as_ptr());
    let mut spaces = Vec::new();
    let tied: Vec<Usage> = counts
        .iter()
        .map(|&count| {
            while spaces.len() < count {
                let space = Space::reserve(LEN).expect("reserve");
                let tie = space.tie(0, &region, .., BAREST).expect("tie");
                read(tie.as_ptr());
                // The space's end is the tie's end too.
                spaces.push((tie, space));
            }
            grown()
        })
        .collect();
    drop(spaces);
    let mut copies = Vec::new();
    let copied = counts.map(|count| {
        (count <= MOST_COPIES).then(|| {
            while copies.len() < count {
                let copy = Memory::new(LEN);
                copy_to(&region, 0, &copy, LEN);
                read(copy.as_ptr());
                copies.push(copy);
            }
            grown()
        })
    });
    let rows = counts.into_iter().zip(tied).zip(copied);
    rows.map(|((count, tied), copied)| Guests { count, tied, copied }).collect()
}
