//! Windows: any bytes of a region, at one place of a space; made ready ahead, without a page fault to
//! follow.

#![allow(unsafe_code, reason = "tests borrow memory of their own, as an engine would")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

mod common;

use std::io::Write as _;
use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use common::*;
use pagetie::{Access, ErrorKind, HugePages, Prot, Region, Space, Window};

/// Shows a range and compares every byte of it.
#[track_caller]
fn assert_shows(window: &mut Window, space: &Space, range: Range<usize>, expected: &[u8]) {
    let at = window.show(range.clone()).unwrap_or_else(|error| panic!("{range:?}: {error}"));
    assert!(window.at() <= at && at + range.len() <= window.at() + window.len(), "{range:?}");
    assert_bytes(space.as_ptr().addr() + at, &expected[range.clone()], format_args!("{range:?}"));
    let shown = window.shown();
    assert!(shown.start <= range.start && range.end <= shown.end, "{range:?} in {shown:?}");
}

#[test]
fn any_bytes_are_shown_wherever_they_begin() {
    let (memory, region) = (Memory::private(16), region(1, 100));
    let (old, all) = (memory.fill(2), region_bytes(&region));
    for access in ACCESSES {
        let space = memory.borrow();
        let mut window =
            Window::new(&space, 3 * page(), 8 * page(), &region, access).expect("window");
        assert_eq!((window.at(), window.len(), window.access()), (3 * page(), 8 * page(), access));
        let mut state = 7_u64;
        for round in 0..400 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let start = (state >> 33) as usize % all.len();
            let longest = 8 * page() - start % page();
            let len = 1 + (state >> 13) as usize % longest.min(all.len() - start);
            if round % 3 == 0 {
                window.prepare(start..start + len).expect("prepare");
            }
            assert_shows(&mut window, &space, start..start + len, &all);
        }
        // Rows of 12 bytes, and the very end.
        for row in (0..all.len() / 12).step_by(97) {
            assert_shows(&mut window, &space, row * 12..row * 12 + 12, &all);
        }
        assert_shows(&mut window, &space, all.len() - 1..all.len(), &all);
        window.untie().expect("untie");
        assert_bytes(memory.start(), &old, "afterwards");
    }
}

#[test]
fn what_is_visible_already_is_left_alone() {
    let (memory, region) = (Memory::private(8), region(1, 32));
    let space = memory.borrow();
    let mut window = Window::new(&space, 0, 4 * page(), &region, Access::CopyOnWrite).expect("new");
    let at = window.show(pages(8..10)).expect("show");
    write(memory.start() + at, b"private");
    let again = window.show(pages(9..12)).expect("show");
    assert_eq!(again, at + page());
    assert_bytes(memory.start() + at, b"private", "it did not slide");
    window.show(pages(20..21)).expect("show");
    let back = window.show(pages(8..9)).expect("show");
    assert_bytes(memory.start() + back, &region_bytes(&region)[pages(8..9)], "it slid");
}

#[test]
fn ranges_that_cannot_be_shown_say_why() {
    let (space, region) = (Space::reserve(16 * page()).expect("reserve"), region(1, 32));
    let mut window = Window::new(&space, 0, 4 * page(), &region, Access::ReadOnly).expect("new");
    let kind = |window: &mut Window, range| window.show(range).expect_err("refused").kind();
    assert_eq!(kind(&mut window, 5..5), ErrorKind::Empty);
    assert_eq!(kind(&mut window, region.len() - 1..region.len() + 1), ErrorKind::OutOfRange);
    #[expect(clippy::reversed_empty_ranges, reason = "what a caller may get wrong")]
    let backwards = 7..5;
    assert_eq!(kind(&mut window, backwards), ErrorKind::OutOfRange);
    // One byte more than the pages of the window hold.
    assert_eq!(
        window.show(page() - 1..5 * page() - 1).expect_err("long").kind(),
        ErrorKind::OutOfRange
    );
    let error = window.show(1..4 * page() + 1).expect_err("long");
    assert_eq!(error.range(), Some(1..4 * page() + 1), "counted from its first page");
    assert!(error.to_string().contains("the window"), "{error}");
    assert_eq!(window.prepare(5..5).expect_err("empty").kind(), ErrorKind::Empty);
    assert_eq!(window.shown(), pages(0..4), "nothing has changed");

    let new = |at, len| Window::new(&space, at, len, &region, Access::ReadOnly);
    assert_eq!(new(1, page()).expect_err("inside a page").kind(), ErrorKind::Misaligned);
    assert_eq!(new(page() * 4, page() + 1).expect_err("odd").kind(), ErrorKind::Misaligned);
    assert_eq!(new(page() * 4, 0).expect_err("nothing").kind(), ErrorKind::Empty);
    assert_eq!(new(page() * 15, 2 * page()).expect_err("long").kind(), ErrorKind::OutOfRange);
    assert_eq!(new(page() * 3, 2 * page()).expect_err("tied").kind(), ErrorKind::Overlap);
}

