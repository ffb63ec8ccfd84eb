//! Borrowed memory that grows in place: an engine (V8) makes all of it readable and writable again when it
//! does, and what was forbidden through pagetie is forbidden again by `grown_to`.

#![allow(unsafe_code, reason = "tests grow memory of their own, as an engine would")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

mod common;

use common::*;
use libc::{PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{Access, Covered, Prot, Space, TieOptions};

const RW: i32 = PROT_READ | PROT_WRITE;

/// Sixteen pages, of which a space has the first eight.
fn half() -> (Memory, Space) {
    let memory = Memory::private(16);
    memory.fill(1);
    mprotect(memory.pages(8..16), PROT_NONE);
    let space = memory.try_borrow(memory.pages(0..8)).expect("borrow");
    (memory, space)
}

/// The engine grows its memory by some pages, as V8 does, and its embedder says so.
fn grow(memory: &Memory, space: &Space, pages: usize) {
    let len = space.len() + pages * page();
    mprotect(memory.start()..memory.start() + len, RW);
    // SAFETY: the memory is the test's own, as long as that, and lent on the same terms.
    unsafe { space.grown_to(space.as_ptr(), len) }.expect("grown");
    assert_eq!(space.len(), len);
}

#[test]
fn what_was_forbidden_is_forbidden_again() {
    let (memory, space) = half();
    let region = region(2, 8);
    let read_only = space.tie(0, &region, pages(0..2), Access::ReadOnly).expect("tie");
    let shared = space.tie(2 * page(), &region, pages(2..4), Access::ReadWrite).expect("tie");
    let hidden = space.tie(4 * page(), &region, pages(4..6), Access::ReadOnly).expect("tie");
    space.protect(pages(3..4), Prot::Read).expect("protect a tied page");
    space.protect(pages(5..6), Prot::None).expect("protect a page of a read-only tie");
    space.protect(pages(6..7), Prot::None).expect("protect an untied page");
    let expected = ["r--p", "r--p", "rw-s", "r--s", "r--p", "---p", "---p", "rw-p"];
    assert_eq!(perms(memory.pages(0..8)), expected);
    for more in [4, 0, 4] {
        grow(&memory, &space, more);
        assert_eq!(perms(memory.pages(0..8)), expected, "grown by {more}");
        assert!(
            perms(memory.start() + 8 * page()..memory.start() + space.len())
                .iter()
                .all(|perms| perms == "rw-p")
        );
    }
    assert_bytes(region.as_ptr().addr(), &pattern(2, region.len()), "the region");
    drop((read_only, shared, hidden));
}

#[test]
fn what_is_allowed_again_stays_allowed() {
    let (memory, space) = half();
    let region = region(2, 8);
    space.protect(pages(0..4), Prot::Read).expect("protect");
    space.protect(pages(1..2), Prot::ReadWrite).expect("allow");
    let tie = space.tie(6 * page(), &region, pages(0..2), Access::ReadOnly).expect("tie");
    tie.untie().expect("untie");
    grow(&memory, &space, 1);
    let expected = ["r--p", "rw-p", "r--p", "r--p", "rw-p", "rw-p", "rw-p", "rw-p"];
    assert_eq!(perms(memory.pages(0..8)), expected);
}

#[test]
fn what_a_tie_covers_keeps_its_own() {
    let (memory, space) = half();
    let region = region(2, 8);
    space.protect(pages(0..4), Prot::Read).expect("protect");
    for covered in [Covered::Keep, Covered::Discard] {
        let how = TieOptions::new(Access::ReadWrite).covered(covered);
        let mut tie = space.tie(page(), &region, pages(0..2), how).expect("tie");
        grow(&memory, &space, 1);
        assert_eq!(perms(memory.pages(0..4)), ["r--p", "rw-s", "rw-s", "r--p"], "tied");
        // Asked of the tie, and reset by retie.
        space.protect(pages(1..2), Prot::None).expect("protect");
        tie.retie(&region, 4 * page()).expect("retie");
        grow(&memory, &space, 1);
        assert_eq!(perms(memory.pages(0..4)), ["r--p", "rw-s", "rw-s", "r--p"], "retied");
        // Asked while tied, of the first page only.
        space.protect(pages(1..2), Prot::None).expect("protect");
        tie.untie().expect("untie");
        grow(&memory, &space, 1);
        assert_eq!(perms(memory.pages(0..4)), ["r--p", "---p", "r--p", "r--p"], "untied");
        space.protect(pages(1..2), Prot::Read).expect("protect");
    }
}

#[test]
fn pages_of_somebody_else_are_not_touched() {
    let (memory, space) = half();
    let region = region(2, 8);
    let tie = space.tie(0, &region, pages(0..2), Access::ReadOnly).expect("tie");
    space.protect(pages(1..2), Prot::None).expect("protect");
    map(memory.start(), 2 * page(), RW, PRIVATE, None);
    grow(&memory, &space, 1);
    assert_eq!(perms(memory.pages(0..2)), ["rw-p", "rw-p"]);
    drop(tie);
}

#[test]
fn a_parked_tie_leaves_what_was_forbidden() {
    let (memory, space) = half();
    let region = region(2, 8);
    space.protect(pages(1..2), Prot::Read).expect("protect");
    let tie = space.tie(0, &region, pages(0..3), Access::ReadWrite).expect("tie");
    let parked = tie.park().expect("park");
    grow(&memory, &space, 1);
    assert_eq!(perms(memory.pages(0..3)), ["rw-p", "r--p", "rw-p"]);
    drop(parked);
}

/// A store between the growth and its note landed on a private page: the region's byte is there again.
#[test]
fn what_was_stored_into_a_read_only_tie_meanwhile_is_gone() {
    let (memory, space) = half();
    let region = region(2, 8);
    let tie = space.tie(page(), &region, pages(0..3), Access::ReadOnly).expect("tie");
    space.protect(pages(3..4), Prot::None).expect("protect");
    mprotect(memory.pages(0..8), RW);
    write(memory.pages(1..2).start, b"stored by the guest");
    write(memory.pages(3..4).start, b"here too");
    write(memory.pages(5..6).start, b"its own memory");
    grow(&memory, &space, 1);
    assert_bytes(region.as_ptr().addr(), &pattern(2, region.len()), "the region");
    space.protect(pages(3..4), Prot::Read).expect("protect");
    assert_bytes(memory.pages(1..4).start, &pattern(2, region.len())[pages(0..3)], "the tie");
    region.write_at(0, b"written by the host").expect("write");
    assert_bytes(tie.as_ptr().addr(), b"written by the host", "the tie follows the region");
    assert_bytes(memory.pages(5..6).start, b"its own memory", "untied");
}
