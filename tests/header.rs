//! include/pagetie.h: it is what cbindgen makes of src/ffi, it declares what the contract in
//! tests/capi/contract.h does, with the same layout, and every compiler takes it without a word.
//!
//! After a change of src/ffi or cbindgen.toml, make it anew with
//!
//! ```text
//! PAGETIE_REGENERATE=1 cargo test --test header
//! ```

#[path = "common/cc.rs"]
mod cc;

use cc::Language::{C, Cxx};
use cc::{WARNINGS, compile_text, compilers, root, run, scratch};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

const STANDARDS: [(cc::Language, &str); 6] = [
    (C, "-std=c99"),
    (C, "-std=c11"),
    (C, "-std=c17"),
    (Cxx, "-std=c++11"),
    (Cxx, "-std=c++17"),
    (Cxx, "-std=c++20"),
];

fn header() -> String {
    fs::read_to_string(root().join("include/pagetie.h")).expect("include/pagetie.h")
}

fn contract() -> String {
    fs::read_to_string(root().join("tests/capi/contract.h")).expect("the contract")
}

/// What cbindgen makes of the files of src/ffi, in the order of their names. Given the files, it needs
/// no cargo to find them: the crate as a whole gives the same.
fn generate() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml");
    let mut files: Vec<_> = fs::read_dir(root().join("src/ffi"))
        .expect("src/ffi")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let builder = cbindgen::Builder::new().with_config(config);
    let builder = files.into_iter().fold(builder, cbindgen::Builder::with_src);
    let mut text = Vec::new();
    builder.generate().expect("cbindgen reads src/ffi").write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

#[test]
fn is_what_cbindgen_makes_of_the_source() {
    let generated = generate();
    if std::env::var_os("PAGETIE_REGENERATE").is_some() {
        fs::write(root().join("include/pagetie.h"), &generated).expect("include/pagetie.h");
    }
    let committed = header();
    if committed == generated {
        return;
    }
    let differs = committed.lines().zip(generated.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(committed.lines().count().min(generated.lines().count()));
    panic!(
        "include/pagetie.h has drifted from src/ffi, first in line {}:\n  there: {}\n  made:  {}\n\
         make it anew: PAGETIE_REGENERATE=1 cargo test --test header",
        line + 1,
        committed.lines().nth(line).unwrap_or("(its end)"),
        generated.lines().nth(line).unwrap_or("(its end)"),
    );
}

#[test]
fn compiles_alone_and_twice_in_every_standard_without_a_warning() {
    let installed = |language| (language, compilers(language));
    let both = [installed(C), installed(Cxx)];
    for (language, compilers) in both {
        for cc in compilers {
            for (_, standard) in STANDARDS.iter().filter(|(of, _)| *of == language) {
                let source = "#include \"pagetie.h\"\n#include \"pagetie.h\"\n";
                let language = if language == C { "c" } else { "c++" };
                let flags = [&WARNINGS[..], &["-Wpadded", standard, "-x", language]].concat();
                let output = compile_text(cc, &flags, source);
                assert!(output.status.success(), "{cc} {standard}: {}", cc::both(&output));
            }
        }
    }
}

/// One word stands for an access and another for a protection; mixed up, they are numbers that mean
/// something else.
#[test]
fn compilers_catch_a_protection_passed_as_an_access() {
    let source = |access| {
        format!(
            "#include \"pagetie.h\"\n\
             pagetie_status f(const pagetie_space *s, const pagetie_region *r, pagetie_tie **out);\n\
             pagetie_status f(const pagetie_space *s, const pagetie_region *r, pagetie_tie **out) {{\n\
             return pagetie_tie_new(s, 0, r, 0, 1, {access}, NULL, out, NULL);\n}}\n"
        )
    };
    for (language, standard, name) in [(C, "-std=c11", "c"), (Cxx, "-std=c++17", "c++")] {
        for cc in compilers(language) {
            let flags = [&WARNINGS[..], &[standard, "-x", name]].concat();
            let right = compile_text(cc, &flags, &source("PAGETIE_READ_WRITE_TIE"));
            assert!(right.status.success(), "{cc}: {}", cc::both(&right));
            for wrong in ["PAGETIE_PROT_READ", "PAGETIE_READ_ONLY"] {
                let output = compile_text(cc, &flags, &source(wrong));
                let said = cc::both(&output);
                assert!(!output.status.success(), "{cc} takes {wrong} for an access");
                if language == C {
                    assert!(said.contains("enum-conversion"), "{cc}, of {wrong}: {said}");
                }
            }
        }
    }
}

/// Every enum constant of a header, with its number.
fn constants(header: &str) -> BTreeMap<String, u32> {
    let mut constants = BTreeMap::new();
    for line in header.lines() {
        let line = line.split("/*").next().unwrap_or_default().trim().trim_end_matches(',');
        let Some((name, number)) = line.split_once(" = ") else { continue };
        if let (true, Ok(number)) = (name.starts_with("PAGETIE_"), number.parse()) {
            assert_eq!(constants.insert(name.to_owned(), number), None, "{name} twice");
        }
    }
    constants
}

#[test]
fn declares_the_functions_and_constants_of_the_contract() {
    let (header, contract) = (header(), contract());
    let functions = |header: &str| BTreeSet::from_iter(cc::functions(header));
    assert_eq!(functions(&header), functions(&contract));
    assert_eq!(constants(&header), constants(&contract));
    assert!(constants(&header).len() == 23 && cc::functions(&header).len() >= 41);
}

#[test]
fn declares_every_function_with_the_types_of_the_contract() {
    // After the header the contract declares only functions, which compilers compare.
    let contract = root().join("tests/capi/contract.h");
    let source = |contract: &str| format!("#include \"pagetie.h\"\n#include \"{contract}\"\n");
    let same = source(contract.to_str().expect("a path in UTF-8"));
    for (language, standard, name) in [(C, "-std=c11", "c"), (Cxx, "-std=c++17", "c++")] {
        for cc in compilers(language) {
            let flags = [&WARNINGS[..], &[standard, "-x", name]].concat();
            let output = compile_text(cc, &flags, &same);
            assert!(output.status.success(), "{cc}: {}", cc::both(&output));
        }
    }
}

#[test]
fn lays_out_structs_as_the_contract_does() {
    let Some(cc) = cc::compiler(C) else { return };
    // The same program, once with each: it prints every size, offset, number and initial value.
    let print = |header: &str| {
        let program = scratch("header").join(header);
        run(Command::new(cc)
            .args(WARNINGS)
            .args(["-std=c11", &format!("-DHEADER=\"{header}\"")])
            .args(["-I", "include", "-I", "tests/capi", "tests/capi/layout.c", "-o"])
            .arg(&program)
            .current_dir(root()));
        String::from_utf8(run(&mut Command::new(program)).stdout).expect("ASCII")
    };
    let (ours, theirs) = (print("pagetie.h"), print("contract.h"));
    assert_eq!(ours, theirs);
    assert!(ours.lines().count() > 60, "{ours}");
}

#[test]
fn has_the_version_of_the_crate() {
    let number = |part: &str| {
        let header = header();
        let name = format!("#define PAGETIE_VERSION_{part} ");
        let value = header.lines().find_map(|line| line.strip_prefix(&name));
        value.expect("the macro").to_owned()
    };
    let version = [number("MAJOR"), number("MINOR"), number("PATCH")].join(".");
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "cbindgen.toml has another version");
}

