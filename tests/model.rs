//! The model: random sequences of everything that can happen go to pagetie and to a naive page table,
//! and after every step bytes, protections, mappings and records must agree.
//!
//! 2,000 sequences of 50 steps, over regions of memory, of files and of huge pages, and spaces that
//! are reserved or borrowed over every kind of mapping. About a third of the steps must be refused;
//! then the reason must be the oracle's, and nothing may have changed.
//!
//! The sequences are the same at every run, so that a failure is there again, and nothing needs to be
//! saved. `PROPTEST_CASES` sets their number, `PROPTEST_RNG_SEED` draws others.

#![allow(unsafe_code, reason = "borrows memory that the test maps, and reads it as a guest would")]
#![allow(clippy::disallowed_methods, reason = "the test looks at the kernel past the crate")]

#[path = "model/check.rs"]
mod check;
mod common;
#[path = "model/make.rs"]
mod make;
#[path = "model/moves.rs"]
mod moves;
#[path = "model/ops.rs"]
mod ops;
#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/world.rs"]
mod world;

use check::agree;
use ops::{Case, Op, Run, Skew, Steps, TieArgs, Writer};
use oracle::{Oracle, Refusal, Source};
use pagetie::{Access, Covered, ErrorKind, Prefault, Prot, Region, page};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use std::env;
use std::str::FromStr;
use std::thread;
use world::{Kind, Tally, World};

const CASES: u32 = 2_000;
const STEPS: usize = 50;
/// Cases of a world have memory of their own; two at a time share nothing but the process.
const THREADS: u32 = 2;

fn variable<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

fn runner(cases: u32, stream: u32) -> TestRunner {
    let seed = variable::<u64>("PROPTEST_RNG_SEED").unwrap_or(2);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&stream.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
}

fn play(kind: Kind, case: &Case, tally: &Tally) -> Result<(), TestCaseError> {
    let mut world = World::new(kind, case.eager, tally);
    for (i, op) in case.ops.iter().enumerate() {
        world
            .step(op)
            .map_err(|differs| TestCaseError::fail(format!("step {i}, {op:?}:\n{differs}\n")))?;
    }
    world.finish(case.drops).map_err(TestCaseError::fail)
}

/// Plays `cases` sequences, and answers what happened how often.
fn run(kind: Kind, cases: u32) -> Tally {
    let tally = Tally::default();
    let part = |stream| {
        let (cases, tally) = (cases.div_ceil(THREADS), &tally);
        move || runner(cases, stream).run(&ops::case(STEPS), |case| play(kind, &case, tally))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|stream| scope.spawn(part(stream))).collect();
        for thread in threads {
            thread.join().expect("proptest answers").unwrap_or_else(|failed| panic!("{failed}"));
        }
    });
    tally
}

/// Sequences in which these never happen would show nothing.
fn assert_happened(tally: &Tally, what: &[(&str, &[&str])]) {
    let counts = tally.counts();
    for (op, outcomes) in what {
        for outcome in *outcomes {
            let name = format!("{op}: {outcome}");
            assert!(counts.contains_key(&name), "it never came to {name}: {counts:#?}");
        }
    }
}

#[test]
fn sequences_agree_with_the_oracle() {
    let cases = variable("PROPTEST_CASES").unwrap_or(CASES);
    let tally = run(Kind::Base, cases);
    if cases < CASES {
        return;
    }
    let refused = |kind: ErrorKind| -> &'static str { format!("Refused({kind:?})").leak() };
    let [misaligned, empty, range] =
        [ErrorKind::Misaligned, ErrorKind::Empty, ErrorKind::OutOfRange].map(refused);
    let [read_only, overlap, unsupported] =
        [ErrorKind::ReadOnly, ErrorKind::Overlap, ErrorKind::Unsupported].map(refused);
    let [ended, changed, memory] =
        [ErrorKind::Ended, ErrorKind::Changed, ErrorKind::RefusedMemory].map(refused);
    assert_happened(
        &tally,
        &[
            ("tie", &["Done", misaligned, empty, range, read_only, unsupported, overlap]),
            ("tie_all", &["Done", misaligned, empty, range, read_only, unsupported, overlap]),
            ("retie", &["Done", misaligned, range, ended, read_only]),
            ("untie", &["Done"]),
            ("drop tie", &["Done"]),
            ("leak tie", &["Done"]),
            ("untie_all", &["Done"]),
            ("protect", &["Done", misaligned, empty, range, read_only]),
            ("discard", &["Done", misaligned, empty, range, read_only, unsupported]),
            ("discard region", &["Done", misaligned, empty, range, read_only, unsupported]),
            ("host write", &["Done", range, read_only]),
            ("guest write", &["Done"]),
            ("owner write", &["Done"]),
            ("owner protect", &["Done"]),
            ("grow region", &["Done", misaligned, range]),
            ("grow space", &["Done", unsupported, changed, range]),
            ("lend", &["Done", misaligned, empty, range, overlap, memory]),
            ("give back", &["Done"]),
            ("adopt", &["Done"]),
            ("drop region", &["Done"]),
            ("drop space", &["Done"]),
            ("park", &["Done", ended]),
            ("resume", &["Done", misaligned, range, unsupported, overlap]),
            ("drop parked", &["Done"]),
            ("discard_many", &["Done", misaligned, empty, range, read_only, unsupported]),
            ("collapse", &["Done"]),
            ("window", &["Done", misaligned, empty, range, read_only, unsupported, overlap]),
            ("show", &["Done", empty, range, ended]),
            ("prepare", &["Done", empty, range]),
            ("untie window", &["Done"]),
            ("drop window", &["Done"]),
        ],
    );
}

