//! [`Turns`]: one thread at a time, also where a fork copies the lock while it is held.
//!
//! A lock that a thread of the parent held at the fork stays locked in the child for good, if it is a
//! mutex. This one knows whose it is, and a child takes over what is not its own. It is for a few system
//! calls: who waits looks again and again.

use crate::process::Process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Whose turn it is: 0, nobody's, or the process of the thread that has it.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicU64);

/// Given up on drop.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a AtomicU64);

impl Turns {
    pub fn take(&self, process: &Process) -> Turn<'_> {
        /// Until then it is likely that whoever has it is running.
        const SOON: u32 = 100;
        let (mut holder, mut tries) = (0, 0);
        loop {
            // `holder` is nobody, or a thread of a process that this one was forked from.
            match self.0.compare_exchange_weak(
                holder,
                process.generation(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Turn(&self.0),
                Err(other) if other != process.generation() => holder = other,
                Err(_) => {
                    holder = 0;
                    tries += 1;
                    match tries {
                        ..SOON => thread::yield_now(),
                        _ => thread::sleep(Duration::from_micros(50)),
                    }
                }
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}
