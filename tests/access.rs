//! What a tie lets through, and what a region shows.
//!
//! First the three accesses: who sees whose writes, what happens when an engine re-protects a
//! page, what prefaulting changes. Then the region itself: copies at odd places, atomics, growth,
//! seals, descriptors. The tests about two addresses of one byte mean most when the compiler
//! optimises: run this file with `--release` too.

#![allow(unsafe_code, reason = "tests map and unmap memory of their own, as an engine would")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::thread;

use common::*;
use libc::{PROT_READ, PROT_WRITE};
use pagetie::{Access, Covered, ErrorKind, HugePages, Prefault, Prot, Region, Space, TieOptions};

/// A reserved space whose pages may be read and written.
fn open_space(pages: usize) -> Space {
    let space = Space::reserve(pages * page()).expect("reserve");
    space.protect(.., Prot::ReadWrite).expect("open it");
    space
}

fn byte(region: &Region, offset: usize) -> u8 {
    let mut byte = [0];
    region.read_at(offset, &mut byte).expect("read a byte");
    byte[0]
}

// ------------------------------------------------------------------------------ the three accesses

#[test]
fn who_sees_whose_writes() {
    let p = page();
    for access in ACCESSES {
        let (space, region) = (open_space(8), region(1, 4));
        let tie = space.tie(2 * p, &region, p..4 * p, access).expect("tie");
        let start = tie.as_ptr().addr();
        assert_eq!(start, space.as_ptr().addr() + 2 * p);
        assert_eq!((tie.at(), tie.offset(), tie.len()), (2 * p, p, 3 * p));
        assert_eq!((tie.access(), tie.is_live(), tie.is_empty()), (access, true, false));
        assert_eq!(tie.region().as_ptr(), region.as_ptr());
        assert_bytes(start, &pattern(1, 4 * p)[p..], "what the region holds");

        // The host writes: every access follows.
        for i in [0, 1, p - 1, p, 3 * p - 1] {
            region.write_at(p + i, &[0xa0 | (i % 7) as u8]).expect("write");
            assert_eq!(peek(start + i), 0xa0 | (i % 7) as u8, "{access:?}: host to guest, {i:#x}");
        }
        // The guest writes, where it may.
        let found = space.inspect(2 * p..5 * p).expect("inspect");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].addr, start..start + 3 * p);
        assert_eq!(found[0].shared, access == Access::ReadWrite);
        assert!(!found[0].executable);
        if access == Access::ReadOnly {
            assert_eq!(found[0].prot, Prot::Read);
            assert_eq!(perms(start..start + 3 * p), vec!["r--p"; 3]);
            continue;
        }
        assert_eq!(found[0].prot, Prot::ReadWrite);
        for i in [0, 1, p - 1, p, 3 * p - 1] {
            poke(start + i, 0x50 | (i % 7) as u8);
            let expected = if access == Access::ReadWrite { 0x50 } else { 0xa0 } | (i % 7) as u8;
            assert_eq!(byte(&region, p + i), expected, "{access:?}: guest to host, {i:#x}");
            assert_eq!(peek(start + i), 0x50 | (i % 7) as u8, "{access:?}: guest to guest, {i:#x}");
        }
        tie.untie().expect("untie");
        assert_zero(start..start + 3 * p, "what was covered");
    }
}

#[test]
fn read_only_tie_opened_from_outside() {
    let p = page();
    let (space, region) = (open_space(8), region(1, 4));
    let tie = space.tie(2 * p, &region, .., Access::ReadOnly).expect("tie");
    let start = tie.as_ptr().addr();
    // V8 does this to its whole memory when it grows.
    mprotect(start..start + 4 * p, PROT_READ | PROT_WRITE);
    poke(start + p, 0xee);
    poke(start + 2 * p - 1, 0xef);
    assert_eq!(peek(start + p), 0xee, "the guest keeps its own write");
    assert_eq!(region_bytes(&region), pattern(1, 4 * p), "the region keeps its byte");

    // The page written is private now; every other one still follows.
    for i in 0..4 {
        region.write_at(i * p + 8, b"host").expect("write");
        let seen: Vec<u8> = (0..4).map(|j| peek(start + i * p + 8 + j)).collect();
        if i == 1 {
            assert_eq!(
                seen,
                pattern(1, 4 * p)[i * p + 8..i * p + 12],
                "page {i} stopped following"
            );
        } else {
            assert_eq!(seen, b"host", "page {i} follows");
        }
    }
    // Opened is not read-only any more, and untying still works.
    tie.untie().expect("untie");
    let mut expected = pattern(1, 4 * p);
    for i in 0..4 {
        expected[i * p + 8..i * p + 12].copy_from_slice(b"host");
    }
    assert_eq!(region_bytes(&region), expected);
}

