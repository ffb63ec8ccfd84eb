//! Do ties stay cheap as they become many? The time of a tie and its untie, with 10 to 15,000 others in the
//! space, and how many mappings those take.
//!
//! Ties that keep what they cover take three mappings each, and the process has 65,530 of them unless
//! the machine says otherwise: where that is not enough, the bench says so and stops there.

#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "borrows memory of its own, as an engine would"
)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pagetie::{Access, Covered, Region, Space, Tie, TieOptions, page};
use std::{fs, ptr, time::Duration};

const MANY: usize = 15_000;

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count())
}

/// Memory as an engine maps it: every other page of it can be tied, and the very first.
fn borrowed(pages: usize) -> Space {
    let len = pages * page::size();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, of nobody else's.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    // SAFETY: the mapping above stays to the end of the process, and only bytes are in it.
    unsafe { Space::borrow(start.cast(), len) }.expect("borrow")
}

fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a tie and its untie beside others");
    group.sample_size(20).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(700));
    let page = page::size();
    let region = Region::new(2 * page).expect("a region");
    for covered in [Covered::Keep, Covered::Discard] {
        let how = TieOptions::new(Access::ReadWrite).covered(covered);
        let space = borrowed(2 * MANY + 4);
        let none = mappings();
        let mut ties: Vec<Tie> = Vec::new();
        for others in [10, 100, 1_000, 5_000, 10_000, MANY] {
            while ties.len() < others {
                let at = (2 * ties.len() + 2) * page;
                match space.tie(at, &region, ..page, how) {
                    Ok(tie) => ties.push(tie),
                    Err(error) => {
                        println!("skipped: {covered:?} beside {others}: {error}");
                        break;
                    }
                }
            }
            if ties.len() < others {
                break;
            }
            println!("{covered:?}: {others} ties take {} mappings", mappings() - none);
            group.bench_function(BenchmarkId::new(format!("{covered:?}"), others), |bencher| {
                bencher.iter(|| space.tie(0, &region, page.., how).expect("tie").untie())
            });
        }
    }
    group.finish();
}

criterion_group!(benches, growth);
criterion_main!(benches);
