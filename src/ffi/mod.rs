//! The C surface: check, convert, call, report. No logic lives here.
//!
//! The header include/pagetie.h is generated from these items and their documentation; C programs read
//! that, so the comments here speak to them.
//!
//! What crosses the boundary is not trusted. Enums arrive as integers and are checked. Structs that
//! begin with their size are raw pointers, of which only the bytes that the caller has are touched;
//! outputs are raw pointers, written on success only. A body runs inside [`guard`], so a panic becomes a
//! status.

#![allow(unsafe_code, non_camel_case_types, reason = "the C ABI")]

mod error;
mod options;
mod region;
mod space;
mod tie;

use crate::error::ErrorKind;
use error::{pagetie_error, pagetie_status};
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call does not succeed, before it is told to the caller.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// A pointer that is needed was NULL; its name.
    Null(&'static str),
    /// An enum, size, reserved or flag field out of its range: its name, its value, the item of a list.
    Invalid(&'static str, i64, Option<usize>),
    /// A refusal of the crate.
    Refused(crate::Error),
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<ErrorKind> for pagetie_status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Misaligned => Self::PAGETIE_MISALIGNED,
            ErrorKind::OutOfRange => Self::PAGETIE_OUT_OF_RANGE,
            ErrorKind::Overlap => Self::PAGETIE_OVERLAP,
            ErrorKind::NotMapped => Self::PAGETIE_NOT_MAPPED,
            ErrorKind::Changed => Self::PAGETIE_CHANGED,
            ErrorKind::RefusedMemory => Self::PAGETIE_REFUSED_MEMORY,
            ErrorKind::ReadOnly => Self::PAGETIE_READ_ONLY,
            ErrorKind::Limit => Self::PAGETIE_LIMIT,
            ErrorKind::NoMemory => Self::PAGETIE_NO_MEMORY,
            ErrorKind::Unsupported => Self::PAGETIE_UNSUPPORTED,
            ErrorKind::Os => Self::PAGETIE_OS,
            ErrorKind::Empty => Self::PAGETIE_EMPTY,
            ErrorKind::Ended => Self::PAGETIE_ENDED,
        }
    }
}

/// Runs the body of a function that reports to C. A panic becomes [`pagetie_status::PAGETIE_PANIC`].
fn guard(
    function: &'static str,
    error: *mut pagetie_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> pagetie_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => pagetie_status::PAGETIE_OK,
        Ok(Err(failure)) => error::report(function, error, Some(failure)),
        // The panic's payload may panic when it is dropped.
        Err(payload) => {
            std::mem::forget(payload);
            error::report(function, error, None)
        }
    }
}

/// Runs the body of a function that cannot report: `otherwise` stands for a panic.
fn quietly<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        std::mem::forget(payload);
        otherwise
    })
}

/// A const handle.
///
/// # Safety
/// NULL, or a handle of this type that was not freed.
unsafe fn handle<'a, T>(pointer: *const T, name: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise; handles are aligned, since they were boxed here.
    unsafe { pointer.as_ref() }.ok_or(Failure::Null(name))
}

/// Refuses a NULL output.
fn output<T>(pointer: *mut T, name: &'static str) -> Result<*mut T, Failure> {
    if pointer.is_null() { Err(Failure::Null(name)) } else { Ok(pointer) }
}

/// Hands a new handle to C.
///
/// # Safety
/// `out` is writable; it need not be initialised.
unsafe fn give<T>(out: *mut *mut T, value: T) {
    // SAFETY: the caller's promise.
    unsafe { out.write(Box::into_raw(Box::new(value))) };
}

/// The name of a status, "PAGETIE_OVERLAP" for example: static text, also for a number that is none.
#[unsafe(no_mangle)]
pub extern "C" fn pagetie_status_name(status: error::Status) -> *const c_char {
    status.name().as_ptr()
}

/// The page size of this system in bytes. Regions of huge pages have a larger one of their own:
/// `pagetie_region_page_size`.
#[unsafe(no_mangle)]
pub extern "C" fn pagetie_page_size() -> usize {
    crate::page::size()
}

/// The version of the library that runs: `major << 16 | minor << 8 | patch`. Compare it with the
/// `PAGETIE_VERSION_` macros of the header that was compiled against.
#[unsafe(no_mangle)]
pub extern "C" fn pagetie_version() -> u32 {
    const fn number(text: &str) -> u32 {
        let mut value = 0;
        let mut i = 0;
        while i < text.len() {
            value = value * 10 + (text.as_bytes()[i] - b'0') as u32;
            i += 1;
        }
        value
    }
    number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"))
}
