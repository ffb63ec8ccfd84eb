//! The example `scan`, run as its users run it.
//!
//! What it prints is compared with counts and a CRC-32 made here, bit by bit. The program is found
//! next to this test, where `cargo test` puts examples; `cargo test --test scan` alone builds none.

#![allow(unsafe_code, reason = "a terminal is made by a call of the C library")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::RwLock;

use common::skip;
use tempfile::TempDir;

/// The guest's window: faults would hide at its edges.
const WINDOW: usize = 16 << 20;

/// `None`, and a line that says so, where the example was not built.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().expect("own path");
    let program = test.parent()?.parent()?.join("examples/scan");
    if program.exists() {
        return Some(program);
    }
    skip(format_args!("{} is not there; `cargo test` builds it", program.display()));
    None
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Pages of the program are shared by all that run it, which shows in the Pss of each: who compares
/// that must run alone.
static RUNNING: RwLock<()> = RwLock::new(());

fn run(command: &mut Command) -> Ran {
    let _others = RUNNING.read();
    run_alone(command)
}

fn run_alone(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().expect("scan starts");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn scan(program: &Path, file: impl AsRef<OsStr>) -> Ran {
    run(Command::new(program).arg(file))
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    bytes: u64,
    newlines: u64,
    crc32: u32,
    milliseconds: f64,
    copied: u64,
    kib: Option<i64>,
}

/// The three lines of the table: tied, copied, native.
fn rows(stdout: &str) -> [Row; 3] {
    ["tied", "copied", "native"].map(|way| {
        let line = stdout.lines().find(|line| line.split_whitespace().next() == Some(way));
        let line = line.unwrap_or_else(|| panic!("no line {way} in {stdout}"));
        let cells: Vec<&str> = line.split_whitespace().collect();
        let [_, bytes, newlines, crc32, time, "ms", copied, memory @ ..] = &cells[..] else {
            panic!("another shape: {line}");
        };
        assert_eq!(crc32.len(), 8, "{line}");
        Row {
            bytes: bytes.parse().expect(line),
            newlines: newlines.parse().expect(line),
            crc32: u32::from_str_radix(crc32, 16).expect(line),
            milliseconds: time.parse().expect(line),
            copied: copied.parse().expect(line),
            kib: match memory {
                [kib, "KiB"] => Some(kib.parse().expect(line)),
                _ => None,
            },
        }
    })
}

/// Success, nothing on stderr, and three lines that agree.
fn success(ran: &Ran) -> [Row; 3] {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr, "");
    let rows = rows(&ran.stdout);
    for row in &rows {
        assert_eq!(row.bytes, rows[0].bytes);
        assert_eq!(row.newlines, rows[0].newlines);
        assert_eq!(row.crc32, rows[0].crc32);
    }
    assert_eq!(rows[0].copied, 0, "tied");
    assert_eq!(rows[1].copied, rows[1].bytes, "copied");
    assert_eq!(rows[2].copied, 0, "native");
    rows
}

/// No table, and one line on stderr that names the file.
#[track_caller]
fn refusal(ran: &Ran, code: i32, words: &str) {
    assert_eq!(ran.code, Some(code), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.starts_with("scan: "), "{}", ran.stderr);
    assert!(ran.stderr.ends_with('\n'), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(words), "no {words:?} in {}", ran.stderr);
}

/// CRC-32 as its definition has it, one bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Scans `bytes` from a file, and compares what was found.
#[track_caller]
fn check(bytes: &[u8]) -> Option<[Row; 3]> {
    let program = program()?;
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(bytes).expect("write");
    Some(check_file(&program, file.path(), bytes))
}

#[track_caller]
fn check_file(program: &Path, path: &Path, bytes: &[u8]) -> [Row; 3] {
    let ran = scan(program, path);
    let rows = success(&ran);
    assert_eq!(rows[0].bytes, bytes.len() as u64);
    assert_eq!(rows[0].newlines, bytes.iter().filter(|&&byte| byte == b'\n').count() as u64);
    let expected = crc32(bytes);
    assert_eq!(rows[0].crc32, expected, "{:08x} is not {expected:08x}", rows[0].crc32);
    rows
}