#[test]
fn a_window_is_as_long_as_its_region_at_most() {
    let mut file = tempfile::tempfile().expect("a file");
    let bytes = pattern(3, 5 * page() + 100);
    file.write_all(&bytes).expect("write");
    let region = Region::from_fd(&file).expect("a region");
    let space = Space::reserve(64 * page()).expect("reserve");
    let mut window = Window::new(&space, 0, 32 * page(), &region, Access::ReadOnly).expect("new");
    assert_eq!(window.len(), 6 * page());
    assert_eq!(window.shown(), 0..bytes.len());
    assert_shows(&mut window, &space, 5 * page() + 90..bytes.len(), &bytes);
    drop(window);
    // Shorter than the file: its last bytes too.
    let mut window = Window::new(&space, 0, 2 * page(), &region, Access::ReadOnly).expect("new");
    window.prepare(bytes.len() - 1..bytes.len()).expect("prepare");
    assert_shows(&mut window, &space, bytes.len() - 1..bytes.len(), &bytes);
    assert_shows(&mut window, &space, 0..1, &bytes);
}

#[test]
fn another_thread_prepares_what_comes_next() {
    let chunk = HUGE + 5 * page();
    let region = region(9, 9 * chunk / page());
    let all = region_bytes(&region);
    for at in [0, 3 * page()] {
        let memory = Memory::private(2 * chunk / page());
        let space = memory.borrow();
        let mut window =
            Window::new(&space, at, chunk, &region, Access::ReadWrite).expect("window");
        let preparer = window.preparer();
        let (ask, asked) = mpsc::channel::<Range<usize>>();
        thread::scope(|scope| {
            scope.spawn(move || {
                asked.iter().for_each(|range| preparer.prepare(range).expect("prepare"))
            });
            for n in 0..9 {
                let range = n * chunk..(n + 1) * chunk;
                assert_shows(&mut window, &space, range.clone(), &all);
                if n < 8 {
                    ask.send(range.end..range.end + chunk).expect("the other thread");
                }
            }
            drop(ask);
        });
    }
}

#[test]
fn what_was_prepared_is_shown_without_a_fault() {
    alone(|| {
        let chunk = 2 * HUGE;
        let region = region(1, 4 * chunk / page());
        let space = Space::reserve(chunk).expect("reserve");
        for access in ACCESSES {
            let mut window = Window::new(&space, 0, chunk, &region, access).expect("window");
            let mut scan = |prepared: bool, n: usize| {
                let range = n * chunk..(n + 1) * chunk;
                if prepared {
                    window.prepare(range.clone()).expect("prepare");
                }
                let before = faults();
                let addr = space.as_ptr().addr() + window.show(range.clone()).expect("show");
                touch_each_page(addr..addr + chunk);
                faults() - before
            };
            let cold = scan(false, 1);
            let warm = scan(true, 2).min(scan(true, 3));
            assert!(warm < 16, "{access:?}: {warm} faults");
            // The test wrote the region through the view that read-write windows have page tables from.
            assert_eq!(cold < 16, access == Access::ReadWrite, "{access:?}: {cold} faults");
        }
    });
}

#[test]
fn nothing_is_left_of_what_was_prepared() {
    alone(|| {
        let region = region(1, 3 * HUGE / page());
        let space = Space::reserve(HUGE).expect("reserve");
        let round = |n: usize| {
            let mut window = Window::new(&space, 0, HUGE, &region, ACCESSES[n % 3]).expect("new");
            window.prepare(HUGE..2 * HUGE).expect("prepare");
            if n % 4 > 0 {
                window.show(HUGE..2 * HUGE).expect("show");
            }
            if n % 4 > 1 {
                window.prepare(2 * HUGE..3 * HUGE).expect("prepare");
            }
            if n % 4 > 2 {
                window.show(0..1).expect("show something else");
            }
        };
        (0..12).for_each(round);
        let before = maps().len();
        (0..120).for_each(round);
        assert_eq!(maps().len(), before);
    });
}

#[test]
fn a_window_ends_with_its_space() {
    let (memory, region) = (Memory::private(8), region(1, 32));
    let old = memory.fill(3);
    let space = memory.borrow();
    let mut window = Window::new(&space, 0, 4 * page(), &region, Access::ReadWrite).expect("new");
    window.prepare(pages(8..9)).expect("prepare");
    space.untie_all().expect("untie all");
    assert!(!window.is_live());
    assert_bytes(memory.start(), &old, "untied");
    assert_eq!(window.show(pages(8..9)).expect_err("ended").kind(), ErrorKind::Ended);
    assert_eq!(window.show(0..1).expect_err("visible, had it not ended").kind(), ErrorKind::Ended);
    assert_bytes(memory.start(), &old, "untouched");
    let preparer = window.preparer();
    window.untie().expect("an ended window");
    preparer.prepare(pages(8..9)).expect("of no use, and harmless");
}