#[test]
fn copy_on_write_pages_that_were_written() {
    let p = page();
    let (space, region) = (open_space(8), region(1, 4));
    let tie = space.tie(p, &region, .., Access::CopyOnWrite).expect("tie");
    let start = tie.as_ptr().addr();
    poke(start + 2 * p, 0xee);
    region.write_at(0, &pattern(2, 4 * p)).expect("write everything");
    let mut expected = pattern(2, 4 * p);
    expected[2 * p..3 * p].copy_from_slice(&pattern(1, 4 * p)[2 * p..3 * p]);
    expected[2 * p] = 0xee;
    assert_bytes(start, &expected, "the written page stopped following");

    // Discard resets the pages asked for and no others.
    poke(start + 3 * p + 1, 0xdd);
    expected[3 * p + 1] = 0xdd;
    space.discard(3 * p..4 * p).expect("discard the written page");
    expected[2 * p..3 * p].copy_from_slice(&pattern(2, 4 * p)[2 * p..3 * p]);
    assert_bytes(start, &expected, "one page reset");
    space.discard(p..5 * p).expect("discard all");
    assert_bytes(start, &pattern(2, 4 * p), "reset");
    region.write_at(2 * p, &[0x33]).expect("write");
    assert_eq!(peek(start + 2 * p), 0x33, "and following again");
    assert_eq!(
        region_bytes(&region)[..2 * p],
        pattern(2, 4 * p)[..2 * p],
        "the region never changed"
    );
}

#[test]
fn discard_of_a_read_write_tie_is_everybodys() {
    let p = page();
    let (space, region) = (open_space(16), region(1, 4));
    let first = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
    let second = space.tie(8 * p, &region, .., Access::ReadOnly).expect("tie");
    let full = blocks(&region);
    space.discard(p..3 * p).expect("discard");
    assert_eq!(blocks(&region), full / 2, "the memory went back");
    let mut expected = pattern(1, 4 * p);
    expected[p..3 * p].fill(0);
    assert_eq!(region_bytes(&region), expected, "the host's view");
    assert_bytes(first.as_ptr().addr(), &expected, "the tie discarded");
    assert_bytes(second.as_ptr().addr(), &expected, "another tie");
}

#[test]
fn discard_of_untied_pages() {
    let p = page();
    let image = pattern(5, 8 * p);
    for mem in [Memory::private(8), Memory::image(&image)] {
        mem.fill(6);
        let space = mem.borrow();
        let region = region(1, 2);
        let tie = space.tie(2 * p, &region, .., Access::CopyOnWrite).expect("tie");
        poke(tie.as_ptr().addr(), 0xee);
        // Tied and untied pages at once.
        space.discard(p..6 * p).expect("discard");
        assert_bytes(tie.as_ptr().addr(), &pattern(1, 2 * p), "the region shows again");
        tie.untie().expect("untie");
        let first_mapped = if mem.is_image() { image.clone() } else { vec![0; 8 * p] };
        let filled = pattern(6, 8 * p);
        assert_bytes(mem.start(), &filled[..p], "before");
        assert_bytes(mem.start() + p, &first_mapped[p..2 * p], "as first mapped");
        assert_bytes(
            mem.start() + 2 * p,
            &filled[2 * p..4 * p],
            "what was covered is no part of it",
        );
        assert_bytes(mem.start() + 4 * p, &first_mapped[4 * p..6 * p], "as first mapped");
        assert_bytes(mem.start() + 6 * p, &filled[6 * p..], "after");
    }
}

#[test]
fn protections_of_a_tie() {
    let p = page();
    let (space, region) = (open_space(8), region(1, 4));
    for access in ACCESSES {
        let tie = space.tie(p, &region, .., access).expect("tie");
        let start = tie.as_ptr().addr();
        space.protect(2 * p..3 * p, Prot::None).expect("close a page");
        let found = space.inspect(p..5 * p).expect("inspect");
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[1].prot, Prot::None);
        assert_eq!(found[1].addr, start + p..start + 2 * p);
        space.protect(p..5 * p, Prot::Read).expect("readable");
        assert_eq!(space.inspect(p..5 * p).expect("inspect")[0].prot, Prot::Read);
        assert_bytes(start, &pattern(1, 4 * p), "readable again");
        let opened = space.protect(p..5 * p, Prot::ReadWrite);
        match access {
            Access::ReadOnly => {
                assert_eq!(opened.expect_err("a ceiling").kind(), ErrorKind::ReadOnly);
            }
            _ => {
                opened.expect("up to the access");
                poke(start, pattern(1, 1)[0]);
            }
        }
        tie.untie().expect("untie");
        space.protect(.., Prot::ReadWrite).expect("protections of now came back");
    }
}

// ------------------------------------------------------------------------------ prefault