/// The same with everything in pages of 2 MiB: a region of huge pages beside one of base pages.
#[test]
fn sequences_of_huge_pages_agree_with_the_oracle() {
    // Four for the region; the rest is for whoever else takes some meanwhile.
    const PAGES: usize = 8;
    let (size, free) = common::huge_pages();
    if size != common::HUGE || free < PAGES {
        return common::skip(format!(
            "{PAGES} free huge pages of 2 MiB are needed, {free} are there"
        ));
    }
    let cases = variable("PROPTEST_CASES").unwrap_or(CASES) / 10;
    let tally = run(Kind::Huge, cases.max(1));
    if cases >= CASES / 10 {
        let outcomes: &[_] = &["Done", "Refused(Misaligned)", "Refused(Unsupported)"];
        assert_happened(
            &tally,
            &[
                ("tie", outcomes),
                ("retie", outcomes),
                ("discard", &outcomes[..2]),
                ("park", &outcomes[..1]),
                ("resume", &outcomes[..2]),
                ("discard_many", &outcomes[..2]),
                ("collapse", &outcomes[..1]),
                ("window", outcomes),
                ("show", &outcomes[..1]),
                ("prepare", &outcomes[..1]),
            ],
        );
    }
}

// ------------------------------------------------------------------ the test itself, tested

/// The guest has written to a tie of two pages at the start of the first borrowed space.
fn scene(tally: &Tally, access: Access) -> World<'_> {
    let tie = TieArgs {
        at: 0,
        region: 0,
        offset: 2,
        pages: 2,
        skew: Skew::None,
        access,
        covered: Covered::Keep,
        prefault: Prefault::No,
        concurrent: false,
    };
    let mut world = World::new(Kind::Base, true, tally);
    let last_two = Run { at: 4, pages: 2, skew: Skew::None };
    for op in [
        Op::DiscardRegion { region: 0, run: last_two },
        Op::HostWrite { region: Writer::Region(0), page: 2, slot: 0, straddles: false },
        Op::Tie { space: 1, tie },
        Op::GuestWrite { space: 1, page: 0, slot: 1 },
    ] {
        world.step(&op).expect("both sides agree");
    }
    world
}

