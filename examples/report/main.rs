//! What showing memory costs beside copying it, in a short form: measured, drawn and written down in
//! under two minutes.
//!
//! Writes pictures and a table into docs/benchmarks, or into the directory named on the command line:
//! `cargo run --release --example report`. The contenders are those of the benches; all that answer one
//! question take turns, and medians count.

#[path = "../../benches/bare/mod.rs"]
mod bare;
#[path = "../../benches/contest/mod.rs"]
mod contest;
mod measure;
mod picture;

use contest::memory::{self, Guests};
use contest::{calls::Way, machine, machine::in_units, size_name};
use measure::{Size, Streams};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let to = env::args_os().nth(1).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks"),
        PathBuf::from,
    );
    fs::create_dir_all(&to)?;
    let start = Instant::now();
    let sizes = measure::sizes();
    let streams = measure::streams();
    let guests = measure::guests();
    picture::calls(&to.join("a-calls.svg"), &sizes)?;
    picture::worth(&to.join("b-worth.svg"), &sizes)?;
    picture::streams(&to.join("d-streams.svg"), &streams)?;
    picture::guests(&to.join("f-guests.svg"), &guests)?;
    let text = text(&sizes, &streams, &guests, start.elapsed().as_secs());
    fs::write(to.join("README.md"), &text)?;
    println!("{text}\nwritten to {}", to.display());
    Ok(())
}

/// The whole table, in Markdown.
fn text(sizes: &[Size], streams: &Streams, guests: &[Guests], seconds: u64) -> String {
    let mut text = format!(
        "# What it costs, in short\n\nWritten by `cargo run --release --example report` in {seconds} s.\n\
         All ways in a table take turns, and medians count. Times of another hour or machine differ,\n\
         ratios less so; where the load below is more than the CPUs, other programs took part.\n\
         [BENCHMARKS.md](../BENCHMARKS.md) has all questions and how they are asked.\n\n{}\n",
        machine::lines()
    );
    text += "## (a) mmap, mremap, loan and memcpy\n\n![](a-calls.svg)\n\n\
             There and back: `tie` and `untie`, `resume` and `park`, `lend` and `give_back`, always\n\
             between places that agree modulo 2 MiB. The copy goes into memory that is warm, and has no\n\
             way back. A tie covers memory that nobody wants back (`Covered::Discard`); a resumed alias\n\
             has its pages mapped in. At 1 GiB larger page tables can move whole, where both places\n\
             agree modulo that.\n\n";
    table(&mut text, sizes, &Way::CALLS);
    text += "\nThe same with a reader who sums every byte once:\n\n";
    table(&mut text, sizes, &Way::SCANS);
    text += "\n## (b) From what size does tying beat copying?\n\n![](b-worth.svg)\n\n\
             Time of a tie, its full scan and its end, beside memcpy into warm memory and scan. Below 1,\n\
             tying is faster. What base pages cost is a page fault for each few of them, and taking\n\
             them down again. Prefaulted ties of 512 KiB and more have page tables that a view of the\n\
             region lends, which was read before.\n\n";
    worth(&mut text, sizes);
    text += &format!(
        "\n## (d) Streaming {} through a window of {}\n\n![](d-streams.svg)\n\n\
         Summed once. Another thread prepares what comes next, for which a CPU must be free; making the\n\
         window and its end count. Copies go into warm memory.\n\n| pages | way | GB/s | time | of the plain scan |\n\
         |---|---|--:|--:|--:|\n",
        size_name(streams.total),
        size_name(streams.window)
    );
    for (pages, ways) in &streams.ways {
        for (name, ns) in ways {
            let speed = streams.total as f64 / ns;
            let ratio = ns / ways[0].1;
            let _ = writeln!(
                text,
                "| {pages} | {name} | {speed:.1} | {} | {ratio:.2}x |",
                in_units(*ns)
            );
        }
    }
    text += "\n## (f) Memory of guests that all see one region of 64 MiB\n\n![](f-guests.svg)\n\n\
             Pss of the process, the region included, after each guest (a space) has read every page.\n\
             Page tables come on top: they are in no Pss. Copying stops at 16 guests, to spare memory.\n\n";
    text += &memory::table(guests);
    text
}

fn table(text: &mut String, sizes: &[Size], ways: &[Way]) {
    let names: Vec<&str> = ways.iter().map(|way| way.name()).collect();
    let _ = writeln!(text, "| bytes | {} |\n|--:{}|", names.join(" | "), "|--:".repeat(ways.len()));
    for size in sizes {
        let times = ways.iter().map(|way| size.time(*way).map_or("-".into(), in_units));
        let times: Vec<String> = times.collect();
        let _ = writeln!(text, "| {} | {} |", size_name(size.len), times.join(" | "));
    }
}

fn worth(text: &mut String, sizes: &[Size]) {
    let names: Vec<&str> = Way::TIES.iter().map(|way| way.short()).collect();
    let _ =
        writeln!(text, "| bytes | {} |\n|--:{}|", names.join(" | "), "|--:".repeat(names.len()));
    for size in sizes {
        let parts = Way::TIES
            .iter()
            .map(|way| size.part_of_copy(*way).map_or("-".into(), |part| format!("{part:.2}x")));
        let parts: Vec<String> = parts.collect();
        let _ = writeln!(text, "| {} | {} |", size_name(size.len), parts.join(" | "));
    }
    // From there on, and not only once.
    let from = Way::TIES.iter().map(|way| {
        let slower = sizes.iter().rposition(|s| s.part_of_copy(*way).is_some_and(|p| p >= 1.0));
        let known =
            sizes.iter().position(|s| s.part_of_copy(*way).is_some()).unwrap_or(sizes.len());
        let first = slower.map_or(known, |at| usize::max(at + 1, known));
        sizes.get(first).map_or("never here".into(), |s| size_name(s.len))
    });
    let from: Vec<String> = from.collect();
    let _ = writeln!(text, "| **faster from** | {} |", from.join(" | "));
}
