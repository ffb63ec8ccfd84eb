//! Do threads that tie wait for each other: in spaces of their own, and in one?
//!
//! Each thread ties and unties at its own place. The kernel changes the mappings of a process one at a
//! time, so bare calls do not get faster with more threads either: they stand beside.

#![allow(unsafe_code, reason = "gives places to the bare calls")]

mod bare;
mod contest;

use bare::{Memory, Place};
use contest::scan::BAREST;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pagetie::{Region, Space, page};
use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const COUNTS: [usize; 3] = [1, 2, 4];

/// What each thread ties, and as much lies between two of them.
fn len() -> usize {
    16 * page::size()
}

/// From the first thread's start to the last one's end, each doing its thing so many times.
fn together(threads: usize, times: u64, each: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, each) = (&barrier, &each);
                scope.spawn(move || {
                    barrier.wait();
                    (0..times).for_each(|_| each(thread));
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        workers.into_iter().for_each(|worker| worker.join().expect("a thread"));
        start.elapsed()
    })
}

fn tie(space: &Space, at: usize, region: &Region) {
    let tie = space.tie(at, region, .., BAREST).expect("tie");
    // SAFETY: the tie is live, and nobody writes the region.
    assert_eq!(unsafe { tie.as_ptr().read_volatile() }, 7);
    tie.untie().expect("untie");
}

fn each_count(criterion: &mut Criterion) {
    let region = Region::new(len()).expect("a region");
    region.write_at(0, &[7]).expect("write_at");
    for threads in COUNTS {
        let mut group = criterion.benchmark_group(format!("tie + load + untie, {threads} threads"));
        group.throughput(Throughput::Elements(threads as u64));
        let own: Vec<Space> =
            (0..threads).map(|_| Space::reserve(len()).expect("reserve")).collect();
        group.bench_function("spaces of their own", |b| {
            b.iter_custom(|times| together(threads, times, |k| tie(&own[k], 0, &region)));
        });
        let one = Space::reserve(2 * threads * len()).expect("reserve");
        group.bench_function("one space", |b| {
            b.iter_custom(|times| together(threads, times, |k| tie(&one, 2 * k * len(), &region)));
        });
        let memory = Memory::new(2 * threads * len());
        let addr = memory.as_ptr().expose_provenance();
        let places: Vec<Bare> = (0..threads)
            // SAFETY: the memory is dropped after the threads, and nobody else uses it.
            .map(|k| Bare(unsafe { Place::new(&memory, 2 * k * len(), len()) }))
            .collect();
        let fd = region.fd().expect("a descriptor");
        group.bench_function("two mmap", |b| {
            b.iter_custom(|times| {
                together(threads, times, |k| {
                    let place = &places[k];
                    place.get().alias(fd, 0);
                    let start = std::ptr::with_exposed_provenance::<u8>(addr + 2 * k * len());
                    // SAFETY: the alias is there, and nobody writes the region.
                    assert_eq!(unsafe { start.read_volatile() }, 7);
                    place.get().zeros();
                })
            });
        });
        group.finish();
    }
}

/// A place that one thread uses.
struct Bare(Place);

// SAFETY: an address and a length; each thread changes the mappings of its own place only.
unsafe impl Sync for Bare {}

impl Bare {
    fn get(&self) -> Place {
        self.0
    }
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