#[test]
fn pages_replaced_by_somebody_else_end_the_window() {
    let (memory, region) = (Memory::private(8), region(1, 32));
    let space = memory.borrow();
    let mut window = Window::new(&space, 0, 4 * page(), &region, Access::ReadWrite).expect("new");
    window.prepare(pages(8..9)).expect("prepare");
    map(memory.start(), 4 * page(), libc::PROT_READ, PRIVATE, None);
    assert_eq!(window.show(pages(8..9)).expect_err("changed").kind(), ErrorKind::Changed);
    assert!(!window.is_live());
    assert_zero(memory.pages(0..4), "not touched");
}

#[test]
fn a_protected_window_slides_and_is_accessible_again() {
    let (space, region) =
        (Space::reserve(2 * HUGE).expect("reserve"), region(1, 3 * HUGE / page()));
    let all = region_bytes(&region);
    let mut window = Window::new(&space, 0, HUGE, &region, Access::ReadWrite).expect("new");
    window.prepare(HUGE..2 * HUGE).expect("prepare");
    space.protect(pages(1..2), Prot::None).expect("protect");
    assert_shows(&mut window, &space, HUGE..2 * HUGE, &all);
    assert_eq!(perms(space.as_ptr().addr()..space.as_ptr().addr() + 3 * page()), ["rw-s"; 3]);
}

#[test]
fn windows_of_huge_pages_slide_too() {
    let region = Region::builder().huge_pages(HugePages::Require(HUGE)).build(3 * HUGE);
    let region = match region {
        Err(error) => return skip(format_args!("windows of huge pages: {error}")),
        Ok(region) => region,
    };
    region.write_at(2 * HUGE + 5, b"huge").expect("write");
    let all = region_bytes(&region);
    let space = Space::reserve(2 * HUGE).expect("reserve");
    let mut window = Window::new(&space, HUGE, HUGE, &region, Access::ReadWrite).expect("new");
    assert_shows(&mut window, &space, HUGE + 3..2 * HUGE, &all);
    window.prepare(2 * HUGE + 5..2 * HUGE + 9).expect("prepare");
    assert_shows(&mut window, &space, 2 * HUGE + 5..2 * HUGE + 9, &all);
}

#[test]
fn what_was_shown_before_is_warm_still() {
    alone(|| {
        let chunk = 2 * HUGE;
        let region = region(1, 3 * chunk / page());
        let all = region_bytes(&region);
        let space = Space::reserve(chunk).expect("reserve");
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let mut window = Window::new(&space, 0, chunk, &region, access).expect("window");
            for n in [0, 1, 2] {
                window.prepare(n * chunk..(n + 1) * chunk).expect("prepare");
                assert_shows(&mut window, &space, n * chunk..(n + 1) * chunk, &all);
            }
            for n in [0, 1, 2, 0] {
                let before = faults();
                let at = window.show(n * chunk + 5..(n + 1) * chunk).expect("show");
                let addr = space.as_ptr().addr() + at;
                touch_each_page(addr..addr + chunk - 5);
                let warm = faults() - before;
                assert!(warm < 16, "{access:?}, chunk {n}: {warm} faults");
                region.write_at(n * chunk + 5, &[77]).expect("write");
                assert_eq!(peek(addr), 77, "it follows the region");
                region.write_at(n * chunk + 5, &all[n * chunk + 5..][..1]).expect("write");
            }
        }
    });
}

#[test]
fn private_pages_of_a_read_only_window_are_not_shown_again() {
    let chunk = HUGE;
    let memory = Memory::private(chunk / page());
    let region = region(1, 3 * chunk / page());
    let all = region_bytes(&region);
    for noted in [false, true] {
        let space = memory.borrow();
        let mut window = Window::new(&space, 0, chunk, &region, Access::ReadOnly).expect("window");
        // An engine that grows makes everything writable, and its guest stores.
        mprotect(memory.all(), libc::PROT_READ | libc::PROT_WRITE);
        write(memory.start(), b"stored by the guest");
        if noted {
            // SAFETY: the memory is the test's own, and as long as it was.
            unsafe { space.grown_to(space.as_ptr(), space.len()) }.expect("grown");
        }
        window.prepare(chunk..2 * chunk).expect("prepare");
        assert_shows(&mut window, &space, chunk..2 * chunk, &all);
        assert_shows(&mut window, &space, 0..chunk, &all);
        assert_bytes(region.as_ptr().addr(), &all, "the region");
    }
}
