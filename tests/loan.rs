//! What is lent comes home, with what was written to it, and what it covered comes back.
//!
//! Memory of every kind that can be lent goes into spaces of every kind and ends in every way; then all
//! mappings, locks and bytes of the process are what they were. What cannot be lent is refused and
//! left as it is. Somebody replaces pages at either end; forks and the mapping limit are real.

#![allow(unsafe_code, reason = "lends memory that the test maps")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/filler.rs"]
mod filler;

use common::*;
use filler::Filler;
use libc::{PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{Access, ErrorKind, GiveBackError, Loan, Prot, Region, Space};
use std::ops::Range;
use std::ptr;

const RW: i32 = PROT_READ | PROT_WRITE;

fn lend(space: &Space, at: usize, home: Range<usize>) -> pagetie::Result<Loan> {
    let addr = ptr::with_exposed_provenance_mut(home.start);
    // SAFETY: memory of the test's own, read and written volatile; a test that replaces pages does so to
    // see what pagetie makes of that.
    unsafe { space.lend(at, addr, home.len()) }
}

fn lend_guarded(space: &Space, at: usize, home: Range<usize>) -> pagetie::Result<Loan> {
    let addr = ptr::with_exposed_provenance_mut(home.start);
    // SAFETY: as in `lend`.
    unsafe { space.lend_guarded(at, addr, home.len()) }
}

fn addr(loan: &Loan) -> usize {
    loan.as_ptr().expose_provenance()
}

/// The error of a loan that is not given back, and the loan.
#[track_caller]
fn refused(loan: Loan) -> (pagetie::Error, Loan) {
    let GiveBackError { error, loan } = loan.give_back().expect_err("it is not given back");
    (error, loan)
}

/// How a loan ends.
#[derive(Clone, Copy, Debug)]
enum End {
    GiveBack,
    Drop,
    UntieAll,
    SpaceDropped,
}

const ENDS: [End; 4] = [End::GiveBack, End::Drop, End::UntieAll, End::SpaceDropped];

impl End {
    fn end(self, space: Space, loan: Loan) {
        match self {
            End::GiveBack => loan.give_back().expect("give back"),
            End::Drop => drop(loan),
            End::UntieAll => {
                space.untie_all().expect("untie_all");
                assert!(!loan.is_live());
                loan.give_back().expect("it is home already");
            }
            End::SpaceDropped => {
                drop(space);
                assert!(!loan.is_live());
                loan.give_back().expect("it is home already");
            }
        }
    }
}

/// Memory to lend, and what is lent of it.
fn hosts() -> Vec<(&'static str, Memory, Range<usize>)> {
    let filled = |memory: Memory| {
        memory.fill(1);
        memory
    };
    let striped = filled(Memory::private(16));
    mprotect(striped.pages(3..4), PROT_READ);
    mprotect(striped.pages(6..8), PROT_READ);
    let locked = filled(Memory::private(16));
    mlock(locked.pages(0..5)).expect("lock a few pages");
    let sparse = Memory::private(16);
    write(sparse.pages(4..5).start, &pattern(1, page()));
    let large = filled(Memory::private(2 * HUGE / page() + 16));
    vec![
        ("part of a mapping", filled(Memory::private(16)), 2..6),
        ("a whole mapping", filled(Memory::private(4)), 0..4),
        ("accounted", filled(Memory::accounted(16)), 2..6),
        ("never touched", Memory::private(16), 2..6),
        ("sparse", sparse, 2..6),
        ("several protections", striped, 2..7),
        ("locked in part", locked, 3..7),
        ("moved before", Memory::moved(16), 2..6),
        ("large", large, 3..3 + 2 * HUGE / page()),
    ]
}

/// The memory that an engine may have, as long as `pages` and a bit.
fn engines(pages: usize) -> Vec<(&'static str, Memory)> {
    let filled = |memory: Memory| {
        memory.fill(2);
        memory
    };
    let len = (pages + 4) * page();
    let mixed = filled(Memory::private(pages + 4));
    mprotect(mixed.pages(3..4), PROT_READ);
    mprotect(mixed.pages(4..5), PROT_NONE);
    vec![
        ("private", filled(Memory::private(pages + 4))),
        ("shared", filled(Memory::shared(pages + 4))),
        ("image", Memory::image(&pattern(3, len))),
        ("mixed", mixed),
    ]
}

#[test]
fn all_is_as_before_after_every_end() {
    alone(|| {
        // So that the ballast, which comes with the first space and goes with the last, stays.
        let _anchor = Space::reserve(page()).unwrap();
        for (host, memory, run) in hosts() {
            for (engine, place) in engines(run.len()) {
                for end in ENDS {
                    let what = format!("{host} lent to {engine}, {end:?}");
                    let space = place.borrow();
                    let home = memory.pages(run.clone());
                    let before = Picture::take(&[memory.all(), place.all()]);
                    let bytes = read(home.clone());
                    let loan = lend(&space, 2 * page(), home.clone()).expect(&what);
                    let there = addr(&loan);
                    assert_bytes(there, &bytes, &what);
                    assert_zero(home.clone(), &what);
                    // The guest writes its first byte, which the host can write in every case.
                    let old = peek(there);
                    poke(there, !old);
                    end.end(space, loan);
                    assert_eq!(peek(home.start), !old, "{what}: what the guest wrote");
                    poke(home.start, old);
                    let after = Picture::take(&[memory.all(), place.all()]);
                    before.assert_same(&after, &what);
                }
            }
        }
    });
}

#[test]
fn a_reserved_space_shows_them_and_keeps_its_own_pages() {
    let memory = Memory::private(8);
    let bytes = memory.fill(1);
    for end in ENDS {
        let space = Space::reserve(16 * page()).unwrap();
        space.protect(..4 * page(), Prot::ReadWrite).unwrap();
        let start = space.as_ptr().expose_provenance();
        write(start, &pattern(4, 4 * page()));
        let loan = lend(&space, 2 * page(), memory.all()).unwrap();
        assert_eq!((loan.at(), loan.len()), (2 * page(), 8 * page()));
        assert_eq!(loan.home().expose_provenance(), memory.start());
        assert_bytes(addr(&loan), &bytes, "in the space");
        assert_zero(memory.all(), "at home");
        if let End::SpaceDropped = end {
            end.end(space, loan);
        } else {
            // `end` drops the space too, in the end: look before that.
            match end {
                End::GiveBack => loan.give_back().unwrap(),
                End::Drop => drop(loan),
                _ => space.untie_all().unwrap(),
            }
            assert_bytes(start, &pattern(4, 4 * page()), "covered pages");
            assert_eq!(perms(start + 4 * page()..start + 10 * page()), vec!["---p"; 6]);
        }
        assert_bytes(memory.start(), &bytes, format!("home again, {end:?}"));
    }
}

#[test]
fn vacated_addresses_fault_if_asked_and_come_back() {
    child::dies("a guarded home", libc::SIGSEGV, || {
        let memory = Memory::private(2);
        let space = Space::reserve(2 * page()).unwrap();
        let loan = lend_guarded(&space, 0, memory.all()).unwrap();
        child::load(memory.start() + page());
        drop(loan);
    });
    alone(|| {
        let (memory, place) = (Memory::private(8), Memory::private(8));
        memory.fill(1);
        place.fill(2);
        let space = place.borrow();
        let before = Picture::take(&[memory.all(), place.all()]);
        let loan = lend_guarded(&space, page(), memory.pages(2..5)).unwrap();
        assert_eq!(perms(memory.pages(1..6)), ["rw-p", "---p", "---p", "---p", "rw-p"]);
        assert_eq!(perms(place.pages(1..4)), vec!["rw-p"; 3]);
        loan.give_back().unwrap();
        before.assert_same(&Picture::take(&[memory.all(), place.all()]), "guarded");
    });
}

#[test]
fn locked_pages_are_unlocked_while_lent_and_locked_at_home() {
    alone(|| {
        let memory = Memory::private(8);
        memory.fill(1);
        mlock(memory.pages(2..6)).unwrap();
        let space = Space::reserve(8 * page()).unwrap();
        let whole = locked();
        let loan = lend(&space, 0, memory.pages(1..4)).unwrap();
        assert_eq!(locked(), whole - 2 * page());
        assert!(!has_flag(addr(&loan), "lo"));
        loan.give_back().unwrap();
        assert_eq!(locked(), whole);
        let expected = [false, false, true, true, true, true, false, false];
        assert_eq!(flagged(memory.all(), "lo"), expected);
    });
}

#[test]
fn what_is_no_private_anonymous_memory_is_refused_and_left_alone() {
    let space = Space::reserve(16 * page()).unwrap();
    let file = memfd(&pattern(3, 4 * page()));
    let plain = |prot| map(0, 4 * page(), prot, PRIVATE, None);
    let region = region(5, 4);
    let stack = 0u8;
    let on_the_stack = pagetie::page::round_down(ptr::from_ref(&stack).addr(), page());
    let holed = plain(RW);
    unmap(holed + 2 * page()..holed + 3 * page());
    let code = plain(PROT_READ | PROT_EXEC);
    let guarded = plain(RW);
    mprotect(guarded + 3 * page()..guarded + 4 * page(), PROT_NONE);
    let mixed = plain(RW);
    map(mixed + page(), page(), RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS, None);
    let at = |addr: usize| addr..addr + 4 * page();
    let heap = maps().into_iter().find(|line| line.name == "[heap]");
    let refused = ErrorKind::RefusedMemory;
    let mut cases = vec![
        ("a shared map", at(map(0, 4 * page(), RW, libc::MAP_SHARED, Some(&file))), refused),
        ("a private file map", at(map(0, 4 * page(), RW, libc::MAP_PRIVATE, Some(&file))), refused),
        ("shared memory", at(map(0, 4 * page(), RW, 33, None)), refused),
        ("a region's view", at(region.as_ptr().expose_provenance()), refused),
        ("code", at(code), refused),
        ("a guard page at the end", at(guarded), refused),
        ("a shared page inside", at(mixed), refused),
        ("the stack", on_the_stack..on_the_stack + page(), refused),
        ("a hole", at(holed), ErrorKind::NotMapped),
        ("NULL", 0..4 * page(), ErrorKind::NotMapped),
        ("off a page", holed + 1..holed + 1 + page(), ErrorKind::Misaligned),
        ("half a page", holed..holed + page() / 2, ErrorKind::Misaligned),
        ("nothing", holed..holed, ErrorKind::Empty),
        ("past the end", usize::MAX - page() + 1..usize::MAX, ErrorKind::Misaligned),
    ];
    if let Some(heap) = heap {
        cases.push(("the heap", heap.range.start..heap.range.start + page(), refused));
    }
    for (what, home, kind) in cases {
        let before: Vec<_> = maps_in(home.clone());
        let error = lend(&space, 4 * page(), home.clone()).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
        // The stack and the heap grow by themselves.
        if !["the stack", "the heap"].contains(&what) {
            assert_eq!(maps_in(home), before, "{what}");
        }
    }
    // The space takes a loan at that very place.
    let memory = Memory::private(4);
    lend(&space, 4 * page(), memory.all()).expect("plain memory").give_back().unwrap();
    for (at, kind) in [
        (14 * page(), ErrorKind::OutOfRange),
        (1, ErrorKind::Misaligned),
        (usize::MAX - page() + 1, ErrorKind::OutOfRange),
    ] {
        assert_eq!(lend(&space, at, memory.all()).expect_err("no place").kind(), kind);
    }
}

#[test]
fn memory_that_a_userfaultfd_watches_is_refused() {
    let Some(watch) = userfaultfd() else {
        return skip("userfaultfd is not allowed here");
    };
    let memory = Memory::private(4);
    let space = Space::reserve(4 * page()).unwrap();
    watch(memory.pages(2..3));
    let error = lend(&space, 0, memory.all()).expect_err("watched memory");
    assert_eq!(error.kind(), ErrorKind::RefusedMemory, "{error}");
}

/// Registers ranges with a userfaultfd that stays open; `None` where that is not allowed.
fn userfaultfd() -> Option<impl Fn(Range<usize>)> {
    const USER_MODE_ONLY: i32 = 1;
    const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
    const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
    // SAFETY: makes a descriptor, and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    let mut api = [0xaau64, 0, 0];
    // SAFETY: reads and writes the three words of a `struct uffdio_api`.
    assert_eq!(unsafe { libc::ioctl(fd, UFFDIO_API, api.as_mut_ptr()) }, 0);
    Some(move |range: Range<usize>| {
        let mut register = [range.start as u64, range.len() as u64, 1, 0];
        // SAFETY: reads and writes the four words of a `struct uffdio_register`.
        assert_eq!(unsafe { libc::ioctl(fd, UFFDIO_REGISTER, register.as_mut_ptr()) }, 0);
    })
}

#[test]
fn nothing_else_is_done_at_either_end_of_a_loan() {
    let (memory, other) = (Memory::private(8), Memory::private(8));
    let region = region(5, 2);
    let space = Space::reserve(16 * page()).unwrap();
    let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
    let overlap = |result: pagetie::Result<Loan>, asked: Range<usize>, met: Range<usize>| {
        let error = result.expect_err("an overlap");
        assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");
        assert_eq!((error.range(), error.other_range()), (Some(asked), Some(met)), "{error}");
    };
    overlap(lend(&space, page(), memory.pages(0..2)), pages(1..3), pages(0..2));
    let loan = lend(&space, 4 * page(), memory.pages(2..6)).unwrap();

    // The place: another loan, a tie.
    overlap(lend(&space, 7 * page(), other.pages(0..2)), pages(7..9), pages(4..8));
    let error = space.tie(3 * page(), &region, .., Access::ReadOnly).expect_err("over a loan");
    assert_eq!((error.kind(), error.other_range()), (ErrorKind::Overlap, Some(pages(4..8))));
    assert!(error.to_string().contains("loan"), "{error}");

    // The home: lent again, borrowed, adopted, of another space too.
    overlap(lend(&space, 10 * page(), memory.pages(5..7)), memory.pages(5..7), memory.pages(2..6));
    let second = Space::reserve(8 * page()).unwrap();
    overlap(lend(&second, 0, memory.pages(2..3)), memory.pages(2..3), memory.pages(2..6));
    let error = memory.try_borrow(memory.pages(0..3)).expect_err("borrow the home");
    assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");
    let error = adopt(memory.pages(4..8)).expect_err("adopt the home");
    assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");

    // Memory of a live space is not the host's to lend, nor are lent pages.
    let borrowed = other.borrow();
    overlap(lend(&second, 0, other.pages(0..1)), other.pages(0..1), other.all());
    overlap(lend(&borrowed, 0, other.pages(4..5)), other.pages(4..5), other.all());
    let lent = addr(&loan)..addr(&loan) + page();
    assert_eq!(lend(&second, 0, lent).expect_err("lent pages").kind(), ErrorKind::Overlap);

    // Beside it all is free; and afterwards all of it.
    let beside = lend(&second, 0, memory.pages(6..8)).unwrap();
    loan.give_back().unwrap();
    let again = lend(&second, 2 * page(), memory.pages(0..6)).unwrap();
    space.tie(4 * page(), &region, .., Access::ReadOnly).unwrap().untie().unwrap();
    drop((again, beside, tie));
    memory.borrow();
}

fn adopt(home: Range<usize>) -> pagetie::Result<Region> {
    let addr = ptr::with_exposed_provenance_mut(home.start);
    // SAFETY: as in `lend`.
    unsafe { Region::adopt(addr, home.len()) }
}

#[test]
fn protect_stays_below_what_the_host_could_do() {
    let memory = Memory::private(4);
    let bytes = memory.fill(1);
    mprotect(memory.pages(2..4), PROT_READ);
    let space = Space::reserve(8 * page()).unwrap();
    let loan = lend(&space, page(), memory.all()).unwrap();
    let start = addr(&loan);
    for (run, prot, allowed) in [
        (1..3, Prot::Read, true),
        (1..5, Prot::None, true),
        (0..3, Prot::ReadWrite, true),
        (2..4, Prot::ReadWrite, false),
        (3..8, Prot::ReadWrite, false),
        (3..8, Prot::Read, true),
    ] {
        let what = format!("{prot:?} on {run:?}");
        let before = perms(start..start + memory.len());
        match space.protect(pages(run), prot) {
            Ok(()) => assert!(allowed, "{what}"),
            Err(error) => {
                assert!(!allowed, "{what}: {error}");
                assert_eq!(error.kind(), ErrorKind::ReadOnly, "{what}: {error}");
                assert_eq!(error.other_range(), Some(pages(1..5)));
                assert_eq!(perms(start..start + memory.len()), before, "{what}");
            }
        }
    }
    space.protect(pages(1..2), Prot::None).unwrap();
    loan.give_back().unwrap();
    // Home as it was, and the space with what was asked for while it did not show its own pages.
    assert_eq!(perms(memory.all()), ["rw-p", "rw-p", "r--p", "r--p"]);
    assert_bytes(memory.start(), &bytes, "home");
    assert_eq!(perms(start..start + 4 * page()), ["---p", "---p", "---p", "---p"]);
}

#[test]
fn covered_pages_come_back_as_the_engine_opened_them() {
    let (memory, place) = (Memory::private(4), Memory::private(8));
    memory.fill(1);
    let bytes = place.fill(2);
    mprotect(memory.all(), PROT_READ);
    mprotect(place.pages(2..6), PROT_NONE);
    let space = place.borrow();
    let loan = lend(&space, 2 * page(), memory.all()).unwrap();
    // An engine makes its whole memory writable when it grows.
    mprotect(place.pages(3..8), RW);
    loan.give_back().unwrap();
    assert_eq!(perms(memory.all()), vec!["r--p"; 4]);
    let expected = ["rw-p", "rw-p", "---p", "rw-p", "rw-p", "rw-p", "rw-p", "rw-p"];
    assert_eq!(perms(place.all()), expected);
    mprotect(place.all(), PROT_READ);
    assert_bytes(place.start(), &bytes, "covered pages");
}

#[test]
fn discard_throws_the_hosts_bytes_away() {
    let memory = Memory::private(4);
    let bytes = memory.fill(1);
    mprotect(memory.pages(3..4), PROT_READ);
    let space = Space::reserve(8 * page()).unwrap();
    let loan = lend(&space, 2 * page(), memory.all()).unwrap();
    let error = space.discard(pages(4..7)).expect_err("a page that the host could only read");
    assert_eq!((error.kind(), error.other_range()), (ErrorKind::ReadOnly, Some(pages(2..6))));
    assert_bytes(addr(&loan), &bytes, "refused");
    space.discard(pages(1..4)).unwrap();
    assert_zero(addr(&loan)..addr(&loan) + 2 * page(), "discarded");
    loan.give_back().unwrap();
    assert_zero(memory.pages(0..2), "home");
    assert_bytes(memory.pages(2..3).start, &bytes[2 * page()..], "home");
}

// ------------------------------------------------------------------ behind pagetie's back

#[test]
fn pages_that_somebody_replaced_in_the_space_are_named_and_the_rest_comes_home() {
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // Which pages of the loan, and whether they are mapped again or a hole.
    for (gone, mapped) in [(0..1, true), (1..3, true), (1..2, false), (3..4, true), (0..4, false)] {
        for end in [End::GiveBack, End::Drop, End::UntieAll] {
            let what = format!("{gone:?} {mapped} {end:?}");
            let (memory, place) = (Memory::private(4), Memory::private(8));
            let (bytes, covered) = (memory.fill(1), place.fill(2));
            let space = place.borrow();
            let loan = lend(&space, 2 * page(), memory.all()).unwrap();
            let there = place.pages(gone.start + 2..gone.end + 2);
            match mapped {
                true => drop(map(there.start, there.len(), RW, shared, None)),
                false => unmap(there.clone()),
            }
            let lines = maps_in(there.clone());
            let lost = |error: pagetie::Error| {
                assert_eq!(error.kind(), ErrorKind::Changed, "{what}: {error}");
                assert_eq!(error.range(), Some(pages(gone.start + 2..gone.end + 2)), "{what}");
            };
            match end {
                End::GiveBack => {
                    let (error, loan) = refused(loan);
                    lost(error);
                    assert!(!loan.is_live());
                    loan.give_back().expect("it has ended");
                }
                End::Drop => drop(loan),
                _ => lost(space.untie_all().expect_err("pages are gone")),
            }
            for i in 0..4 {
                let home = memory.pages(i..i + 1);
                let above = place.pages(i + 2..i + 3);
                if gone.contains(&i) {
                    assert_zero(home, &what);
                } else {
                    assert_bytes(home.start, &bytes[pages(i..i + 1)], &what);
                    assert_bytes(above.start, &covered[pages(i + 2..i + 3)], &what);
                }
            }
            assert_eq!(maps_in(there), lines, "{what}: somebody else's mapping");
            space.untie_all().expect("nothing of ours is left");
            // The home is the host's again.
            drop(lend(&Space::reserve(8 * page()).unwrap(), 0, memory.all()).unwrap());
        }
    }
}

#[test]
fn pages_stay_where_they_are_while_something_else_lies_at_home() {
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    for hole in [false, true] {
        let memory = Memory::private(4);
        let bytes = memory.fill(1);
        let space = Space::reserve(8 * page()).unwrap();
        let loan = lend(&space, page(), memory.all()).unwrap();
        let taken = memory.pages(1..2);
        match hole {
            true => unmap(taken.clone()),
            false => drop(map(taken.start, taken.len(), RW, shared, None)),
        }
        let lines = maps_in(memory.arena());
        let (error, loan) = refused(loan);
        assert_eq!((error.kind(), error.range()), (ErrorKind::Changed, Some(memory.all())));
        assert!(loan.is_live());
        assert_eq!(maps_in(memory.arena()), lines);
        let there = addr(&loan);
        assert_bytes(there, &bytes, "in the space");
        // Without a handle the space goes on trying.
        drop(loan);
        assert_eq!(space.untie_all().expect_err("not home").kind(), ErrorKind::Changed);
        assert_bytes(there, &bytes, "in the space");
        map(taken.start, taken.len(), RW, PRIVATE, None);
        space.untie_all().expect("home is free again");
        assert_bytes(memory.start(), &bytes, "home");
        assert_eq!(perms(there..there + 4 * page()), vec!["---p"; 4]);
    }
}

#[test]
fn the_end_of_a_space_leaves_pages_that_cannot_go_home_mapped() {
    let memory = Memory::private(4);
    let bytes = memory.fill(1);
    let space = Space::reserve(8 * page()).unwrap();
    let start = space.as_ptr().expose_provenance();
    let loan = lend(&space, 2 * page(), memory.all()).unwrap();
    unmap(memory.pages(1..2));
    drop(space);
    assert!(!loan.is_live());
    let (error, loan) = refused(loan);
    assert_eq!(error.kind(), ErrorKind::Ended);
    assert_bytes(addr(&loan), &bytes, "the only copy");
    assert_eq!(maps_in(start - page()..start + 9 * page()).len(), 1, "the rest is unmapped");
    unmap(addr(&loan)..addr(&loan) + loan.len());
    map(memory.pages(1..2).start, page(), RW, PRIVATE, None);
}

#[test]
fn a_leaked_space_leaves_the_pages_there() {
    let (memory, place) = (Memory::private(2), Memory::private(4));
    let bytes = memory.fill(1);
    let space = place.borrow();
    let loan = lend(&space, page(), memory.all()).unwrap();
    space.leak();
    let (error, loan) = refused(loan);
    assert_eq!(error.kind(), ErrorKind::Ended);
    assert_bytes(addr(&loan), &bytes, "in the engine's memory");
    drop(loan);
    assert_zero(memory.all(), "home");
    // Both ranges are free for others.
    place.borrow();
    memory.borrow();
}

// ------------------------------------------------------------------ forks and limits

#[test]
fn a_forked_child_has_no_loans() {
    child::lives("a fork", || {
        let memory = Memory::private(4);
        let bytes = memory.fill(1);
        let space = Space::reserve(8 * page()).unwrap();
        let loan = lend(&space, page(), memory.all()).unwrap();
        // SAFETY: the child only looks, and ends with `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let there = addr(&loan);
                assert!(!loan.is_live());
                let other = lend(&space, 6 * page(), memory.pages(0..1));
                assert_eq!(other.expect_err("in a child").kind(), ErrorKind::Ended);
                let (error, loan) = refused(loan);
                assert_eq!(error.kind(), ErrorKind::Ended);
                drop(loan);
                assert_bytes(there, &bytes, "a copy, in the child");
                assert_zero(memory.all(), "home, in the child");
            }));
            // SAFETY: ends the process; nothing of the parent's is flushed or dropped on the way.
            unsafe { libc::_exit(i32::from(ended.is_err())) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the answer.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child did not end well");
        loan.give_back().unwrap();
        assert_bytes(memory.start(), &bytes, "home");
    });
}