/// Bytes of every value, without a period that a page or a word would have.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn the_crc_here_is_the_one_everybody_means() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc32(b""), 0);
}

#[test]
fn a_known_vector() {
    if let Some(rows) = check(b"123456789") {
        assert_eq!(rows[0].crc32, 0xcbf4_3926);
    }
}

#[test]
fn lengths_around_words_and_pages() {
    let page = pagetie::page::size();
    for len in [1, 7, 8, 15, page - 1, page, page + 1, 3 * page] {
        check(&noise(len));
    }
}

#[test]
fn exactly_the_window() {
    check(&noise(WINDOW));
}

#[test]
fn a_copy_needs_memory_and_a_tie_does_not() {
    let Some(program) = program() else { return };
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    fs::write(file.path(), noise(WINDOW)).expect("write");
    let _nobody_else = RUNNING.write();
    let ran = run_alone(Command::new(program).arg(file.path()));
    if let [Some(tied), Some(copied), Some(native)] = success(&ran).map(|row| row.kib) {
        let window = (WINDOW >> 10) as i64;
        assert!(copied > window * 3 / 4, "copied: {copied} KiB");
        assert!(tied < window / 4, "tied: {tied} KiB");
        assert!(native < window / 4, "native: {native} KiB");
    } else {
        skip("the kernel tells no Pss");
    }
}

#[test]
fn a_sparse_file_longer_than_the_window() {
    let Some(program) = program() else { return };
    let page = pagetie::page::size();
    let mut bytes = vec![0; WINDOW + page + 17];
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    file.as_file().set_len(bytes.len() as u64).expect("length");
    for at in [0, WINDOW - 3, WINDOW + page - 2, WINDOW + page + 13] {
        file.as_file().write_all_at(b"a\nb\n", at as u64).expect("write");
        bytes[at..at + 4].copy_from_slice(b"a\nb\n");
    }
    check_file(&program, file.path(), &bytes);
}

#[test]
fn two_windows_and_less_than_a_page() {
    check(&noise(2 * WINDOW + 5));
}

#[test]
fn the_default_is_the_program_itself() {
    let Some(program) = program() else { return };
    let ran = run(&mut Command::new(&program));
    let rows = success(&ran);
    assert_eq!(rows[0].bytes, fs::metadata(&program).expect("the program is there").len());
    assert!(ran.stdout.contains("256 distinct"), "{}", ran.stdout);
}

#[test]
fn the_most_frequent_byte() {
    let Some(program) = program() else { return };
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    fs::write(file.path(), b"aaabbc\n\n").expect("write");
    let ran = scan(&program, file.path());
    success(&ran);
    assert!(ran.stdout.contains("4 distinct, most often 0x61 (37.5 %)"), "{}", ran.stdout);
}

#[test]
fn what_is_no_file_is_refused() {
    let Some(program) = program() else { return };
    let dir = TempDir::new().expect("temporary directory");

    let missing = dir.path().join("missing");
    refusal(&scan(&program, &missing), 1, "missing: No such file or directory");

    let empty = dir.path().join("empty");
    File::create(&empty).expect("create");
    refusal(&scan(&program, &empty), 1, "empty: empty file");

    refusal(&scan(&program, dir.path()), 1, "is a directory");
    refusal(&scan(&program, "/dev/null"), 1, "not a regular file");
    refusal(&scan(&program, "/proc/self/status"), 1, "empty file");

    // Nobody ever writes to it: who opens it to look hangs.
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("mknod");
    refusal(&scan(&program, &fifo), 1, "not a regular file");
}

