//! Ties that come and go under threads which read and write the same addresses.
//!
//! A fault would kill and a lost wake-up would hang, so every test that risks one runs in a
//! process of its own. Threads wait for each other's progress, never for a time.

#![allow(unsafe_code, reason = "reads and writes tied addresses as atomics")]

#[path = "common/child.rs"]
mod child;
mod common;

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use common::{Memory, assert_bytes, page, pattern};
use pagetie::{Access, Covered, ErrorKind, Prot, Region, Space, TieOptions};

/// The word at an address that stays mapped while the test runs.
fn word(addr: usize) -> &'static AtomicU64 {
    assert_eq!(addr % 8, 0);
    // SAFETY: callers pass word-aligned addresses of memory that outlives every use of the
    // reference, and that is accessed as whole words only while threads are about.
    unsafe { &*ptr::with_exposed_provenance(addr) }
}

/// Tells the other threads to stop, also when this one panics: a scope waits for all.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A thread that was woken takes the processor of the one that woke it, and keeps it for
/// milliseconds unless it gives it back: there would be one cycle in that time.
fn give_way(turn: u64) {
    if turn % 64 == 0 {
        thread::yield_now();
    }
}

/// Fills whole pages with one word.
fn flood(region: &Region, offset: usize, pages: usize, value: u64) {
    let bytes = value.to_ne_bytes().repeat(pages * page() / 8);
    region.write_at(offset, &bytes).expect("fill pages");
}

/// Two threads read while a third reties: each word is an old one or a new one.
fn readers_see_old_or_new(region: &Region, access: Access, rounds: u64) {
    const PAGES: usize = 4;
    const VALUES: [u64; 3] = [0x1111_1111_1111_1111, 0x2222_2222_2222_2222, 0x3333_3333_3333_3333];
    for (i, value) in VALUES.into_iter().enumerate() {
        flood(region, i * PAGES * page(), PAGES, value);
    }
    let space = Space::reserve(8 * page()).unwrap();
    let mut tie = space.tie(2 * page(), region, ..PAGES * page(), access).unwrap();
    let (start, len) = (tie.as_ptr().expose_provenance(), tie.len());
    let stop = AtomicBool::new(false);
    let seen = [const { [const { AtomicU64::new(0) }; VALUES.len()] }; 2];
    thread::scope(|scope| {
        let stopping = Stop(&stop);
        for (reader, seen) in seen.iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || {
                // Both go through all pages, in steps that meet every word sooner or later.
                let _stopping = Stop(stop);
                let mut at = reader * page();
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    give_way(turn);
                    let value = word(start + at).load(Ordering::Relaxed);
                    let Some(i) = VALUES.iter().position(|&v| v == value) else {
                        panic!("reader {reader} saw {value:#x} at byte {at:#x}");
                    };
                    seen[i].fetch_add(1, Ordering::Relaxed);
                    at = (at + page() + 8) % len;
                }
            });
        }
        // Reads went on all the while, and met every value in both threads.
        let met = || {
            let reads = || seen.iter().flatten().map(|count| count.load(Ordering::Relaxed));
            reads().all(|count| count > 0) && reads().sum::<u64>() >= rounds
        };
        let began = Instant::now();
        let mut round = 0;
        while round < rounds || !met() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            round += 1;
            let i = (round % VALUES.len() as u64) as usize;
            tie.retie(region, i * PAGES * page()).unwrap();
            // What was asked for last is what shows.
            if round % 64 == 0 {
                assert_eq!(word(start).load(Ordering::Relaxed), VALUES[i]);
            }
        }
        drop(stopping);
        let reads: u64 = seen.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum();
        let time = began.elapsed();
        child::say(&format!("measured: {round} reties under {reads} reads in {time:.1?}"));
    });
    tie.untie().unwrap();
}

#[test]
fn readers_see_old_or_new_bytes_while_a_thread_reties() {
    child::lives("100,000 reties", || {
        let region = Region::new(12 * page()).unwrap();
        readers_see_old_or_new(&region, Access::ReadWrite, 100_000);
    });
}

