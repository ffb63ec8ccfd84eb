//! Scans a file three ways and shows what each of them costs.
//!
//! A WebAssembly guest counts newlines and byte values and computes a CRC-32, over data that it
//! finds in its own memory:
//!
//! 1. [`tied`]: the file's pages are tied into the guest's memory. This is the module to copy from.
//! 2. [`copied`]: the file is copied into the same place, piece by piece.
//! 3. [`native`]: no guest; the same scan in Rust, right where the file is mapped.
//!
//! `cargo run --release --example scan -- --help` says more.

mod args;
mod copied;
mod guest;
mod native;
mod progress;
mod report;
mod run;
mod tied;

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use args::Args;
use pagetie::Region;
use progress::Progress;

/// Steps for what needs no window, so that progress shows.
const STEP: usize = 16 << 20;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let text = match args::parse(std::env::args_os().skip(1)) {
        Ok(Args::Print(text)) => text.to_owned(),
        Ok(Args::Scan(path)) => match scan(&path) {
            Ok(text) => text,
            Err(why) => return fail(1, format_args!("{}: {why}", path.display())),
        },
        Err(why) => return fail(2, format_args!("{why}; see --help")),
    };
    match print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(1, format_args!("standard output: {why}")),
    }
}

/// Runs all three ways over the file and returns what to print.
fn scan(path: &Path) -> Result<String> {
    let region = open(path)?;
    let module = guest::compile()?;
    read_ahead(&region)?;
    let runs =
        [tied::scan(&module, &region)?, copied::scan(&module, &region)?, native::scan(&region)?];
    report::check(&runs)?;
    Ok(report::table(path, &region, &runs))
}

/// The file as a region that nothing here can write to.
fn open(path: &Path) -> Result<Region> {
    let file = fs::metadata(path)?;
    if file.is_dir() {
        return Err("is a directory".into());
    }
    if !file.is_file() {
        return Err("not a regular file, so it has no pages to tie".into());
    }
    if file.len() == 0 {
        return Err("empty file, nothing to scan".into());
    }
    Ok(Region::builder().read_only(true).open(path)?)
}

/// Brings the whole file into memory and into the region's own view: no way pays for the disk.
fn read_ahead(region: &Region) -> Result<()> {
    let mut progress = Progress::new("reading", region.len());
    for piece in pieces(region.len(), STEP) {
        region.prefetch(piece.clone())?;
        progress.reached(piece.end);
    }
    Ok(())
}

/// `[0, len)` in pieces of `step` bytes; the last may be shorter.
fn pieces(len: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(step).map(move |start| start..len.min(start + step))
}

fn fail(code: u8, why: fmt::Arguments<'_>) -> ExitCode {
    // Without a standard error there is nobody left to tell.
    let _ = writeln!(io::stderr(), "scan: {why}");
    ExitCode::from(code)
}

/// A reader that has seen enough, as `head` does, is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