#[test]
fn prefault_populate_follows() {
    let p = page();
    for access in ACCESSES {
        let (space, region) = (open_space(20), region(1, 16));
        let how = TieOptions::new(access).prefault(Prefault::Populate);
        let tie = space.tie(2 * p, &region, .., how).expect("tie");
        let start = tie.as_ptr().addr();
        region.write_at(5 * p, &[0xaa]).expect("write");
        assert_eq!(peek(start + 5 * p), 0xaa, "{access:?}: host to guest");
        if access != Access::ReadOnly {
            poke(start + 6 * p, 0xbb);
            let seen = byte(&region, 6 * p);
            assert_eq!(seen == 0xbb, access == Access::ReadWrite, "{access:?}: guest to host");
        }
        region.write_at(7 * p, &[0xcc]).expect("write");
        assert_eq!(peek(start + 7 * p), 0xcc, "{access:?}: still following");
    }
}

#[test]
fn prefault_copy_stops_following() {
    let p = page();
    let (space, region) = (open_space(20), region(1, 16));
    let how = TieOptions::new(Access::CopyOnWrite).prefault(Prefault::Copy);
    let tie = space.tie(2 * p, &region, .., how).expect("tie");
    let start = tie.as_ptr().addr();
    region.write_at(0, &pattern(2, 16 * p)).expect("write everything");
    assert_bytes(start, &pattern(1, 16 * p), "copied when it was tied");
    poke(start, 0xee);
    assert_eq!(byte(&region, 0), pattern(2, 1)[0]);
    space.discard(2 * p..18 * p).expect("discard");
    assert_bytes(start, &pattern(2, 16 * p), "discard drops the copies");
}

#[test]
fn prefault_of_what_was_never_written() {
    // Holes of the region are allocated, and read zero.
    let p = page();
    for prefault in [Prefault::No, Prefault::Populate] {
        let (space, region) = (open_space(16), Region::new(16 * p).expect("a region"));
        let how = TieOptions::new(Access::ReadWrite).prefault(prefault);
        let tie = space.tie(0, &region, .., how).expect("tie");
        let there = blocks(&region) > 0;
        assert_eq!(there, prefault == Prefault::Populate, "{prefault:?}");
        assert_zero(tie.as_ptr().addr()..tie.as_ptr().addr() + 16 * p, "holes");
    }
}

#[test]
fn prefault_and_retie() {
    let p = page();
    let (space, region) = (open_space(8), region(1, 16));
    let how = TieOptions::new(Access::CopyOnWrite).prefault(Prefault::Copy);
    let mut tie = space.tie(2 * p, &region, ..4 * p, how).expect("tie");
    tie.retie(&region, 8 * p).expect("retie");
    let expected = &pattern(1, 16 * p)[8 * p..12 * p];
    assert_bytes(tie.as_ptr().addr(), expected, "other pages");
    poke(tie.as_ptr().addr(), 0xee);
    tie.retie(&region, 8 * p).expect("retie to the same pages");
    assert_bytes(tie.as_ptr().addr(), expected, "without the private change");
    assert_eq!(region_bytes(&region), pattern(1, 16 * p));
}

// ------------------------------------------------------------------------------ many ties

#[test]
fn one_page_at_many_addresses() {
    let p = page();
    let (space, region) = (open_space(32), region(1, 2));
    let ties: Vec<_> = (0..8)
        .map(|i| space.tie(3 * i * p, &region, p..2 * p, Access::ReadWrite).expect("tie"))
        .collect();
    let private = space.tie(24 * p, &region, p..2 * p, Access::CopyOnWrite).expect("tie");
    let elsewhere = open_space(2);
    let other = elsewhere.tie(p, &region, p..2 * p, Access::ReadOnly).expect("another space");
    for (i, tie) in ties.iter().enumerate() {
        poke(tie.as_ptr().addr() + i, 0x40 + i as u8);
        for reader in ties.iter().chain([&private, &other]) {
            assert_eq!(peek(reader.as_ptr().addr() + i), 0x40 + i as u8);
        }
        assert_eq!(byte(&region, p + i), 0x40 + i as u8);
    }
    drop(ties);
    assert_eq!(peek(other.as_ptr().addr()), 0x40, "other ties of the page stay");
}

#[test]
fn regions_side_by_side() {
    let p = page();
    let space = open_space(16);
    let regions: Vec<Region> = (0..5).map(|i| region(10 + i, 3)).collect();
    let ties: Vec<_> = (0..15)
        .map(|i| {
            let offset = (i / 5) * p;
            let access = ACCESSES[i % 3];
            space.tie(i * p, &regions[i % 5], offset..offset + p, access).expect("tie")
        })
        .collect();
    for (i, tie) in ties.iter().enumerate() {
        let expected = &pattern(10 + (i % 5) as u64, 3 * p)[(i / 5) * p..(i / 5 + 1) * p];
        assert_bytes(tie.as_ptr().addr(), expected, format_args!("page {i}"));
    }
    let listed = space.ties();
    assert_eq!(listed.len(), 15);
    for (i, info) in listed.iter().enumerate() {
        assert_eq!((info.at, info.len, info.offset), (i * p, p, (i / 5) * p), "by address");
        assert_eq!((info.access, info.held), (ACCESSES[i % 3], true));
    }
    assert_eq!(space.inspect(..15 * p).expect("inspect").len(), 15, "nothing merges by mistake");
    space.untie_all().expect("untie_all");
    assert_zero(space.as_ptr().addr()..space.as_ptr().addr() + 16 * p, "the space");
    for (i, region) in regions.iter().enumerate() {
        assert_eq!(region_bytes(region), pattern(10 + i as u64, 3 * p), "region {i}");
    }
}

