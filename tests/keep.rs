//! What a tie covers comes back.
//!
//! Memory of every kind an engine may have mapped is covered by a tie and uncovered again; then
//! bytes, protections, locks, residency and the mappings of the whole process must be what they
//! were, apart from what the engine changed meanwhile. `Covered::Discard` leaves zero pages that
//! are one mapping with their neighbours.

#![allow(unsafe_code, reason = "tests map and unmap memory of their own, as an engine would")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "what is watched is a list of ranges, of one sometimes"
)]

mod common;

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use common::*;
use libc::{PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{Access, Covered, Prot, Region, Space, Tie, TieOptions};

/// The four ways a tie ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Untie,
    Drop,
    UntieAll,
    SpaceDropped,
}

const ENDS: [End; 4] = [End::Untie, End::Drop, End::UntieAll, End::SpaceDropped];

impl End {
    fn end(self, space: Space, tie: Tie) {
        match self {
            End::Untie => tie.untie().expect("untie"),
            End::Drop => drop(tie),
            End::UntieAll => {
                space.untie_all().expect("untie_all");
                assert!(!tie.is_live());
            }
            End::SpaceDropped => {
                drop(space);
                assert!(!tie.is_live());
            }
        }
    }
}

/// One page, sixteen, 4 MiB at an address that is congruent with neither the region nor a huge
/// page, and everything: ranges of a memory of [`room`] pages.
fn sizes() -> [Range<usize>; 4] {
    let four_mib = 2 * HUGE / page();
    [5..6, 3..19, 7..7 + four_mib, 0..room()]
}

fn room() -> usize {
    2 * HUGE / page() + 32
}

/// Covers pages of `mem` once for each access and each way to end, and looks at everything.
#[track_caller]
fn comes_back(mem: &Memory, covered: Range<usize>, what: &str) {
    let region = region(9, covered.len());
    let at = covered.start * page();
    let expected = region_bytes(&region);
    for (i, end) in ENDS.into_iter().enumerate() {
        let access = ACCESSES[i % ACCESSES.len()];
        // The ballast and the place aside are there as long as a space is, so look without one.
        let before = Picture::take(&[mem.arena()]);
        let resident_before = resident(mem.all());
        let flags_before = flags(mem.arena());
        let space = mem.borrow();
        let tie = space.tie(at, &region, .., access).expect("tie");
        assert_bytes(tie.as_ptr().addr(), &expected, "the region shows");
        if access != Access::ReadOnly {
            poke(tie.as_ptr().addr(), 0x77);
            poke(tie.as_ptr().addr() + tie.len() - 1, 0x78);
            region.write_at(0, &expected[..8]).expect("write back");
            region
                .write_at(expected.len() - 8, &expected[expected.len() - 8..])
                .expect("write back");
        }
        end.end(space, tie);
        let what = format!("{what}: {} pages from page {}, {end:?}", covered.len(), covered.start);
        assert_eq!(resident_before, resident(mem.all()), "{what}: pages in memory");
        before.assert_same(&Picture::take(&[mem.arena()]), &what);
        assert_eq!(flags_before, flags(mem.arena()), "{what}: flags");
    }
}

// ------------------------------------------------------------------------------ kinds of memory

#[test]
fn plain() {
    alone(|| {
        for covered in sizes() {
            let mem = Memory::private(room());
            let bytes = mem.fill(1);
            comes_back(&mem, covered, "plain");
            assert_bytes(mem.start(), &bytes, "plain");
        }
    });
}

#[test]
fn partly_read_only() {
    alone(|| {
        for covered in sizes() {
            let mem = Memory::private(room());
            let bytes = mem.fill(1);
            // A page in each of the ranges, and one across the end of two of them.
            mprotect(mem.pages(5..6), PROT_READ);
            mprotect(mem.pages(18..20), PROT_READ);
            mprotect(mem.pages(room() - 26..room() - 24), PROT_READ);
            comes_back(&mem, covered, "partly read-only");
            mprotect(mem.all(), PROT_READ);
            assert_bytes(mem.start(), &bytes, "partly read-only");
        }
    });
}

#[test]
fn partly_never_touched() {
    alone(|| {
        for covered in sizes() {
            let mem = Memory::private(room());
            let mut expected = vec![0; mem.len()];
            // Every third page has bytes; the others were never there.
            for i in (0..room()).step_by(3) {
                let bytes = pattern(i as u64, page());
                write(mem.pages(i..i + 1).start, &bytes);
                expected[i * page()..(i + 1) * page()].copy_from_slice(&bytes);
            }
            let touched = resident(mem.all());
            let region = region(9, covered.len());
            for end in ENDS {
                let space = mem.borrow();
                let tie = space.tie(covered.start * page(), &region, .., Access::ReadWrite);
                let tie = tie.expect("tie");
                assert_bytes(tie.as_ptr().addr(), &region_bytes(&region), "the region shows");
                end.end(space, tie);
                assert_eq!(resident(mem.all()), touched, "no page appeared, none went");
            }
            assert_bytes(mem.start(), &expected, "partly never touched");
            comes_back(&mem, covered, "partly never touched");
        }
    });
}

