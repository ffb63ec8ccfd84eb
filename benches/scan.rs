//! From what size on does tying beat copying, for a guest that reads every byte once: with base pages, with
//! prefaulted, with huge and with warm ones?
//!
//! First the parts, the end of a tie apart. Then the whole, the end included.

mod bare;
mod contest;

use contest::{Contender, calls, calls::Way, only_once, scan, size_name};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

fn each_size(criterion: &mut Criterion) {
    for len in scan::sizes() {
        let all = scan::contenders(len).into_iter();
        group(criterion, "scan", len, all.map(|contender| (contender.name, contender)));
    }
}

fn each_size_and_the_end(criterion: &mut Criterion) {
    let [base, populated, huge, warm] = Way::TIES;
    let most = if only_once() { 16 << 20 } else { 256 << 20 };
    for len in calls::sizes(most) {
        let all = calls::contenders(len, &[Way::CopyScan, base, populated, huge, warm]);
        let all = all.into_iter().map(|(way, contender)| (way.short(), contender));
        group(criterion, "scan and end", len, all);
    }
}

fn group(
    criterion: &mut Criterion,
    what: &str,
    len: usize,
    contenders: impl Iterator<Item = (&'static str, Contender)>,
) {
    let mut group = criterion.benchmark_group(format!("{what}, {}", size_name(len)));
    group.throughput(Throughput::Bytes(len as u64));
    if len > 1 << 20 {
        group.sampling_mode(SamplingMode::Flat).sample_size(20);
    }
    for (name, mut contender) in contenders {
        group.bench_function(name, |b| b.iter_custom(|times| contender.run(times)));
    }
    group.finish();
}

criterion_group!(benches, each_size, each_size_and_the_end);
criterion_main!(benches);