/// A reader of the header alone learns what can go wrong, and since when a function is there.
#[test]
fn documents_every_function() {
    let header = header();
    let mut comment = String::new();
    let mut documented = 0;
    for line in header.lines() {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
            continue;
        }
        if cc::functions(line).len() == 1 {
            assert!(comment.contains("Since 0."), "since when? {line}");
            let says_how = comment.contains(" Fails as ");
            assert_eq!(says_how, line.starts_with("enum pagetie_status"), "how it fails: {line}");
            documented += 1;
        }
        comment.clear();
    }
    assert_eq!(documented, cc::functions(&header).len());
}

/// The C++ header has something for each function of the C header.
#[test]
fn the_cpp_header_calls_every_function() {
    let path = root().join("include/pagetie.hpp");
    let text = fs::read_to_string(path).expect("include/pagetie.hpp");
    // Block comments are set off by ` * `, and only the first begins a line with a slash.
    let is_code = |line: &&str| !line.starts_with([' ', '/']) || line.starts_with("  ");
    let code = text.lines().filter(is_code).map(|line| line.split("//").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join("\n");
    let words: BTreeSet<&str> =
        code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for function in cc::functions(&header()) {
        assert!(words.contains(&*function), "pagetie.hpp does not call {function}");
    }
}

#[test]
fn the_cpp_header_compiles_alone_and_twice_without_a_warning() {
    for cc in compilers(Cxx) {
        for standard in ["-std=c++17", "-std=c++20"] {
            let source = "#include \"pagetie.hpp\"\n#include \"pagetie.hpp\"\n";
            let output =
                compile_text(cc, &[&WARNINGS[..], &[standard, "-x", "c++"]].concat(), source);
            assert!(output.status.success(), "{cc} {standard}: {}", cc::both(&output));
        }
    }
}