#[test]
fn a_region_outlives_its_handle() {
    let p = page();
    let space = open_space(4);
    let region = region(1, 2);
    let tie = space.tie(p, &region, .., Access::ReadWrite).expect("tie");
    let start = tie.as_ptr().addr();
    drop(region);
    assert_bytes(start, &pattern(1, 2 * p), "the tie keeps its region");
    let again = tie.region().clone();
    drop(tie);
    assert_eq!(region_bytes(&again), pattern(1, 2 * p));
}

// ------------------------------------------------------------------------------ partial pages, huge pages

/// A file that holds `bytes`.
fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("fill it");
    file
}

#[test]
fn last_partial_page() {
    let p = page();
    for tail in [1, 100, p / 2 + 3, p - 1] {
        let bytes = pattern(1, 2 * p + tail);
        let file = file_of(&bytes);
        let region = Region::open(file.path()).expect("open");
        assert_eq!(region.len(), 2 * p + tail);
        let mut expected = bytes.clone();
        expected.resize(3 * p, 0);
        let space = open_space(8);
        // What is written after the end stays in memory for a while, so the writer comes last.
        for access in [Access::ReadOnly, Access::CopyOnWrite, Access::ReadWrite] {
            // The range may end where the file ends or where its last page does.
            for range in [0..region.len(), 0..3 * p] {
                let tie = space.tie(p, &region, range, access).expect("tie");
                assert_eq!(tie.len(), 3 * p, "whole pages");
                assert_bytes(tie.as_ptr().addr(), &expected, "zeros after the end");
                tie.untie().expect("untie");
            }
            let tie = space.tie(p, &region, 2 * p..region.len(), access).expect("the tail alone");
            assert_eq!((tie.len(), tie.offset()), (p, 2 * p));
            assert_bytes(tie.as_ptr().addr(), &expected[2 * p..], "the tail");
            if access == Access::ReadWrite {
                poke(tie.as_ptr().addr(), 0x11);
                poke(tie.as_ptr().addr() + tail, 0x22);
                assert_eq!(byte(&region, 2 * p), 0x11);
                poke(tie.as_ptr().addr(), bytes[2 * p]);
            }
            tie.untie().expect("untie");
            let past =
                space.tie(p, &region, 2 * p..4 * p, access).expect_err("a page past the end");
            assert_eq!(past.kind(), ErrorKind::OutOfRange);
        }
        let kind = region.read_at(2 * p + tail, &mut [0]).expect_err("past the end").kind();
        assert_eq!(kind, ErrorKind::OutOfRange, "a region ends where its file does");
        drop(space);
        assert_eq!(fs::read(file.path()).expect("read"), bytes, "nothing after the end is kept");
    }
}

#[test]
fn a_file_of_its_own() {
    let p = page();
    let file = file_of(&pattern(1, 4 * p));
    let region = Region::open(file.path()).expect("open");
    let space = open_space(4);
    let tie = space.tie(0, &region, p..3 * p, Access::ReadWrite).expect("tie");
    poke(tie.as_ptr().addr(), 0x99);
    region.write_at(0, b"host").expect("write");
    drop((tie, space, region));
    let mut expected = pattern(1, 4 * p);
    expected[p] = 0x99;
    expected[..4].copy_from_slice(b"host");
    assert_eq!(fs::read(file.path()).expect("read"), expected, "both writes reached the file");
}

#[test]
fn huge_page_region() {
    let (size, free) = huge_pages();
    if free < 2 {
        return skip("fewer than two huge pages are free");
    }
    let region = Region::builder()
        .huge_pages(HugePages::Require(size))
        .build(2 * size)
        .expect("a region of huge pages");
    assert_eq!(region.page_size(), size);
    region.write_at(size, &pattern(1, 3 * page())).expect("write");
    let space = Space::reserve(4 * size).expect("reserve");
    let tie = space.tie(size, &region, size..2 * size, Access::ReadWrite).expect("tie");
    let start = tie.as_ptr().addr();
    assert_eq!(start % size, 0);
    assert_bytes(start, &pattern(1, 3 * page()), "host to guest");
    poke(start + size - 1, 0xee);
    assert_eq!(byte(&region, 2 * size - 1), 0xee, "guest to host");
    region.discard(size..).expect("discard a huge page");
    assert_eq!(peek(start + size - 1), 0);
    tie.untie().expect("untie");
    let preferred = Region::builder().huge_pages(HugePages::Prefer).build(size).expect("a region");
    preferred.write_at(0, &[1]).expect("write");
}

