//! What the guest gets back, and handles that end in every order.

use pagetie::{Access, ErrorKind, page};

use crate::guest::{DATA, Guest, LEN, WASM_PAGE, data_pages, moving, plain, pristine};
use crate::host::{Squatter, alone, mappings, pattern, read, region};

#[test]
fn untie_restores_bytes_and_data_segments() {
    let page = page::size();
    for module in [plain(), moving()] {
        for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
            let region = region(data_pages().len(), 1);
            let mut guest = Guest::new(module);
            // One byte of the segment is the guest's own by now, and one of the zeros.
            guest.store(DATA.start + 1, 255).expect("writable");
            guest.store(8 * WASM_PAGE, 254).expect("writable");
            let before = guest.bytes(0..LEN);
            let space = guest.space();
            let mapped = format!("{:?}", space.inspect(..).expect("the kernel answers"));

            let over_data = space.tie(data_pages().start, &region, .., access).expect("a tie");
            let over_zeros = space.tie(8 * WASM_PAGE, &region, ..page, access).expect("a tie");
            assert_eq!(guest.bytes(data_pages()), pattern(data_pages().len(), 1));
            if access != Access::ReadOnly {
                guest.fill(data_pages(), 0xee).expect("writable");
            }
            over_zeros.untie().expect("nobody else was here");
            over_data.untie().expect("nobody else was here");

            assert!(guest.bytes(0..LEN) == before, "{access:?}: other bytes than before");
            assert_eq!(format!("{:?}", space.inspect(..).expect("the kernel answers")), mapped);
            guest.fill(0..LEN, 1).expect("all of it is writable");
            let kept = match access {
                Access::ReadWrite => vec![0xee; data_pages().len()],
                _ => pattern(data_pages().len(), 1),
            };
            assert_eq!(read(&region, 0..region.len()), kept);
        }
    }
}

#[test]
fn drops_restore_like_untie() {
    let page = page::size();
    for space_first in [false, true] {
        let region = region(data_pages().len(), 2);
        let mut guest = Guest::new(plain());
        let space = guest.space();
        let over_data =
            space.tie(data_pages().start, &region, .., Access::ReadWrite).expect("a tie");
        let over_zeros =
            space.tie(8 * WASM_PAGE, &region, ..page, Access::CopyOnWrite).expect("a tie");
        guest.fill(data_pages(), 0xdd).expect("writable");

        if space_first {
            drop(space);
            assert!(!over_data.is_live() && !over_zeros.is_live());
            assert!(guest.bytes(0..LEN) == pristine());
            over_data.untie().expect("it has ended");
            guest.store(0, 7).expect("the guest runs on");
            drop(guest);
            // The other handle outlives space, memory and store.
            drop(over_zeros);
        } else {
            drop(over_zeros);
            drop(over_data);
            assert!(guest.bytes(0..LEN) == pristine());
            assert!(space.ties().is_empty());
        }
        assert_eq!(read(&region, 0..region.len()), vec![0xdd; region.len()]);
    }
}

#[test]
fn leaked_space_leaves_the_alias_to_the_engine() {
    // For memory that is going anyway: the engine unmaps it with what it shows.
    let page = page::size();
    let region = region(2 * page, 4);
    let mut guest = Guest::new(plain());
    let space = guest.space();
    let tie = space.tie(0, &region, .., Access::ReadWrite).expect("a tie");
    space.leak();
    assert!(!tie.is_live());
    tie.untie().expect("it has ended");
    guest.store(0, 91).expect("writable");
    assert_eq!(read(&region, 0..1), [91]);
    drop(guest);
    assert_eq!(read(&region, 1..2 * page), pattern(2 * page, 4)[1..]);
}

#[test]
fn store_dropped_under_a_live_tie() {
    // Promise 2 is broken here: the engine unmaps the memory while it is borrowed, and somebody
    // else maps the same addresses. Nothing of his is touched, and nothing of ours is left.
    alone("teardown::store_dropped_under_a_live_tie", || {
        let page = page::size();
        let region = region(2 * page, 3);
        let at = 2 * WASM_PAGE - page;
        let mut settled = 0;
        for round in 0..60 {
            if round == 12 {
                settled = mappings();
            }
            let mut guest = Guest::new(if round % 2 == 0 { plain() } else { moving() });
            let space = guest.space();
            let tie = space.tie(at, &region, .., Access::ReadWrite).expect("a tie");
            guest.store(at, 90).expect("writable");
            drop(guest);
            let squatter = Squatter::new(tie.as_ptr().wrapping_sub(page), 4 * page);

            match round % 4 {
                0 | 1 => {
                    let error = tie.untie().expect_err("somebody else is there");
                    assert_eq!(error.error.kind(), ErrorKind::Changed, "{error}");
                    assert!(!error.tie.is_live());
                    assert!(space.ties().is_empty());
                    drop(error);
                    space.untie_all().expect("no page of ours is left");
                    drop(space);
                }
                2 => {
                    drop(tie);
                    squatter.assert_untouched();
                    drop(space);
                }
                _ => {
                    drop(space);
                    squatter.assert_untouched();
                    assert!(!tie.is_live());
                    drop(tie);
                }
            }
            squatter.assert_untouched();
        }
        let mut expected = pattern(2 * page, 3);
        expected[0] = 90;
        assert_eq!(read(&region, 0..2 * page), expected);
        let left = mappings();
        assert!(left <= settled + 8, "{settled} mappings became {left} in 48 rounds");
    });
}