#[test]
fn partly_inaccessible() {
    alone(|| {
        for covered in sizes() {
            let mem = Memory::private(room());
            let bytes = mem.fill(1);
            mprotect(mem.pages(4..6), PROT_NONE);
            mprotect(mem.pages(15..room()), PROT_NONE);
            comes_back(&mem, covered, "partly inaccessible");
            mprotect(mem.all(), PROT_READ);
            assert_bytes(mem.start(), &bytes, "behind PROT_NONE");
        }
    });
}

#[test]
fn shared_anonymous() {
    alone(|| {
        for covered in sizes() {
            let mem = Memory::shared(room());
            let bytes = mem.fill(1);
            comes_back(&mem, covered.clone(), "shared anonymous");
            assert_bytes(mem.start(), &bytes, "shared anonymous");

            // It is still the same object: another address of it sees a write.
            let other = another_address(mem.all());
            poke(mem.pages(covered).start, 0x55);
            assert_eq!(read(other.clone()), read(mem.all()));
            unmap(other);
        }
    });
}

/// Maps shared memory a second time.
fn another_address(range: Range<usize>) -> Range<usize> {
    let old = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: an old length of 0 duplicates a shared mapping and changes nothing else.
    let new = unsafe { libc::mremap(old, 0, range.len(), libc::MREMAP_MAYMOVE) };
    assert!(new != libc::MAP_FAILED, "mremap: {}", io::Error::last_os_error());
    new.expose_provenance()..new.addr() + range.len()
}

#[test]
fn shared_file() {
    alone(|| {
        for covered in sizes() {
            let bytes = pattern(1, room() * page());
            let mem = Memory::file(&bytes);
            comes_back(&mem, covered.clone(), "shared file");
            assert_bytes(mem.start(), &bytes, "shared file");

            // What is written to the file while tied is there afterwards, and the other way round.
            let space = mem.borrow();
            let at = covered.start * page();
            let tie = space.tie(at, &region(9, covered.len()), .., Access::ReadWrite).expect("tie");
            mem.file_behind().write_all_at(b"written", at as u64 + 8).expect("write the file");
            assert_bytes(mem.start() + at, &pattern(9, covered.len() * page()), "tied");
            tie.untie().expect("untie");
            assert_eq!(&read(mem.start() + at + 8..mem.start() + at + 16)[..7], b"written");
            poke(mem.start() + at, 0x55);
            let mut byte = [0];
            mem.file_behind().read_exact_at(&mut byte, at as u64).expect("read the file");
            assert_eq!(byte, [0x55]);
        }
    });
}

#[test]
fn image_underneath() {
    alone(|| {
        for covered in sizes() {
            let image = pattern(1, room() * page());
            let mem = Memory::image(&image);
            let mut expected = image.clone();
            // Every other page has private changes.
            for i in (0..room()).step_by(2) {
                let bytes = pattern(100 + i as u64, page());
                write(mem.pages(i..i + 1).start, &bytes);
                expected[i * page()..(i + 1) * page()].copy_from_slice(&bytes);
            }
            // Residency of the file's own pages says nothing about the mapping.
            assert_bytes(mem.start(), &expected, "before");
            comes_back(&mem, covered, "image");
            assert_bytes(mem.start(), &expected, "image with changes");
            madvise(mem.all(), libc::MADV_DONTNEED).expect("DONTNEED");
            assert_bytes(mem.start(), &image, "the image after DONTNEED");
        }
    });
}

#[test]
fn image_dropped_while_tied() {
    // An engine that resets the slot under a tie has broken its promise; what the tie shows is
    // reset, and what was covered comes back as it was covered.
    alone(|| {
        let image = pattern(1, 8 * page());
        let mem = Memory::image(&image);
        write(mem.pages(3..4).start, &pattern(5, page()));
        let space = mem.borrow();
        let tie = space.tie(2 * page(), &region(9, 3), .., Access::CopyOnWrite).expect("tie");
        madvise(mem.all(), libc::MADV_DONTNEED).expect("DONTNEED");
        assert_bytes(tie.as_ptr().addr(), &pattern(9, 3 * page()), "the region");
        tie.untie().expect("untie");
        let mut expected = image;
        expected[3 * page()..4 * page()].copy_from_slice(&pattern(5, page()));
        assert_bytes(mem.start(), &expected, "covered before the reset");
    });
}

