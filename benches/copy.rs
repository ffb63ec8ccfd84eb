//! How fast are `read_at` and `write_at`, which may race with other aliases, beside memcpy, which
//! may not?

mod bare;
mod contest;

use contest::{Contest, copy};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn each_size(criterion: &mut Criterion) {
    for question in copy::all() {
        let Contest { mut ours, others } = question.contest();
        let mut group = criterion.benchmark_group(question.name);
        group.throughput(Throughput::Bytes(question.len as u64));
        group.bench_function(ours.name, |b| b.iter_custom(|times| ours.run(times)));
        for (mut other, _) in others {
            group.bench_function(other.name, |b| b.iter_custom(|times| other.run(times)));
        }
        group.finish();
    }
}

criterion_group!(benches, each_size);
criterion_main!(benches);
