//! Huge pages that need no privilege: a region that was collapsed is huge in every tie whose address and
//! offset agree modulo 2 MiB, and in no other. The kernel's own account of it is smaps.

#![allow(unsafe_code, reason = "reads what it tied")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

mod common;

use common::*;
use pagetie::{Access, HugePages, Region, Space, TieOptions};

/// Bytes mapped by huge entries in the mappings that touch a range.
fn huge_bytes(range: std::ops::Range<usize>) -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    let (mut within, mut kib) = (false, 0);
    for line in smaps.lines() {
        if let Some((addresses, _)) = line.split_once(' ').filter(|(word, _)| word.contains('-')) {
            let bound = |text| usize::from_str_radix(text, 16).expect("an address");
            let (start, end) = addresses.split_once('-').expect("two addresses");
            within = bound(start) < range.end && range.start < bound(end);
        } else if let (true, Some(rest)) = (within, line.strip_prefix("ShmemPmdMapped:")) {
            kib += rest.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
        }
    }
    kib << 10
}

/// A region whose memory is huge, where this kernel can do that.
fn collapsed(preferred: HugePages) -> Option<Region> {
    let region = Region::builder().huge_pages(preferred).build(4 * HUGE).expect("a region");
    region.write_at(0, &pattern(1, region.len())).expect("fill");
    match region.collapse().expect("collapse") {
        0 => {
            skip("huge pages without privilege: this kernel collapses nothing");
            None
        }
        huge => {
            assert_eq!(huge, region.len());
            assert_eq!(region_bytes(&region), pattern(1, region.len()));
            Some(region)
        }
    }
}

#[test]
fn congruent_ties_are_huge_and_others_are_not() {
    for preferred in [HugePages::Never, HugePages::Prefer] {
        let Some(region) = collapsed(preferred) else { return };
        let space = Space::reserve(16 * HUGE).expect("reserve");
        for access in [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite] {
            let start = space.as_ptr().addr();
            for (at, congruent) in [(4 * HUGE, true), (8 * HUGE + 8 * page(), false)] {
                let tie = space.tie(at, &region, HUGE..3 * HUGE, access).expect("tie");
                assert_eq!(space.ties()[0].congruent, congruent, "{at:#x}");
                let tied = start + at..start + at + tie.len();
                assert_bytes(tied.start, &pattern(1, region.len())[HUGE..3 * HUGE], "tied");
                let huge = if congruent { tie.len() } else { 0 };
                assert_eq!(huge_bytes(tied), huge, "{preferred:?}, {access:?}, {at:#x}");
                tie.untie().expect("untie");
            }
        }
    }
}

#[test]
fn huge_pages_stay_huge_where_a_tie_is_parked_and_in_a_window() {
    let Some(region) = collapsed(HugePages::Prefer) else { return };
    let space = Space::reserve(16 * HUGE).expect("reserve");
    let start = space.as_ptr().addr();
    let how = TieOptions::new(Access::ReadOnly);
    let tie = space.tie(0, &region, .., how).expect("tie");
    assert_bytes(start, &pattern(1, region.len()), "tied");
    let tie = tie.park().expect("park").resume(&space, 8 * HUGE).expect("resume");
    assert_eq!(huge_bytes(start + 8 * HUGE..start + 12 * HUGE), region.len(), "without a touch");
    tie.untie().expect("untie");

    let mut window = pagetie::Window::new(&space, 2 * HUGE, HUGE, &region, how).expect("window");
    window.prepare(2 * HUGE..3 * HUGE).expect("prepare");
    let at = window.show(2 * HUGE + 100..2 * HUGE + 200).expect("show");
    assert_eq!(at, 2 * HUGE + 100);
    assert_eq!(huge_bytes(start + 2 * HUGE..start + 3 * HUGE), HUGE, "without a touch");
}