#[test]
fn readers_see_old_or_new_bytes_through_every_access() {
    for access in [Access::ReadOnly, Access::CopyOnWrite] {
        child::lives(&format!("{access:?}"), || {
            let region = Region::new(12 * page()).unwrap();
            readers_see_old_or_new(&region, access, 10_000);
        });
    }
    child::lives("hidden from fork", || {
        // Its new alias is built aside and moved in: one system call over the old one too.
        let region = Region::builder().hide_from_fork(true).build(12 * page()).unwrap();
        readers_see_old_or_new(&region, Access::ReadWrite, 10_000);
    });
    child::lives("a file", || {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(12 * page() as u64).unwrap();
        let region = Region::open(file.path()).unwrap();
        readers_see_old_or_new(&region, Access::ReadWrite, 10_000);
    });
}

/// What a thread that increments saw of a range that is tied and untied under it.
#[derive(Debug, Default)]
struct Tally {
    increments: u64,
    /// The first count that belongs to neither side: a page of zeros, mostly.
    strange: Option<u64>,
}

/// Counters of the covered memory and of the region start at values that no test reaches from
/// zero or from each other.
const COVERED: u64 = 1 << 40;
const TIED: u64 = 1 << 50;
const PAGES: usize = 3;

/// Increments a counter in each page of `[start, ..)` until told to stop, wherever it lands.
fn count(start: usize, lane: usize, stop: &AtomicBool, progress: &AtomicU64) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        for page_index in 0..PAGES {
            let before =
                word(start + page_index * page() + lane * 64).fetch_add(1, Ordering::Relaxed);
            tally.increments += 1;
            let known =
                [COVERED, TIED].iter().any(|base| (*base..base + COVERED / 2).contains(&before));
            if !known && tally.strange.is_none() {
                tally.strange = Some(before);
            }
        }
        let laps = progress.fetch_add(1, Ordering::Relaxed);
        give_way(laps);
    }
    tally
}

/// Ties and unties pages of `space` while two threads increment counters in them, and compares
/// what the threads did with what landed.
///
/// Returns the increments that were lost and the strange value that was read, if one was.
fn cycles(space: &Space, at: usize, how: TieOptions, cycles: usize) -> (u64, Option<u64>) {
    const LANES: usize = 2;
    let region = Region::new(PAGES * page()).unwrap();
    let start = space.as_ptr().expose_provenance() + at;
    let view = region.as_ptr().expose_provenance();
    let each = || (0..PAGES).flat_map(|p| (0..LANES).map(move |lane| p * page() + lane * 64));
    each().for_each(|offset| {
        word(start + offset).store(COVERED, Ordering::Relaxed);
        word(view + offset).store(TIED, Ordering::Relaxed);
    });
    let (stop, progress) = (AtomicBool::new(false), AtomicU64::new(0));
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let stopping = Stop(&stop);
        let counters: Vec<_> = (0..LANES)
            .map(|lane| {
                let (stop, progress) = (&stop, &progress);
                scope.spawn(move || count(start, lane, stop, progress))
            })
            .collect();
        while progress.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let mut left = cycles;
        // The threads went on all the while.
        while left > 0 || progress.load(Ordering::Relaxed) < cycles as u64 {
            let tie = space.tie(at, &region, .., how).unwrap();
            tie.untie().unwrap();
            left = left.saturating_sub(1);
        }
        drop(stopping);
        counters.into_iter().map(|counter| counter.join().unwrap()).collect()
    });
    let done: u64 = tallies.iter().map(|tally| tally.increments).sum();
    // A counter that was itself replaced may be below where it started.
    let landed = each().fold(0u64, |sum, offset| {
        let covered = word(start + offset).load(Ordering::Relaxed).wrapping_sub(COVERED);
        let tied = word(view + offset).load(Ordering::Relaxed).wrapping_sub(TIED);
        sum.wrapping_add(covered).wrapping_add(tied)
    });
    (done.wrapping_sub(landed), tallies.iter().find_map(|tally| tally.strange))
}

/// 10,000 cycles under two counting threads, which lose nothing and see no zero.
fn nothing_is_lost(memory: &Memory, how: TieOptions) {
    let space = memory.borrow();
    let began = Instant::now();
    let (lost, strange) = cycles(&space, page(), how, 10_000);
    child::say(&format!("measured: 10,000 cycles in {:.1?}, {lost} lost", began.elapsed()));
    assert_eq!((lost, strange), (0, None), "increments lost, and a value that nobody stored");
}

