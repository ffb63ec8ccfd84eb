//! Handles: who may be dropped when, and what a tie does once its memory is somebody else's.
//!
//! An engine that unmaps or recycles memory under a tie has broken its promise; pagetie then
//! touches nothing, says `Changed`, and keeps on its list what still shows the host's pages.

#![allow(unsafe_code, reason = "tests map and unmap memory of their own, as an engine would")]

mod common;

use std::error::Error as _;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::thread;

use common::*;
use libc::{PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{
    Access, Covered, Error, ErrorKind, Region, RegionBuilder, Space, Tie, TieInfo, TieOptions,
    TieSpec, UntieError,
};

const RW: i32 = PROT_READ | PROT_WRITE;

// ------------------------------------------------------------------------------ memory of somebody else

/// What somebody else put where pages were tied.
#[derive(Clone, Copy, Debug)]
enum Reuse {
    Nothing,
    Anonymous,
    Reservation,
    OtherFile,
    OtherPages,
    PrivateCopy,
}

const REUSES: [Reuse; 6] = [
    Reuse::Nothing,
    Reuse::Anonymous,
    Reuse::Reservation,
    Reuse::OtherFile,
    Reuse::OtherPages,
    Reuse::PrivateCopy,
];

impl Reuse {
    /// Maps over `range`, of which `region` was shown read-write from its first page on.
    fn happen(self, range: Range<usize>, region: &Region) {
        let (start, len) = (range.start, range.len());
        let fd = || {
            let fd = region.fd().expect("a descriptor").try_clone_to_owned().expect("dup");
            std::fs::File::from(fd)
        };
        unmap(range.clone());
        match self {
            Reuse::Nothing => return,
            Reuse::Anonymous => {
                map(start, len, RW, PRIVATE, None);
                write(start, &pattern(77, len));
            }
            Reuse::Reservation => {
                map(start, len, PROT_NONE, PRIVATE, None);
            }
            Reuse::OtherFile => {
                let file = memfd(&pattern(78, len));
                map(start, len, RW, libc::MAP_SHARED, Some(&file));
            }
            // The same object, a page further.
            Reuse::OtherPages => {
                map_at(start, len, RW, libc::MAP_SHARED, Some(&fd()), page());
            }
            // The same pages, not shared.
            Reuse::PrivateCopy => {
                map(start, len, RW, libc::MAP_PRIVATE, Some(&fd()));
                poke(start, 0x42);
            }
        }
        assert!(!maps_in(range).is_empty());
    }

    /// Puts something back where nothing is, so that the memory is one range again.
    fn clear(range: Range<usize>) {
        map(range.start, range.len(), RW, PRIVATE, None);
    }
}

/// The kernel's account of an arena and the bytes there, whatever else the process maps.
fn state(mem: &Memory) -> (Vec<Line>, Vec<Vec<u8>>) {
    let lines = maps_in(mem.arena());
    let readable = lines.iter().filter(|l| l.perms.starts_with('r'));
    let bytes = readable.map(|l| read(l.range.start..l.range.end)).collect();
    (lines, bytes)
}

fn options(covered: Covered) -> TieOptions {
    TieOptions::new(Access::ReadWrite).covered(covered)
}

#[test]
fn untie_of_reused_memory() {
    alone(|| {
        let p = page();
        for reuse in REUSES {
            for covered in [Covered::Keep, Covered::Discard] {
                let mem = Memory::private(16);
                mem.fill(1);
                let region = region(2, 8);
                let space = mem.borrow();
                let tie = space.tie(4 * p, &region, ..4 * p, options(covered)).expect("tie");
                reuse.happen(mem.pages(4..8), &region);
                let before = state(&mem);
                let UntieError { error, tie } = tie.untie().expect_err("somebody else's memory");
                assert_eq!(error.kind(), ErrorKind::Changed, "{reuse:?}: {error}");
                assert_eq!(error.range(), Some(4 * p..8 * p), "{error}");
                let text = error.to_string();
                assert!(!text.contains('\n') && text.contains(&format!("{:#x}", 4 * p)), "{text}");
                assert_eq!(before, state(&mem), "{reuse:?}, {covered:?}: nothing was touched");
                assert_eq!(region_bytes(&region), pattern(2, 8 * p), "the region neither");

                // The tie has ended: untying it again is fine, moving it is not.
                let mut tie = tie;
                assert!(!tie.is_live());
                assert_eq!(tie.retie(&region, 0).expect_err("ended").kind(), ErrorKind::Ended);
                tie.untie().expect("an ended tie");
                assert_eq!(before, state(&mem), "{reuse:?}: still not");
                assert!(space.ties().is_empty(), "{reuse:?}: {:?}", space.ties());
                space.untie_all().expect("no page of ours is left");
                Reuse::clear(mem.pages(4..8));
            }
        }
    });
}

#[test]
fn drop_over_reused_memory() {
    alone(|| {
        let p = page();
        for reuse in REUSES {
            for covered in [Covered::Keep, Covered::Discard] {
                for with_space in [false, true] {
                    let mem = Memory::private(16);
                    mem.fill(1);
                    let region = region(2, 8);
                    let space = mem.borrow();
                    let tie = space.tie(4 * p, &region, ..4 * p, options(covered)).expect("tie");
                    reuse.happen(mem.pages(4..8), &region);
                    let before = state(&mem);
                    if with_space {
                        drop(space);
                        assert!(!tie.is_live());
                    }
                    drop(tie);
                    assert_eq!(before, state(&mem), "{reuse:?}, {covered:?}: nothing was touched");
                    Reuse::clear(mem.pages(4..8));
                }
            }
        }
    });
}

#[test]
fn retie_of_reused_memory() {
    alone(|| {
        let p = page();
        for reuse in REUSES {
            let mem = Memory::private(16);
            mem.fill(1);
            let region = region(2, 8);
            let space = mem.borrow();
            let mut tie = space.tie(4 * p, &region, ..4 * p, Access::ReadWrite).expect("tie");
            reuse.happen(mem.pages(4..8), &region);
            let before = state(&mem);
            let error = tie.retie(&region, 2 * p).expect_err("somebody else's memory");
            assert_eq!(error.kind(), ErrorKind::Changed, "{reuse:?}: {error}");
            assert_eq!(before, state(&mem), "{reuse:?}: nothing was touched");
            assert!(!tie.is_live());
            assert_eq!(tie.retie(&region, 2 * p).expect_err("ended").kind(), ErrorKind::Ended);
            tie.untie().expect("an ended tie");
            assert_eq!(before, state(&mem), "{reuse:?}: still not");
            Reuse::clear(mem.pages(4..8));
        }
    });
}

#[test]
fn all_of_the_memory_gone() {
    alone(|| {
        let p = page();
        let mem = Memory::private(16);
        mem.fill(1);
        let region = region(2, 8);
        let space = mem.borrow();
        let ties: Vec<Tie> = [(0, 2), (4, 8), (12, 4)]
            .map(|(at, pages)| space.tie(at * p, &region, ..pages * p, Access::ReadWrite))
            .into_iter()
            .map(|tie| tie.expect("tie"))
            .collect();
        unmap(mem.all());
        let start = map(mem.start(), mem.len(), RW, PRIVATE, None);
        write(start, &pattern(50, mem.len()));
        let error = space.untie_all().expect_err("all of it is somebody else's");
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert_bytes(start, &pattern(50, mem.len()), "nothing was touched");
        assert!(ties.iter().all(|tie| !tie.is_live()));
        space.untie_all().expect("nothing of ours is left");
        drop((space, ties));
        assert_bytes(start, &pattern(50, mem.len()), "nothing was touched");
    });
}

#[test]
fn protection_alone_is_no_change() {
    let p = page();
    let mem = Memory::private(16);
    let bytes = mem.fill(1);
    let region = region(2, 8);
    let space = mem.borrow();
    let mut tie = space.tie(4 * p, &region, ..4 * p, Access::ReadWrite).expect("tie");
    mprotect(mem.pages(5..6), PROT_NONE);
    mprotect(mem.pages(6..8), PROT_READ);
    tie.retie(&region, 4 * p).expect("retie");
    mprotect(mem.pages(4..7), PROT_READ);
    tie.untie().expect("untie");
    mprotect(mem.all(), RW);
    assert_bytes(mem.start(), &bytes, "what was covered");
}

// ------------------------------------------------------------------------------ partly replaced

#[test]
fn partly_replaced_stays_on_the_list() {
    alone(|| {
        let p = page();
        for by_drop in [false, true] {
            for replaced in [4..6, 7..9, 10..12, 5..11] {
                let mem = Memory::private(16);
                let bytes = mem.fill(1);
                let region = region(2, 8);
                let space = mem.borrow();
                let tie = space.tie(4 * p, &region, .., Access::ReadWrite).expect("tie");
                let other = space.tie(14 * p, &region, ..p, Access::ReadOnly).expect("tie");
                map(mem.pages(replaced.clone()).start, replaced.len() * p, RW, PRIVATE, None);
                let before = state(&mem);
                if by_drop {
                    drop(tie);
                } else {
                    let UntieError { error, tie } = tie.untie().expect_err("a part is not ours");
                    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
                    assert!(!tie.is_live());
                }
                assert_eq!(before, state(&mem), "nothing was touched");

                // Its place is still taken, by a record without a handle.
                let listed = space.ties();
                assert_eq!(listed.len(), 2, "{listed:?}");
                let TieInfo { at, len, offset, held, .. } = listed[0];
                assert_eq!((at, len, offset, held), (4 * p, 8 * p, 0, false));
                assert!(listed[1].held);
                let error = space.tie(11 * p, &region, ..2 * p, Access::ReadWrite);
                let error = error.expect_err("its last page");
                assert_eq!(error.kind(), ErrorKind::Overlap);
                assert_eq!(error.other_range(), Some(4 * p..12 * p));

                // All others end, and this one is said, as often as it is asked.
                for _ in 0..2 {
                    let error = space.untie_all().expect_err("pages of ours are left");
                    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
                    assert_eq!(error.range(), Some(4 * p..12 * p), "{error}");
                    assert!(!other.is_live());
                    assert_bytes(mem.pages(12..16).start, &bytes[12 * p..], "the other one");
                    assert_eq!(space.ties().len(), 1);
                }

                // Half of what is left is replaced too: not enough.
                map(mem.pages(4..8).start, 4 * p, RW, PRIVATE, None);
                let enough = replaced.end == 12 && replaced.start <= 8;
                assert_eq!(space.untie_all().is_ok(), enough);
                map(mem.pages(8..12).start, 4 * p, RW, PRIVATE, None);
                write(mem.pages(4..12).start, &pattern(6, 8 * p));
                space.untie_all().expect("no page of ours is left");
                assert!(space.ties().is_empty());
                assert_bytes(mem.pages(4..12).start, &pattern(6, 8 * p), "and theirs are theirs");
                let tie = space.tie(4 * p, &region, .., Access::ReadWrite).expect("free again");
                tie.untie().expect("untie");
            }
        }
    });
}

#[test]
fn partly_replaced_at_the_end_of_the_space() {
    alone(|| {
        let p = page();
        let mem = Memory::private(16);
        let bytes = mem.fill(1);
        let region = region(2, 8);
        let space = mem.borrow();
        let changed = space.tie(4 * p, &region, .., Access::ReadWrite).expect("tie");
        let intact = space.tie(0, &region, ..2 * p, Access::ReadWrite).expect("tie");
        map(mem.pages(6..7).start, p, RW, PRIVATE, None);
        write(mem.pages(6..7).start, &pattern(6, p));
        drop(space);
        assert!(!changed.is_live() && !intact.is_live());
        assert_bytes(mem.start(), &bytes[..4 * p], "the intact one was undone");
        assert_bytes(mem.pages(6..7).start, &pattern(6, p), "their page");
        assert_eq!(region_bytes(&region), pattern(2, 8 * p));
        drop((changed, intact));
        assert_bytes(mem.pages(6..7).start, &pattern(6, p), "their page");
    });
}

// ------------------------------------------------------------------------------ drops

#[test]
fn space_dropped_before_its_ties() {
    alone(|| {
        let p = page();
        let mem = Memory::private(16);
        let region = region(2, 8);
        let bytes = mem.fill(1);
        let before = Picture::take(&[mem.arena()]);
        let space = mem.borrow();
        let mut first = space.tie(p, &region, ..4 * p, Access::ReadWrite).expect("tie");
        let second = space.tie(8 * p, &region, .., Access::CopyOnWrite).expect("tie");
        drop(space);
        assert_bytes(mem.start(), &bytes, "what was covered is back");
        before.assert_same(&Picture::take(&[mem.arena()]), "the space has ended its ties");
        assert!(!first.is_live() && !second.is_live());
        assert_eq!(first.retie(&region, 0).expect_err("ended").kind(), ErrorKind::Ended);
        // What they were can still be asked.
        assert_eq!((first.at(), first.len(), first.offset()), (p, 4 * p, 0));
        assert_eq!(first.region().as_ptr(), region.as_ptr());
        second.untie().expect("an ended tie");

        // Somebody else's space, over the same memory, is none of the old handle's business.
        let space = mem.borrow();
        let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
        drop(first);
        assert!(tie.is_live());
        assert_bytes(mem.start(), &pattern(2, 8 * p), "the new tie");
    });
}

/// Every order in which `n` things can be done.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let insert = |order: Vec<usize>| {
        (0..n).map(move |place| {
            let mut order = order.clone();
            order.insert(place, n - 1);
            order
        })
    };
    orders(n - 1).into_iter().flat_map(insert).collect()
}