#[test]
fn several_mappings_at_once() {
    alone(|| {
        let p = page();
        let mem = Memory::private(24);
        mem.fill(1);
        // Another object every four pages, with protections that change inside and across them.
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        map(mem.pages(4..8).start, 4 * p, PROT_READ | PROT_WRITE, shared, None);
        let file = memfd(&pattern(7, 16 * p));
        let file_shared = libc::MAP_SHARED;
        map_at(
            mem.pages(8..12).start,
            4 * p,
            PROT_READ | PROT_WRITE,
            file_shared,
            Some(&file),
            4 * p,
        );
        let image = libc::MAP_PRIVATE;
        map_at(mem.pages(12..16).start, 4 * p, PROT_READ | PROT_WRITE, image, Some(&file), 8 * p);
        write(mem.pages(4..8).start, &pattern(3, 4 * p));
        write(mem.pages(13..14).start, &pattern(4, p));
        mprotect(mem.pages(2..5), PROT_READ);
        mprotect(mem.pages(7..9), PROT_NONE);
        mprotect(mem.pages(15..18), PROT_NONE);
        for covered in [0..24, 1..23, 3..9, 6..14, 11..19, 14..16] {
            comes_back(&mem, covered, "several mappings");
        }
        mprotect(mem.all(), PROT_READ);
        let mut expected = pattern(1, 24 * p);
        expected[4 * p..8 * p].copy_from_slice(&pattern(3, 4 * p));
        expected[8 * p..16 * p].copy_from_slice(&pattern(7, 16 * p)[4 * p..12 * p]);
        expected[13 * p..14 * p].copy_from_slice(&pattern(4, p));
        assert_bytes(mem.start(), &expected, "several mappings");
        madvise(mem.pages(12..16), libc::MADV_DONTNEED).expect("DONTNEED");
        assert_bytes(mem.pages(12..16).start, &pattern(7, 16 * p)[8 * p..12 * p], "its image");
    });
}

#[test]
fn reserved_space() {
    alone(|| {
        let p = page();
        let space = Space::reserve(16 * p).expect("reserve");
        assert_eq!(space.len(), 16 * p);
        assert_eq!(space.as_ptr().addr() % HUGE, 0, "2 MiB aligned");
        let start = space.as_ptr().addr();
        let all = [start..start + 16 * p];
        assert_eq!(perms(start - p..start + 17 * p), vec!["---p"; 18], "guards on both sides");
        let before = Picture::take(&all);
        let tie = space.tie(4 * p, &region(9, 4), .., Access::ReadWrite).expect("tie");
        tie.untie().expect("untie");
        before.assert_same(&Picture::take(&all), "untouched reservation");

        space.protect(2 * p..10 * p, Prot::ReadWrite).expect("open");
        write(start + 2 * p, &pattern(1, 8 * p));
        let before = Picture::take(&all);
        for (at, pages) in [(0, 16), (1, 4), (2, 8), (5, 1), (8, 6)] {
            let tie = space.tie(at * p, &region(9, pages), .., Access::ReadOnly).expect("tie");
            assert_bytes(start + at * p, &pattern(9, pages * p), "tied");
            tie.untie().expect("untie");
            before.assert_same(&Picture::take(&all), "a used reservation");
        }
        assert_bytes(start + 2 * p, &pattern(1, 8 * p), "a used reservation");
    });
}

// ------------------------------------------------------------------------------ locked memory

/// Locks, or says that this machine does not let it.
fn lock_or_skip(range: Range<usize>) -> bool {
    mlock(range).inspect_err(|e| skip(format_args!("mlock: {e}"))).is_ok()
}

