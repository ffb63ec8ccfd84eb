//! A line that tells how far a long scan is: on a terminal only, and gone at the end.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Shorter scans show nothing.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

pub struct Progress {
    what: &'static str,
    total: usize,
    /// When to show the line next; `None` where there is nobody to see it.
    next: Option<Instant>,
    shown: bool,
}

impl Progress {
    pub fn new(what: &'static str, total: usize) -> Self {
        let next = stderr().is_terminal().then(|| Instant::now() + PATIENCE);
        Self { what, total, next, shown: false }
    }

    pub fn reached(&mut self, done: usize) {
        let now = Instant::now();
        if self.next.is_some_and(|next| now >= next) {
            let percent = done as u128 * 100 / self.total as u128;
            // Nothing depends on the line, so a terminal that went away is no error.
            let _ =
                write!(stderr(), "\r\x1b[K{}: {percent} % of {} MiB", self.what, self.total >> 20);
            self.next = Some(now + STEP);
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
