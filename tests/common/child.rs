//! Runs a scenario in a process of its own, and says how that process ended.
//!
//! The test binary is started again for this one test, with the name of the case in its
//! environment; there the scenario runs, and the process ends behind it. So a scenario may fault,
//! hang, fork, use up mappings or filter system calls, and harms no other test. A process that
//! has not ended at the deadline is killed, and the test fails.

#![allow(dead_code, reason = "each test file uses its part")]

use std::any::type_name;
use std::env;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Names the case in the environment of the process that runs it.
const CASE: &str = "PAGETIE_TEST_CASE";

/// Long after every scenario has ended, on a slow and busy machine too.
const DEADLINE: Duration = Duration::from_secs(120);

/// The last words of a scenario that ran to its end, and of one about to fault.
const DONE: &str = "the scenario is done";
const EDGE: &str = "the next access faults";

/// The exit codes of a process that was to fault and did not, or did elsewhere.
const SURVIVED: i32 = 97;
const ELSEWHERE: i32 = 98;

/// Runs a scenario in a process of its own, where it must run to its end.
///
/// `scenario` is a closure of the test function: its type names the test.
#[track_caller]
pub fn lives<F: FnOnce()>(case: &str, scenario: F) {
    if let Some((status, output)) = run(case, scenario) {
        let done = output.lines().any(|line| line == DONE);
        assert!(status.success() && done, "{case}: {status}\n{output}");
    }
}

/// Runs a scenario that ends in [`load`] or [`store`], where its process must die of `signal`.
#[track_caller]
pub fn dies<F: FnOnce()>(case: &str, signal: i32, scenario: F) {
    if let Some((status, output)) = run(case, scenario) {
        let edge = output.lines().next_back() == Some(EDGE);
        assert!(
            status.signal() == Some(signal) && edge,
            "{case}: {status}, not signal {signal}\n{output}"
        );
    }
}

/// Prints a line that the test's reader is to see, past the harness' capture: what was skipped
/// (`skipped: `) or found (`measured: `).
pub fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("stderr");
}

/// Reads an address; the process is to die of that.
pub fn load(addr: usize) {
    doomed(addr, || {
        // SAFETY: the page cannot be read, which is the point; were it readable, any byte is a u8.
        unsafe { ptr::with_exposed_provenance::<u8>(addr).read_volatile() };
    });
}

/// Writes an address; the process is to die of that.
pub fn store(addr: usize) {
    doomed(addr, || {
        // SAFETY: the page cannot be written, which is the point; were it writable, it is the
        // scenario's own memory and holds only bytes.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(addr).write_volatile(1) };
    });
}

/// Where the next fault is to be.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);

fn doomed(addr: usize, access: impl FnOnce()) {
    EXPECTED.store(addr, Ordering::SeqCst);
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all zeros is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and calls only what may
        // be called in a handler.
        let rc = unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
        assert_eq!(rc, 0, "sigaction: {}", io::Error::last_os_error());
    }
    say(EDGE);
    access();
    say("the access went through");
    std::process::exit(SURVIVED);
}

/// Lets a fault kill if it is where it was expected: the default action returns, and so does the
/// fault, at the same instruction.
extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo, and for these signals it holds an address.
    let addr = unsafe { (*info).si_addr() } as usize;
    // SAFETY: both calls are async-signal-safe and touch no memory.
    unsafe {
        if addr != EXPECTED.load(Ordering::SeqCst) {
            libc::_exit(ELSEWHERE);
        }
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// `None` in a process that was started for another case of this test.
#[track_caller]
fn run<F: FnOnce()>(case: &str, scenario: F) -> Option<(ExitStatus, String)> {
    if let Some(asked) = env::var_os(CASE) {
        if asked == case {
            scenario();
            say(DONE);
            std::process::exit(0);
        }
        return None;
    }
    let path = type_name::<F>().split("::{{closure}}").next().expect("the first part");
    let (_, test) = path.split_once("::").expect("a test of this crate");
    // A file and not a pipe: a process that somebody left behind cannot keep it open for us.
    let mut output = tempfile::tempfile().expect("a file for the output");
    let mut child = Command::new(env::current_exe().expect("the test's own path"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        // One arena: the arena of a thread is a mapping that grows.
        .env("MALLOC_ARENA_MAX", "1")
        // The harness' own talk; panics and what a scenario says go to the other.
        .stdout(Stdio::null())
        .stderr(output.try_clone().expect("duplicate a descriptor"))
        .process_group(0)
        .spawn()
        .expect("start the test again");
    let ended = wait(&mut child, DEADLINE);
    let mut text = Vec::new();
    output.rewind().expect("back to the start");
    output.read_to_end(&mut text).expect("read the output");
    let text = String::from_utf8_lossy(&text).into_owned();
    for line in text.lines() {
        if line.starts_with("skipped: ") || line.starts_with("measured: ") {
            say(line);
        }
    }
    let status = ended.unwrap_or_else(|| panic!("{case}: hung for {DEADLINE:?}\n{text}"));
    Some((status, text))
}

/// How a child ended; `None` if it had to be killed at the deadline, with its whole group.
fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let pid = Pid::from_child(child);
    let watch = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open");
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: watch.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = left.as_millis().try_into().expect("a deadline of days");
        // SAFETY: `poll` is one valid entry.
        let ready = unsafe { libc::poll(&mut poll, 1, millis) };
        if ready > 0 {
            return Some(child.wait().expect("wait for the child"));
        }
        if left.is_zero() {
            // SAFETY: the child leads a group of its own and is not reaped: the number is its.
            unsafe { libc::kill(-pid.as_raw_nonzero().get(), libc::SIGKILL) };
            child.wait().expect("wait for the child");
            return None;
        }
    }
}