// ------------------------------------------------------------------------------ fork

#[test]
fn hidden_from_fork() {
    let p = page();
    let hidden = Region::builder().hide_from_fork(true).build(8 * p).expect("a region");
    hidden.write_at(0, &pattern(1, 8 * p)).expect("fill");
    let shown = region(2, 8);
    assert!(has_flag(hidden.as_ptr().addr(), "dc"), "the view");
    assert!(!has_flag(shown.as_ptr().addr(), "dc"), "any other view");
    for covered in [Covered::Keep, Covered::Discard] {
        let mem = Memory::private(16);
        let mut expected = mem.fill(3);
        let space = mem.borrow();
        for access in ACCESSES {
            let how = TieOptions::new(access).covered(covered);
            let mut tie = space.tie(4 * p, &hidden, ..4 * p, how).expect("tie");
            let dc = |pages: std::ops::Range<usize>| flagged(mem.pages(pages), "dc");
            assert_eq!(dc(3..9), [false, true, true, true, true, false], "{access:?}: tied");
            tie.retie(&hidden, 3 * p).expect("retie");
            assert_bytes(tie.as_ptr().addr(), &pattern(1, 8 * p)[3 * p..7 * p], "moved");
            assert_eq!(dc(3..9), [false, true, true, true, true, false], "{access:?}: retied");
            tie.retie(&shown, p).expect("retie");
            assert_bytes(tie.as_ptr().addr(), &pattern(2, 8 * p)[p..5 * p], "to another region");
            assert_eq!(dc(3..9), [false; 6], "{access:?}: a region that is not hidden");
            tie.retie(&hidden, 0).expect("retie");
            assert_eq!(dc(3..9), [false, true, true, true, true, false], "{access:?}: and back");
            tie.untie().expect("untie");
            assert_eq!(dc(0..16), [false; 16], "{access:?}: what was covered");
            if covered == Covered::Discard {
                expected[4 * p..8 * p].fill(0);
            }
            assert_bytes(mem.start(), &expected, format_args!("{covered:?}, {access:?}"));
        }
    }
}

// ------------------------------------------------------------------------------ the region itself

#[test]
fn copies_at_odd_places() {
    let p = page();
    let region = region(1, 4);
    let mut model = pattern(1, 4 * p);
    let offsets = [0, 1, 3, 7, 8, 9, p - 9, p - 1, p, p + 1, 2 * p + 5, 3 * p - 4];
    let lens = [0, 1, 7, 8, 9, 15, 16, 63, 64, 65, p - 1, p, p + 1];
    let mut seed = 2;
    for offset in offsets {
        for len in lens {
            if offset + len > 4 * p {
                continue;
            }
            // Reading fills the middle and leaves what is on both sides, at any alignment of it.
            for skew in [0, 1, 5] {
                let mut buffer = vec![0xa5; skew + len + 16];
                region.read_at(offset, &mut buffer[skew..skew + len]).expect("read_at");
                let context = format_args!("{offset:#x}, {len:#x}, {skew}");
                assert_eq!(buffer[skew..skew + len], model[offset..offset + len], "{context}");
                assert!(buffer[..skew].iter().all(|b| *b == 0xa5), "before: {context}");
                assert!(buffer[skew + len..].iter().all(|b| *b == 0xa5), "after: {context}");
            }
            seed += 1;
            let source = pattern(seed, len + 8);
            let skew = (seed % 8) as usize;
            region.write_at(offset, &source[skew..skew + len]).expect("write_at");
            model[offset..offset + len].copy_from_slice(&source[skew..skew + len]);
            assert_eq!(region_bytes(&region), model, "write of {len:#x} at {offset:#x}");
        }
    }
    region.read_at(4 * p, &mut []).expect("nothing, at the end");
    region.write_at(4 * p, &[]).expect("nothing, at the end");
}

