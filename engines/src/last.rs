//! `engines/last.toml`: what each engine last answered, and when. Made by the runner, committed, and
//! what docs/engines.md is made from, so that engines which run rarely are in it too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use engines::Result;

/// Engine by engine, then key by key: `version`, `date`, `on`, and the outcome of each case.
pub type Last = BTreeMap<String, BTreeMap<String, String>>;

const HEAD: &str =
    "# What every engine answered when it last ran. Written by: cargo run -p engines\n";

/// Reads as much of TOML as `write` writes.
pub fn read(path: &Path) -> Result<Last> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Last::new()),
        text => text?,
    };
    let mut last = Last::new();
    let mut engine = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            engine = Some(last.entry(name.to_owned()).or_default());
        } else {
            let (key, value) = line.split_once(" = ").ok_or(format!("not key = value: {line}"))?;
            let value = value.trim_matches('"').to_owned();
            engine.as_mut().ok_or("a key before the first engine")?.insert(key.to_owned(), value);
        }
    }
    Ok(last)
}

pub fn write(path: &Path, last: &Last) -> Result<()> {
    let mut text = HEAD.to_owned();
    for (engine, answers) in last {
        write!(text, "\n[{engine}]\n")?;
        for (key, value) in answers {
            // Outcomes may quote; none needs it enough to carry an escape through here.
            writeln!(text, "{key} = \"{}\"", value.replace(['"', '\\'], "'"))?;
        }
    }
    Ok(fs::write(path, text)?)
}
