//! Runs the suite on every engine, prints what came of it, and writes docs/engines.md.

mod cases;
mod catalog;
mod last;
mod report;
mod run;
mod rust;
mod suite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use std::{env, fs, thread};

use cases::{CASES, is_as_expected};
use catalog::{ENGINES, Engine, Program};
use engines::Result;

const HELP: &str = "\
cargo run -p engines                     all engines that are here; writes docs/engines.md
cargo run -p engines -- --only wasmtime  those whose name begins so; Wasmer and Node 24 run only so
cargo run -p engines -- --check          writes nothing: fails where the document is not what comes of it,
                                         or an engine is missing
cargo run -p engines -- suite ENGINE list | version | CASE     as one engine written in Rust";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["suite", engine, asked] => match rust::answer(engine, asked) {
            Some(answer) => {
                println!("{answer}");
                Ok(true)
            }
            None => Err(format!("there is no {engine}, or it has no {asked}").into()),
        },
        [] => run_all(None, false),
        ["--check"] => run_all(None, true),
        ["--only", name] => run_all(Some(name), false),
        ["--only", name, "--check"] | ["--check", "--only", name] => run_all(Some(name), true),
        _ => Err(HELP.into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the engines, and writes or checks the document. `false`: something is not as it should be.
fn run_all(only: Option<&str>, check: bool) -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no root")?;
    let (document, results) = (root.join("docs/engines.md"), root.join("engines/last.toml"));
    let (committed, mut problems) = (last::read(&results)?, Vec::new());

    let asked = |engine: &&Engine| match only {
        Some(name) => engine.name == name || engine.name.starts_with(&format!("{name}-")),
        None => !engine.is_long(),
    };
    let asked: Vec<&Engine> = ENGINES.iter().filter(asked).collect();
    if asked.is_empty() {
        return Err(format!("no engine is called {}", only.unwrap_or_default()).into());
    }
    let mut here = Vec::new();
    for engine in asked {
        match version(root, engine) {
            Ok(version) => here.push((engine, version)),
            Err(why) => {
                println!("skipped: {}: {why}", engine.name);
                if check || only.is_some() {
                    problems.push(format!("{} is missing: {why}", engine.name));
                }
            }
        }
    }

    let today = today();
    let ran = run_cases(root, &here, &mut problems);
    let mut now = committed.clone();
    for ((engine, version), outcomes) in here.iter().zip(ran.clone()) {
        let mut answers = outcomes;
        answers.insert("version".into(), version.clone());
        answers.insert("date".into(), today.clone());
        answers.insert("on".into(), machine());
        now.insert(engine.name.into(), answers);
    }
    let shown = now.iter().filter(|(name, _)| here.iter().any(|(engine, _)| engine.name == *name));
    print!("{}", report::terminal(&shown.map(|(k, v)| (k.clone(), v.clone())).collect()));
    println!();

    if check {
        // The document is of the day when it was made; outcomes must be those of today.
        for ((engine, version), outcomes) in here.iter().zip(&ran) {
            let Some(was) = committed.get(engine.name) else {
                problems.push(format!("{} has no outcomes in engines/last.toml", engine.name));
                continue;
            };
            let said = |key: &str| was.get(key).map_or("nothing", String::as_str);
            for (case, outcome) in outcomes {
                if cases::kind(said(case)) != cases::kind(outcome) {
                    let (name, said) = (engine.name, said(case));
                    problems.push(format!(
                        "{name} {case}: {outcome}, and engines/last.toml says {said}"
                    ));
                }
            }
            if said("version") != version {
                println!(
                    "note: {}: {version} ran; the document has {}",
                    engine.name,
                    said("version")
                );
            }
        }
        if fs::read_to_string(&document).unwrap_or_default() != report::document(&committed) {
            problems.push("docs/engines.md is not what cargo run -p engines would write".into());
        }
    } else if problems.is_empty() {
        last::write(&results, &now)?;
        fs::write(&document, report::document(&now))?;
        println!("written: docs/engines.md, engines/last.toml");
    } else {
        println!("docs/engines.md is left as it is");
    }
    for problem in &problems {
        println!("problem: {problem}");
    }
    // Also for those who look for the closing line of a test run.
    let (all, bad) = (here.len() * CASES.len(), problems.len());
    println!("engines: {} passed, {bad} failed", all.saturating_sub(bad));
    Ok(problems.is_empty())
}