#[test]
fn atomics_and_bytes() {
    let p = page();
    let (space, region) = (open_space(4), region(1, 2));
    let tie = space.tie(p, &region, .., Access::ReadWrite).expect("tie");
    let start = tie.as_ptr().addr();

    let view = region.atomic_u8(3..p + 3).expect("atomics");
    assert_eq!(view.len(), p);
    assert_eq!(view.as_ptr().addr(), region.as_ptr().addr() + 3);
    view[0].store(0x61, Relaxed);
    view[p - 1].fetch_add(1, Relaxed);
    assert_eq!(peek(start + 3), 0x61);
    assert_eq!(peek(start + p + 2), pattern(1, 2 * p)[p + 2].wrapping_add(1));
    assert_eq!(region.atomic_u8(..).expect("all").len(), 2 * p);
    assert!(region.atomic_u8(p..p).expect("none").is_empty());

    // SAFETY: nothing else touches these bytes meanwhile.
    let (four, eight) = unsafe { (region.atomic_u32(64), region.atomic_u64(2 * p - 8)) };
    four.expect("u32").store(0x0403_0201, Relaxed);
    eight.expect("u64").store(u64::from_ne_bytes(*b"eightby8"), Relaxed);
    assert_eq!(
        (0..4).map(|i| peek(start + 64 + i)).collect::<Vec<_>>(),
        0x0403_0201u32.to_ne_bytes()
    );
    assert_eq!(read(start + 2 * p - 8..start + 2 * p), b"eightby8");
    poke(start + 64, 0xff);
    // SAFETY: as above.
    let four = unsafe { region.atomic_u32(64) }.expect("u32").load(Relaxed);
    assert_eq!(four.to_ne_bytes()[0], 0xff);

    let bytes = region.bytes(5..p + 1).expect("bytes");
    assert_eq!(bytes.len(), p - 4);
    assert_eq!(bytes.cast::<u8>().as_ptr().addr(), region.as_ptr().addr() + 5);
    // SAFETY: no alias is written while the slice lives.
    let slice = unsafe { bytes.as_ref() };
    assert_eq!(slice[..8], region_bytes(&region)[5..13]);
    assert_eq!(region.bytes(..).expect("all").len(), 2 * p);
    assert_eq!(region.bytes(2 * p..).expect("none").len(), 0);
}

#[test]
fn growth_keeps_the_view() {
    let p = page();
    let max = 64;
    let region = Region::builder().max_len(max * p).build(2 * p).expect("a region");
    let view = region.as_ptr();
    region.write_at(0, &pattern(1, 2 * p)).expect("fill");
    let clone = region.clone();
    let space = open_space(max);
    let first = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
    for pages in [2, 3, 17, max] {
        region.grow(pages * p).expect("grow");
        assert_eq!((region.as_ptr(), region.len()), (view, pages * p));
        assert_eq!((clone.as_ptr(), clone.len()), (view, pages * p), "a clone is the same region");
        let last = pages * p - 1;
        region.write_at(last, &[pages as u8]).expect("the new part");
        let found =
            space.tie(2 * p, &region, last + 1 - p..=last, Access::ReadOnly).expect("tie it");
        assert_eq!(peek(found.as_ptr().addr() + p - 1), pages as u8);
        found.untie().expect("untie");
        assert_bytes(first.as_ptr().addr(), &pattern(1, 2 * p)[..p], "a tie from before");
    }
    assert_eq!(fd(&region).metadata().expect("fstat").len(), (max * p) as u64);
    let mut middle = vec![1; p];
    region.read_at(30 * p, &mut middle).expect("read");
    assert_eq!(middle, vec![0; p], "grown pages read zero");
}

/// The region's descriptor, as a file of our own.
fn fd(region: &Region) -> File {
    File::from(region.fd().expect("a descriptor").try_clone_to_owned().expect("dup"))
}

fn seals(fd: BorrowedFd<'_>) -> i32 {
    // SAFETY: F_GET_SEALS takes no pointer.
    let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    assert!(seals >= 0, "F_GET_SEALS: {}", std::io::Error::last_os_error());
    seals
}

fn blocks(region: &Region) -> u64 {
    fd(region).metadata().expect("fstat").blocks()
}

#[test]
fn seals_of_a_region() {
    let p = page();
    for region in [
        Region::new(4 * p).expect("a region"),
        Region::builder().max_len(8 * p).name("sealed").build(4 * p).expect("a region"),
    ] {
        let found = seals(region.fd().expect("a descriptor"));
        assert_ne!(found & libc::F_SEAL_SHRINK, 0, "shrinking is sealed");
        assert_eq!(found & libc::F_SEAL_WRITE, 0, "writing is not");
        let shrunk = fd(&region).set_len(p as u64).expect_err("shrink");
        assert_eq!(shrunk.raw_os_error(), Some(libc::EPERM));
        // A kernel with MFD_NOEXEC_SEAL seals the executable bit, and leaves it clear.
        if kernel_has_noexec_seal() {
            assert_ne!(found & F_SEAL_EXEC, 0, "the executable bit is sealed");
            let mode = fd(&region).metadata().expect("fstat").mode();
            assert_eq!(mode & 0o111, 0, "and clear");
        }
    }
}

const F_SEAL_EXEC: i32 = 0x20;
const MFD_NOEXEC_SEAL: u32 = 8;

fn kernel_has_noexec_seal() -> bool {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"probe".as_ptr(), MFD_NOEXEC_SEAL) };
    if fd < 0 {
        skip(format_args!("MFD_NOEXEC_SEAL: {}", std::io::Error::last_os_error()));
        return false;
    }
    // SAFETY: opened just now, and nobody else's.
    unsafe { libc::close(fd) };
    true
}