#[test]
fn locked_memory() {
    alone(|| {
        let p = page();
        for (locked_pages, covered) in [
            (0..32, 8..16),  // all, the middle covered
            (0..32, 0..32),  // all, all covered
            (8..16, 8..16),  // exactly what is covered
            (8..16, 4..20),  // inside
            (4..20, 8..16),  // around
            (0..10, 8..16),  // across its start
            (14..32, 8..16), // across its end
            (0..8, 8..16),   // only the neighbours
            (16..32, 8..16),
        ] {
            let mem = Memory::private(32);
            let bytes = mem.fill(1);
            if !lock_or_skip(mem.pages(locked_pages.clone())) {
                return;
            }
            let what = format!("pages {locked_pages:?} locked, {covered:?} covered");
            assert_eq!(locked(), locked_pages.len() * p, "{what}");
            let both = |i: &usize| locked_pages.contains(i) && covered.contains(i);
            let tied_and_locked = (0..32).filter(both).count();

            let region = region(9, covered.len());
            let space = mem.borrow();
            for access in ACCESSES {
                let tie = space.tie(covered.start * p, &region, .., access).expect("tie");
                assert_eq!(
                    locked(),
                    (locked_pages.len() - tied_and_locked) * p,
                    "{what}: while tied, only the tied pages are unlocked"
                );
                let wanted = |i: usize| locked_pages.contains(&i) && !covered.contains(&i);
                assert_eq!(
                    flagged(mem.all(), "lo"),
                    Vec::from_iter((0..32).map(wanted)),
                    "{what}: tied"
                );
                tie.untie().expect("untie");
                assert_eq!(locked(), locked_pages.len() * p, "{what}: untied");
                let wanted = |i: usize| locked_pages.contains(&i);
                assert_eq!(
                    flagged(mem.all(), "lo"),
                    Vec::from_iter((0..32).map(wanted)),
                    "{what}: untied"
                );
                assert_bytes(mem.start(), &bytes, &what);
            }
            drop(space);
            comes_back(&mem, covered, &what);
            drop(mem);
            assert_eq!(locked(), 0, "{what}: unmapped");
        }
    });
}

#[test]
fn locked_kinds() {
    alone(|| {
        let p = page();
        for mem in [
            Memory::shared(16),
            Memory::file(&pattern(1, 16 * p)),
            Memory::image(&pattern(1, 16 * p)),
        ] {
            let bytes = mem.fill(1);
            if !lock_or_skip(mem.pages(2..12)) {
                return;
            }
            comes_back(&mem, 4..8, "locked");
            comes_back(&mem, 0..16, "locked, partly");
            assert_bytes(mem.start(), &bytes, "locked");
        }
    });
}

#[test]
fn locked_and_several_protections() {
    alone(|| {
        let mem = Memory::private(16);
        let bytes = mem.fill(1);
        if !lock_or_skip(mem.pages(0..16)) {
            return;
        }
        mprotect(mem.pages(3..6), PROT_READ);
        mprotect(mem.pages(8..9), PROT_NONE);
        for covered in [2..10, 4..5, 8..9, 0..16] {
            comes_back(&mem, covered, "locked, several protections");
        }
        mprotect(mem.all(), PROT_READ);
        assert_bytes(mem.start(), &bytes, "locked, several protections");
    });
}

#[test]
fn locked_memory_discarded() {
    alone(|| {
        let p = page();
        for (what, mem) in [
            ("private", Memory::private(16)),
            ("accounted", Memory::accounted(16)),
            ("moved", Memory::moved(16)),
            ("shared", Memory::shared(16)),
            ("image", Memory::image(&pattern(3, 16 * p))),
        ] {
            let mut bytes = mem.fill(1);
            if !lock_or_skip(mem.all()) {
                return;
            }
            let space = mem.borrow();
            for first in [4, 4, 9] {
                let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);
                let tie = space.tie(first * p, &region(9, 4), .., how).expect("tie");
                let untied = |i: usize| !(first..first + 4).contains(&i);
                let wanted = Vec::from_iter((0..16).map(untied));
                assert_eq!(flagged(mem.all(), "lo"), wanted, "{what}: while tied");
                assert_eq!(locked(), 12 * p, "{what}: while tied");
                tie.untie().expect("untie");
                bytes[first * p..(first + 4) * p].fill(0);
                assert_bytes(mem.start(), &bytes, format_args!("{what}: zeros"));
                assert_eq!(flagged(mem.all(), "lo"), [true; 16], "{what}: locked again");
                assert_eq!(locked(), 16 * p, "{what}");
                assert_eq!(resident(mem.all()), [true; 16], "{what}: in memory");
            }
            drop(space);
            drop(mem);
            assert_eq!(locked(), 0, "{what}: the count is not corrupted");
        }
    });
}

#[test]
fn lock_on_fault_becomes_a_full_lock() {
    alone(|| {
        let mem = Memory::private(8);
        write(mem.start(), &pattern(1, page()));
        let at = std::ptr::with_exposed_provenance(mem.start());
        // SAFETY: locking changes no byte.
        if unsafe {
            libc::mlock2(at, mem.len(), 1 /* MLOCK_ONFAULT */)
        } != 0
        {
            return skip(format_args!("mlock2: {}", io::Error::last_os_error()));
        }
        let space = mem.borrow();
        let tie = space.tie(0, &region(9, 4), .., Access::ReadWrite).expect("tie");
        tie.untie().expect("untie");
        assert!(has_flag(mem.start(), "lo"), "locked again");
        assert_eq!(locked(), mem.len());
        assert_eq!(resident(mem.pages(0..4)), [true; 4], "a full lock brings the pages in");
        assert_eq!(resident(mem.pages(4..8)), [false; 4], "the neighbours were left alone");
        assert_bytes(mem.start(), &pattern(1, page()), "the page that was touched");
        assert_zero(mem.pages(1..8), "the others");
    });
}

