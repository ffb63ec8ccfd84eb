//! The example `doctor`, run as its users run it, here and on a host that refuses things.
//!
//! The program is found next to this test, where `cargo test` puts examples; `cargo test --test doctor`
//! alone builds none.

#![allow(unsafe_code, clippy::disallowed_methods, reason = "filters system calls of a child")]

mod common;
#[path = "common/seccomp.rs"]
mod seccomp;

use common::skip;
use seccomp::{Deny, When};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const FACILITIES: [&str; 13] = [
    "memfd_create, no-exec flag",
    "mmap, MAP_FIXED",
    "mremap, MREMAP_DONTUNMAP",
    "a tie and its end",
    "the same with Covered::Discard",
    "PROCMAP_QUERY",
    "MADV_COLLAPSE of a memfd",
    "MADV_POPULATE_READ",
    "MADV_DONTNEED_LOCKED",
    "process_madvise on itself",
    "MADV_GUARD_INSTALL",
    "mremap over several mappings",
    "userfaultfd, user mode",
];

const SETTINGS: [&str; 10] = [
    "page size",
    "transparent huge pages, enabled",
    "transparent huge pages, shmem_enabled",
    "/proc/self/maps",
    "mappings of this process",
    "vm.max_map_count",
    "vm.memfd_noexec",
    "vm.overcommit_memory",
    "RLIMIT_MEMLOCK",
    "a filter of system calls (seccomp)",
];

/// What doctor says where these calls fail, and its exit status; `None`, and a line that says so, where
/// it was not built, or nothing can be filtered.
fn doctor(denied: &'static [Deny]) -> Option<(String, i32)> {
    let test = std::env::current_exe().expect("own path");
    let program: PathBuf = test.parent()?.parent()?.join("examples/doctor");
    if !program.exists() {
        skip(format_args!("{} is not there; `cargo test` builds it", program.display()));
        return None;
    }
    let mut command = Command::new(program);
    if !denied.is_empty() {
        // SAFETY: the child has one thread, and nobody else holds its allocator's lock: this file starts
        // no threads but the test's own, and glibc's fork takes that lock.
        unsafe { command.pre_exec(|| seccomp::deny(denied)) };
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(why) if !denied.is_empty() => {
            skip(format_args!("no filters of system calls here: {why}"));
            return None;
        }
        Err(why) => panic!("doctor starts: {why}"),
    };
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    Some((text, output.status.code().expect("an exit status")))
}

/// What stands after a label.
#[track_caller]
fn answer<'t>(text: &'t str, label: &str) -> &'t str {
    let line = text.lines().find(|line| line.trim_start().starts_with(label));
    let line = line.unwrap_or_else(|| panic!("no line `{label}` in:\n{text}"));
    // Labels are padded; some have more words than the test names.
    line.trim_start()[label.len()..].rsplit("  ").next().unwrap_or("").trim()
}

fn facility<'t>(text: &'t str, label: &str) -> &'t str {
    let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(label));
    let rest = rest.unwrap_or_else(|| panic!("no line `{label}` in:\n{text}"));
    rest.split_once(") ").unwrap_or_else(|| panic!("no version in `{label}{rest}`")).1.trim()
}

#[test]
fn says_of_everything_whether_it_is_there() {
    let Some((text, status)) = doctor(&[]) else { return };
    for label in FACILITIES {
        let answer = facility(&text, label);
        assert!(answer == "yes" || answer.starts_with("no: "), "{label}: {answer}");
    }
    for label in SETTINGS {
        assert!(!answer(&text, label).is_empty(), "{label} has no value in:\n{text}");
    }
    assert!(answer(&text, "page size").starts_with(&pagetie::page::size().to_string()));
    assert!(text.contains("To mend\n"), "{text}");
    // The other tests tie, so it must work.
    assert_eq!(facility(&text, "a tie and its end"), "yes");
    assert!(text.ends_with("pagetie works here.\n"), "{text}");
    assert_eq!(status, 0);
}

#[test]
fn names_the_fallback_and_still_succeeds_on_an_older_kernel() {
    const OLD: &[Deny] = &[
        Deny { call: libc::SYS_process_madvise, when: When::Always, errno: libc::EINVAL },
        Deny { call: libc::SYS_userfaultfd, when: When::Always, errno: libc::EPERM },
    ];
    let Some((text, status)) = doctor(OLD) else { return };
    let batch = facility(&text, "process_madvise on itself");
    assert!(batch.starts_with("no: discard_many"), "{batch}");
    let fault = facility(&text, "userfaultfd, user mode");
    assert!(fault.starts_with("no: ties with concurrent(true) are refused"), "{fault}");
    assert!(text.contains("  - userfaultfd is missing or refused"), "{text}");
    assert!(text.contains("  - a filter of system calls is in force"), "{text}");
    assert_eq!((answer(&text, "a filter of system calls"), status), ("yes", 0));
}

#[test]
fn fails_where_no_tie_can_be_made() {
    const NONE: &[Deny] =
        &[Deny { call: libc::SYS_memfd_create, when: When::Always, errno: libc::EPERM }];
    let Some((text, status)) = doctor(NONE) else { return };
    assert!(facility(&text, "a tie and its end").starts_with("no: "), "{text}");
    assert!(text.ends_with("pagetie does not work here: no tie can be made.\n"), "{text}");
    assert_eq!(status, 1);
}
