//! Parked aliases: off their addresses and on again, in any space, without a page fault to follow, and
//! what they covered is back meanwhile.
//!
//! That page tables travel is seen by the kernel's count of this thread's page faults.

#![allow(unsafe_code, reason = "tests borrow and unmap memory of their own, as an engine would")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

mod common;
#[path = "common/filler.rs"]
mod filler;

use common::*;
use filler::Filler;
use pagetie::{Access, Covered, ErrorKind, HugePages, Prefault, Prot, Region, Space, TieOptions};

#[test]
fn what_was_covered_is_back_and_the_alias_resumes_anywhere() {
    for access in ACCESSES {
        for covered in [Covered::Keep, Covered::Discard] {
            let (here, there) = (Memory::private(16), Memory::private(16));
            let (old, other) = (here.fill(1), there.fill(2));
            let before = (maps_in(here.arena()), maps_in(there.arena()));
            let region = region(3, 8);
            let (first, second) = (here.borrow(), there.borrow());
            let how = TieOptions::new(access).covered(covered);
            let tie = first.tie(pages(4..5).start, &region, pages(2..6), how).expect("tie");

            let parked = tie.park().expect("park");
            assert_eq!(first.ties(), []);
            assert_eq!((parked.offset(), parked.len()), (2 * page(), 4 * page()));
            assert_eq!(parked.access(), access);
            match covered {
                Covered::Keep => assert_bytes(here.start(), &old, "while parked"),
                _ => assert_zero(here.pages(4..8), "thrown away"),
            }
            region.write_at(3 * page(), b"written while parked").expect("write");

            let tie = parked.resume(&second, 9 * page()).expect("resume elsewhere");
            let shown = region_bytes(&region);
            assert_bytes(there.pages(9..13).start, &shown[pages(2..6)], "resumed elsewhere");
            assert!(tie.is_live() && second.ties().len() == 1);
            let parked = tie.park().expect("park again");
            let tie = parked.resume(&first, 0).expect("resume at home");
            assert_bytes(here.start(), &shown[pages(2..6)], "resumed");
            tie.untie().expect("untie");
            if covered == Covered::Keep {
                assert_bytes(here.start(), &old, "after all");
                assert_bytes(there.start(), &other, "after all");
                drop((first, second));
                assert_eq!((maps_in(here.arena()), maps_in(there.arena())), before);
            }
        }
    }
}

#[test]
fn a_resumed_alias_is_warm() {
    let pages_of = HUGE / page();
    let region = region(1, 2 * pages_of);
    let (first, second) = (Space::reserve(region.len()), Space::reserve(region.len()));
    let (first, second) = (first.expect("reserve"), second.expect("reserve"));
    for access in ACCESSES {
        let tie = first.tie(0, &region, .., access).expect("tie");
        let all = tie.as_ptr().addr()..tie.as_ptr().addr() + tie.len();
        let cold = faults();
        touch_each_page(all.clone());
        let cold = faults() - cold;
        assert!(cold >= 16, "the first touch of {} pages took {cold} faults", 2 * pages_of);

        let tie = tie.park().expect("park").resume(&second, 0).expect("resume");
        let all = tie.as_ptr().addr()..tie.as_ptr().addr() + tie.len();
        let warm = faults();
        touch_each_page(all);
        let warm = faults() - warm;
        assert!(warm * 8 < cold, "{access:?}: {warm} faults after it was resumed, {cold} before");
        tie.untie().expect("untie");
    }
}

#[test]
fn private_pages_stay_with_the_alias() {
    let region = region(1, 4);
    let space = Space::reserve(16 * page()).expect("reserve");
    let tie = space.tie(0, &region, .., Access::CopyOnWrite).expect("tie");
    write(tie.as_ptr().addr() + page(), b"private");
    // In two mappings now, the second of which has the private page.
    space.protect(pages(1..2), Prot::None).expect("protect");
    let tie = tie.park().expect("park").resume(&space, 8 * page()).expect("resume");
    let mut expected = region_bytes(&region);
    expected[page()..page() + 7].copy_from_slice(b"private");
    assert_bytes(tie.as_ptr().addr(), &expected, "resumed, with the access's own protection");
    write(tie.as_ptr().addr() + 2 * page(), b"and writable");
    assert_bytes(region.as_ptr().addr(), &pattern(1, region.len()), "the region");
}

#[test]
fn protections_of_now_come_back_with_what_was_covered() {
    let memory = Memory::private(8);
    let old = memory.fill(4);
    let (space, region) = (memory.borrow(), region(1, 4));
    let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
    space.protect(pages(1..2), Prot::Read).expect("protect");
    space.protect(pages(2..3), Prot::None).expect("protect");
    let parked = tie.park().expect("park");
    let perms = |n: usize| map_of(memory.pages(n..n + 1).start).perms;
    assert_eq!([perms(0), perms(1), perms(2), perms(3)], ["rw-p", "r--p", "---p", "rw-p"]);
    space.protect(pages(0..8), Prot::ReadWrite).expect("protect");
    assert_bytes(memory.start(), &old, "what was covered");
    let tie = parked.resume(&space, 4 * page()).expect("resume");
    write(tie.as_ptr().addr() + page(), b"writable again");
}

