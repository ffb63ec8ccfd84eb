//! What guest and host see of each other through a tie, and where the guest traps.

use pagetie::{Access, ErrorKind, Prot, Space, page};

use crate::guest::{DATA, Guest, LEN, WASM_PAGE, assert_faults, moving, plain, pristine};
use crate::host::{pattern, read, region, sum};

/// Where most tests tie: zeros of the guest.
const AT: usize = 4 * WASM_PAGE;

#[test]
fn read_write_shows_both_sides_the_same_bytes() {
    let page = page::size();
    for module in [plain(), moving()] {
        let region = region(4 * page, 1);
        let mut guest = Guest::new(module);
        let space = guest.space();
        let tie = space.tie(AT, &region, page..4 * page, Access::ReadWrite).expect("a tie");
        assert_eq!(tie.as_ptr(), guest.addr().wrapping_add(AT));

        let shown = read(&region, page..4 * page);
        assert_eq!(guest.sum(AT..AT + tie.len()).expect("readable"), sum(&shown));
        assert_eq!(guest.bytes(AT..AT + tie.len()), shown);
        assert_eq!(guest.load(AT - 1).expect("readable"), 0);
        assert_eq!(guest.load(AT + tie.len()).expect("readable"), 0);

        guest.store(AT + page, 0xab).expect("writable");
        assert_eq!(read(&region, 2 * page..2 * page + 1), [0xab]);
        region.write_at(4 * page - 1, &[0xcd]).expect("in bounds");
        assert_eq!(guest.load(AT + 3 * page - 1).expect("readable"), 0xcd);
        guest.fill(AT - 8..AT + 8, 0x11).expect("writable");
        assert_eq!(read(&region, page - 8..page), pattern(page, 1)[page - 8..]);
        assert_eq!(read(&region, page..page + 8), [0x11; 8]);
    }
}

#[test]
fn copy_on_write_keeps_the_guests_writes_from_the_region() {
    let page = page::size();
    let region = region(2 * page, 2);
    let mut guest = Guest::new(plain());
    let space = guest.space();
    let tie = space.tie(AT, &region, .., Access::CopyOnWrite).expect("a tie");

    region.write_at(3, &[200]).expect("in bounds");
    assert_eq!(guest.load(AT + 3).expect("readable"), 200);
    guest.store(AT + 4, 201).expect("writable");
    assert_eq!(guest.load(AT + 4).expect("readable"), 201);
    assert_eq!(read(&region, 4..5), pattern(5, 2)[4..]);

    // The page that was written no longer follows the region; the other one does.
    region.write_at(5, &[202]).expect("in bounds");
    region.write_at(page + 5, &[203]).expect("in bounds");
    assert_ne!(guest.load(AT + 5).expect("readable"), 202);
    assert_eq!(guest.load(AT + page + 5).expect("readable"), 203);

    space.discard(AT..AT + tie.len()).expect("private changes can go");
    assert_eq!(guest.bytes(AT..AT + tie.len()), read(&region, 0..2 * page));
}

#[test]
fn store_to_read_only_traps_and_the_instance_goes_on() {
    let page = page::size();
    for module in [plain(), moving()] {
        let region = region(2 * page, 3);
        let mut guest = Guest::new(module);
        let space = guest.space();
        let tie = space.tie(AT, &region, .., Access::ReadOnly).expect("a tie");

        for round in 0..3 {
            assert_faults(guest.store(AT + round, 0));
            assert_faults(guest.store(AT + 2 * page - 1, 0));
            region.write_at(round, &[100]).expect("in bounds");
            let shown = read(&region, 0..2 * page);
            assert_eq!(guest.sum(AT..AT + 2 * page).expect("readable"), sum(&shown));
            guest.store(AT - 1, 1).expect("untied");
            guest.store(AT + 2 * page, 1).expect("untied");
        }
        let mut expected = pattern(2 * page, 3);
        expected[..3].fill(100);
        assert_eq!(read(&region, 0..2 * page), expected);

        tie.untie().expect("nobody else was here");
        guest.store(AT, 9).expect("the guest's own page again");
        assert_eq!(read(&region, 0..2 * page), expected);
    }
}

