//! Real faults: what a tie's access, `protect` and a reserved space forbid kills a process.
//!
//! Each case runs in a process of its own. It first shows that the addresses beside the forbidden
//! one work, then touches the forbidden one, and must die of the right signal at that very address.

#![allow(unsafe_code, reason = "the test faults on purpose, in processes of its own")]

#[path = "common/child.rs"]
mod child;
mod common;

use std::io::Write as _;

use common::{Memory, page, peek, poke, region};
use libc::{SIGBUS, SIGSEGV};
use pagetie::{Access, Covered, Prefault, Prot, Region, Space, TieOptions};

const MARK: u8 = 0xa5;

/// A region of three pages whose every page starts with [`MARK`].
fn marked() -> Region {
    let region = region(1, 3);
    for offset in (0..region.len()).step_by(page()) {
        region.write_at(offset, &[MARK]).expect("mark a page");
    }
    region
}

#[test]
fn a_store_to_a_read_only_tie_kills() {
    let how = TieOptions::new(Access::ReadOnly);
    let ways = [
        ("kept", how),
        ("discarded", how.covered(Covered::Discard)),
        ("prefaulted", how.prefault(Prefault::Populate)),
        ("concurrent", how.concurrent(true)),
    ];
    for (way, how) in ways {
        child::dies(&format!("reserved, {way}"), SIGSEGV, || {
            let (space, region) = (Space::reserve(8 * page()).unwrap(), marked());
            let tie = space.tie(2 * page(), &region, .., how).unwrap();
            let addr = tie.as_ptr().expose_provenance();
            assert_eq!(peek(addr), MARK);
            child::store(addr);
        });
        child::dies(&format!("borrowed, {way}"), SIGSEGV, || {
            let (memory, region) = (Memory::private(8), marked());
            memory.fill(2);
            let space = memory.borrow();
            let tie = space.tie(2 * page(), &region, .., how).unwrap();
            let addr = tie.as_ptr().expose_provenance();
            assert_eq!(peek(addr), MARK);
            // The pages on both sides are the engine's as before.
            poke(addr - 1, 1);
            poke(addr + tie.len(), 1);
            child::store(addr + page());
        });
    }
    child::dies("of a read-only file", SIGSEGV, || {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&common::pattern(3, 2 * page())).unwrap();
        let region = Region::builder().read_only(true).open(file.path()).unwrap();
        let space = Space::reserve(2 * page()).unwrap();
        let tie = space.tie(0, &region, .., Access::ReadOnly).unwrap();
        let addr = tie.as_ptr().expose_provenance();
        assert_eq!(peek(addr), common::pattern(3, 1)[0]);
        child::store(addr);
    });
    child::dies("host view of a read-only file", SIGSEGV, || {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&common::pattern(3, page())).unwrap();
        let region = Region::builder().read_only(true).open(file.path()).unwrap();
        let addr = region.as_ptr().expose_provenance();
        assert_eq!(peek(addr), common::pattern(3, 1)[0]);
        child::store(addr);
    });
}

#[test]
fn a_protected_page_kills() {
    for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
        child::dies(&format!("load, none, tied {access:?}"), SIGSEGV, || {
            let (space, region) = (Space::reserve(8 * page()).unwrap(), marked());
            let tie = space.tie(page(), &region, .., access).unwrap();
            let addr = tie.as_ptr().expose_provenance();
            space.protect(2 * page()..3 * page(), Prot::None).unwrap();
            assert_eq!((peek(addr), peek(addr + 2 * page())), (MARK, MARK));
            child::load(addr + page());
        });
    }
    for access in [Access::ReadWrite, Access::CopyOnWrite] {
        child::dies(&format!("store, read, tied {access:?}"), SIGSEGV, || {
            let (space, region) = (Space::reserve(8 * page()).unwrap(), marked());
            let tie = space.tie(page(), &region, .., access).unwrap();
            let addr = tie.as_ptr().expose_provenance();
            space.protect(2 * page()..3 * page(), Prot::Read).unwrap();
            poke(addr, 1);
            poke(addr + 2 * page(), 1);
            assert_eq!(peek(addr + page()), MARK);
            child::store(addr + page());
        });
    }
    for (name, prot) in [("none", Prot::None), ("read", Prot::Read)] {
        child::dies(&format!("{name}, borrowed and not tied"), SIGSEGV, || {
            let memory = Memory::private(4);
            let bytes = memory.fill(2);
            let space = memory.borrow();
            space.protect(page()..2 * page(), prot).unwrap();
            poke(memory.start(), 1);
            poke(memory.start() + 2 * page(), 1);
            let addr = memory.start() + page();
            match prot {
                Prot::None => child::load(addr),
                _ => {
                    assert_eq!(peek(addr), bytes[page()]);
                    child::store(addr);
                }
            }
        });
        child::dies(&format!("{name}, reserved and not tied"), SIGSEGV, || {
            let space = Space::reserve(4 * page()).unwrap();
            let start = space.as_ptr().expose_provenance();
            space.protect(.., Prot::ReadWrite).unwrap();
            poke(start + page(), MARK);
            space.protect(page()..2 * page(), prot).unwrap();
            poke(start, 1);
            poke(start + 2 * page(), 1);
            match prot {
                Prot::None => child::load(start + page()),
                _ => {
                    assert_eq!(peek(start + page()), MARK);
                    child::store(start + page());
                }
            }
        });
    }
}