#[test]
fn dropped_in_every_order() {
    alone(|| {
        let p = page();
        assert_eq!(orders(5).len(), 120);
        let mem = Memory::private(16);
        mem.fill(1);
        let before = Picture::take(&[mem.arena()]);
        let open = descriptors();
        for order in orders(5) {
            let mut region = Some(region(2, 8));
            let shown = region.as_ref().expect("a region");
            let mut clone = Some(shown.clone());
            let mut space = Some(mem.borrow());
            let over = space.as_ref().expect("a space");
            let mut first = Some(over.tie(0, shown, .., Access::ReadWrite).expect("tie"));
            let how = options(Covered::Keep);
            let mut second = Some(over.tie(8 * p, shown, ..3 * p, how).expect("tie"));
            for which in &order {
                match which {
                    0 => drop(region.take()),
                    1 => drop(clone.take()),
                    2 => drop(space.take()),
                    3 => drop(first.take()),
                    _ => drop(second.take()),
                }
                for tie in first.iter().chain(&second) {
                    assert_eq!(tie.is_live(), space.is_some(), "{order:?}");
                    if tie.is_live() {
                        assert_bytes(tie.as_ptr().addr(), &pattern(2, tie.len()), "still tied");
                    }
                }
            }
            before.assert_same(&Picture::take(&[mem.arena()]), format_args!("{order:?}"));
            assert_eq!(descriptors(), open, "{order:?}: descriptors");
        }
    });
}

