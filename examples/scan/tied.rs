//! The file's pages, tied into the guest's memory: no byte is copied.
//!
//! ```text
//!   region (the file)  [ piece 0 | piece 1 | piece 2 | end ]
//!                                     ^ tie, moved on by retie
//!   guest memory       [ tables | window  ]
//! ```

#![allow(unsafe_code, reason = "lending an engine's memory is a promise that only we can make")]

use std::time::Instant;

use pagetie::{Access, Region, Space};
use wasmtime::Module;

use crate::guest::Guest;
use crate::progress::Progress;
use crate::run::{Memory, Run};
use crate::{Result, pieces};

pub fn scan(module: &Module, region: &Region) -> Result<Run> {
    let mut progress = Progress::new("tied", region.len());
    let memory = Memory::now();
    let mut guest = Guest::new(module)?;
    let window = guest.window();
    let start = Instant::now();

    let (base, len) = guest.memory();
    // SAFETY: The four promises of `borrow`.
    // 1. The memory is plain data, ours to use, and Wasmtime relies on nothing but its bytes.
    // 2. It stays: `guest` is dropped after `space`, and its memory cannot grow.
    // 3. Nobody else maps anything there: the guest runs in this thread only, between our calls.
    // 4. No reference into it is made while `space` lives.
    let space = unsafe { Space::borrow(base, len) }?;

    let first = 0..region.len().min(window.len());
    let mut tie = space.tie(window.start, region, first.clone(), Access::ReadOnly)?;
    guest.scan(first.len())?;
    for piece in pieces(region.len(), window.len()).skip(1) {
        if piece.len() == window.len() {
            tie.retie(region, piece.start)?;
        } else {
            // The end of the file is shorter than the window, and a tie keeps its length.
            tie.untie()?;
            tie = space.tie(window.start, region, piece.clone(), Access::ReadOnly)?;
        }
        // Where the last page goes on behind the file's end it shows zeros: they are not scanned.
        guest.scan(piece.len())?;
        progress.reached(piece.end);
    }

    let scanned = start.elapsed();
    let memory = memory.growth();
    let start = Instant::now();
    tie.untie()?;
    let time = scanned + start.elapsed();
    Ok(Run { way: "tied", findings: guest.findings()?, time, copied: 0, memory })
}
