//! The file's bytes, copied into the guest's memory: what one does without ties.

use std::time::Instant;

use pagetie::Region;
use wasmtime::Module;

use crate::guest::Guest;
use crate::progress::Progress;
use crate::run::{Memory, Run};
use crate::{Result, pieces};

pub fn scan(module: &Module, region: &Region) -> Result<Run> {
    let mut progress = Progress::new("copied", region.len());
    let memory = Memory::now();
    let mut guest = Guest::new(module)?;
    let mut copied = 0;
    let start = Instant::now();

    for piece in pieces(region.len(), guest.window().len()) {
        region.read_at(piece.start, &mut guest.window_mut()[..piece.len()])?;
        copied += piece.len();
        guest.scan(piece.len())?;
        progress.reached(piece.end);
    }

    let time = start.elapsed();
    let memory = memory.growth();
    Ok(Run { way: "copied", findings: guest.findings()?, time, copied, memory })
}