#[test]
fn dropped_by_other_threads() {
    let p = page();
    let mem = Memory::private(64);
    let bytes = mem.fill(1);
    let region = region(2, 8);
    let space = Arc::new(mem.borrow());
    let threads: Vec<_> = (0..4)
        .map(|i| {
            let (space, region) = (Arc::clone(&space), region.clone());
            thread::spawn(move || {
                for _ in 0..50 {
                    let tie = space.tie(16 * i * p, &region, .., Access::ReadWrite).expect("tie");
                    assert_eq!(peek(tie.as_ptr().addr() + p), pattern(2, 2 * p)[p]);
                    let other = space.tie((16 * i + 8) * p, &region, ..p, Access::ReadOnly);
                    drop(tie);
                    other.expect("tie").untie().expect("untie");
                }
                space.tie(16 * i * p, &region, .., Access::ReadWrite).expect("tie")
            })
        })
        .collect();
    let ties: Vec<_> = threads.into_iter().map(|t| t.join().expect("a thread")).collect();
    assert_eq!(space.ties().len(), 4);
    drop(space);
    assert!(ties.iter().all(|tie| !tie.is_live()), "the last handle of the space is gone");
    assert_bytes(mem.start(), &bytes, "everything is back");
}

// ------------------------------------------------------------------------------ two spaces