/// Host's memory of `mappings` mappings of one page.
fn striped(mappings: usize) -> Memory {
    let memory = Memory::private(mappings + 2);
    memory.fill(1);
    for i in (1..mappings).step_by(2) {
        mprotect(memory.pages(i..i + 1), PROT_READ);
    }
    memory
}

#[test]
fn loans_end_at_the_very_mapping_limit() {
    for mappings in [1, 3, 24] {
        for end in ENDS {
            child::lives(&format!("{mappings} mappings, {end:?}"), || {
                let (memory, place) = (striped(mappings), Memory::private(mappings + 4));
                let bytes = read(memory.all());
                let covered = place.fill(2);
                let lines = (maps_in(memory.arena()), maps_in(place.arena()));
                let space = place.borrow();
                let loan = lend(&space, 2 * page(), memory.pages(0..mappings)).unwrap();
                poke(addr(&loan), 0x77);
                let Some(filler) = Filler::full() else { return };
                end.end(space, loan);
                drop(filler);
                assert_eq!(peek(memory.start()), 0x77);
                poke(memory.start(), bytes[0]);
                assert_bytes(memory.start(), &bytes, "home");
                assert_bytes(place.start(), &covered, "covered");
                assert_eq!((maps_in(memory.arena()), maps_in(place.arena())), lines);
            });
        }
    }
}

