//! Starts an engine's program, one process a case, and says how it ended.

use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Long after every case has ended, on a slow and busy machine too.
const LIMIT: Duration = Duration::from_secs(180);

/// What a program printed, and how it ended; no status: it was killed at the time limit.
pub struct Ended {
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The last words on stderr, for a person.
    pub fn last_words(&self) -> &str {
        self.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing")
    }

    /// What came of a case, in one line.
    pub fn outcome(&self) -> String {
        let Some(status) = self.status else { return format!("hung: for {LIMIT:?}") };
        if let Some(signal) = status.signal() {
            return signal_name(signal);
        }
        let mut lines = self.stdout.lines();
        match (status.success(), lines.next(), lines.next()) {
            (true, Some(line), None) => line.to_owned(),
            (true, ..) => format!("failed: {} lines, not one", self.stdout.lines().count()),
            (false, ..) => format!("failed: {status}: {}", self.last_words()),
        }
    }
}

fn signal_name(signal: i32) -> String {
    let names = [
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (15, "SIGTERM"),
    ];
    let name = names.iter().find(|(number, _)| *number == signal);
    name.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

/// Runs a program to its end, or for as long as a case may take.
pub fn run(mut command: Command) -> std::io::Result<Ended> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Read while it runs: a full pipe would stop it.
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Half of it is better than none.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