#[test]
fn concurrent_ties_lose_no_write_and_show_no_zero() {
    let concurrent = TieOptions::new(Access::ReadWrite).concurrent(true);
    child::lives("private", || nothing_is_lost(&Memory::private(8), concurrent));
    child::lives("several mappings", || {
        let memory = Memory::private(8);
        // Accounted for, and so a mapping of its own in the middle of the covered pages.
        let middle = memory.pages(2..3);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        common::map(middle.start, page(), libc::PROT_READ | libc::PROT_WRITE, flags, None);
        assert_eq!(common::maps_in(memory.all()).len(), 3);
        nothing_is_lost(&memory, concurrent);
    });
    child::lives("shared", || nothing_is_lost(&Memory::shared(8), concurrent));
}

/// A covered shared mapping is duplicated, not moved: there is no moment to close.
#[test]
fn a_covered_shared_mapping_needs_no_concurrent() {
    let plain = TieOptions::new(Access::ReadWrite);
    child::lives("shared", || nothing_is_lost(&Memory::shared(8), plain));
    child::lives("a file", || {
        nothing_is_lost(&Memory::file(&vec![0; 8 * page()]), plain);
    });
}

/// The documentation's warning is true: without `concurrent` a write is lost, or a zero is read.
#[test]
fn without_concurrent_writes_are_lost() {
    const BOUND: usize = 1_000_000;
    if thread::available_parallelism().map_or(1, |n| n.get()) < 2 {
        return child::say("skipped: without_concurrent_writes_are_lost: needs two processors");
    }
    child::lives("plain keep", || {
        let memory = Memory::private(8);
        let space = memory.borrow();
        let plain = TieOptions::new(Access::ReadWrite);
        let mut cycles_done = 0;
        // In batches, since the sum is taken when the counting threads are at rest.
        let mut batch = 8;
        while cycles_done < BOUND {
            let (lost, strange) = cycles(&space, page(), plain, batch);
            cycles_done += batch;
            if lost != 0 || strange.is_some() {
                return child::say(&format!(
                    "measured: without `concurrent`, {lost} writes lost and {strange:?} read within \
                     {cycles_done} cycles"
                ));
            }
            batch *= 2;
        }
        panic!("nothing was lost in {cycles_done} cycles: the warning may go");
    });
}

/// The moment cannot be closed over a private mapping of a file, and the refusal changes nothing.
#[test]
fn concurrent_over_a_private_file_mapping_is_unsupported() {
    let memory = Memory::image(&pattern(4, 8 * page()));
    common::poke(memory.start() + 3 * page(), 0xee);
    let bytes = common::read(memory.all());
    let lines = common::maps_in(memory.arena());
    let region = common::region(1, 2);
    let space = memory.borrow();
    let how = TieOptions::new(Access::ReadWrite);
    let error = space.tie(2 * page(), &region, .., how.concurrent(true)).expect_err("a tie");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_bytes(memory.start(), &bytes, "after the refusal");
    assert_eq!(common::maps_in(memory.arena()), lines);
    assert!(space.ties().is_empty());
    // The same tie of a range that is quiet.
    let tie = space.tie(2 * page(), &region, .., how).unwrap();
    assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "tied");
    tie.untie().unwrap();
    assert_bytes(memory.start(), &bytes, "untied");
    // What has no moment needs no closing.
    let how = how.covered(Covered::Discard).concurrent(true);
    let tie = space.tie(2 * page(), &region, .., how).unwrap();
    tie.untie().unwrap();
}