/// The outcomes of every engine's cases, several processes at once; what is not expected is a problem.
fn run_cases(
    root: &Path,
    engines: &[(&'static Engine, String)],
    problems: &mut Vec<String>,
) -> Vec<BTreeMap<String, String>> {
    let jobs: Vec<(usize, &str)> = (0..engines.len())
        .flat_map(|engine| CASES.iter().map(move |case| (engine, case.name)))
        .collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&(engine, case)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ended = command(root, engines[engine].0, case).and_then(|it| Ok(run::run(it)?));
            let (outcome, words) = match ended {
                Ok(ended) => (ended.outcome(), ended.last_words().to_owned()),
                Err(error) => (format!("failed: {error}"), String::new()),
            };
            found
                .lock()
                .unwrap_or_else(|lock| lock.into_inner())
                .push((engine, case, outcome, words));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |threads| threads.get()) {
            scope.spawn(work);
        }
    });
    let mut outcomes = vec![BTreeMap::new(); engines.len()];
    for (engine, name, outcome, words) in found.into_inner().unwrap_or_default() {
        for case in CASES.iter().filter(|case| case.name == name) {
            let (expected, _) = case.expected(engines[engine].0.name);
            if !is_as_expected(&outcome, expected) {
                let engine = engines[engine].0.name;
                problems.push(format!("{engine} {name}: {outcome}, not {expected} ({words})"));
            }
        }
        outcomes[engine].insert(name.to_owned(), outcome);
    }
    problems.sort();
    outcomes
}

/// The version of an engine that is here; else why it is not.
fn version(root: &Path, engine: &Engine) -> std::result::Result<String, String> {
    let run = |asked| {
        let ended = command(root, engine, asked).and_then(|it| Ok(run::run(it)?));
        let ended = ended.map_err(|error| error.to_string())?;
        match ended.succeeded() {
            true => Ok(ended.stdout.trim().to_owned()),
            false => Err(format!("it does not start: {}", ended.last_words())),
        }
    };
    let version = run("version")?;
    let mut listed: Vec<String> = run("list")?.lines().map(str::to_owned).collect();
    let mut expected: Vec<String> = CASES.iter().map(|case| case.name.to_owned()).collect();
    listed.sort();
    expected.sort();
    if listed != expected {
        return Err(format!("it has other cases: {}", listed.join(" ")));
    }
    Ok(version)
}

/// What asks an engine's program.
fn command(root: &Path, engine: &Engine, asked: &str) -> Result<Command> {
    let this = env::current_exe()?;
    let target = this.ancestors().nth(2).ok_or("this program is not in a target directory")?;
    let there = |file: PathBuf, how: &str| {
        if file.exists() {
            Ok(file)
        } else {
            Err(format!("{} is not there: {how}", shown(root, &file)))
        }
    };
    let node = root.join("c-examples/engines/node");
    let mut command = match engine.program {
        Program::RustWasmer if !cfg!(feature = "wasmer") => {
            return Err("built without it: ci/engines-long, or --features wasmer".into());
        }
        Program::Rust | Program::RustWasmer => {
            let mut command = Command::new(&this);
            command.args(["suite", engine.name]);
            command
        }
        Program::Made(name) => {
            let program = target.join("c-examples/engines").join(format!("suite-{name}"));
            Command::new(there(program, "make -C c-examples/engines, after ci/engines-get")?)
        }
        Program::Node => {
            let mut command = Command::new("node");
            command.arg(there(node.join("suite.js"), "")?);
            there(node.join("build/pagetie.node"), "npm install in c-examples/engines/node")?;
            command
        }
        Program::Node24 => {
            let program = target.join("engines/node24/node_modules/node/bin/node");
            let mut command = Command::new(there(program, "ci/engines-long installs it")?);
            command.arg(there(node.join("suite.js"), "")?);
            there(node.join("build/pagetie.node"), "npm install in c-examples/engines/node")?;
            command
        }
    };
    command.arg(asked);
    Ok(command)
}

/// A path as a reader knows it.
fn shown(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).display().to_string()
}

/// For example: Linux 6.18, x86_64, pages of 4 KiB
fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release: Vec<&str> = release.trim().split('.').take(2).collect();
    let (arch, page) = (env::consts::ARCH, pagetie::page::size() / 1024);
    format!("Linux {}, {arch}, pages of {page} KiB", release.join("."))
}

/// The day as year-month-day, in UTC.
fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let days = since.unwrap_or(Duration::ZERO).as_secs() / 86400;
    // Years begin in March here, so that the odd day is the last; 719,468 days lie before 1970.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}
