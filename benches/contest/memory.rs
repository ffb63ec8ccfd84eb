//! What guests take of memory that all see one region: shown to each, or copied for each.

use super::scan::BAREST;
use super::{Pages, copy_to, numbered, sum};
use crate::bare::Memory;
use pagetie::Space;
use std::{fmt::Write as _, fs, hint::black_box};

/// What this process uses, in KiB.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Its share of physical memory: a page that it shows at two addresses counts once.
    pub pss: usize,
    /// Page tables, which no Pss has.
    pub tables: usize,
}

impl Usage {
    pub fn now() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        Self {
            pss: field("/proc/self/smaps_rollup", "Pss:").unwrap_or(0),
            tables: field("/proc/self/status", "VmPTE:").unwrap_or(0),
        }
    }
}

/// How long the region is.
pub const LEN: usize = 64 << 20;

pub const COUNTS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// What so many guests take, the region included.
pub struct Guests {
    pub count: usize,
    pub tied: Usage,
    /// None where that would be too much.
    pub copied: Option<Usage>,
}

/// Each guest has read every byte. Copies are made for no more than `most_copies` of them.
pub fn guests(counts: &[usize], most_copies: usize) -> Vec<Guests> {
    let before = Usage::now();
    let (region, expected) = numbered(LEN, Pages::Base);
    let grown = || {
        let now = Usage::now();
        Usage {
            pss: now.pss.saturating_sub(before.pss),
            tables: now.tables.saturating_sub(before.tables),
        }
    };
    let read = |start: *const u8| {
        // SAFETY: callers pass memory of that length that is mapped, and nobody writes it.
        assert_eq!(unsafe { sum(black_box(start), LEN) }, expected);
    };
    read(region.as_ptr());
    let mut spaces = Vec::new();
    let tied: Vec<Usage> = counts
        .iter()
        .map(|&count| {
            while spaces.len() < count {
                let space = Space::reserve(LEN).expect("reserve");
                let tie = space.tie(0, &region, .., BAREST).expect("tie");
                read(tie.as_ptr());
                // The space's end is the tie's end too.
                spaces.push((tie, space));
            }
            grown()
        })
        .collect();
    drop(spaces);
    let mut copies = Vec::new();
    let copied = counts.iter().map(|&count| {
        (count <= most_copies).then(|| {
            while copies.len() < count {
                let copy = Memory::new(LEN);
                copy_to(&region, 0, &copy, LEN);
                read(copy.as_ptr());
                copies.push(copy);
            }
            grown()
        })
    });
    let rows = counts.iter().zip(tied).zip(copied);
    rows.map(|((&count, tied), copied)| Guests { count, tied, copied }).collect()
}

/// In Markdown.
pub fn table(guests: &[Guests]) -> String {
    let mut text = "| guests | tied | page tables | copied | page tables |\n\
                    |--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Guests { count, tied, copied } in guests {
        let mib = |kib: usize| format!("{:.1} MiB", kib as f64 / 1024.0);
        let copied = copied.map_or(("-".into(), "-".into()), |c| (mib(c.pss), mib(c.tables)));
        let (pss, tables) = (mib(tied.pss), mib(tied.tables));
        let _ = writeln!(text, "| {count} | {pss} | {tables} | {} | {} |", copied.0, copied.1);
    }
    text
}