// ------------------------------------------------------------------------------ protections

const RW: &str = "rw-p";
const RO: &str = "r--p";
const NONE: &str = "---p";

#[test]
fn protection_changed_by_the_engine_while_tied() {
    alone(|| {
        let p = page();
        for covered in [Covered::Keep, Covered::Discard] {
            for access in ACCESSES {
                let mem = Memory::private(16);
                let mut expected = mem.fill(1);
                let space = mem.borrow();
                let how = TieOptions::new(access).covered(covered);
                let tie = space.tie(4 * p, &region(9, 8), .., how).expect("tie");
                let (left, other) = match access {
                    Access::ReadOnly => (RO, PROT_READ | PROT_WRITE),
                    _ => (RW, PROT_READ),
                };
                let changed = if access == Access::ReadOnly { RW } else { RO };
                assert_eq!(
                    perms(mem.pages(4..12)).iter().filter(|s| s[..2] == left[..2]).count(),
                    8
                );
                mprotect(mem.pages(5..7), other);
                mprotect(mem.pages(9..10), PROT_NONE);
                tie.untie().expect("untie");
                let found = perms(mem.all());
                let mut wanted = [RW; 16];
                wanted[5..7].fill(changed);
                wanted[9] = NONE;
                assert_eq!(found, wanted, "{covered:?}, {access:?}: protections of now");
                if covered == Covered::Discard {
                    expected[4 * p..12 * p].fill(0);
                }
                mprotect(mem.all(), PROT_READ);
                assert_bytes(mem.start(), &expected, format_args!("{covered:?}, {access:?}"));
            }
        }
    });
}

#[test]
fn memory_grown_by_the_engine_while_tied() {
    // V8 re-protects the whole memory read-write when it grows, tied pages and all.
    alone(|| {
        let p = page();
        for covered in [Covered::Keep, Covered::Discard] {
            let mem = Memory::private(16);
            let mut expected = mem.fill(1);
            mprotect(mem.pages(8..16), PROT_NONE);
            let space = mem.borrow();
            let how = TieOptions::new(Access::ReadOnly).covered(covered);
            let tie = space.tie(6 * p, &region(9, 4), .., how).expect("tie");
            mprotect(mem.pages(0..12), PROT_READ | PROT_WRITE);
            tie.untie().expect("untie");
            let mut wanted = [RW; 16];
            wanted[12..].fill(NONE);
            assert_eq!(perms(mem.all()), wanted, "{covered:?}");
            if covered == Covered::Discard {
                expected[6 * p..10 * p].fill(0);
            }
            mprotect(mem.all(), PROT_READ);
            assert_bytes(mem.start(), &expected, format_args!("{covered:?}"));
        }
    });
}

#[test]
fn protection_changed_by_us_while_tied() {
    alone(|| {
        let p = page();
        for covered in [Covered::Keep, Covered::Discard] {
            let mem = Memory::private(16);
            mem.fill(1);
            mprotect(mem.pages(10..12), PROT_NONE);
            let space = mem.borrow();
            let how = TieOptions::new(Access::ReadWrite).covered(covered);
            let tie = space.tie(4 * p, &region(9, 8), .., how).expect("tie");
            space.protect(3 * p..6 * p, Prot::Read).expect("protect");
            space.protect(8 * p..9 * p, Prot::None).expect("protect");
            space.protect(11 * p..13 * p, Prot::Read).expect("protect");
            tie.untie().expect("untie");
            let mut wanted = [RW; 16];
            wanted[3..6].fill(RO);
            wanted[8] = NONE;
            wanted[10] = NONE;
            wanted[11..13].fill(RO);
            assert_eq!(perms(mem.all()), wanted, "{covered:?}");
        }
    });
}

#[test]
fn a_change_to_the_protection_of_the_tie_leaves_no_trace() {
    // The kernel cannot tell an engine's mprotect to the very protection the tie has, so what was
    // covered returns.
    alone(|| {
        let p = page();
        let mem = Memory::private(8);
        mem.fill(1);
        mprotect(mem.all(), PROT_NONE);
        let space = mem.borrow();
        let tie = space.tie(2 * p, &region(9, 4), .., Access::ReadWrite).expect("tie");
        mprotect(mem.pages(2..6), PROT_READ | PROT_WRITE);
        tie.untie().expect("untie");
        assert_eq!(perms(mem.all()), [NONE; 8]);
    });
}

