//! From what size on does tying beat copying, for a guest that reads every byte once?

mod bare;
mod contest;

use contest::{scan, size_name};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

fn each_size(criterion: &mut Criterion) {
    for len in scan::sizes() {
        let mut group = criterion.benchmark_group(format!("scan, {}", size_name(len)));
        group.throughput(Throughput::Bytes(len as u64));
        if len > 1 << 20 {
            group.sampling_mode(SamplingMode::Flat).sample_size(20);
        }
        for mut contender in scan::contenders(len) {
            group.bench_function(contender.name, |b| b.iter_custom(|times| contender.run(times)));
        }
        group.finish();
    }
}

criterion_group!(benches, each_size);
criterion_main!(benches);