#[test]
fn a_loan_that_meets_the_limit_changes_nothing() {
    for mappings in [1, 3, 24] {
        for guarded in [false, true] {
            child::lives(&format!("{mappings} mappings, guarded: {guarded}"), || {
                // First, so that what is looked at comes before it in the kernel's list.
                let Some(mut filler) = Filler::new(400) else { return };
                let (memory, place) = (striped(mappings), Memory::private(mappings + 4));
                let (bytes, covered) = (read(memory.all()), place.fill(2));
                let space = place.borrow();
                let lines = || filler::lines(&[memory.all(), place.all()]);
                let before = lines();
                filler.fill();
                let mut refusals = 0;
                for _ in 0..4 * mappings + 12 {
                    let home = memory.pages(0..mappings);
                    let lent = match guarded {
                        true => lend_guarded(&space, 2 * page(), home),
                        false => lend(&space, 2 * page(), home),
                    };
                    match lent {
                        Ok(loan) => loan.give_back().expect("give back"),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
                            refusals += 1;
                        }
                    }
                    assert_eq!(lines(), before);
                    assert_bytes(memory.start(), &bytes, "home");
                    assert_bytes(place.start(), &covered, "the space");
                    filler.free(1);
                }
                drop(filler);
                assert!((1..4 * mappings + 12).contains(&refusals), "{refusals} refusals");
            });
        }
    }
}
