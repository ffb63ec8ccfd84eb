//! The C examples: c-examples/Makefile builds the libraries and every example, with warnings as errors,
//! links each with the static and with the shared library, runs it, and compares what it prints with
//! c-examples/expected.
//!
//! Prints `skipped: ...` without make or a C compiler, and for what needs C++ or numpy where those are
//! missing.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Past the harness' capture, so that a skip is seen.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: c_examples: {why}");
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The examples whose file ends like this, without the ending.
fn examples(extension: &str) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir("c-examples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension() == Some(OsStr::new(extension)) {
            names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    names.sort();
    names
}

#[test]
fn every_example_prints_what_it_should() {
    for program in ["make", "cc"] {
        if !runs(program) {
            return skipped(&format!("there is no {program}"));
        }
    }
    let mut names = examples("c");
    assert!(names.len() >= 5, "{names:?}");
    if runs("c++") {
        names.extend(examples("cpp"));
    } else {
        skipped("there is no c++ for raii.cpp");
    }

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let output = Command::new("make")
        .args(["-C", "c-examples", "check"])
        .arg("WARNINGS=-Wall -Wextra -Wpedantic -Werror")
        .arg(format!("NAMES={}", names.join(" ")))
        .env("CARGO", env!("CARGO"))
        .env("CARGO_TARGET_DIR", target)
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");

    let lines: Vec<&str> = stdout.lines().collect();
    for name in &names {
        assert!(
            lines.contains(&&*format!("ok: {name}")),
            "{name} with the static library: {stdout}"
        );
        assert!(
            lines.contains(&&*format!("ok: shared/{name}")),
            "{name} with the shared library: {stdout}"
        );
    }
    match lines.iter().find(|line| line.starts_with("skipped: ")) {
        Some(line) => skipped(line.trim_start_matches("skipped: ")),
        None => assert!(lines.contains(&"ok: numpy.py"), "{stdout}"),
    }
}

/// The readme there is what a reader goes by: it names every example.
#[test]
fn every_example_is_in_the_readme() {
    let readme = fs::read_to_string("c-examples/README.md").unwrap();
    for extension in ["c", "cpp", "py"] {
        for name in examples(extension) {
            let link = format!("[{name}.{extension}]({name}.{extension})");
            assert!(
                readme.contains(&link),
                "c-examples/README.md does not name {name}.{extension}"
            );
        }
    }
}

/// CMake asks a file of its own for the version, which nothing generates.
#[test]
fn cmake_has_the_version_of_the_crate() {
    let file = fs::read_to_string("cmake/pagetieConfigVersion.cmake").unwrap();
    let line = concat!("set(PACKAGE_VERSION \"", env!("CARGO_PKG_VERSION"), "\")");
    assert!(file.contains(line), "cmake/pagetieConfigVersion.cmake: expected {line}");
}

/// Five places say what a static link needs.
#[test]
fn the_system_libraries_are_the_same_everywhere() {
    let makefile = fs::read_to_string("c-examples/Makefile").unwrap();
    let line = makefile.lines().find_map(|line| line.strip_prefix("SYSTEM_LIBS := ")).unwrap();
    for path in ["README.md", "c-examples/README.md", "docs/C.md"] {
        assert!(fs::read_to_string(path).unwrap().contains(line), "{path}: expected {line}");
    }
    let cmake = fs::read_to_string("cmake/pagetieConfig.cmake").unwrap();
    let list = line.replace("-l", "").replace(' ', ";");
    assert!(cmake.contains(&format!("\"{list}\"")), "cmake/pagetieConfig.cmake: expected {list}");
}