#[test]
fn descriptor_received_from_elsewhere() {
    let p = page();
    let theirs = memfd(&pattern(1, 4 * p));
    let region = Region::from_fd(&theirs).expect("from_fd");
    assert_eq!((region.len(), region.is_read_only()), (4 * p, false));
    assert_eq!(region_bytes(&region), pattern(1, 4 * p));
    assert_ne!(fd(&region).as_raw_fd(), theirs.as_raw_fd());
    region.write_at(9, b"ours").expect("write");
    let mut seen = [0; 4];
    theirs.read_exact_at(&mut seen, 9).expect("read");
    assert_eq!(&seen, b"ours", "one object");
    theirs.write_all_at(b"them", 9).expect("write");

    // The region has a descriptor of its own: theirs may be closed.
    let number = theirs.as_raw_fd();
    drop(theirs);
    region.read_at(9, &mut seen).expect("read");
    assert_eq!(&seen, b"them");
    let own = region.fd().expect("a descriptor");
    assert_ne!(own.as_raw_fd(), number);
    // Through the descriptor a second region of the same pages can be made.
    let twin = Region::from_fd(own).expect("from_fd");
    assert_ne!(twin.as_ptr(), region.as_ptr(), "with a view of its own");
    twin.write_at(p, b"twin").expect("write");
    region.read_at(p, &mut seen).expect("read");
    assert_eq!(&seen, b"twin");
    let space = open_space(4);
    let tie = space.tie(0, &twin, .., Access::ReadWrite).expect("tie");
    poke(tie.as_ptr().addr(), 0x5a);
    assert_eq!(byte(&region, 0), 0x5a);
}

#[test]
fn descriptor_is_closed_on_exec() {
    for region in [region(1, 1), Region::from_fd(memfd(&pattern(1, page()))).expect("from_fd")] {
        let raw = region.fd().expect("a descriptor").as_raw_fd();
        // SAFETY: F_GETFD takes no pointer.
        let flags = unsafe { libc::fcntl(raw, libc::F_GETFD) };
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
    }
}

#[test]
fn write_sealed_descriptor() {
    let p = page();
    for seal in [libc::F_SEAL_WRITE, libc::F_SEAL_FUTURE_WRITE] {
        let theirs = memfd(&pattern(1, 4 * p));
        // SAFETY: F_ADD_SEALS takes no pointer.
        let rc = unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_ADD_SEALS, seal) };
        assert_eq!(rc, 0, "F_ADD_SEALS: {}", std::io::Error::last_os_error());
        let region = Region::from_fd(theirs.as_fd()).expect("from_fd");
        assert!(region.is_read_only(), "seal {seal:#x}");
        assert_eq!(region_bytes(&region), pattern(1, 4 * p));
        assert_eq!(region.write_at(0, &[1]).expect_err("sealed").kind(), ErrorKind::ReadOnly);
        let space = open_space(4);
        let tie = space.tie(0, &region, .., Access::ReadWrite).expect_err("sealed");
        assert_eq!(tie.kind(), ErrorKind::ReadOnly);
        for access in [Access::ReadOnly, Access::CopyOnWrite] {
            let tie = space.tie(0, &region, .., access).expect("tie");
            let start = tie.as_ptr().addr();
            assert_bytes(start, &pattern(1, 4 * p), "readable");
            // Whatever an engine does to the protection, it works and harms nobody.
            mprotect(start..start + p, PROT_READ | PROT_WRITE);
            poke(start, 0xee);
            assert_eq!(byte(&region, 0), pattern(1, 1)[0]);
        }
    }
}

#[test]
fn discard_frees_blocks() {
    let p = page();
    let region = region(1, 64);
    let full = blocks(&region);
    assert!(full >= (64 * p / 512) as u64, "{full} blocks");
    region.discard(16 * p..48 * p).expect("discard");
    assert_eq!(blocks(&region), full / 2, "half of the memory went back");
    let mut expected = pattern(1, 64 * p);
    expected[16 * p..48 * p].fill(0);
    assert_eq!(region_bytes(&region), expected);
    let view = region.bytes(16 * p..48 * p).expect("bytes").cast::<u8>().as_ptr().addr();
    region.discard(..).expect("discard");
    assert_eq!(blocks(&region), 0, "all of it");
    assert_zero(view..view + 32 * p, "discarded");
}

#[test]
fn prefetch_changes_no_byte() {
    let p = page();
    let file = file_of(&pattern(1, 5 * p + 7));
    let region = Region::open(file.path()).expect("open");
    for range in [0..region.len(), 0..1, p..3 * p, 2 * p + 5..region.len()] {
        region.prefetch(range).expect("prefetch");
    }
    region.prefetch(..).expect("prefetch");
    assert_eq!(region_bytes(&region), pattern(1, 5 * p + 7));
    let memory = common::region(2, 4);
    memory.prefetch(..).expect("prefetch");
    assert_eq!(region_bytes(&memory), pattern(2, 4 * p));
}

#[test]
fn prefault_of_the_view() {
    let p = page();
    let region = Region::builder().prefault(true).build(16 * p).expect("a region");
    assert!(blocks(&region) >= (16 * p / 512) as u64, "every page is there");
    assert_eq!(region_bytes(&region), vec![0; 16 * p]);
}