#[test]
fn protected_page_traps_and_the_instance_goes_on() {
    let page = page::size();
    for module in [plain(), moving()] {
        let region = region(2 * page, 4);
        let mut guest = Guest::new(module);
        let space = guest.space();
        guest.store(0, 42).expect("writable");
        let _tie = space.tie(AT, &region, .., Access::ReadWrite).expect("a tie");

        // An untied page and the first of two tied ones.
        for at in [0, AT] {
            let before = guest.load(at).expect("readable");
            space.protect(at..at + page, Prot::None).expect("protects");
            assert_faults(guest.load(at));
            assert_faults(guest.load(at + page - 1));
            assert_faults(guest.store(at, 1));
            guest.store(at + page, 5).expect("the next page is open");

            space.protect(at..at + page, Prot::Read).expect("protects");
            assert_eq!(guest.load(at).expect("readable"), before);
            assert_faults(guest.store(at, 1));

            space.protect(at..at + page, Prot::ReadWrite).expect("protects");
            guest.store(at, 1).expect("open again");
            assert_eq!(guest.load(at).expect("readable"), 1);
        }
        assert_eq!(read(&region, 0..1), [1]);
        assert_eq!(read(&region, page..page + 1), [5]);
    }
}

#[test]
fn bulk_stores_into_copy_on_write_work() {
    // The engine's native code stores here, not compiled wasm: a fault would end the process.
    let page = page::size();
    let region = region(2 * page, 5);
    let mut guest = Guest::new(plain());
    let space = guest.space();
    let tie = space.tie(AT, &region, .., Access::CopyOnWrite).expect("a tie");

    guest.fill(AT - 16..AT + page + 16, 0x77).expect("nothing faults");
    assert_eq!(guest.bytes(AT - 16..AT + page + 16), vec![0x77; page + 32]);
    guest.copy(AT + page + 16, DATA).expect("nothing faults");
    assert_eq!(guest.bytes(AT + page + 16..AT + page + 16 + DATA.len()), pristine()[DATA]);
    assert_eq!(read(&region, 0..2 * page), pattern(2 * page, 5));

    tie.untie().expect("nobody else was here");
    assert_eq!(guest.bytes(AT..AT + 2 * page), vec![0; 2 * page]);
    assert_eq!(guest.bytes(AT - 16..AT), [0x77; 16]);
}

#[test]
fn bulk_copy_out_of_read_only_works() {
    let page = page::size();
    let region = region(3 * page, 6);
    let mut guest = Guest::new(plain());
    let space = guest.space();
    let tie = space.tie(AT, &region, .., Access::ReadOnly).expect("a tie");

    let to = 9 * WASM_PAGE + 5;
    guest.copy(to, AT + 7..AT + 3 * page).expect("reads through the tie");
    assert_eq!(guest.bytes(to..to + 3 * page - 7), pattern(3 * page, 6)[7..]);

    // What was copied is the guest's own.
    tie.untie().expect("nobody else was here");
    assert_eq!(guest.bytes(to..to + 3 * page - 7), pattern(3 * page, 6)[7..]);
}

#[test]
fn memory_of_another_space_is_refused() {
    let page = page::size();
    let guest = Guest::new(plain());
    let space = guest.space();
    let again = |from: usize, to: usize| {
        // SAFETY: as in `Guest::space`; refused, or used for nothing.
        unsafe { Space::borrow(guest.addr().wrapping_add(from), to - from) }
    };
    for (from, to) in [(0, LEN), (0, page), (LEN - page, LEN), (AT, AT + page)] {
        let error = again(from, to).expect_err("a space covers this memory");
        assert_eq!(error.kind(), ErrorKind::Overlap, "{error}");
    }

    drop(space);
    let halves = (again(0, LEN / 2), again(LEN / 2, LEN));
    assert!(halves.0.is_ok() && halves.1.is_ok(), "neighbours do not overlap: {halves:?}");
    halves.0.expect("borrowed").leak();
    again(0, LEN / 2).expect("a leaked space covers nothing");
}
