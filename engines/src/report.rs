//! The matrix for a terminal, and docs/engines.md.

use std::fmt::Write as _;

use crate::cases::{CASES, Differ, WORDS, kind};
use crate::catalog::{ENGINES, Engine, FAMILIES, Family};
use crate::last::Last;

/// The engines of a family that have answered.
fn columns(family: Family, last: &Last) -> Vec<&'static Engine> {
    let here = |engine: &&Engine| engine.family == family && last.contains_key(engine.name);
    ENGINES.iter().filter(here).collect()
}

/// One table for each family, for a terminal.
pub fn terminal(last: &Last) -> String {
    let mut text = String::new();
    for (family, title) in FAMILIES {
        let engines = columns(family, last);
        if engines.is_empty() {
            continue;
        }
        let mut rows = vec![vec![title.to_owned()]];
        rows[0].extend(engines.iter().map(|engine| engine.column.to_owned()));
        for case in &CASES {
            let mut row = vec![case.name.to_owned()];
            row.extend(engines.iter().map(|engine| cell(last, engine, case.name).to_owned()));
            rows.push(row);
        }
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0))
            .collect();
        text.push('\n');
        for row in rows {
            let mut line = String::new();
            for (word, &width) in row.iter().zip(&widths) {
                let _ = write!(line, "{word:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn cell<'a>(last: &'a Last, engine: &Engine, case: &str) -> &'a str {
    last.get(engine.name).and_then(|answers| answers.get(case)).map_or("?", |outcome| kind(outcome))
}

/// docs/engines.md, as a whole.
pub fn document(last: &Last) -> String {
    let mut text = String::from(HEAD);
    let mut notes: Vec<&'static Differ> = Vec::new();

    text.push_str("\n## What the cases do\n\n| case | what it does |\n|---|---|\n");
    for case in &CASES {
        let _ = writeln!(text, "| {} | {} |", case.name, case.about);
    }
    text.push_str("\n## What came of them\n\n| word | meaning |\n|---|---|\n");
    for (word, meaning) in WORDS.iter().filter(|(_, meaning)| !meaning.ends_with("never expected"))
    {
        let _ = writeln!(text, "| {word} | {meaning} |");
    }
    for (family, title) in FAMILIES {
        let engines = columns(family, last);
        if !engines.is_empty() {
            let _ = writeln!(text, "\n### {title}\n");
            table(&mut text, last, &engines, &mut notes);
        }
    }
    text.push_str("\n### Why\n\n");
    for (i, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {}: {}.", i + 1, note.outcome, note.why);
    }

    text.push_str("\n## The engines\n");
    for engine in ENGINES {
        section(&mut text, last, engine);
    }
    text
}

fn table(text: &mut String, last: &Last, engines: &[&Engine], notes: &mut Vec<&'static Differ>) {
    text.push_str("| case |");
    for engine in engines {
        let _ = write!(text, " [{}](#{}) |", engine.column, anchor(engine.title));
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(engines.len()));
    for case in &CASES {
        let _ = write!(text, "| {} |", case.name);
        for engine in engines {
            let outcome = cell(last, engine, case.name);
            match case.expected(engine.name).1 {
                Some(differ) => {
                    let _ = write!(text, " {outcome} ({}) |", note(notes, differ));
                }
                None => {
                    let _ = write!(text, " {outcome} |");
                }
            }
        }
        text.push('\n');
    }
}

/// The number of a note. The same words are the same note.
fn note(notes: &mut Vec<&'static Differ>, differ: &'static Differ) -> usize {
    let same = |other: &&Differ| (other.outcome, other.why) == (differ.outcome, differ.why);
    let known = notes.iter().position(same);
    1 + known.unwrap_or_else(|| {
        notes.push(differ);
        notes.len() - 1
    })
}

fn section(text: &mut String, last: &Last, engine: &Engine) {
    let _ = writeln!(text, "\n### {}\n", engine.title);
    let said = |key| last.get(engine.name).and_then(|answers| answers.get(key));
    match (said("version"), said("date"), said("on")) {
        (Some(version), Some(date), Some(on)) => {
            let _ = writeln!(text, "Ran on {date}: {version}. {on}.\n");
        }
        _ => text.push_str("It has not run yet.\n\n"),
    }
    let _ = writeln!(text, "- Start from: [{0}](../{0})", engine.example);
    let _ = writeln!(text, "- To get it: {}", engine.get);
    let _ = writeln!(text, "- Its memory's start: {}", engine.start);
    let _ = writeln!(text, "- Growing: {}", engine.grow);
    for mind in engine.mind {
        let _ = writeln!(text, "- Mind: {mind}");
    }
    if engine.is_long() {
        text.push_str("- It runs in `ci/engines-long`, by name.\n");
    }
}

/// What a heading is called in links to it.
fn anchor(title: &str) -> String {
    let title = title.to_lowercase();
    title
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

const HEAD: &str = "\
# Every engine's memory

Generated: `cargo run -p engines` runs one suite on every engine and writes this page. What is expected
stands in engines/src/cases.rs, what is said about an engine in engines/src/catalog.rs.

Ties work in all of them. Engines differ in what a forbidden access does, in what happens when a memory
grows, and in what is left for the next guest. Each has a file below 150 lines to start from, named in
its section.
";
