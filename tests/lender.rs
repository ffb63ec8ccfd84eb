//! Page tables that a view lends to ties and takes back: without a page fault, without a trace in the
//! view, and never with somebody else's pages.

#![allow(unsafe_code, reason = "tests borrow memory of their own, as an engine would")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/filler.rs"]
mod filler;
#[path = "lender/hostile.rs"]
mod hostile;
#[path = "lender/walk.rs"]
mod walk;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::*;
use filler::Filler;
use pagetie::{Access, Covered, ErrorKind, Prefault, Prot, Region, Space, Tie, TieOptions, Window};

/// What may be lent: long enough, and asked to be populated.
const LEN: usize = 2 * HUGE;

fn populated(access: Access) -> TieOptions {
    TieOptions::new(access).prefault(Prefault::Populate)
}

/// A region written through its view.
fn written(seed: u64, len: usize) -> (Region, Vec<u8>) {
    let region = region(seed, len / page());
    let bytes = region_bytes(&region);
    (region, bytes)
}

#[track_caller]
fn assert_whole(region: &Region) {
    let view = region.as_ptr().addr();
    let map = map_of(view);
    assert_eq!(map.range.start, view, "{map:?}");
    assert!(map.range.end >= view + region.len(), "{map:?}");
    assert_eq!(map.perms, "rw-s");
}

/// Page faults of this thread while it reads a byte of each page.
fn faults_in(start: usize, len: usize) -> i64 {
    let before = faults();
    (start..start + len).step_by(page()).for_each(|addr| {
        std::hint::black_box(peek(addr));
    });
    faults() - before
}

const FEW: i64 = 8;

fn start(tie: &Tie) -> usize {
    tie.as_ptr().addr()
}

#[test]
fn what_the_view_has_mapped_in_is_tied_without_a_fault_and_comes_back() {
    alone(|| {
        let (region, bytes) = written(1, 2 * LEN);
        let space = Space::reserve(2 * LEN).expect("reserve");
        for range in [0..LEN, HUGE..HUGE + LEN, 0..2 * LEN] {
            let before = faults();
            let how = populated(Access::ReadWrite);
            let tie = space.tie(HUGE / 2, &region, range.clone(), how);
            let tie = tie.or_else(|_| space.tie(0, &region, range.clone(), how)).expect("tie");
            let made = faults() - before;
            let read = faults_in(start(&tie), range.len());
            assert!(made < FEW && read < FEW, "{range:?}: {made} and {read} faults");
            assert_bytes(start(&tie), &bytes[range.clone()], "tied");
            assert_whole(&region);
            tie.untie().expect("untie");
            assert_whole(&region);
            let host = faults_in(region.as_ptr().addr(), bytes.len());
            assert!(host < FEW, "{range:?}: {host} faults of the host");
        }
        // Not asked to be populated, it leaves the host's page tables alone.
        let tie = space.tie(0, &region, ..LEN, Access::ReadWrite).expect("tie");
        assert!(faults_in(region.as_ptr().addr(), bytes.len()) < FEW);
        assert!(faults_in(start(&tie), LEN) > FEW);
    });
}

#[test]
fn read_only_ties_find_what_others_mapped_in() {
    alone(|| {
        let (region, bytes) = written(1, LEN);
        for round in 0..3 {
            let space = Space::reserve(LEN).expect("reserve");
            let before = faults();
            let tie = space.tie(0, &region, .., populated(Access::ReadOnly)).expect("tie");
            let made = faults() - before;
            assert!(round == 0 || made < FEW, "round {round}: {made} faults");
            assert!(faults_in(start(&tie), LEN) < FEW);
            assert_bytes(start(&tie), &bytes, "tied");
            // The host's own page tables are its own.
            assert!(faults_in(region.as_ptr().addr(), LEN) < FEW);
        }
    });
}

#[test]
fn the_host_goes_on_through_its_view() {
    let (region, mut bytes) = written(3, 3 * HUGE);
    let space = Space::reserve(LEN).expect("reserve");
    let mut window = Window::new(&space, 0, LEN, &region, Access::ReadWrite).expect("window");
    for (round, base) in [0, HUGE, 0, HUGE / 2].into_iter().enumerate() {
        if round % 2 == 0 {
            window.prepare(base..base + LEN).expect("prepare");
        }
        let at = space.as_ptr().addr() + window.show(base..base + LEN).expect("show");
        let middle = base + LEN / 2;
        region.write_at(middle, b"host").expect("write");
        bytes[middle..middle + 4].copy_from_slice(b"host");
        assert_bytes(at, &bytes[base..base + LEN], "the host's write");
        write(at + 5, b"guest");
        bytes[base + 5..base + 10].copy_from_slice(b"guest");
        assert_eq!(region_bytes(&region), bytes, "the guest's write");
        assert_whole(&region);
    }
    window.untie().expect("untie");
    assert_eq!(region_bytes(&region), bytes);
    assert_whole(&region);
}

