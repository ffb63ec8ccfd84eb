//! What does each verb cost over the bare system calls that it cannot do without?

mod bare;
mod contest;

use contest::{Contest, verbs};
use criterion::{Criterion, criterion_group, criterion_main};

fn each_verb(criterion: &mut Criterion) {
    for question in verbs::all() {
        let Contest { mut ours, others } = question.contest();
        let mut group = criterion.benchmark_group(question.name);
        group.bench_function(ours.name, |b| b.iter_custom(|times| ours.run(times)));
        for (mut other, _) in others {
            group.bench_function(other.name, |b| b.iter_custom(|times| other.run(times)));
        }
        group.finish();
    }
}

criterion_group!(benches, each_verb);
criterion_main!(benches);
