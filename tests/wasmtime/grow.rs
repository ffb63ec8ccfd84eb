//! `memory.grow` under live ties: in place, and with the memory moving.

use pagetie::{Access, ErrorKind, page};

use crate::guest::{Guest, LEN, WASM_PAGE, assert_faults, moving, plain, pristine};
use crate::host::{Squatter, alone, pattern, read, region};

/// The same memory after it grew.
///
/// The tests grow only memories that keep the promises of `Space::borrow` at their new length,
/// or count on the refusal.
fn grown_to(space: &pagetie::Space, guest: &Guest) -> pagetie::Result<()> {
    // SAFETY: start and length are the engine's own, asked now.
    unsafe { space.grown_to(guest.addr(), guest.len()) }
}

#[test]
fn grows_in_place_under_live_ties() {
    let page = page::size();
    for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
        let low = region(2 * page, 1);
        let high = region(2 * page, 2);
        let mut guest = Guest::new(plain());
        guest.fill(LEN - page..LEN, 0x33).expect("writable");
        let start = guest.addr();
        let space = guest.space();
        // The last pages of the memory: what grows lies right behind them.
        let last = LEN - 2 * page;
        let tie = space.tie(last, &low, .., access).expect("a tie");

        guest.grow(2 * WASM_PAGE);
        assert_eq!(guest.addr(), start);
        assert_eq!(guest.len(), LEN + 2 * WASM_PAGE);
        let error = space.tie(LEN, &high, .., access).expect_err("not told yet");
        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");

        grown_to(&space, &guest).expect("same start, longer");
        assert_eq!(space.len(), guest.len());
        assert!(tie.is_live());
        assert_eq!(guest.bytes(last..LEN), pattern(2 * page, 1));
        low.write_at(9, &[250]).expect("in bounds");
        assert_eq!(guest.load(last + 9).expect("readable"), 250);
        match access {
            Access::ReadOnly => assert_faults(guest.store(last, 3)),
            _ => guest.store(last, 3).expect("writable"),
        }
        let written = if access == Access::ReadWrite { 3 } else { pattern(1, 1)[0] };
        assert_eq!(read(&low, 0..1), [written]);

        let above = space.tie(LEN, &high, .., access).expect("the grown part takes ties");
        assert_eq!(guest.bytes(LEN..LEN + 2 * page), pattern(2 * page, 2));

        // It grows once more, under both.
        guest.grow(WASM_PAGE);
        grown_to(&space, &guest).expect("same start, longer");
        assert_eq!(guest.bytes(LEN..LEN + 2 * page), pattern(2 * page, 2));

        above.untie().expect("nobody else was here");
        tie.untie().expect("nobody else was here");
        assert_eq!(guest.bytes(last..LEN - page), vec![0; page]);
        assert_eq!(guest.bytes(LEN - page..LEN), vec![0x33; page]);
        assert_eq!(guest.bytes(LEN..guest.len()), vec![0; guest.len() - LEN]);
        guest.fill(last..guest.len(), 0x44).expect("all of it is writable");
    }
}

#[test]
fn untied_before_it_moves() {
    // The right way where a memory may move: untie, grow, borrow it where it is now.
    let page = page::size();
    let region = region(2 * page, 3);
    let mut guest = Guest::new(moving());
    let start = guest.addr();
    let space = guest.space();
    let at = 2 * WASM_PAGE - page;
    let tie = space.tie(at, &region, .., Access::ReadWrite).expect("a tie");
    guest.store(at, 8).expect("writable");
    tie.untie().expect("nobody else was here");

    guest.grow(WASM_PAGE);
    assert_ne!(guest.addr(), start, "this engine moves what grows");
    let error = grown_to(&space, &guest).expect_err("another start");
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    assert_eq!((space.as_ptr(), space.len()), (start, LEN));
    space.leak();

    assert_eq!(guest.bytes(0..LEN), pristine());
    let space = guest.space();
    let tie = space.tie(at, &region, .., Access::ReadWrite).expect("a tie in the new place");
    assert_eq!(guest.load(at).expect("readable"), 8);
    tie.untie().expect("nobody else was here");
    assert_eq!(guest.bytes(0..LEN), pristine());
}

#[test]
fn moves_under_a_live_tie() {
    // Promise 2 is broken here: the memory goes while it is borrowed. What is left is the net.
    alone("grow::moves_under_a_live_tie", || {
        let page = page::size();
        for leaks in [false, true] {
            let region = region(2 * page, 4);
            let mut guest = Guest::new(moving());
            let start = guest.addr();
            let space = guest.space();
            let at = 4 * WASM_PAGE;
            let tie = space.tie(at, &region, .., Access::ReadWrite).expect("a tie");

            guest.grow(WASM_PAGE);
            assert_ne!(guest.addr(), start);
            let squatter = Squatter::new(start.wrapping_add(at - page), 4 * page);
            let error = grown_to(&space, &guest).expect_err("another start");
            assert_eq!(error.kind(), ErrorKind::Changed, "{error}");

            if leaks {
                space.leak();
                assert!(!tie.is_live());
                tie.untie().expect("it has ended");
            } else {
                let error = tie.untie().expect_err("somebody else is there");
                assert_eq!(error.error.kind(), ErrorKind::Changed, "{error}");
                assert!(!error.tie.is_live());
                assert!(space.ties().is_empty());
                drop(error);
                space.untie_all().expect("no page of ours is left");
                drop(space);
            }
            squatter.assert_untouched();

            // The engine has copied what the tie showed; the new place is no alias.
            assert_eq!(guest.bytes(at..at + 2 * page), pattern(2 * page, 4));
            guest.fill(at..at + 2 * page, 0).expect("writable");
            assert_eq!(read(&region, 0..2 * page), pattern(2 * page, 4));
        }
    });
}
