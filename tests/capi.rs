//! The C surface, from C: the programs of tests/capi, built with the static library and run.
//!
//! Each abuses the interface in its own way, and ends well if all it gets is statuses. They run under
//! sanitizers and valgrind in ci/sanitize. Prints `skipped: ...` where there is no C compiler.

#[path = "common/cc.rs"]
mod cc;

use cc::Language::{C, Cxx};
use cc::{compiler, compilers, library, program, root, run, say, skip};
use std::collections::BTreeSet;
use std::process::Command;

/// Builds a program of one file, and runs it.
fn check(name: &str) {
    let (language, source, standard) = match name {
        "cpp" => (Cxx, "cpp.cpp".to_owned(), "-std=c++17"),
        _ => (C, format!("{name}.c"), "-std=c11"),
    };
    let Some(cc) = compiler(language) else { return };
    let built =
        program(cc, &[standard, "-O2", "-g", "-D_GNU_SOURCE", "-pthread"], name, &[&source]);
    let output = run(Command::new(built).env_remove("PAGETIE_UNDER"));
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        if line.starts_with("left out: ") {
            say(&format!("{name}: {line}"));
        }
    }
}

#[test]
fn every_status_is_returned() {
    check("statuses");
}

#[test]
fn null_is_a_status_in_every_position() {
    check("null");
}

#[test]
fn structs_of_other_sizes_are_read_and_written_as_far_as_they_go() {
    check("sizes");
}

#[test]
fn numbers_out_of_their_range_are_statuses() {
    check("garbage");
}

#[test]
fn handles_are_freed_in_every_order() {
    check("order");
}

#[test]
fn lists_and_arrays_of_any_length() {
    check("lists");
}

#[test]
fn ties_that_are_parked_windows_and_many_ranges() {
    check("slide");
}

#[test]
fn memory_of_the_host_is_lent_and_adopted() {
    check("host");
}

#[test]
fn four_threads_at_once() {
    check("threads");
}

#[test]
fn objects_of_cpp_do_what_the_functions_do() {
    check("cpp");
}

#[test]
fn two_files_link_and_the_library_has_the_version_of_the_header() {
    for (language, flags) in [(C, ["-std=c99", "-xc"]), (Cxx, ["-std=c++11", "-xc++"])] {
        for cc in compilers(language) {
            let objects = cc::scratch("capi").join(format!("version-{cc}"));
            std::fs::create_dir_all(&objects).expect("a folder of our own");
            let mut parts = Vec::new();
            for source in ["version.c", "other.c"] {
                let part = objects.join(source).with_extension("o");
                run(Command::new(cc)
                    .args(flags)
                    .args(cc::WARNINGS)
                    .args(["-I", "include", "-c"])
                    .arg(format!("tests/capi/{source}"))
                    .arg("-o")
                    .arg(&part)
                    .current_dir(root()));
                parts.push(part);
            }
            let built = objects.join("version");
            run(Command::new(cc)
                .args(parts)
                .arg(&library().archive)
                .args(cc::SYSTEM_LIBRARIES)
                .arg("-o")
                .arg(&built));
            let version = env!("CARGO_PKG_VERSION");
            let said = String::from_utf8(run(&mut Command::new(built)).stdout).expect("ASCII");
            assert_eq!(said, format!("{version}\n{version}\n"), "{cc}");
        }
    }
}

#[test]
fn the_shared_library_exports_the_functions_of_the_header_alone() {
    if !cc::is_installed("nm") {
        return skip("nm is not installed");
    }
    let header = std::fs::read_to_string(root().join("include/pagetie.h")).expect("the header");
    let declared = BTreeSet::from_iter(cc::functions(&header));
    let output = run(Command::new("nm")
        .args(["--dynamic", "--defined-only", "--format=posix"])
        .arg(&library().shared));
    let listed = String::from_utf8(output.stdout).expect("ASCII");
    let exported: BTreeSet<String> =
        listed.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(exported, declared);
}
