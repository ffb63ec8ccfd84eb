//! Do ties of one thread wait for those of another? 1, 2 and 4 threads that tie and untie, each in a space of
//! its own and all in one space.
//!
//! The kernel has one lock for all mappings of a process, so more threads cannot tie more than one does;
//! the bare calls beside it say what is the kernel's part.

#![allow(unsafe_code, clippy::disallowed_methods, reason = "the bare calls of the comparison")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pagetie::{Access, Covered, Prot, Region, Space, TieOptions, page};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{io, thread};

/// Pages of each thread.
const LEN: usize = 16;

/// Ties that each thread makes, between two looks at the clock.
const TIMES: u64 = 500;

/// How long `threads` threads take for `TIMES` rounds of `work` each, of which each is told its number.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || (0..TIMES).for_each(|_| work(thread)));
        }
    });
    start.elapsed()
}

fn space(threads: usize) -> Space {
    let space = Space::reserve(threads * LEN * page::size()).expect("reserve");
    space.protect(.., Prot::ReadWrite).expect("make it memory");
    space
}

/// One mmap over the pages, and one that takes it away.
fn bare(space: &Space, thread: usize, region: &Region) {
    let len = LEN * page::size();
    let addr: *mut libc::c_void = space.as_ptr().wrapping_add(thread * len).cast();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let fd = region.fd().expect("a descriptor").as_raw_fd();
    let map = |flags, fd| {
        // SAFETY: the pages are the bench's own, and no reference into them lives.
        let got = unsafe { libc::mmap(addr, len, prot, flags | libc::MAP_FIXED, fd, 0) };
        assert_eq!(got, addr, "{}", io::Error::last_os_error());
    };
    map(libc::MAP_SHARED, fd);
    map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1);
}

fn threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("threads that tie and untie");
    group.sample_size(20).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_secs(1));
    let region = Region::new(LEN * page::size()).expect("a region");
    let how = TieOptions::new(Access::ReadWrite).covered(Covered::Discard);
    let tie = |space: &Space, at: usize| {
        space.tie(at, &region, .., how).expect("tie").untie().expect("untie");
    };
    for count in [1, 2, 4] {
        group.throughput(Throughput::Elements(count as u64));
        let own: Vec<Space> = (0..count).map(|_| space(1)).collect();
        let shared = space(count);
        let per_tie = |rounds: u64, work: &(dyn Fn(usize) + Sync)| {
            (0..rounds).map(|_| together(count, work)).sum::<Duration>() / TIMES as u32
        };
        group.bench_function(BenchmarkId::new("own spaces", count), |bencher| {
            bencher.iter_custom(|rounds| per_tie(rounds, &|thread| tie(&own[thread], 0)));
        });
        group.bench_function(BenchmarkId::new("one space", count), |bencher| {
            let at = |thread| thread * LEN * page::size();
            bencher.iter_custom(|rounds| per_tie(rounds, &|thread| tie(&shared, at(thread))));
        });
        group.bench_function(BenchmarkId::new("bare calls", count), |bencher| {
            bencher.iter_custom(|rounds| per_tie(rounds, &|thread| bare(&shared, thread, &region)));
        });
    }
    group.finish();
}

criterion_group!(benches, threads);
criterion_main!(benches);