#[test]
fn protections_over_several_mappings() {
    alone(|| {
        let p = page();
        for covered in [Covered::Keep, Covered::Discard] {
            let mem = Memory::private(16);
            let mut expected = mem.fill(1);
            mprotect(mem.pages(4..6), PROT_READ);
            mprotect(mem.pages(8..10), PROT_NONE);
            mprotect(mem.pages(11..14), PROT_READ);
            let space = mem.borrow();
            let how = TieOptions::new(Access::ReadWrite).covered(covered);
            let mut wanted = perms(mem.all());
            for _ in 0..3 {
                let tie = space.tie(3 * p, &region(9, 10), .., how).expect("tie");
                assert!(perms(mem.pages(3..13)).iter().all(|s| s == "rw-s"), "one protection");
                tie.untie().expect("untie");
                assert_eq!(perms(mem.all()), wanted, "{covered:?}: as covered");
            }

            // Pages the engine changed come back with the protection of now, the others with the
            // covered one, whatever lies under them.
            let tie = space.tie(3 * p, &region(9, 10), .., how).expect("tie");
            mprotect(mem.pages(5..9), PROT_READ);
            mprotect(mem.pages(11..12), PROT_NONE);
            tie.untie().expect("untie");
            wanted[5..9].fill(RO.to_owned());
            wanted[11] = NONE.to_owned();
            assert_eq!(perms(mem.all()), wanted, "{covered:?}: as covered and as changed");
            if covered == Covered::Discard {
                expected[3 * p..13 * p].fill(0);
            }
            mprotect(mem.all(), PROT_READ);
            assert_bytes(mem.start(), &expected, format_args!("{covered:?}"));
        }
    });
}

#[test]
fn protection_of_now_on_an_image_and_on_shared_memory() {
    alone(|| {
        let p = page();
        for (mem, kind) in [
            (Memory::image(&pattern(1, 8 * p)), 'p'),
            (Memory::shared(8), 's'),
            (Memory::file(&pattern(1, 8 * p)), 's'),
        ] {
            let bytes = mem.fill(3);
            let space = mem.borrow();
            let tie = space.tie(p, &region(9, 6), .., Access::ReadWrite).expect("tie");
            mprotect(mem.pages(2..4), PROT_READ);
            mprotect(mem.pages(5..6), PROT_NONE);
            tie.untie().expect("untie");
            let wanted = ["rw-", "rw-", "r--", "r--", "rw-", "---", "rw-", "rw-"];
            assert_eq!(perms(mem.all()), wanted.map(|w| format!("{w}{kind}")));
            mprotect(mem.all(), PROT_READ);
            assert_bytes(mem.start(), &bytes, "bytes");
        }
    });
}

// ------------------------------------------------------------------------------ retie, order, repetition

#[test]
fn retie_keeps_what_is_covered() {
    alone(|| {
        let p = page();
        for access in ACCESSES {
            let mem = Memory::private(16);
            mem.fill(1);
            let (a, b) = (region(8, 16), region(9, 16));
            let space = mem.borrow();
            let before = Picture::take(&[mem.arena()]);
            let mut tie = space.tie(4 * p, &a, ..8 * p, access).expect("tie");
            for (region, seed, offset) in [(&a, 8, 8), (&b, 9, 0), (&b, 9, 3), (&a, 8, 1)] {
                space.protect(5 * p..6 * p, Prot::None).expect("protect");
                tie.retie(region, offset * p).expect("retie");
                assert_eq!(tie.offset(), offset * p);
                let expected = &pattern(seed, 16 * p)[offset * p..(offset + 8) * p];
                assert_bytes(tie.as_ptr().addr(), expected, "the access's own protection is back");
            }
            tie.untie().expect("untie");
            before.assert_same(&Picture::take(&[mem.arena()]), "after reties");
        }
    });
}

#[test]
fn neighbours_untied_in_any_order() {
    alone(|| {
        let p = page();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mem = Memory::private(16);
            let bytes = mem.fill(1);
            mprotect(mem.pages(5..6), PROT_READ);
            let region = region(9, 8);
            let space = mem.borrow();
            let before = Picture::take(&[mem.arena()]);
            let tied = |i: usize| (2 + 3 * i)..(5 + 3 * i);
            let mut ties: Vec<Option<Tie>> = (0..3)
                .map(|i| {
                    space.tie(tied(i).start * p, &region, i * p..(i + 3) * p, Access::ReadWrite)
                })
                .map(|tie| Some(tie.expect("tie")))
                .collect();
            for i in order {
                ties[i].take().expect("still tied").untie().expect("untie");
                let back = tied(i).start * p..tied(i).end * p;
                assert_bytes(mem.start() + back.start, &bytes[back], "one of three");
            }
            before.assert_same(&Picture::take(&[mem.arena()]), format_args!("{order:?}"));
        }
    });
}

