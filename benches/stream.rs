//! How fast is memory summed that is much larger than the window it is read through, beside summing it in
//! place and beside copying it piece by piece: natively, and by a guest of Wasmtime?
//!
//! `PAGETIE_STREAM_MIB` says how much; 8 GiB otherwise, or what memory there is.

mod bare;
mod contest;

use contest::{Contest, only_once, stream};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::Duration;

fn each_question(criterion: &mut Criterion) {
    let len = if only_once() { stream::LEAST } else { stream::total() };
    for question in stream::all(len) {
        let Contest { mut ours, others } = question.contest();
        let mut group = criterion.benchmark_group(question.name);
        group.throughput(Throughput::Bytes(question.len as u64));
        // Once takes a second and more: every sample is one run.
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function(ours.name, |b| b.iter_custom(|times| ours.run(times)));
        for (mut other, _) in others {
            group.bench_function(other.name, |b| b.iter_custom(|times| other.run(times)));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300));
    targets = each_question
}
criterion_main!(benches);