#[test]
fn a_reserved_page_that_shows_nothing_kills() {
    let untied = |how: TieOptions| {
        let (space, region) = (Space::reserve(8 * page()).unwrap(), marked());
        let tie = space.tie(2 * page(), &region, .., how).unwrap();
        assert_eq!(peek(tie.as_ptr().expose_provenance()), MARK);
        tie.untie().unwrap();
        child::load(space.as_ptr().expose_provenance() + 2 * page());
    };
    let how = TieOptions::new(Access::ReadWrite);
    child::dies("never tied", SIGSEGV, || {
        let space = Space::reserve(8 * page()).unwrap();
        child::load(space.as_ptr().expose_provenance() + 3 * page());
    });
    child::dies("beside a tie", SIGSEGV, || {
        let (space, region) = (Space::reserve(8 * page()).unwrap(), marked());
        let tie = space.tie(2 * page(), &region, .., Access::ReadWrite).unwrap();
        let end = tie.as_ptr().expose_provenance() + tie.len();
        assert_ne!(peek(end - page()), 0);
        child::load(end);
    });
    child::dies("no longer tied", SIGSEGV, || untied(how));
    child::dies("no longer tied, discarded", SIGSEGV, || untied(how.covered(Covered::Discard)));
}

#[test]
fn the_guard_pages_of_a_reserved_space_kill() {
    // The first and the last byte of each guard page, for a length that is no multiple of a
    // huge page and for one that is.
    for pages in [3, common::HUGE / page()] {
        let guards = |pick: fn(usize, usize) -> usize| {
            let space = Space::reserve(pages * page()).unwrap();
            let region = Region::new(pages * page()).unwrap();
            let tie = space.tie(0, &region, .., Access::ReadWrite).unwrap();
            let start = tie.as_ptr().expose_provenance();
            let end = start + tie.len();
            poke(start, 1);
            poke(end - 1, 1);
            child::load(pick(start, end));
        };
        child::dies(&format!("last byte before {pages} pages"), SIGSEGV, || guards(|s, _| s - 1));
        child::dies(&format!("a page before {pages} pages"), SIGSEGV, || {
            guards(|s, _| s - page());
        });
        child::dies(&format!("first byte after {pages} pages"), SIGSEGV, || guards(|_, e| e));
        child::dies(&format!("a page after {pages} pages"), SIGSEGV, || {
            guards(|_, e| e + page() - 1);
        });
    }
}

/// Documented: a file that somebody else truncates under a region cannot be sealed against it.
#[test]
fn a_truncated_file_kills_with_sigbus() {
    let truncated = |access: Option<Access>| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&common::pattern(4, 3 * page())).unwrap();
        let region = Region::open(file.path()).unwrap();
        let space = Space::reserve(region.len()).unwrap();
        let tie = access.map(|access| space.tie(0, &region, .., access).unwrap());
        let start = tie.as_ref().map_or(region.as_ptr(), |tie| tie.as_ptr()).expose_provenance();
        let first = common::pattern(4, 1)[0];
        assert_eq!(peek(start), first);
        assert_ne!(peek(start + 2 * page()), 0);
        file.as_file().set_len(page() as u64).unwrap();
        assert_eq!(peek(start), first);
        child::load(start + 2 * page());
    };
    child::dies("host view", SIGBUS, || truncated(None));
    for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
        child::dies(&format!("{access:?}"), SIGBUS, || truncated(Some(access)));
    }
}