/// Threads share one space, each with a part of its own, beside spaces of their own.
#[test]
fn threads_tie_untie_and_inspect_at_once() {
    child::lives("at once", || {
        const THREADS: usize = 4;
        const PART: usize = 6;
        const ROUNDS: usize = 400;
        let memory = Memory::private(THREADS * PART);
        let bytes = memory.fill(2);
        let shared = [Arc::new(Space::reserve(memory.len()).unwrap()), Arc::new(memory.borrow())];
        let region = common::region(1, 4);
        let inode = {
            let tie = shared[0].tie(0, &region, .., Access::ReadWrite).unwrap();
            let inode = shared[0].inspect(..page()).unwrap()[0].inode;
            tie.untie().unwrap();
            inode
        };
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (shared, region, barrier) = (shared.clone(), region.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let part = thread * PART * page();
                    for round in 0..ROUNDS {
                        let own = Space::reserve(PART * page()).unwrap();
                        for (space, at) in [(&*shared[0], part), (&*shared[1], part), (&own, 0)] {
                            let at = at + page();
                            let offset = round % 3 * page();
                            let range = offset..offset + 2 * page();
                            let access = [Access::ReadWrite, Access::ReadOnly][round % 2];
                            let mut tie = space.tie(at, &region, range, access).unwrap();
                            let found = space.inspect(at..at + tie.len()).unwrap();
                            assert_eq!(found.len(), 1, "{found:?}");
                            assert_eq!((found[0].inode, found[0].offset), (inode, offset as u64));
                            assert_eq!(found[0].shared, access == Access::ReadWrite);
                            tie.retie(&region, page()).unwrap();
                            let shown = &pattern(1, 3 * page())[page()..];
                            assert_bytes(tie.as_ptr().addr(), shown, "retied");
                            space.protect(at..at + page(), Prot::None).unwrap();
                            space.protect(at..at + page(), Prot::Read).unwrap();
                            let mine = |info: &&pagetie::TieInfo| info.at == at;
                            assert_eq!(space.ties().iter().filter(mine).count(), 1);
                            if round % 5 == 0 {
                                drop(tie)
                            } else {
                                tie.untie().unwrap()
                            }
                            assert_eq!(space.ties().iter().filter(mine).count(), 0);
                        }
                    }
                });
            }
        });
        assert!(shared.iter().all(|space| space.ties().is_empty()));
        // `protect` of a tied page counts for what comes back: the pages are readable at least.
        assert_bytes(memory.start(), &bytes, "covered pages, untied");
        let [reserved, _] = &shared;
        assert!(reserved.inspect(..).unwrap().iter().all(|mapping| mapping.inode == 0));
    });
}

/// The addresses of a space that goes are free for the spaces of other threads at once, and no
/// earlier than its entry in the list of live spaces.
#[test]
fn spaces_come_and_go_without_overlap() {
    child::lives("come and go", || {
        const THREADS: usize = 4;
        const ROUNDS: usize = 2_000;
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    for round in 0..ROUNDS {
                        // Lengths differ, so that one fits where several others were.
                        let pages = 1 + (round + thread) % 3;
                        Space::reserve(pages * page()).expect("addresses that were free");
                    }
                });
            }
        });
    });
}