#[test]
fn private_pages_never_reach_another_tie() {
    // The whole view, its start, its end.
    for (len, range) in [(LEN, 0..LEN), (2 * LEN, 0..LEN), (2 * LEN, LEN..2 * LEN)] {
        let (region, bytes) = written(5, len);
        let memory = Memory::private(LEN / page());
        let space = memory.borrow();
        let how = populated(Access::ReadOnly);
        let tie = space.tie(0, &region, range.clone(), how).expect("tie");
        // An engine makes all of its memory writable, and read-only again, without a word.
        mprotect(memory.all(), libc::PROT_READ | libc::PROT_WRITE);
        write(memory.start() + 7, b"a secret");
        mprotect(memory.all(), libc::PROT_READ);
        tie.untie().expect("untie");
        let other = Space::reserve(LEN).expect("reserve");
        let tie = other.tie(0, &region, range.clone(), how).expect("tie");
        assert_bytes(start(&tie), &bytes[range], "another space");
        assert_eq!(region_bytes(&region), bytes);
    }
}

#[test]
fn advice_and_locks_of_the_tie_are_not_for_the_view() {
    alone(|| {
        for (len, range) in [(LEN, 0..LEN), (2 * LEN, 0..LEN), (2 * LEN, LEN..2 * LEN)] {
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let (region, bytes) = written(5, len);
                let memory = Memory::private(LEN / page());
                let space = memory.borrow();
                let tie = |how| space.tie(0, &region, range.clone(), how).expect("tie");
                let advised = tie(populated(access));
                madvise(memory.all(), libc::MADV_DONTFORK).expect("madvise");
                advised.untie().expect("untie");
                assert_whole(&region);
                let view = region.as_ptr().addr();
                assert!(!has_flag(view + range.start, "dc"), "{range:?}, {access:?}");
                let again = tie(populated(access));
                assert!(!has_flag(memory.start(), "dc"), "{range:?}, {access:?}");
                mlock(memory.all()).expect("mlock");
                again.untie().expect("untie");
                assert_eq!(locked(), 0, "{range:?}, {access:?}");
                assert_whole(&region);
                assert_bytes(start(&tie(populated(access))), &bytes[range.clone()], "again");
            }
        }
    });
}

#[test]
fn what_the_host_did_to_its_view_stays() {
    alone(|| {
        let (region, bytes) = written(5, 2 * LEN);
        let space = Space::reserve(LEN).expect("reserve");
        let view = region.as_ptr().addr();
        let first = view..view + page();
        let tied = || {
            let tie = space.tie(0, &region, ..LEN, populated(Access::ReadWrite)).expect("tie");
            assert_bytes(start(&tie), &bytes[..LEN], "tied");
            tie
        };
        // Before it is lent, and while it is.
        mprotect(first.clone(), libc::PROT_READ);
        let tie = tied();
        assert_eq!(perms(first.clone()), ["r--s"]);
        tie.untie().expect("untie");
        assert_eq!(perms(first.clone()), ["r--s"]);
        mprotect(first.clone(), libc::PROT_READ | libc::PROT_WRITE);
        let tie = tied();
        mprotect(first.clone(), libc::PROT_READ);
        tie.untie().expect("untie");
        assert_eq!(perms(first.clone()), ["r--s"]);
        mprotect(first.clone(), libc::PROT_READ | libc::PROT_WRITE);
        // Locked, all of it or a part.
        for range in [view..view + 2 * LEN, first.clone()] {
            mlock(range.clone()).expect("mlock");
            let tie = tied();
            assert!(flagged(range.clone(), "lo").iter().all(|locked| *locked));
            tie.untie().expect("untie");
            assert!(flagged(range.clone(), "lo").iter().all(|locked| *locked));
            assert_eq!(locked(), range.len());
            // SAFETY: the test's own view.
            assert_eq!(unsafe { libc::munlock(region.as_ptr().cast(), 2 * LEN) }, 0);
        }
        tied().untie().expect("untie");
        assert_whole(&region);
    });
}

