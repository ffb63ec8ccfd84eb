//! mmap, mremap, loan and memcpy side by side, alone and with a reader who sums every byte once: which of
//! them is slow, and from what size on?

mod bare;
mod contest;

use contest::{calls, calls::Way, only_once, size_name};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::Duration;

fn each_size(criterion: &mut Criterion) {
    let most = if only_once() { 16 << 20 } else { calls::MOST };
    for len in calls::sizes(most) {
        compare(criterion, "there and back", len, &Way::CALLS);
        compare(criterion, "there, every byte read, and back", len, &Way::SCANS);
    }
}

fn compare(criterion: &mut Criterion, what: &str, len: usize, ways: &[Way]) {
    let mut group = criterion.benchmark_group(format!("{what}, {}", size_name(len)));
    group.throughput(Throughput::Bytes(len as u64));
    if len > 1 << 20 {
        group.sampling_mode(SamplingMode::Flat);
    }
    for (way, mut contender) in calls::contenders(len, ways) {
        group.bench_function(way.name(), |b| b.iter_custom(|times| contender.run(times)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = each_size
}
criterion_main!(benches);
