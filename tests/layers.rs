//! The line between the crate and the kernel, read from the sources.
//!
//! Nothing outside of `src/sys` names the crates `libc`, `rustix` or `memfd`, and no file writes a
//! page size as a number. Comments and strings may.

use std::fs;
use std::path::{Path, PathBuf};

/// Where system calls are made.
const SYS: &str = "src/sys";

/// Crates that stand for the kernel.
const KERNEL: [&str; 3] = ["libc", "rustix", "memfd"];

/// Page sizes that other systems do not have.
const PAGE_SIZES: [u128; 2] = [4 << 10, 64 << 10];

/// How many characters from the start on satisfy `more`, as bytes.
fn run(text: &str, more: impl Fn(char) -> bool) -> usize {
    text.find(|c| !more(c)).unwrap_or(text.len())
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a comment at the start of `rest`, 0 for none. Those in `/* */` nest.
fn comment(rest: &str) -> usize {
    if rest.starts_with("//") {
        return run(rest, |c| c != '\n');
    }
    if !rest.starts_with("/*") {
        return 0;
    }
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if here.starts_with("*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                break;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a string or character at the start of `rest`, 0 for none.
fn text(rest: &str) -> usize {
    let prefix = run(rest, |c| matches!(c, 'b' | 'c' | 'r'));
    let hashes = run(&rest[prefix..], |c| c == '#');
    let opened = prefix + hashes;
    let raw = rest[..prefix].contains('r');
    match rest[opened..].chars().next() {
        Some('"') if raw => {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = opened + 1;
            rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
        }
        Some(quote @ ('"' | '\'')) if hashes == 0 => {
            let body = &rest[opened + 1..];
            // `'a` is a lifetime unless a quote follows.
            let closes = |c: &str| c.chars().nth(1) == Some('\'') || c.starts_with('\\');
            if quote == '\'' && !closes(body) {
                return 0;
            }
            let mut escaped = false;
            let end = body.char_indices().find(|&(_, c)| {
                let end = c == quote && !escaped;
                escaped = c == '\\' && !escaped;
                end
            });
            end.map_or(rest.len(), |(at, _)| opened + 1 + at + 1)
        }
        _ => 0,
    }
}

/// The source without its comments and strings, in the same lines.
fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        // A word is taken whole: its end may look like the start of a string.
        let word = run(rest, in_word);
        let len = match comment(rest).max(text(rest)) {
            0 if word > 0 => {
                code.push_str(&rest[..word]);
                word
            }
            0 => {
                code.push(first);
                first.len_utf8()
            }
            len => {
                code.push(' ');
                code.extend(rest[..len].chars().filter(|&c| c == '\n'));
                len
            }
        };
        rest = &rest[len..];
    }
    code
}

/// Lines that name a crate of the kernel: in a path, in a `use`, by another name.
fn names_kernel(source: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (line, code) in (1..).zip(code(source).lines()) {
        for name in KERNEL {
            for (at, _) in code.match_indices(name) {
                let (before, after) = (&code[..at], &code[at + name.len()..]);
                let whole = !before.ends_with(in_word) && !after.starts_with(in_word);
                let (before, after) = (before.trim_end(), after.trim_start());
                let used = before.trim_end_matches("::").ends_with("use");
                if whole && (used || after.starts_with("::") || after.starts_with("as ")) {
                    found.push((line, name));
                }
            }
        }
    }
    found
}

/// The value of an integer, its suffix left off; 0 for another word.
fn value(word: &str) -> u128 {
    let digits = word.replace('_', "");
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ => (10, &digits[..]),
    };
    let suffix = digits.find(['u', 'i']).unwrap_or(digits.len());
    u128::from_str_radix(&digits[..suffix], radix).unwrap_or(0)
}

/// Lines that write a page size as a number, outside of unit tests: these hand page arithmetic its
/// page.
fn writes_page_size(source: &str) -> Vec<usize> {
    let is_size = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && PAGE_SIZES.contains(&value(word))
    };
    let code = code(source);
    let lines = (1..).zip(code.lines()).take_while(|(_, code)| !code.starts_with("mod tests"));
    lines.filter(|(_, code)| code.split(|c| !in_word(c)).any(is_size)).map(|(n, _)| n).collect()
}

/// The Rust files below a directory, with their text.
fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory of the sources") {
        let path = entry.expect("an entry of the sources").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            found.push((path, text));
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_kernel_is_named_in_sys_only() {
    let (mut outside, mut inside) = (Vec::new(), 0);
    for (path, text) in sources(&root().join("src")) {
        let found = names_kernel(&text);
        if path.starts_with(root().join(SYS)) {
            inside += found.len();
        } else {
            outside.extend(found.iter().map(|(line, name)| format!("{path:?}:{line}: {name}")));
        }
    }
    assert!(outside.is_empty(), "outside of {SYS}: {outside:#?}");
    assert!(inside > 0, "no name was found in {SYS} either");
}

#[test]
fn no_page_size_is_written_as_a_number() {
    let mut found = Vec::new();
    for (path, text) in sources(&root().join("src")) {
        found.extend(writes_page_size(&text).iter().map(|line| format!("{path:?}:{line}")));
    }
    assert!(found.is_empty(), "ask for the page size: {found:#?}");
}

/// A check of the checks.
#[test]
fn names_and_numbers_are_told_from_comments_and_strings() {
    let clean = r####"
        //! libc::mmap, rustix::mm and 4096.
        /* memfd::Memfd /* libc::mmap */ 65536 */
        /// [`libc::mmap`] of 0x1000 bytes.
        fn f<'a>(memfd: &'a str) -> &'static str {
            let quote = ('"', '\'', b'"', '\u{41}'); // libc::mmap
            let url = "https://libc::mmap \" rustix::mm";
            let raw = r#"memfd::Memfd " 4096"#;
            let near = (4095, 65537u32, 0x1001, a4096);
            let libc = memfd.len() + my_libc::len() + Object::memfd();
        }
    "####;
    assert_eq!(names_kernel(clean), []);
    assert_eq!(writes_page_size(clean), [0; 0]);

    let names = "use libc;\n\"\n\"; use {rustix as r};\n'\"', ::memfd::Memfd, '\"';\nlibc::mmap(b)";
    assert_eq!(names_kernel(names), [(1, "libc"), (3, "rustix"), (4, "memfd"), (5, "libc")]);
    let numbers = "4096\n4_096usize\n0x1000_u64\n65536\n0x1_0000\n0b1_0000_0000_0000\n\"\n\"4096";
    assert_eq!(writes_page_size(numbers), [1, 2, 3, 4, 5, 6, 8]);
}