#[test]
fn nobody_sees_a_view_that_is_not_there() {
    let (region, _) = written(7, 4 * LEN);
    let words = 4 * LEN / 8;
    let (region, stop) = (&region, &AtomicBool::new(false));
    thread::scope(|scope| {
        // Each counts in words of its own, all over the view: a lost page would be a lost count.
        for n in 0..2 {
            scope.spawn(move || {
                let mut counts = vec![0_u64; words / 512];
                for round in 0.. {
                    for (k, count) in counts.iter_mut().enumerate() {
                        // SAFETY: nobody else accesses these eight bytes while this thread runs.
                        let word = unsafe { region.atomic_u64(k * 4096 + n * 8) }.expect("a word");
                        if round == 0 {
                            word.store(0, Ordering::Relaxed);
                        }
                        *count += 1;
                        assert_eq!(word.fetch_add(1, Ordering::Relaxed) + 1, *count, "word {k}");
                    }
                    if round > 0 && stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for access in [Access::ReadWrite, Access::ReadOnly] {
            scope.spawn(move || {
                let space = Space::reserve(LEN).expect("reserve");
                let mut window = Window::new(&space, 0, LEN, region, access).expect("window");
                for round in 0..400 {
                    let base = round * 5 % 7 * (LEN / 2);
                    if round % 3 == 0 {
                        window.prepare(base..base + LEN).expect("prepare");
                    }
                    let at = space.as_ptr().addr() + window.show(base..base + LEN).expect("show");
                    std::hint::black_box(peek(at + round));
                    let other = Space::reserve(LEN).expect("reserve");
                    let tie = other.tie(0, region, base..base + LEN, populated(access));
                    std::hint::black_box(peek(start(&tie.expect("tie")) + round));
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    assert_whole(region);
}

#[test]
fn the_same_pages_are_lent_to_many() {
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let (region, mut bytes) = written(9, 2 * LEN);
        let space = Space::reserve(16 * LEN).expect("reserve");
        let bases = [0, 0, HUGE / 2, HUGE, LEN, 0, HUGE + page(), LEN - page()];
        let mut ties: Vec<Tie> = (0..bases.len())
            .map(|n| {
                let range = bases[n]..bases[n] + LEN;
                space.tie(n * 2 * LEN, &region, range, populated(access)).expect("tie")
            })
            .collect();
        for n in [3, 0, 2, 1, 0, 2, 1, 0] {
            region.write_at(LEN, &[n as u8]).expect("write");
            bytes[LEN] = n as u8;
            for tie in &ties {
                assert_bytes(start(tie), &bytes[tie.offset()..tie.offset() + LEN], "tied");
            }
            ties.remove(n).untie().expect("untie");
            assert_whole(&region);
        }
        assert_eq!(region_bytes(&region), bytes);
    }
}

#[test]
fn a_lent_tie_is_retied_parked_and_resumed_like_others() {
    alone(|| {
        let ((one, ones), (two, twos)) = (written(1, LEN), written(2, 2 * LEN));
        let (here, there) =
            (Space::reserve(LEN).expect("reserve"), Space::reserve(3 * LEN).expect("reserve"));
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let mut tie = here.tie(0, &one, .., populated(access)).expect("tie");
            tie.retie(&two, HUGE).expect("retie");
            assert_bytes(start(&tie), &twos[HUGE..HUGE + LEN], "the other region");
            assert_whole(&one);
            assert!(faults_in(one.as_ptr().addr(), LEN) < FEW, "{access:?}");
            let parked = tie.park().expect("park");
            let tie = parked.resume(&there, page()).expect("resume");
            assert_bytes(start(&tie), &twos[HUGE..HUGE + LEN], "resumed");
            assert!(faults_in(start(&tie), LEN) < FEW, "{access:?}");
            drop(tie.park().expect("park"));
            assert!(faults_in(two.as_ptr().addr(), 2 * LEN) < FEW, "{access:?}");
            // Forbidden in part, it is not given back as it is.
            let tie = here.tie(0, &one, .., populated(access)).expect("tie");
            here.protect(0..page(), Prot::None).expect("protect");
            tie.untie().expect("untie");
            assert_whole(&one);
            let tie = here.tie(0, &one, .., populated(access)).expect("tie");
            assert_bytes(start(&tie), &ones, "accessible again");
            here.untie_all().expect("untie all");
            assert!(!tie.is_live());
            assert_whole(&one);
            assert_whole(&two);
        }
    });
}

#[test]
fn what_cannot_be_tied_is_not_lent() {
    let (region, bytes) = written(5, 2 * LEN);
    let space = Space::reserve(2 * LEN).expect("reserve");
    let how = populated(Access::ReadWrite);
    let mut tie = space.tie(0, &region, ..LEN, how).expect("tie");
    let mut refused = |offset| tie.retie(&region, offset).expect_err("refused").kind();
    assert_eq!(refused(1), ErrorKind::Misaligned);
    for offset in [LEN + page(), 2 * LEN, usize::MAX - page() + 1] {
        assert_eq!(refused(offset), ErrorKind::OutOfRange);
    }
    assert_bytes(start(&tie), &bytes[..LEN], "as it was");
    let error = space.tie(LEN / 2, &region, ..LEN, how).expect_err("overlaps");
    assert_eq!(error.kind(), ErrorKind::Overlap);
    let error = space.tie(LEN + 1, &region, ..LEN, how).expect_err("inside a page");
    assert_eq!(error.kind(), ErrorKind::Misaligned);
    assert_eq!(region_bytes(&region), bytes);
    assert_whole(&region);
}

#[test]
fn regions_that_grow_and_are_discarded_while_lent() {
    let region = Region::builder().max_len(2 * LEN).build(LEN).expect("a region");
    region.write_at(0, &pattern(3, LEN)).expect("write");
    let space = Space::reserve(2 * LEN).expect("reserve");
    let tie = space.tie(0, &region, .., populated(Access::ReadWrite)).expect("tie");
    region.grow(2 * LEN).expect("grow");
    region.write_at(LEN, &pattern(4, LEN)).expect("write");
    region.discard(..HUGE).expect("discard");
    region.collapse().expect("collapse");
    assert_zero(start(&tie)..start(&tie) + HUGE, "discarded");
    space.discard(HUGE..HUGE + page()).expect("discard");
    tie.untie().expect("untie");
    let mut expected = pattern(3, LEN);
    expected[..HUGE + page()].fill(0);
    expected.extend(pattern(4, LEN));
    assert_eq!(region_bytes(&region), expected);
    assert_whole(&region);
}

#[test]
fn covered_pages_are_thrown_away_under_lent_ties_too() {
    alone(|| {
        let (region, bytes) = written(5, LEN);
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let memory = Memory::private(2 * LEN / page());
            memory.fill(1);
            let space = memory.borrow();
            let how = populated(access).covered(Covered::Discard);
            let before = maps().len();
            for _ in 0..3 {
                let tie = space.tie(0, &region, .., how).expect("tie");
                assert_bytes(start(&tie), &bytes, "tied");
                assert!(faults_in(start(&tie), LEN) < FEW, "{access:?}");
                tie.untie().expect("untie");
                assert_zero(memory.start()..memory.start() + LEN, "thrown away");
                assert_whole(&region);
            }
            // The private view is one.
            assert!(maps().len() <= before + 1, "{access:?}");
        }
    });
}

#[test]
fn a_child_leaves_the_view_of_its_parent_alone() {
    let (region, bytes) = written(5, 2 * LEN);
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let space = Space::reserve(LEN).expect("reserve");
        let tie = space.tie(0, &region, ..LEN, populated(access)).expect("tie");
        // SAFETY: the child works on memory and leaves by _exit.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            let same = region_bytes(&region) == bytes
                && read(start(&tie)..start(&tie) + LEN) == bytes[..LEN];
            drop(tie);
            let same = same && region_bytes(&region) == bytes;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if same { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: the child of above, and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "{access:?}");
        assert_bytes(start(&tie), &bytes[..LEN], "tied still");
        tie.untie().expect("untie");
        assert_whole(&region);
        assert_eq!(region_bytes(&region), bytes);
    }
}

#[test]
fn at_the_mapping_limit_nothing_is_lost() {
    alone(|| {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let (region, bytes) = written(5, 2 * LEN);
            let memory = Memory::private(LEN / page());
            let old = memory.fill(1);
            let space = memory.borrow();
            let warm = || space.tie(0, &region, ..LEN, populated(access));
            let tie = warm().expect("tie");
            let Some(mut filler) = Filler::full() else { return };
            tie.untie().expect("untie at the limit");
            for spare in 0..12 {
                match warm() {
                    Ok(tie) => {
                        assert_bytes(start(&tie), &bytes[..LEN], spare);
                        tie.untie().expect("untie");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Limit, "{error}"),
                }
                assert_bytes(memory.start(), &old, spare);
                assert_bytes(region.as_ptr().addr(), &bytes, spare);
                filler.free(1);
            }
            drop(filler);
            assert_whole(&region);
            assert_bytes(start(&warm().expect("tie")), &bytes[..LEN], "afterwards");
        }
    });
}