#[test]
fn two_spaces_over_one_memory() {
    let p = page();
    let mem = Memory::private(16);
    mem.fill(1);
    let region = region(2, 2);
    let first = mem.borrow();
    let second = mem.try_borrow(mem.pages(8..16)).expect_err("live");
    assert_eq!(second.kind(), ErrorKind::Overlap);
    assert_eq!(second.range(), Some(mem.pages(8..16)));
    assert_eq!(second.other_range(), Some(mem.all()));
    let tie = first.tie(0, &region, .., Access::ReadWrite).expect("tie");
    drop(first);
    let second = mem.try_borrow(mem.pages(8..16)).expect("the first is gone, its handle is not");
    let third = mem.try_borrow(mem.pages(0..8)).expect("the other half");
    drop(tie);
    let tie = second.tie(0, &region, .., Access::ReadWrite).expect("tie");
    assert_bytes(mem.pages(8..10).start, &pattern(2, 2 * p), "tied");
    drop((third, second, tie));
    mem.borrow();
}

// ------------------------------------------------------------------------------ leaks

#[test]
fn leaked_tie() {
    alone(|| {
        let p = page();
        for covered in [Covered::Keep, Covered::Discard] {
            let mem = Memory::private(16);
            let bytes = mem.fill(1);
            let region = region(2, 4);
            let space = mem.borrow();
            space.tie(4 * p, &region, .., options(covered)).expect("tie").leak();
            assert!(space.ties().is_empty(), "nothing is listed");
            space.untie_all().expect("nothing is ours to undo");
            let shown = mem.pages(4..8).start;
            assert_bytes(shown, &pattern(2, 4 * p), "the alias stays");
            region.write_at(0, &[0x99]).expect("write");
            assert_eq!(peek(shown), 0x99);
            drop((space, region));
            assert_eq!(peek(shown), 0x99, "for good");
            poke(shown, 0x98);
            assert_eq!(peek(shown), 0x98);
            assert_bytes(mem.start(), &bytes[..4 * p], "its neighbours");
            assert_bytes(mem.pages(8..16).start, &bytes[8 * p..], "its neighbours");
        }
    });
}