#[test]
fn ties_overtaken_by_other_ties() {
    // Untied pages are tied again at other bounds, while neighbours stay tied.
    alone(|| {
        let p = page();
        let mem = Memory::private(32);
        mem.fill(1);
        let region = region(9, 32);
        let space = mem.borrow();
        let before = Picture::take(&[mem.arena()]);
        let stays = space.tie(10 * p, &region, ..2 * p, Access::ReadWrite).expect("tie");
        for (first, end) in [(0, 10), (2, 5), (4, 10), (12, 30), (12, 13), (14, 32), (20, 22)] {
            let tie = space.tie(first * p, &region, first * p..end * p, Access::CopyOnWrite);
            let tie = tie.expect("tie");
            poke(tie.as_ptr().addr(), 0x11);
            tie.untie().expect("untie");
        }
        stays.untie().expect("untie");
        before.assert_same(&Picture::take(&[mem.arena()]), "all untied");
    });
}

#[test]
fn nothing_piles_up() {
    alone(|| {
        let p = page();
        let mem = Memory::private(64);
        mem.fill(1);
        let region = region(9, 64);
        let space = mem.borrow();
        let before = Picture::take(&[mem.arena()]);
        let open = descriptors();
        for i in 0..300 {
            let pages = [1, 16, 64, 3][i % 4];
            let first = (i * 7) % (65 - pages);
            let tie = space.tie(first * p, &region, ..pages * p, ACCESSES[i % 3]).expect("tie");
            peek(tie.as_ptr().addr());
            if i % 2 == 0 { tie.untie().expect("untie") } else { drop(tie) }
        }
        before.assert_same(&Picture::take(&[mem.arena()]), "after 300 ties");
        assert_eq!(descriptors(), open, "open descriptors");
    });
}

// ------------------------------------------------------------------------------ Covered::Discard

fn discarding(access: Access) -> TieOptions {
    TieOptions::new(access).covered(Covered::Discard)
}

#[test]
fn discard_leaves_zeros() {
    alone(|| {
        for (what, make) in [
            ("without reserve", Memory::private as fn(usize) -> Memory),
            ("accounted", Memory::accounted),
        ] {
            for covered in sizes() {
                let mem = make(room());
                let space = mem.borrow();
                let region = region(9, covered.len());
                for access in ACCESSES {
                    let mut expected = mem.fill(1);
                    let before = maps().len();
                    let lines = maps_in(mem.arena());
                    let at = covered.start * page();
                    let tie = space.tie(at, &region, .., discarding(access)).expect("tie");
                    assert_bytes(tie.as_ptr().addr(), &region_bytes(&region), "tied");
                    tie.untie().expect("untie");
                    expected[at..at + covered.len() * page()].fill(0);
                    assert_bytes(mem.start(), &expected, format_args!("{what}: {covered:?}"));
                    let now = maps_in(mem.arena());
                    assert_eq!(now, lines, "{what}, {covered:?}: one with its neighbours");
                    assert_eq!(maps().len(), before, "{what}, {covered:?}: number of mappings");
                }
            }
        }
    });
}

#[test]
fn discard_brings_the_protection_back() {
    alone(|| {
        let p = page();
        let mem = Memory::private(16);
        let mut expected = mem.fill(1);
        mprotect(mem.pages(4..7), PROT_READ);
        mprotect(mem.pages(9..12), PROT_NONE);
        let space = mem.borrow();
        let (wanted, lines) = (perms(mem.all()), maps_in(mem.arena()));
        for (first, end) in [(5, 6), (9, 11), (2, 10), (0, 16)] {
            let region = region(9, end - first);
            let tie =
                space.tie(first * p, &region, .., discarding(Access::ReadWrite)).expect("tie");
            tie.untie().expect("untie");
            assert_eq!(perms(mem.all()), wanted, "pages {first}..{end}");
            assert_eq!(maps_in(mem.arena()), lines, "pages {first}..{end}: mappings");
            expected[first * p..end * p].fill(0);
        }
        mprotect(mem.all(), PROT_READ);
        assert_bytes(mem.start(), &expected, "zeros");
    });
}

