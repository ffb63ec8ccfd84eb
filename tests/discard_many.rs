//! `discard_many`: what one `discard` after the other would do, in fewer system calls.

#![allow(unsafe_code, reason = "tests borrow memory of their own, as an engine would")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use common::*;
use pagetie::{Access, ErrorKind, Region, Space};
use std::ops::Range;

/// A space with ties of every kind that can be discarded, and untied pages between them; a second one
/// just like it.
struct Twin {
    memory: Memory,
    space: Space,
    region: Region,
    _ties: Vec<pagetie::Tie>,
}

const PAGES: usize = 64;

impl Twin {
    fn new() -> Self {
        let memory = Memory::private(PAGES);
        memory.fill(1);
        let (space, region) = (memory.borrow(), region(2, PAGES));
        let ties = [
            (4, 8..16, Access::ReadWrite),
            (12, 16..20, Access::ReadWrite),
            (16, 30..34, Access::CopyOnWrite),
            (24, 40..44, Access::CopyOnWrite),
            (40, 0..8, Access::ReadWrite),
        ];
        let ties = ties.map(|(at, of, access)| {
            space.tie(pages(at..at + 1).start, &region, pages(of), access).expect("tie")
        });
        write(memory.pages(16..17).start, b"private");
        write(memory.pages(26..27).start, b"private");
        Self { memory, space, region, _ties: ties.into() }
    }

    fn assert_same(&self, other: &Self, what: &str) {
        assert_bytes(self.memory.start(), &read(other.memory.all()), what);
        assert_bytes(self.region.as_ptr().addr(), &region_bytes(&other.region), what);
    }
}

fn many(space: &Space, ranges: &[Range<usize>]) -> pagetie::Result<()> {
    let ranges: Vec<_> = ranges.iter().cloned().map(pages).collect();
    space.discard_many(&ranges)
}

#[test]
fn many_are_as_one_after_the_other() {
    let lists: [&[Range<usize>]; 7] = [
        &[],
        &[0..1, 2..3, 60..64],
        &[5..6, 6..7, 11..13],
        &[50..51, 3..5, 26..27, 4..6, 16..17],
        &[0..32, 32..64],
        &[0..64, 8..9, 0..64],
        &[63..64, 0..1, 41..42, 39..41],
    ];
    for list in lists {
        let (twin, other) = (Twin::new(), Twin::new());
        many(&twin.space, list).unwrap_or_else(|error| panic!("{list:?}: {error}"));
        for range in list {
            other.space.discard(pages(range.clone())).expect("discard");
        }
        twin.assert_same(&other, &format!("{list:?}"));
    }
}

#[test]
fn a_refused_item_is_named_and_nothing_goes() {
    let twin = Twin::new();
    let _read_only =
        twin.space.tie(pages(48..49).start, &twin.region, pages(50..52), Access::ReadOnly);
    let untouched = || read(twin.memory.all());
    let before = untouched();
    let refused = |list: &[Range<usize>]| {
        let error = many(&twin.space, list).expect_err("refused");
        (error.kind(), error.index())
    };
    assert_eq!(refused(&[0..1, 9..9]), (ErrorKind::Empty, Some(1)));
    assert_eq!(refused(&[0..1, 5..6, 63..65]), (ErrorKind::OutOfRange, Some(2)));
    assert_eq!(refused(&[60..61, 49..50, 5..6]), (ErrorKind::ReadOnly, Some(1)));
    assert_eq!(refused(&[60..61, 0..64]), (ErrorKind::ReadOnly, Some(1)));
    let error = twin.space.discard_many(&[pages(0..1), 1..page()]).expect_err("odd");
    assert_eq!((error.kind(), error.index()), (ErrorKind::Misaligned, Some(1)));
    assert!(error.to_string().starts_with("discard_many: item 1: "), "{error}");

    // Somebody else's page inside a tie: only who asks for it is told.
    map(twin.memory.pages(6..7).start, page(), libc::PROT_READ | libc::PROT_WRITE, PRIVATE, None);
    write(twin.memory.pages(6..7).start, &before[pages(6..7)]);
    assert_eq!(refused(&[0..1, 4..5, 6..7]), (ErrorKind::Changed, Some(2)));
    assert_bytes(twin.memory.start(), &before, "nothing has gone");
    many(&twin.space, &[4..5, 7..8]).expect("the pages around it are ours");
    assert_zero(twin.memory.pages(7..8), "discarded");
}

