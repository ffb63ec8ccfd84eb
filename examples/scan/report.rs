//! The comparison and the table.

use std::path::Path;

use pagetie::Region;

use crate::Result;
use crate::run::{Findings, Run};

/// All ways found the same, or else the error says what each of them found.
pub fn check(runs: &[Run]) -> Result<()> {
    if runs.windows(2).all(|pair| pair[0].findings == pair[1].findings) {
        return Ok(());
    }
    let found = |run: &Run| {
        let (crc, newlines) = (run.findings.crc32, run.findings.newlines());
        format!("{}: {crc:08x}, {newlines} newlines", run.way)
    };
    let found = runs.iter().map(found).collect::<Vec<_>>().join("; ");
    Err(format!("the ways disagree; was the file written meanwhile? ({found})").into())
}

/// The table, with a line above and some below.
pub fn table(path: &Path, region: &Region, runs: &[Run]) -> String {
    let head = ["way", "bytes", "newlines", "CRC-32", "time", "copied", "memory"];
    let mut rows = vec![head.map(String::from)];
    rows.extend(runs.iter().map(|run| {
        [
            run.way.into(),
            run.findings.len().to_string(),
            run.findings.newlines().to_string(),
            format!("{:08x}", run.findings.crc32),
            format!("{:.2} ms", run.time.as_secs_f64() * 1e3),
            run.copied.to_string(),
            run.memory.map_or("unknown".into(), |kib| format!("{kib} KiB")),
        ]
    }));

    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);

    let mut text = format!("{}, {} bytes\n\n", path.display(), region.len());
    for [way, cells @ ..] in &rows {
        text += &format!("{way:<6}");
        for (cell, width) in cells.iter().zip(&widths[1..]) {
            text += &format!("  {cell:>width$}");
        }
        text.push('\n');
    }
    text + &summary(&runs[0].findings)
}

fn summary(findings: &Findings) -> String {
    let counts = || (0..=u8::MAX).zip(findings.histogram).filter(|&(_, count)| count > 0);
    let (byte, count) = counts().max_by_key(|&(_, count)| count).unwrap_or_default();
    let share = count as f64 * 100.0 / findings.len() as f64;
    let distinct = counts().count();
    format!(
        "\nThe ways agree, on the count of every byte value too: {distinct} distinct, most often \
         0x{byte:02x} ({share:.1} %).\n\
         memory: how much Pss grew, with the last piece still in the window; see --help.\n"
    )
}