/// What is wrong, and how it is made so.
type Wrong = (&'static str, fn(&mut Oracle));

/// Changes the oracle, one way after the other, and wants every change to be noticed.
fn assert_noticed(world: &mut World<'_>, wrongs: &[Wrong]) {
    for (name, wrong) in wrongs {
        let right = world.oracle.clone();
        wrong(&mut world.oracle);
        assert!(world.check_every_byte().is_err(), "not noticed: {name}");
        world.oracle = right;
    }
    world.check_every_byte().expect("both sides agree");
}

fn object(oracle: &Oracle) -> usize {
    oracle.regions[0].object
}

#[test]
fn a_wrong_oracle_is_noticed() {
    let tally = Tally::default();
    let mut world = scene(&tally, Access::ReadWrite);
    assert_noticed(
        &mut world,
        &[
            ("a protection of a tie", |oracle| oracle.spaces[1].pages[0].prot = Prot::Read),
            ("a protection elsewhere", |oracle| oracle.spaces[0].pages[3].prot = Prot::Read),
            // Pages 3 and 4 of the region are zeros both: only the kernel tells them apart.
            ("another page of the same bytes", |oracle| {
                oracle.spaces[1].pages[1].source = Source::Shared(object(oracle), 4);
            }),
            ("private, not shared", |oracle| {
                oracle.spaces[1].pages[1].source = Source::Private(object(oracle), 3);
            }),
            ("anonymous memory", |oracle| oracle.spaces[1].pages[1].source = Source::Zero),
            ("no tie", |oracle| oracle.untie_all(1)),
            ("a tie that is not listed", |oracle| oracle.spaces[1].ties.clear()),
            ("where a tie begins", |oracle| oracle.spaces[1].ties[0].offset += 1),
            ("what a tie allows", |oracle| oracle.spaces[1].ties[0].access = Access::ReadOnly),
            ("the length of a region", |oracle| oracle.regions[0].len -= oracle.unit),
            ("the length of a space", |oracle| oracle.spaces[1].len -= 1),
            ("a word under a tie", |oracle| oracle.store(1, 0, 2, 0x0bad)),
            ("a word of borrowed memory", |oracle| oracle.store(1, 5, 0, 0x0bad)),
            ("a word of a region", |oracle| {
                oracle.object_write(object(oracle), 5 * oracle.unit, 0x0bad);
            }),
            ("a word of the host's memory", |oracle| {
                let wrong = oracle::Content::new(oracle.unit, 0x0b, oracle.unit);
                oracle.host[1].private = Some(wrong);
            }),
            ("a protection of the host's memory", |oracle| oracle.host[3].prot = Prot::ReadWrite),
            ("a byte between the slots", |oracle| {
                let (object, unit) = (object(oracle), oracle.unit);
                oracle.objects[object].pages[5] = oracle::Content::between_slots(unit, 0x0d);
            }),
        ],
    );
}

#[test]
fn a_wrong_private_copy_is_noticed() {
    let tally = Tally::default();
    let mut world = scene(&tally, Access::CopyOnWrite);
    assert_noticed(
        &mut world,
        &[
            ("no copy was made", |oracle| oracle.spaces[1].pages[0].private = None),
            ("the region has it", |oracle| {
                let (object, unit) = (object(oracle), oracle.unit);
                oracle.objects[object].pages[2] = oracle.shown(&oracle.spaces[1].pages[0]);
                assert_eq!(unit, page::size());
            }),
        ],
    );
}

#[test]
fn wrong_covered_pages_are_noticed_when_they_come_back() {
    let wrongs: [fn(&mut oracle::Page); 3] = [
        |page| page.prot = Prot::Read,
        |page| page.private = None,
        |page| page.source = Source::Private(0, 0),
    ];
    for (i, wrong) in wrongs.iter().enumerate() {
        let ends = [
            Op::Untie { tie: 0 },
            Op::UntieAll { space: 1 },
            Op::DropSpace { space: 1 },
            Op::Park { tie: 0 },
        ];
        for last in ends {
            let tally = Tally::default();
            let mut world = scene(&tally, Access::ReadWrite);
            wrong(&mut world.oracle.spaces[1].ties[0].covered[1]);
            world.check_every_byte().expect("what is covered does not show");
            assert!(world.step(&last).is_err(), "wrong {i} is not noticed after {last:?}");
        }
    }
}

#[test]
fn a_wrong_parked_alias_is_noticed() {
    let resume = Op::Resume { parked: 0, space: 0, at: 4, skew: Skew::None };
    let wrongs: [Wrong; 4] = [
        ("its private page went", |oracle| oracle.parked[0].pages[0].private = None),
        ("another page of the same bytes", |oracle| {
            oracle.parked[0].pages[1].source = Source::Private(object(oracle), 4);
        }),
        ("it is shared", |oracle| {
            oracle.parked[0].pages[1].source = Source::Shared(object(oracle), 3);
        }),
        ("it may be read only", |oracle| oracle.parked[0].pages[1].prot = Prot::Read),
    ];
    for (name, wrong) in wrongs {
        let tally = Tally::default();
        let mut world = scene(&tally, Access::CopyOnWrite);
        world.step(&Op::Park { tie: 0 }).expect("both sides agree");
        assert_noticed(
            &mut world,
            &[
                ("where it begins", |oracle| oracle.parked[0].asked.offset += oracle.unit),
                ("its length", |oracle| oracle.parked[0].asked.len += oracle.unit),
                ("what it may do", |oracle| oracle.parked[0].asked.access = Access::ReadOnly),
                ("it is still tied", |oracle| {
                    let pages = oracle.parked[0].pages.clone();
                    oracle.spaces[1].pages[..2].copy_from_slice(&pages);
                }),
            ],
        );
        wrong(&mut world.oracle);
        world.check_every_byte().expect("what is parked does not show");
        assert!(world.step(&resume).is_err(), "not noticed: {name}");
    }
}

#[test]
fn a_wrong_refusal_is_noticed() {
    let empty = || Region::new(0).map(drop);
    assert_eq!(empty().unwrap_err().kind(), ErrorKind::Empty);
    let refusal = |kind: ErrorKind| Err::<(), _>(Refusal::from(kind));
    assert!(matches!(agree(refusal(ErrorKind::Empty), empty()), Ok(Err(ErrorKind::Empty))));
    assert!(agree(refusal(ErrorKind::OutOfRange), empty()).is_err());
    assert!(agree(refusal(ErrorKind::Empty), Ok(())).is_err());
    assert!(agree(Ok(()), empty()).is_err());
    let of_a_list = Refusal { items: vec![1], ..ErrorKind::Empty.into() };
    assert!(agree(Err::<(), _>(of_a_list), empty()).is_err());
}

#[test]
fn a_failing_sequence_becomes_short() {
    // It fails where a 7 or more comes before a 3 or more.
    let fails = |steps: &[u32]| {
        let first = steps.iter().position(|&step| step >= 7);
        first.is_some_and(|first| steps[first + 1..].iter().any(|&step| step >= 3))
    };
    let steps = Steps { op: 0..100u32, len: STEPS };
    let failed = runner(100, 0).run(&steps, |steps| {
        prop_assert_eq!(steps.len() <= STEPS, true);
        prop_assert!(!fails(&steps));
        Ok(())
    });
    let Err(TestError::Fail(_, shortest)) = failed else {
        panic!("a sequence that fails is drawn: {failed:?}");
    };
    assert_eq!(shortest, [7, 3]);
}
