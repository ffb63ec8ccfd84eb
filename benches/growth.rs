//! What does one more tie cost where there are 10 to 15,000 already, and how many mappings do they take?

#![allow(unsafe_code, reason = "borrows memory")]

mod bare;
mod contest;

use bare::Memory;
use criterion::{Criterion, criterion_group, criterion_main};
use pagetie::{Access, Covered, Region, Space, Tie, TieOptions, page};
use std::{fs, time::Duration};

const COUNTS: [usize; 5] = [10, 100, 1_000, 5_000, 15_000];

/// A kept tie costs up to three mappings; these are for all else.
const SPARE: usize = 1_000;

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").expect("/proc").lines().count()
}

fn limit() -> usize {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(usize::MAX)
}

fn each_count(criterion: &mut Criterion) {
    for (name, covered) in [("Keep", Covered::Keep), ("Discard", Covered::Discard)] {
        grow(criterion, name, TieOptions::new(Access::ReadWrite).covered(covered));
    }
}

fn grow(criterion: &mut Criterion, name: &str, how: TieOptions) {
    let page = page::size();
    let last = COUNTS[COUNTS.len() - 1];
    // A page between two ties, so that their mappings do not merge, and a place for one more.
    let memory = Memory::new(2 * (last + 1) * page);
    for at in (0..memory.len()).step_by(page) {
        // SAFETY: inside of the memory, which nobody else uses.
        unsafe { memory.as_ptr().add(at).write_volatile(1) };
    }
    // SAFETY: plain memory of ours, which outlives the space and to which no references are made.
    let space = unsafe { Space::borrow(memory.as_ptr(), memory.len()) }.expect("borrow");
    let region = Region::new(page).expect("a region");
    region.write_at(0, &[7]).expect("write_at");
    let at = |k: usize| 2 * k * page;
    let mut ties: Vec<Tie> = Vec::new();
    let before = mappings();
    let mut group = criterion.benchmark_group(format!("one more tie + untie, covered: {name}"));
    for count in COUNTS {
        if before + 3 * count + SPARE > limit() {
            println!("skipped: vm.max_map_count is too low for {count} ties");
            continue;
        }
        while ties.len() < count {
            ties.push(space.tie(at(ties.len()), &region, .., how).expect("tie"));
        }
        let taken = mappings() - before;
        assert!(taken <= 3 * count + SPARE, "{taken} mappings");
        println!("{count} ties, covered: {name}: {taken} mappings");
        group.bench_function(format!("{count} ties"), |b| {
            b.iter(|| {
                let tie = space.tie(at(last), &region, .., how).expect("tie");
                // SAFETY: the tie is live, and nobody writes the region.
                assert_eq!(unsafe { tie.as_ptr().read_volatile() }, 7);
                tie.untie().expect("untie");
            });
        });
    }
    group.finish();
    for tie in ties {
        tie.untie().expect("untie");
    }
    // SAFETY: the space's own memory, with nothing tied there.
    let back = unsafe { memory.as_ptr().read_volatile() };
    assert_eq!(back, if how == TieOptions::new(Access::ReadWrite) { 1 } else { 0 });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = each_count
}
criterion_main!(benches);