#[test]
fn locked_and_shared_pages_among_many() {
    let memory = Memory::private(32);
    let bytes = memory.fill(1);
    let space = memory.borrow();
    if let Err(error) = mlock(memory.pages(8..9)).and_then(|()| mlock(memory.pages(20..22))) {
        return skip(format_args!("discarding locked memory among other: mlock: {error}"));
    }
    let every_other: Vec<_> = (0..16).map(|n| pages(2 * n..2 * n + 1)).collect();
    space.discard_many(&every_other).expect("discard");
    for n in 0..32 {
        let page = memory.pages(n..n + 1);
        match n % 2 {
            0 => assert_zero(page, n),
            _ => assert_bytes(page.start, &bytes[pages(n..n + 1)], n),
        }
    }
    assert_eq!(flagged(memory.pages(7..10), "lo"), [false, true, false]);

    let (shared, region) = (Memory::shared(4), region(1, 1));
    let space = shared.borrow();
    let _tie = space.tie(page(), &region, .., Access::CopyOnWrite).expect("tie");
    let error = many(&space, &[1..2, 3..4]).expect_err("untied shared memory");
    assert_eq!((error.kind(), error.index()), (ErrorKind::Unsupported, Some(1)));
}

#[test]
fn more_than_one_call_takes() {
    let memory = Memory::private(2 * 3000);
    let bytes = memory.fill(1);
    let space = memory.borrow();
    let every_other: Vec<_> = (0..3000).map(|n| pages(2 * n..2 * n + 1)).collect();
    space.discard_many(&every_other).expect("discard");
    let resident = resident(memory.all()).into_iter().filter(|&resident| resident).count();
    assert_eq!(resident, 3000);
    for n in [0, 1, 1023, 1024, 2047, 2048, 2998, 2999] {
        assert_zero(memory.pages(2 * n..2 * n + 1), n);
        let kept = memory.pages(2 * n + 1..2 * n + 2);
        assert_bytes(kept.start, &bytes[pages(2 * n + 1..2 * n + 2)], n);
    }
}

/// Discards every other page of memory, twice: how many calls that takes is the kernel's affair.
fn every_other_page_goes(memory: &Memory, space: &Space) {
    let bytes = memory.fill(1);
    let every_other: Vec<_> = (0..8).map(|n| pages(2 * n..2 * n + 1)).collect();
    space.discard_many(&every_other).expect("discard");
    for n in 0..8 {
        assert_zero(memory.pages(2 * n..2 * n + 1), n);
        let kept = memory.pages(2 * n + 1..2 * n + 2);
        assert_bytes(kept.start, &bytes[pages(2 * n + 1..2 * n + 2)], n);
    }
}

#[test]
fn without_batches_each_is_one_call() {
    alone(|| {
        let memory = Memory::private(16);
        let space = memory.borrow();
        // The kernel has batches as far as pagetie knows, and then it has not.
        every_other_page_goes(&memory, &space);
        let (call, when, errno) = (libc::SYS_process_madvise, seccomp::When::Always, libc::EINVAL);
        if let Err(error) = seccomp::deny(&[seccomp::Deny { call, when, errno }]) {
            return skip(format_args!("discarding without batches: seccomp: {error}"));
        }
        every_other_page_goes(&memory, &space);
        every_other_page_goes(&memory, &space);
    });
}

/// Whether this kernel takes advice on many ranges of the caller's own.
fn has_batches() -> bool {
    let page = Memory::private(1);
    let vector = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(page.start()),
        iov_len: page.all().len(),
    };
    // SAFETY: a new descriptor, and a page of our own that nobody wants.
    unsafe {
        let own = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        let advice = libc::MADV_DONTNEED;
        let bytes = libc::syscall(libc::SYS_process_madvise, own, &vector, 1, advice, 0);
        libc::close(own as libc::c_int);
        bytes == vector.iov_len as libc::c_long
    }
}

#[test]
fn one_alone_does_not_end_batches() {
    alone(|| {
        let memory = Memory::private(16);
        let space = memory.borrow();
        if !has_batches() {
            return skip("batches after a single discard: no process_madvise on self (Linux 6.13)");
        }
        every_other_page_goes(&memory, &space);
        space.discard(pages(3..4)).expect("discard");
        // From here on only batches work.
        let when =
            seccomp::When::Equal { arg: 2, mask: u32::MAX, value: libc::MADV_DONTNEED as u32 };
        let (call, errno) = (libc::SYS_madvise, libc::EIO);
        if let Err(error) = seccomp::deny(&[seccomp::Deny { call, when, errno }]) {
            return skip(format_args!("batches after a single discard: seccomp: {error}"));
        }
        every_other_page_goes(&memory, &space);
    });
}

#[test]
fn a_batch_that_stops_halfway_is_resumed() {
    alone(|| {
        let memory = Memory::private(16);
        let space = memory.borrow();
        // A locked page stops it, again and again.
        for n in [0, 4, 6, 14] {
            if let Err(error) = mlock(memory.pages(n..n + 1)) {
                return skip(format_args!("batches that stop: mlock: {error}"));
            }
        }
        every_other_page_goes(&memory, &space);
        every_other_page_goes(&memory, &space);
    });
}