#[test]
fn leaked_space() {
    alone(|| {
        let p = page();
        for covered in [Covered::Keep, Covered::Discard] {
            let mem = Memory::private(16);
            mem.fill(1);
            let region = region(2, 4);
            let space = mem.borrow();
            let mut tie = space.tie(4 * p, &region, .., options(covered)).expect("tie");
            let before = state(&mem);
            space.leak();
            assert_eq!(before, state(&mem), "no address was touched");
            assert!(!tie.is_live());
            assert_eq!(tie.retie(&region, 0).expect_err("ended").kind(), ErrorKind::Ended);
            tie.untie().expect("an ended tie");
            assert_eq!(before, state(&mem), "no address was touched");
            mem.borrow();
        }
    });
}

#[test]
fn leaked_space_of_memory_that_is_gone() {
    alone(|| {
        let p = page();
        let mem = Memory::private(16);
        mem.fill(1);
        let before = Picture::take(&[]);
        let region = region(2, 4);
        let space = mem.borrow();
        let dropped_late = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
        let dropped_early = space.tie(8 * p, &region, .., Access::CopyOnWrite).expect("tie");
        unmap(mem.all());
        map(mem.start(), mem.len(), RW, PRIVATE, None);
        write(mem.start(), &pattern(9, mem.len()));
        drop(dropped_early);
        space.leak();
        drop(dropped_late);
        drop(region);
        assert_bytes(mem.start(), &pattern(9, mem.len()), "somebody else's bytes");
        before.assert_same(&Picture::take(&[]), "our side is freed");
    });
}