#[test]
fn a_refused_resume_gives_the_alias_back() {
    let (space, region) = (Space::reserve(8 * page()).expect("reserve"), region(1, 4));
    let tie = space.tie(0, &region, .., Access::ReadOnly).expect("tie");
    let parked = tie.park().expect("park");
    let other = space.tie(3 * page(), &region, ..page(), Access::ReadWrite).expect("tie");

    let refused = parked.resume(&space, 0).expect_err("over a live tie");
    assert_eq!(refused.error.kind(), ErrorKind::Overlap);
    assert_eq!(refused.error.other_range(), Some(pages(3..4)));
    assert!(refused.to_string().starts_with("resume: "), "{refused}");
    let refused = refused.parked.resume(&space, 1).expect_err("inside a page");
    assert_eq!(refused.error.kind(), ErrorKind::Misaligned);
    let refused = refused.parked.resume(&space, 6 * page()).expect_err("past the end");
    assert_eq!(refused.error.kind(), ErrorKind::OutOfRange);
    let tie = refused.parked.resume(&space, 4 * page()).expect("beside it");
    assert_bytes(tie.as_ptr().addr(), &region_bytes(&region), "resumed after all");
    drop(other);
}

#[test]
fn a_tie_that_cannot_be_parked_comes_back() {
    let (memory, region) = (Memory::private(8), region(1, 4));
    let space = memory.borrow();
    let tie = space.tie(0, &region, .., Access::ReadOnly).expect("tie");
    space.untie_all().expect("untie all");
    let refused = tie.park().expect_err("ended");
    assert_eq!(refused.error.kind(), ErrorKind::Ended);
    refused.tie.untie().expect("an ended tie");

    let tie = space.tie(0, &region, .., Access::ReadOnly).expect("tie");
    map(memory.pages(1..2).start, page(), libc::PROT_READ, PRIVATE, None);
    let refused = tie.park().expect_err("somebody else's page in it");
    assert_eq!(refused.error.kind(), ErrorKind::Changed);
    assert!(!refused.tie.is_live());
    assert_zero(memory.pages(1..2), "not touched");
}

#[test]
fn parked_aliases_leave_nothing_behind() {
    alone(|| {
        let (memory, region) = (Memory::private(64), region(1, 32));
        let space = memory.borrow();
        let round = |n: usize| {
            let how = TieOptions::new(ACCESSES[n % 3]).prefault(Prefault::Populate);
            let tie = space.tie(n % 8 * page(), &region, .., how).expect("tie");
            let parked = tie.park().expect("park");
            if n % 2 == 0 {
                parked.resume(&space, 32 * page()).expect("resume").untie().expect("untie");
            }
        };
        (0..8).for_each(round);
        let before = maps().len();
        (0..100).for_each(round);
        assert_eq!(maps().len(), before);
    });
}

#[test]
fn a_parked_alias_outlives_its_space_and_holds_its_region() {
    let there = Space::reserve(8 * page()).expect("reserve");
    let parked = {
        let (space, region) = (Space::reserve(8 * page()).expect("reserve"), region(5, 4));
        space.tie(0, &region, pages(1..3), Access::ReadWrite).expect("tie").park().expect("park")
    };
    let tie = parked.resume(&there, 0).expect("resume");
    assert_bytes(tie.as_ptr().addr(), &pattern(5, 4 * page())[pages(1..3)], "the region's pages");
}

#[test]
fn aliases_of_huge_pages_are_parked_too() {
    let region = Region::builder().huge_pages(HugePages::Require(HUGE)).build(2 * HUGE);
    let region = match region {
        Err(error) => return skip(format_args!("aliases of huge pages: {error}")),
        Ok(region) => region,
    };
    region.write_at(HUGE, b"huge").expect("write");
    let space = Space::reserve(4 * HUGE).expect("reserve");
    let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
    let tie = tie.park().expect("park").resume(&space, 2 * HUGE).expect("resume");
    assert_bytes(tie.as_ptr().addr() + HUGE, b"huge", "resumed");
    write(tie.as_ptr().addr(), b"shared");
    assert_eq!(&region_bytes(&region)[..6], b"shared");
    tie.untie().expect("untie");
}

#[test]
fn locked_memory_is_locked_again_and_parked_pages_are_not() {
    alone(|| {
        let memory = Memory::private(8);
        memory.fill(1);
        if let Err(error) = mlock(memory.pages(0..4)) {
            return skip(format_args!("parking over locked memory: mlock: {error}"));
        }
        let (space, region) = (memory.borrow(), region(1, 4));
        let before = locked();
        let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
        mlock(memory.pages(0..4)).expect("lock the alias, as an engine might");
        let parked = tie.park().expect("park");
        assert_eq!(flagged(memory.pages(0..5), "lo"), [true, true, true, true, false]);
        assert_eq!(locked(), before, "what was covered is locked, and the parked pages are not");
        drop(parked);
        assert_eq!(locked(), before);
    });
}

#[test]
fn at_the_mapping_limit_a_tie_is_parked_or_stays() {
    alone(|| {
        let memory = Memory::private(16);
        let old = memory.fill(1);
        let (space, region) = (memory.borrow(), region(2, 8));
        let tie = space.tie(0, &region, pages(0..4), Access::CopyOnWrite).expect("tie");
        write(memory.start() + page(), b"private");
        let mut expected = region_bytes(&region)[pages(0..4)].to_vec();
        expected[page()..page() + 7].copy_from_slice(b"private");
        let Some(full) = Filler::full() else { return };
        let shown = match tie.park() {
            // What it covered is back without a free mapping, and the alias is whole.
            Ok(parked) => {
                assert_bytes(memory.start(), &old, "parked");
                drop(full);
                parked.resume(&space, 8 * page()).expect("resume")
            }
            Err(refused) => {
                assert_eq!(refused.error.kind(), ErrorKind::Limit, "{refused}");
                drop(full);
                refused.tie
            }
        };
        assert_bytes(shown.as_ptr().addr(), &expected, "the alias, with its private page");
        shown.untie().expect("untie");
        assert_bytes(memory.start(), &old, "afterwards");
    });
}