#[test]
fn an_unreadable_file_is_refused() {
    let Some(program) = program() else { return };
    let dir = TempDir::new().expect("temporary directory");
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").expect("write");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("chmod");

    let mut command = Command::new(&program);
    if rustix::process::geteuid().is_root() {
        // Root may read anything, so let it be nobody who tries.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        command.uid(65534);
        if let Err(why) = command.arg("--version").output() {
            return skip(format_args!("cannot run the example as another user: {why}"));
        }
        command = Command::new(&program);
        command.uid(65534);
    }
    let ran = run(command.arg(&secret));
    refusal(&ran, 1, "Permission denied");
    assert!(ran.stderr.starts_with(&format!("scan: {}: ", secret.display())), "{}", ran.stderr);
}

#[test]
fn the_command_line() {
    let Some(program) = program() else { return };
    for flag in ["--help", "-h"] {
        let ran = scan(&program, flag);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.contains("Usage: scan [FILE]"), "{}", ran.stdout);
        let window = format!("a {} MiB window", WINDOW >> 20);
        assert!(ran.stdout.contains(&window), "{}", ran.stdout);
    }
    let ran = scan(&program, "--version");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout, concat!("scan (pagetie ", env!("CARGO_PKG_VERSION"), ")\n"));

    refusal(&scan(&program, "--colour"), 2, "unknown option --colour");
    refusal(&run(Command::new(&program).args(["one", "two"])), 2, "more than one file");
}

#[test]
fn odd_file_names() {
    let Some(program) = program() else { return };
    let dir = TempDir::new().expect("temporary directory");

    fs::write(dir.path().join("--help"), "123456789").expect("write");
    let ran = run(Command::new(&program).args(["--", "--help"]).current_dir(dir.path()));
    assert_eq!(success(&ran)[0].crc32, 0xcbf4_3926);

    let name = dir.path().join(OsStr::from_bytes(b"not\xffutf-8"));
    fs::write(&name, "123456789").expect("write");
    assert_eq!(success(&scan(&program, &name))[0].crc32, 0xcbf4_3926);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let Some(program) = program() else { return };
    let mut command = Command::new(&program);
    command.arg(&program).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let _others = RUNNING.read();
    let mut child = command.spawn().expect("scan starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("scan ends");
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Both ends of a new terminal: what is written to the second is read from the first.
fn terminal() -> (File, File) {
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both places are valid for an int, and everything else may be null.
    let failed = unsafe { libc::openpty(&mut ours, &mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(failed, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: openpty has made the descriptor, and nobody else has it.
    let ours = unsafe { File::from_raw_fd(ours) };
    // SAFETY: as above.
    let theirs = unsafe { File::from_raw_fd(theirs) };
    (ours, theirs)
}

#[test]
fn progress_shows_on_a_terminal_and_goes_away() {
    let Some(program) = program() else { return };
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    file.as_file().set_len(256 << 20).expect("length");
    let (mut ours, theirs) = terminal();

    let _others = RUNNING.read();
    let mut command = Command::new(&program);
    command.arg(file.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(theirs);
    let child = command.spawn().expect("scan starts");
    // With it goes our copy of their end, so that reading ends when the child does.
    drop(command);
    let mut seen = Vec::new();
    // Ends with EIO once nobody has the other end open.
    let _ = ours.read_to_end(&mut seen);
    let output = child.wait_with_output().expect("scan ends");

    let rows = rows(&String::from_utf8_lossy(&output.stdout));
    let seen = String::from_utf8_lossy(&seen);
    if rows.iter().any(|row| row.milliseconds > 1500.0) {
        assert!(seen.contains(" % of 256 MiB"), "{seen:?}");
    } else if seen.is_empty() {
        return skip("this machine is too quick to see any progress");
    }
    const ERASE: &str = "\r\x1b[K";
    assert!(seen.ends_with(ERASE), "{seen:?}");
    assert!(seen.split(ERASE).all(|line| line.is_empty() || line.ends_with(" MiB")), "{seen:?}");
}