// ------------------------------------------------------------------------------ growth of a space

/// `Space::grown_to` over memory of the test's own.
fn grown_to(space: &Space, start: usize, len: usize) -> pagetie::Result<()> {
    // SAFETY: the memory is the test's own and holds only bytes.
    unsafe { space.grown_to(ptr::with_exposed_provenance_mut(start), len) }
}

#[test]
fn grown_in_place() {
    alone(|| {
        let p = page();
        let mem = Memory::private(32);
        let bytes = mem.fill(1);
        let region = region(2, 8);
        let space = mem.try_borrow(mem.pages(0..8)).expect("borrow");
        let tie = space.tie(2 * p, &region, ..6 * p, Access::ReadWrite).expect("tie");
        let beyond = space.tie(6 * p, &region, ..4 * p, Access::ReadWrite);
        assert_eq!(beyond.expect_err("not grown yet").kind(), ErrorKind::OutOfRange);
        grown_to(&space, mem.start(), 16 * p).expect("grown");
        assert_eq!((space.len(), space.as_ptr().addr()), (16 * p, mem.start()));
        assert!(tie.is_live());
        assert_bytes(tie.as_ptr().addr(), &pattern(2, 6 * p), "a tie from before");
        let new = space.tie(8 * p, &region, .., Access::ReadWrite).expect("the new part");
        assert_bytes(new.as_ptr().addr(), &pattern(2, 8 * p), "tied");
        grown_to(&space, mem.start(), 16 * p).expect("no growth at all");
        let taken = mem.try_borrow(mem.pages(15..17)).expect_err("the new part is live too");
        assert_eq!(taken.other_range(), Some(mem.pages(0..16)));
        new.untie().expect("untie");
        tie.untie().expect("untie");
        drop(space);
        assert_bytes(mem.start(), &bytes, "everything is back");
        mem.borrow();
    });
}

#[test]
fn growth_refused() {
    alone(|| {
        let p = page();
        let mem = Memory::private(32);
        mem.fill(1);
        let region = region(2, 4);
        let space = mem.try_borrow(mem.pages(4..12)).expect("borrow");
        let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
        let other = mem.try_borrow(mem.pages(20..24)).expect("borrow");
        unmap(mem.pages(26..27));
        let start = mem.pages(4..5).start;
        let before = state(&mem);
        for (what, start, pages, kind) in [
            ("moved", mem.start(), 12, ErrorKind::Changed),
            ("moved by a page", start + p, 12, ErrorKind::Changed),
            ("smaller", start, 7, ErrorKind::OutOfRange),
            ("into another space", start, 17, ErrorKind::Overlap),
            ("around another space", start, 21, ErrorKind::Overlap),
            ("into a hole", start, 23, ErrorKind::NotMapped),
            ("beyond a hole", start, 26, ErrorKind::NotMapped),
        ] {
            let error = grown_to(&space, start, pages * p).expect_err(what);
            assert_eq!(error.kind(), kind, "{what}: {error}");
            assert!(!error.to_string().contains('\n'));
            assert_eq!(before, state(&mem), "{what}: nothing was touched");
            assert_eq!(space.len(), 8 * p, "{what}");
            assert!(tie.is_live(), "{what}");
        }
        let met = grown_to(&space, start, 17 * p).expect_err("into another space").other_range();
        assert_eq!(met, Some(mem.pages(20..24)));
        drop(other);
        mprotect(mem.pages(14..15), PROT_READ | PROT_EXEC);
        let error = grown_to(&space, start, 12 * p).expect_err("over code");
        assert_eq!(error.kind(), ErrorKind::RefusedMemory, "{error}");
        mprotect(mem.pages(14..15), RW);
        grown_to(&space, start, 20 * p).expect("nobody else's any more");
        tie.untie().expect("untie");
        drop(space);
        map(mem.pages(26..27).start, p, PROT_NONE, PRIVATE, None);
    });
}