/// All want the same pages: one at a time has them, the others are told who.
#[test]
fn one_thread_at_a_time_holds_a_range() {
    child::lives("one at a time", || {
        const ROUNDS: usize = 500;
        let space = Space::reserve(8 * page()).unwrap();
        let region = common::region(1, 4);
        let (holders, refused, held) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..3 {
                let (space, region, holders, refused, held) =
                    (&space, &region, &holders, &refused, &held);
                scope.spawn(move || {
                    let at = thread * page();
                    let mut mine = 0;
                    while mine < ROUNDS {
                        match space.tie(at, region, .., Access::ReadWrite) {
                            Ok(tie) => {
                                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                                assert_bytes(tie.as_ptr().addr(), &pattern(1, tie.len()), "tied");
                                assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                                tie.untie().unwrap();
                                mine += 1;
                                held.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");
                                assert_eq!(error.range(), Some(at..at + 4 * page()));
                                let met = error.other_range().expect("the range it met");
                                assert_eq!(met.len(), 4 * page());
                                refused.fetch_add(1, Ordering::Relaxed);
                                thread::yield_now();
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(held.into_inner(), 3 * ROUNDS);
        assert!(space.ties().is_empty());
    });
}

/// Copies of overlapping ranges tear, but every byte is one that somebody wrote at that place.
#[test]
fn overlapping_copies_invent_no_byte() {
    child::lives("two views", || {
        // What the writer with this number stores at an offset; 0 is what lies there first.
        fn byte(writer: usize, offset: usize) -> u8 {
            (writer * 64 + (offset * 7 + offset / 61) % 64) as u8
        }
        let bytes = |writer: usize, offset: usize, len: usize| -> Vec<u8> {
            (offset..offset + len).map(|offset| byte(writer, offset)).collect()
        };
        let region = Region::new(2 * page()).unwrap();
        region.write_at(0, &bytes(0, 0, region.len())).unwrap();
        // A second view of the same pages: other addresses, same bytes.
        let twin = Region::from_fd(region.fd().expect("a descriptor")).unwrap();
        assert_ne!(region.as_ptr(), twin.as_ptr());
        // Odd offsets and lengths, all overlapping around the middle.
        let ranges = [
            (1, 131),
            (page() - 61, 122),
            (3, page() + 200),
            (page() - 8, 16),
            (page() / 2 + 5, page()),
        ];
        let stop = AtomicBool::new(false);
        let seen = [const { AtomicUsize::new(0) }; 3];
        let check = |offset: usize, read: &[u8]| {
            for (offset, &found) in (offset..).zip(read) {
                let writer = (0..3).find(|&writer| byte(writer, offset) == found);
                let writer =
                    writer.unwrap_or_else(|| panic!("nobody wrote {found:#x} at {offset:#x}"));
                seen[writer].fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            let stopping = Stop(&stop);
            for (writer, through) in [(1, &region), (2, &twin)] {
                let (stop, bytes) = (&stop, &bytes);
                let sources = ranges.map(|(offset, len)| (offset, bytes(writer, offset, len)));
                scope.spawn(move || {
                    for (offset, source) in sources.iter().cycle() {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        through.write_at(*offset, source).unwrap();
                    }
                });
            }
            let mut reads = 0;
            let seen_all = || seen[1..].iter().all(|count| count.load(Ordering::Relaxed) > 0);
            while reads < 3_000 || !seen_all() {
                for through in [&region, &twin] {
                    let (offset, len) = ranges[reads % ranges.len()];
                    let mut into = vec![0; len];
                    through.read_at(offset, &mut into).unwrap();
                    check(offset, &into);
                    reads += 1;
                }
            }
            drop(stopping);
        });
        let mut all = vec![0; region.len()];
        region.read_at(0, &mut all).unwrap();
        check(0, &all);
        // Where nobody wrote, nothing changed.
        assert_eq!(all[0], byte(0, 0));
        assert_eq!(all[2 * page() - 1], byte(0, 2 * page() - 1));
    });
}

/// A space goes while other threads hold, move and end its ties.
#[test]
fn a_space_dropped_under_its_ties_ends_them() {
    child::lives("dropped", || {
        const THREADS: usize = 3;
        let region = common::region(1, 2);
        let memory = Memory::private(THREADS * 4);
        let bytes = memory.fill(2);
        for round in 0..200 {
            let space = if round % 2 == 0 {
                Space::reserve(THREADS * 4 * page()).unwrap()
            } else {
                memory.borrow()
            };
            let ties: Vec<_> = (0..THREADS)
                .map(|i| space.tie(i * 4 * page(), &region, .., Access::ReadWrite).unwrap())
                .collect();
            let dropped = AtomicBool::new(false);
            let started = Barrier::new(THREADS + 1);
            thread::scope(|scope| {
                for (i, mut tie) in ties.into_iter().enumerate() {
                    let (region, dropped, started) = (&region, &dropped, &started);
                    scope.spawn(move || {
                        started.wait();
                        // One ends its tie at once, the others hold theirs to the end.
                        if i == 0 {
                            return tie.untie().expect("untie, before or after the space went");
                        }
                        loop {
                            let over = dropped.load(Ordering::SeqCst);
                            match tie.retie(region, 0) {
                                Ok(()) => assert!(!over, "retied in a space that is gone"),
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::Ended, "{error}");
                                    break;
                                }
                            }
                        }
                        assert!(!tie.is_live());
                        if i == 1 {
                            tie.untie().expect("untie, after the space went");
                        }
                    });
                }
                started.wait();
                drop(space);
                dropped.store(true, Ordering::SeqCst);
            });
            assert_bytes(memory.start(), &bytes, "covered pages, after the space went");
        }
    });
}

/// The kernel is asked through a descriptor that outlives the thread which opened it.
#[test]
fn the_thread_that_came_first_may_leave() {
    child::lives("first thread", || {
        let memory = Memory::private(4);
        let bytes = memory.fill(2);
        let region = common::region(1, 2);
        let first = thread::spawn(|| Space::reserve(page()).unwrap().inspect(..).unwrap().len());
        assert_eq!(first.join().unwrap(), 1);
        let space = memory.borrow();
        let tie = space.tie(page(), &region, .., Access::ReadWrite).unwrap();
        assert_eq!(space.inspect(..).unwrap().len(), 3);
        tie.untie().unwrap();
        assert_bytes(memory.start(), &bytes, "untied");
    });
}