#[test]
fn discard_in_a_reserved_space() {
    alone(|| {
        let p = page();
        let space = Space::reserve(16 * p).expect("reserve");
        let start = space.as_ptr().addr();
        let region = region(9, 4);
        for opened in [false, true] {
            if opened {
                space.protect(.., Prot::ReadWrite).expect("open");
                write(start, &pattern(1, 16 * p));
            }
            let before = maps();
            for at in [0, 5, 12] {
                let tie =
                    space.tie(at * p, &region, .., discarding(Access::ReadWrite)).expect("tie");
                tie.untie().expect("untie");
                assert_eq!(maps().len(), before.len(), "number of mappings");
            }
        }
        let mut expected = pattern(1, 16 * p);
        for at in [0, 5, 12] {
            expected[at * p..(at + 4) * p].fill(0);
        }
        assert_bytes(start, &expected, "zeros where a tie was");
    });
}

/// The first tie finds out how zero pages become one mapping with their neighbours; from then on
/// none is added.
#[track_caller]
fn merges_from_the_second_time(mem: &Memory, what: &str) {
    let p = page();
    mem.fill(1);
    let space = mem.borrow();
    let region = region(9, 4);
    let mut counts = Vec::new();
    for first in [4, 4, 20, 40, 20, 60] {
        let tie = space.tie(first * p, &region, .., discarding(Access::ReadWrite)).expect("tie");
        tie.untie().expect("untie");
        assert_zero(mem.pages(first..first + 4), what);
        counts.push(maps_in(mem.arena()).len());
    }
    // Two guards and the memory; the first tie may have left a piece of its own.
    assert!(counts[0] <= 5, "{what}: {counts:?}");
    assert!(counts[1..].iter().all(|c| *c <= counts[0]), "{what}: {counts:?}");
}

#[test]
fn discard_merges_with_memory_that_has_advice() {
    alone(|| {
        for (name, advice) in
            [("hugepage", libc::MADV_HUGEPAGE), ("nohugepage", libc::MADV_NOHUGEPAGE)]
        {
            for make in [Memory::private as fn(usize) -> Memory, Memory::accounted] {
                let mem = make(64);
                if let Err(error) = madvise(mem.all(), advice) {
                    return skip(format_args!("madvise {name}: {error}"));
                }
                merges_from_the_second_time(&mem, name);
            }
        }
    });
}

#[test]
fn discard_merges_with_named_memory() {
    alone(|| {
        for make in [Memory::private as fn(usize) -> Memory, Memory::accounted] {
            let mem = make(64);
            if let Err(error) = name_memory(&mem, c"an engine's memory") {
                return skip(format_args!("PR_SET_VMA_ANON_NAME: {error}"));
            }
            merges_from_the_second_time(&mem, "named");
        }
    });
}

#[test]
fn memory_that_was_moved() {
    alone(|| {
        merges_from_the_second_time(&Memory::moved(64), "moved");
        for covered in [4..8, 0..64] {
            let mem = Memory::moved(64);
            comes_back(&mem, covered, "moved");
            assert_bytes(mem.start(), &pattern(1, mem.len()), "moved");
        }
    });
}

fn name_memory(mem: &Memory, name: &CStr) -> io::Result<()> {
    let (start, len) = (mem.start(), mem.len());
    // SAFETY: the name is a C string, and naming memory changes no byte.
    let rc = unsafe {
        libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, start, len, name.as_ptr())
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn keep_of_memory_that_has_advice_or_a_name() {
    alone(|| {
        for covered in [3..5, 0..16, 8..16] {
            let mem = Memory::private(16);
            mem.fill(1);
            madvise(mem.pages(4..12), libc::MADV_SEQUENTIAL).expect("advice");
            madvise(mem.pages(6..8), libc::MADV_DONTDUMP).expect("advice");
            comes_back(&mem, covered, "advised");
        }
        let mem = Memory::private(16);
        mem.fill(1);
        match name_memory(&mem, c"an engine's memory") {
            Ok(()) => comes_back(&mem, 4..8, "named"),
            Err(error) => skip(format_args!("PR_SET_VMA_ANON_NAME: {error}")),
        }
    });
}

/// What happens to the bytes is told apart: a tie that keeps and one that discards, side by side.
#[test]
fn kept_and_discarded_side_by_side() {
    alone(|| {
        let p = page();
        let mem = Memory::private(16);
        let mut expected = mem.fill(1);
        let region: Region = region(9, 8);
        let space = mem.borrow();
        let kept = space.tie(2 * p, &region, ..3 * p, Access::ReadWrite).expect("tie");
        let gone = space.tie(5 * p, &region, 3 * p..6 * p, discarding(Access::ReadWrite));
        let gone = gone.expect("tie");
        drop(gone);
        expected[5 * p..8 * p].fill(0);
        assert_bytes(mem.pages(5..16).start, &expected[5 * p..], "one gone");
        drop(kept);
        assert_bytes(mem.start(), &expected, "both gone");
    });
}
