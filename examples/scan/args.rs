//! The command line: one optional file.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

const HELP: &str = "\
Scans a file three ways and shows what each of them costs.

Usage: scan [FILE]          (FILE: this program itself, if not given)

A WebAssembly guest, run by Wasmtime, counts newlines and byte values and
computes the CRC-32 of data that it finds in its own memory:

  tied     the file's pages are tied into a 16 MiB window of the guest's memory
  copied   the file is copied into the same window of another instance
  native   no guest: the same algorithm in Rust, where the file is mapped

A longer file goes through the window piece by piece. It is brought into memory
first, so no way waits for the disk. All three must find the same.

Columns:
  time     tying or copying, and scanning; not compiling and making the instance
  copied   bytes of the file that were copied
  memory   how much this process' Pss grew, from before the instance was made to
           the end of the scan, with the last piece still in the window. Pss is a
           process' share of physical memory: a page that it shows at two
           addresses counts once

Options:
  -h, --help       print this
  -V, --version    print the version

Exit status: 0 if all is well, 1 if the file cannot be scanned or the ways
disagree, 2 if the command line is wrong.
";

const VERSION: &str = concat!("scan (pagetie ", env!("CARGO_PKG_VERSION"), ")\n");

/// What the command line asks for.
pub enum Args {
    Print(&'static str),
    Scan(PathBuf),
}

pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Args, String> {
    let mut file = None;
    let mut options = true;
    for arg in args {
        let is_option = options && arg.len() > 1 && arg.as_encoded_bytes().starts_with(b"-");
        match arg.to_str() {
            Some("-h" | "--help") if is_option => return Ok(Args::Print(HELP)),
            Some("-V" | "--version") if is_option => return Ok(Args::Print(VERSION)),
            Some("--") if is_option => options = false,
            _ if is_option => return Err(format!("unknown option {}", arg.to_string_lossy())),
            _ if file.is_some() => {
                return Err(format!("more than one file: {}", arg.to_string_lossy()));
            }
            _ => file = Some(PathBuf::from(arg)),
        }
    }
    let this_program = || env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    Ok(Args::Scan(file.unwrap_or_else(this_program)))
}