#[test]
fn names() {
    let p = page();
    let region = Region::builder().name("counted pages").build(p).expect("a region");
    let line = map_of(region.as_ptr().addr());
    assert!(line.name.contains("counted pages"), "{line:?}");
    for bad in ["a\0b".to_owned(), "\0".to_owned(), "x".repeat(300)] {
        let error = Region::builder().name(&bad).build(p).expect_err("no name for a memory object");
        assert!(!error.to_string().contains('\0'));
    }
    Region::builder().name(&"y".repeat(200)).build(p).expect("a long name");
    Region::builder().name("").build(p).expect("no name at all");
}

#[test]
fn views_are_apart_and_aligned() {
    let p = page();
    let large = Region::new(2 * HUGE).expect("a region");
    assert_eq!(large.as_ptr().addr() % HUGE, 0, "2 MiB aligned");
    let (a, b) = (region(1, 3), region(2, 3));
    assert_ne!(a.as_ptr(), b.as_ptr());
    assert_eq!((a.len(), a.is_empty(), a.page_size()), (3 * p, false, p));
    a.write_at(0, &[9; 64]).expect("write");
    assert_eq!(region_bytes(&b), pattern(2, 3 * p));
}

// ------------------------------------------------------------------------------ optimised code

/// The two addresses of one byte, as far as the compiler can see them.
struct Twice {
    region: Region,
    tie: pagetie::Tie,
    _space: Space,
}

fn twice() -> Twice {
    let (space, region) = (open_space(4), region(1, 4));
    let tie = space.tie(0, &region, .., Access::ReadWrite).expect("tie");
    Twice { region, tie, _space: space }
}

impl Twice {
    /// A region over the tied addresses' own object: another view of the same bytes.
    fn other_view(&self) -> Region {
        Region::from_fd(self.region.fd().expect("a descriptor")).expect("from_fd")
    }

    fn guest(&self) -> &[AtomicU8] {
        // SAFETY: the tie is live as long as self, and atomic bytes may be shared with anybody.
        unsafe { std::slice::from_raw_parts(self.tie.as_ptr().cast(), self.tie.len()) }
    }
}

#[test]
fn a_write_is_read_through_the_other_address() {
    let twice = twice();
    let (region, guest) = (&twice.region, twice.guest());
    let host = region.atomic_u8(..).expect("atomics");
    let other = twice.other_view();
    // Written so that an optimiser that takes the addresses for different memory would keep the
    // first value it has seen.
    for round in 0..2000usize {
        let i = (round * 37) % region.len();
        let value = (round % 251) as u8;
        let before = guest[i].load(Relaxed);
        host[i].store(value, Relaxed);
        assert_eq!(guest[i].load(Relaxed), value, "atomic to guest, was {before}");
        guest[i].store(!value, Relaxed);
        assert_eq!(host[i].load(Relaxed), !value, "guest to atomic");

        let mut bytes = [0; 16];
        let at = i.min(region.len() - 16);
        other.read_at(at, &mut bytes).expect("read");
        let mut changed = bytes;
        changed[round % 16] ^= 0xff;
        region.write_at(at, &changed).expect("write");
        other.read_at(at, &mut bytes).expect("read");
        assert_eq!(bytes, changed, "write_at to read_at of another view");
        assert_eq!(guest[at + round % 16].load(Relaxed), changed[round % 16], "write_at to guest");
        guest[at].store(value, Relaxed);
        region.read_at(at, &mut bytes).expect("read");
        assert_eq!(bytes[0], value, "guest to read_at");
        other.write_at(at, &[value ^ 1]).expect("write");
        assert_eq!(host[at].load(Relaxed), value ^ 1, "write_at of another view to atomic");
    }
}

#[test]
fn torn_but_never_invented() {
    // Two threads write overlapping ranges of one value each; whatever is read between is a byte
    // of one of them.
    const WRITERS: [u8; 2] = [0x11, 0xee];
    let twice = twice();
    let other = twice.other_view();
    let p = page();
    let ranges = [p + 3..2 * p + 11, p + 700..2 * p + 700];
    twice.region.write_at(0, &vec![WRITERS[0]; twice.region.len()]).expect("fill");
    thread::scope(|scope| {
        for (value, range) in WRITERS.into_iter().zip(ranges) {
            let region = if value == WRITERS[0] { &twice.region } else { &other };
            scope.spawn(move || {
                let bytes = vec![value; range.len()];
                for _ in 0..500 {
                    region.write_at(range.start, &bytes).expect("write");
                }
            });
        }
        let mut seen = vec![0; 2 * p];
        for _ in 0..500 {
            twice.region.read_at(p - 5, &mut seen).expect("read");
            if let Some(bad) = seen.iter().find(|b| !WRITERS.contains(b)) {
                panic!("a byte nobody wrote: {bad:#x}");
            }
        }
    });
}