#[test]
fn growth_of_a_reserved_space() {
    let space = Space::reserve(4 * page()).expect("reserve");
    let start = space.as_ptr().addr();
    let error = grown_to(&space, start, 8 * page()).expect_err("a reservation is what it is");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(space.len(), 4 * page());
}

// ------------------------------------------------------------------------------ errors as errors

/// An untie that fails, with `?`.
fn fails(mem: &Memory, space: &Space, region: &Region) -> Result<(), Error> {
    let tie = space.tie(0, region, .., Access::ReadWrite)?;
    map(mem.start(), tie.len(), RW, PRIVATE, None);
    tie.untie()?;
    unreachable!("the memory was replaced")
}

fn fails_as_io(mem: &Memory, space: &Space, region: &Region) -> io::Result<()> {
    let tie = space.tie(0, region, .., Access::ReadWrite)?;
    map(mem.start(), tie.len(), RW, PRIVATE, None);
    tie.untie()?;
    unreachable!("the memory was replaced")
}

#[test]
fn untie_error_converts() {
    let mem = Memory::private(4);
    let region = region(2, 4);
    let space = mem.borrow();
    let error = fails(&mem, &space, &region).expect_err("replaced");
    assert_eq!(error.kind(), ErrorKind::Changed);
    let error = fails_as_io(&mem, &space, &region).expect_err("replaced");
    assert!(error.to_string().contains("0x"), "{error}");
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    assert_eq!(inner.map(Error::kind), Some(ErrorKind::Changed), "the error is inside: {error:?}");

    let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
    map(mem.start(), tie.len(), RW, PRIVATE, None);
    let error = tie.untie().expect_err("replaced");
    assert_eq!(error.to_string(), error.error.to_string());
    assert!(format!("{error:?}").contains("Changed"), "{error:?}");
    let source = error.source().and_then(|e| e.downcast_ref::<Error>()).copied();
    assert!(source.is_none_or(|s| s == error.error), "the cause is the error, if it is named");
    let plain: Error = error.into();
    assert_eq!(plain.kind(), ErrorKind::Changed);
}

#[test]
fn io_errors_keep_the_number() {
    let error = Region::open("/nonexistent/file").expect_err("missing");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Os, Some(libc::ENOENT)));
    let text = error.to_string();
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.to_string(), text);
}

#[test]
fn handles_cross_threads() {
    fn everywhere<T: Send + Sync + 'static>() {}
    everywhere::<Region>();
    everywhere::<RegionBuilder>();
    everywhere::<Space>();
    everywhere::<Tie>();
    everywhere::<TieOptions>();
    everywhere::<TieInfo>();
    everywhere::<TieSpec<'static>>();
    everywhere::<Error>();
    everywhere::<UntieError>();
    fn small<T: Copy>() {}
    small::<Error>();
    small::<TieOptions>();

    // And they do: made here, used there, dropped elsewhere.
    let (space, region) = (Space::reserve(4 * page()).expect("reserve"), region(1, 2));
    let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
    let raw = region.fd().expect("a descriptor").as_raw_fd();
    let tie = thread::spawn(move || {
        poke(tie.as_ptr().addr(), 0x77);
        tie
    })
    .join()
    .expect("a thread");
    let mut byte = [0];
    region.read_at(0, &mut byte).expect("read");
    assert_eq!((byte, region.fd().expect("a descriptor").as_raw_fd()), ([0x77], raw));
    thread::spawn(move || drop((space, region))).join().expect("a thread");
    assert!(!tie.is_live());
}
