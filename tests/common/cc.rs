//! C compilers, and pagetie as C programs get it: a static and a shared library.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// What C programs are compiled with, besides a standard.
pub const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    C,
    Cxx,
}

/// Says, past the harness' capture, that something did not run and what it lacks.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    say(&format!("skipped: {}: {why}", thread.name().unwrap_or("test")));
}

pub fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("stderr");
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for what these tests make.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    folder
}

pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// gcc and clang, as far as they are installed; says which is not.
pub fn compilers(language: Language) -> Vec<&'static str> {
    let both = match language {
        Language::C => ["gcc", "clang"],
        Language::Cxx => ["g++", "clang++"],
    };
    let (installed, missing): (Vec<_>, Vec<_>) = both.into_iter().partition(|cc| is_installed(cc));
    for cc in missing {
        skip(&format!("{cc} is not installed"));
    }
    installed
}

/// The compiler of this system, `None` where there is none: that is said.
pub fn compiler(language: Language) -> Option<&'static str> {
    let any: &[_] = match language {
        Language::C => &["cc", "gcc", "clang"],
        Language::Cxx => &["c++", "g++", "clang++"],
    };
    let found = any.iter().copied().find(|cc| is_installed(cc));
    if found.is_none() {
        skip(&format!("no compiler: none of {any:?} is installed"));
    }
    found
}

/// Runs it, and fails with all it said if it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, both(&output));
    output
}

pub fn both(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Compiles C from a string, and throws the result away.
pub fn compile_text(cc: &str, flags: &[&str], source: &str) -> Output {
    let mut command = Command::new(cc);
    command.args(flags).arg("-I").arg(root().join("include")).args(["-c", "-o", "/dev/null", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the compiler runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(source.as_bytes()).expect("the compiler reads");
    drop(stdin);
    child.wait_with_output().expect("the compiler ends")
}

#[derive(Debug)]
pub struct Library {
    pub archive: PathBuf,
    pub shared: PathBuf,
}

/// Builds the libraries, once: a test binary has no part in them, since they are other crate types with
/// the feature `capi`. The command is that of `make -C c-examples lib`, so both build it only once.
pub fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
        let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
        let version = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
        let soname = format!("libpagetie.so.{version}");
        run(Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["rustc", "--locked", "--quiet", "--lib", "--release", "--target-dir"])
            .arg(target)
            .args(["--features", "capi", "--crate-type", "staticlib,cdylib", "--"])
            .args(["-C", &format!("link-arg=-Wl,-soname,{soname}")]));
        let release = target.join("release");
        // What programs look for that were linked with the shared library.
        match std::os::unix::fs::symlink("libpagetie.so", release.join(soname)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
            _ => {}
        }
        Library { archive: release.join("libpagetie.a"), shared: release.join("libpagetie.so") }
    })
}

/// What a program needs that has the static library in it: `rustc --print native-static-libs`.
pub const SYSTEM_LIBRARIES: [&str; 7] =
    ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// Builds a program of files in tests/capi with the static library.
pub fn program(cc: &str, flags: &[&str], name: &str, sources: &[&str]) -> PathBuf {
    let library = library();
    let program = scratch("capi").join(name);
    run(Command::new(cc)
        .args(flags)
        .args(WARNINGS)
        .arg("-I")
        .arg(root().join("include"))
        .args(sources.iter().map(|source| root().join("tests/capi").join(source)))
        .arg(&library.archive)
        .args(SYSTEM_LIBRARIES)
        .arg("-o")
        .arg(&program));
    program
}

/// The functions that a header declares, in its order.
pub fn functions(header: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in header.match_indices("pagetie_") {
        let word = header[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        let word = word.unwrap_or_default();
        let line = header[..at].rsplit('\n').next().unwrap_or_default();
        let in_comment = line.trim_start().starts_with(['/', '*']) || line.contains("/*");
        if !in_comment && header[at + word.len()..].starts_with('(') {
            names.push(word.to_owned());
        }
    }
    names
}
