//! The same questions as the other benches, asked so that the ratios hold on a noisy machine:
//! pagetie and what it is measured by take turns in short batches, each round gives one ratio, and
//! the median over the rounds counts. Everything is done in three passes over freshly mapped
//! memory; the middle pass is shown, the others stand in parentheses.
//!
//! Prints Markdown for docs/BENCHMARKS.md: `cargo bench --bench ratios [-- PART OF A QUESTION]`.
//! Without `--bench` (as `cargo test --benches` starts it) everything runs once.

mod bare;
mod contest;

use contest::{
    Contender, Contest, Goal, Pages, Question, batch, copy, machine, machine::in_units, only_once,
    scan, size_name, stream, verbs, warm,
};
use std::{
    env,
    time::{Duration, Instant},
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let effort = if only_once() { ONCE } else { FULL };
    let asked = |question: &str| {
        let mut words = arguments.iter().filter(|a| !a.starts_with('-')).peekable();
        words.peek().is_none() || words.any(|word| question.contains(word.as_str()))
    };

    println!("{}", machine::lines());
    print_contests("verbs", verbs::all(), effort, &asked);
    print_calls(effort, &asked);
    print_contests("copies", copy::all(), effort, &asked);
    print_scans(effort, &asked);
    print_contests("page faults", warm::all(), effort, &asked);
    print_contests("batches", batch::all(), effort, &asked);
    let len = if effort.passes > 1 { stream::total() } else { stream::LEAST };
    print_contests("streams", stream::all(len), effort, &asked);
    print_growth(len, &asked);
}

/// How much to do.
#[derive(Clone, Copy)]
struct Effort {
    passes: usize,
    /// Rounds of one pass, where the time allows so many.
    rounds: usize,
    fewest_rounds: usize,
    /// The same, where one thing done once takes as long as a round should not.
    fewest_long_rounds: usize,
    /// What one contest may take in one pass.
    time: Duration,
    /// What one contender may take in one round.
    batch: Duration,
}

const FULL: Effort = Effort {
    passes: 3,
    rounds: 400,
    fewest_rounds: 21,
    fewest_long_rounds: 5,
    time: Duration::from_secs(5),
    batch: Duration::from_micros(300),
};
const ONCE: Effort = Effort {
    passes: 1,
    rounds: 1,
    fewest_rounds: 1,
    fewest_long_rounds: 1,
    time: Duration::ZERO,
    batch: Duration::ZERO,
};

/// What takes longer is done [`Effort::fewest_long_rounds`] times.
const LONG: u128 = Duration::from_millis(200).as_nanos();

/// Nanoseconds that each contender needs for doing its thing once, round by round.
fn take_turns(contenders: &mut [&mut Contender], effort: Effort) -> Vec<Vec<f64>> {
    let start = Instant::now();
    let mut fewest_rounds = effort.fewest_rounds;
    let times: Vec<u64> = contenders
        .iter_mut()
        .map(|contender| {
            // The first is for warming up.
            let once = (effort.rounds > 1).then(|| contender.run(1).min(contender.run(1)));
            let once = once.unwrap_or_default().as_nanos().max(1);
            if once > LONG {
                fewest_rounds = effort.fewest_long_rounds;
            }
            (effort.batch.as_nanos() / once).clamp(1, 100_000) as u64
        })
        .collect();
    let mut taken = vec![Vec::new(); contenders.len()];
    for round in 0..effort.rounds {
        if round >= fewest_rounds && start.elapsed() > effort.time {
            break;
        }
        // Who goes first changes, so that a drift of the machine falls on all of them.
        for turn in 0..contenders.len() {
            let who = (round + turn) % contenders.len();
            let time = contenders[who].run(times[who]);
            taken[who].push(time.as_nanos() as f64 / times[who] as f64);
        }
    }
    taken
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The median of one pass, and of all passes.
struct Passes(Vec<f64>);

impl Passes {
    fn middle(&self) -> f64 {
        median(self.0.clone())
    }

    /// "1.12 (1.11 - 1.14)"
    fn shown(&self) -> String {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.0.iter().copied().fold(0.0, f64::max);
        let digits = digits(self.middle());
        format!("{:.digits$} ({low:.digits$} - {high:.digits$})", self.middle())
    }
}

/// How many digits a ratio is shown with: small ones with two that count.
fn digits(ratio: f64) -> usize {
    match ratio {
        r if r > 0.1 => 2,
        r if r > 0.01 => 3,
        _ => 4,
    }
}

/// The median over the rounds of `a / b`.
fn ratio(a: &[f64], b: &[f64]) -> f64 {
    median(a.iter().zip(b).map(|(a, b)| a / b).collect())
}

/// One row of the first table, filled pass by pass.
struct Row {
    question: String,
    against: &'static str,
    goal: Goal,
    other: Passes,
    ours: Passes,
    ratio: Passes,
}

fn print_contests(
    title: &str,
    questions: Vec<Question>,
    effort: Effort,
    asked: &dyn Fn(&str) -> bool,
) {
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..effort.passes {
        let mut row = 0;
        for question in questions.iter().filter(|question| asked(&question.name)) {
            let Contest { mut ours, mut others } = question.contest();
            let mut contenders = vec![&mut ours];
            contenders.extend(others.iter_mut().map(|(other, _)| other));
            let taken = take_turns(&mut contenders, effort);
            for (k, (other, goal)) in others.iter().enumerate() {
                if rows.len() == row {
                    rows.push(Row {
                        question: question.name.clone(),
                        against: other.name,
                        goal: *goal,
                        other: Passes(Vec::new()),
                        ours: Passes(Vec::new()),
                        ratio: Passes(Vec::new()),
                    });
                }
                rows[row].other.0.push(median(taken[k + 1].clone()));
                rows[row].ours.0.push(median(taken[0].clone()));
                rows[row].ratio.0.push(match goal {
                    Goal::Speed(_) => ratio(&taken[k + 1], &taken[0]),
                    Goal::Time(_) | Goal::None => ratio(&taken[0], &taken[k + 1]),
                });
                row += 1;
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    println!("### {title}\n");
    println!("| question | against | that, ns | pagetie, ns | ratio | goal | |");
    println!("|---|---|--:|--:|--:|--:|---|");
    for Row { question, against, goal, other, ours, ratio } in rows {
        let result = |met| if met { "met" } else { "missed" };
        let (unit, goal, result) = match goal {
            Goal::Time(most) => {
                ("x", format!("<= {most:.0$}x", digits(most)), result(ratio.middle() <= most))
            }
            Goal::Speed(least) => {
                ("x its speed", format!(">= {least:.2}x"), result(ratio.middle() >= least))
            }
            Goal::None => ("x", String::new(), ""),
        };
        println!(
            "| {question} | {against} | {:.0} | {:.0} | {}{unit} | {goal} | {result} |",
            other.middle(),
            ours.middle(),
            ratio.shown(),
        );
    }
    println!();
}

fn print_calls(effort: Effort, asked: &dyn Fn(&str) -> bool) {
    if !asked("calls") {
        return;
    }
    let mut names = Vec::new();
    let mut times: Vec<Passes> = Vec::new();
    for _ in 0..effort.passes {
        let mut calls = verbs::calls(64 << 10);
        let taken = take_turns(&mut calls.iter_mut().collect::<Vec<_>>(), effort);
        names = calls.iter().map(|call| call.name).collect();
        times.resize_with(taken.len(), || Passes(Vec::new()));
        for (times, taken) in times.iter_mut().zip(taken) {
            times.0.push(median(taken));
        }
    }
    println!("| calls | {} |", names.join(" | "));
    println!("|---|{}", "--:|".repeat(names.len()));
    let times: Vec<String> = times.iter().map(|times| in_units(times.middle())).collect();
    println!("| 64 KiB | {} |", times.join(" | "));
    println!();
}

fn print_scans(effort: Effort, asked: &dyn Fn(&str) -> bool) {
    let sizes: Vec<usize> = scan::sizes()
        .into_iter()
        .filter(|len| asked(&format!("scan, {}", size_name(*len))))
        .collect();
    if sizes.is_empty() {
        return;
    }
    // Longer ones have more ways to be read.
    let mut names: Vec<&str> = Vec::new();
    let mut rows = Vec::new();
    for len in sizes {
        let mut times: Vec<Passes> = Vec::new();
        let (mut slower, mut faster) = (Passes(Vec::new()), Passes(Vec::new()));
        let mut here = Vec::new();
        for _ in 0..effort.passes {
            let mut all = scan::contenders(len);
            let taken = take_turns(&mut all.iter_mut().collect::<Vec<_>>(), effort);
            here = all.iter().map(|contender| contender.name).collect();
            times.resize_with(taken.len(), || Passes(Vec::new()));
            for (times, taken) in times.iter_mut().zip(&taken) {
                times.0.push(median(taken.clone()));
            }
            let of = |name| &taken[here.iter().position(|n| *n == name).expect("a way to read")];
            slower.0.push(ratio(of(scan::TIED), of(scan::MAPPED)));
            faster.0.push(ratio(of(scan::COPIED), of(scan::TIED)));
        }
        if here.len() > names.len() {
            names.clone_from(&here);
        }
        rows.push((len, here, times, slower, faster));
    }
    println!("### scans\n");
    println!(
        "| bytes | {} | tie + scan / mapped | memcpy + scan / tie + scan |",
        names.join(" | ")
    );
    println!("|--:|{}--:|--:|", "--:|".repeat(names.len()));
    for (len, here, times, slower, faster) in rows {
        let time = |name: &&str| {
            let place = here.iter().position(|n| n == name);
            place.map_or("-".to_owned(), |place| in_units(times[place].middle()))
        };
        let times: Vec<String> = names.iter().map(time).collect();
        println!(
            "| {} | {} | {}x | {}x |",
            size_name(len),
            times.join(" | "),
            slower.shown(),
            faster.shown()
        );
    }
    println!();
}

/// What streaming through a window takes of memory.
fn print_growth(len: usize, asked: &dyn Fn(&str) -> bool) {
    if !asked("stream memory") {
        return;
    }
    println!("### memory while {} are streamed\n", size_name(len));
    println!("| pages | Pss before | at most | growth | goal | | page tables before | at most |");
    println!("|---|--:|--:|--:|--:|---|--:|--:|");
    let show = |name, pages| {
        let (before, most) = stream::growth(len, pages);
        let percent = 100.0 * (most.pss as f64 / before.pss as f64 - 1.0);
        let result = if percent <= 1.0 { "met" } else { "missed" };
        println!(
            "| {name} | {} KiB | {} KiB | {percent:.3} % | <= 1 % | {result} | {} KiB | {} KiB |",
            before.pss, most.pss, before.tables, most.tables
        );
    };
    show("base", Pages::Base);
    if Pages::huge_works() {
        show("huge", Pages::Huge);
    }
    println!();
}
