//! The C surface: check, convert, call, report. No logic lives here.
//!
//! The header include/pagetie.h is generated from these items and their documentation; C programs read
//! that, so the comments here speak to them.
//!
//! What crosses the boundary is not trusted. Enums arrive as integers and are checked. Structs that
//! begin with their size are raw pointers, of which only the bytes that the caller has are touched;
//! outputs are raw pointers, written on success only. A body runs inside [`guard`], so a panic becomes a
//! status.
//!
//! # Safety
//!
//! One promise covers every function, and `the caller's promise` below means it: a handle is NULL or was
//! made here and not freed, any other pointer is NULL or points to as much memory as the function's
//! comment says, and a call on a handle that is not const is the only one on it. Comments of single
//! functions say only what goes beyond that, since they are the header's too.

#![allow(unsafe_code, non_camel_case_types, reason = "the C ABI")]

mod error;
mod loan;
mod options;
mod region;
mod space;
mod tie;
mod version;
mod window;

use crate::error::ErrorKind;
use error::{pagetie_error, pagetie_status};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call does not succeed, before it is told to the caller.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// A pointer that is needed was NULL: its name, the item of a list.
    Null(&'static str, Option<usize>),
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
    unsafe { pointer.as_ref() }.ok_or(Failure::Null(name, None))
}

/// Refuses a NULL output.
fn output<T>(pointer: *mut T, name: &'static str) -> Result<*mut T, Failure> {
    if pointer.is_null() { Err(Failure::Null(name, None)) } else { Ok(pointer) }
}

/// Hands a new handle to C.
///
/// # Safety
/// `out` is writable; it need not be initialised.
unsafe fn give<T>(out: *mut *mut T, value: T) {
    // SAFETY: the caller's promise.
    unsafe { out.write(Box::into_raw(Box::new(value))) };
}

/// Takes a handle back from C and drops it; NULL is nothing.
///
/// # Safety
/// NULL, or a handle of this type that was not freed, and is not used after this.
unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: made by `give`, which boxed it, and still there by the caller's promise.
        let handle = unsafe { Box::from_raw(handle) };
        quietly((), move || drop(handle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{CStr, c_char};

    /// An error as C makes it: its size, and bytes that nobody set.
    fn fresh() -> pagetie_error {
        pagetie_error {
            size: size_of::<pagetie_error>(),
            status: pagetie_status::PAGETIE_OK,
            os_error: -7,
            value: 7,
            other: 7,
            message: [b'x' as c_char; 192],
            value_end: 7,
            other_end: 7,
            index: 7,
        }
    }

    #[test]
    fn a_panic_becomes_a_status() {
        let mut error = fresh();
        let status = guard("pagetie_tie_new", &raw mut error, || panic!("on purpose"));
        assert_eq!(status, pagetie_status::PAGETIE_PANIC);
        assert_eq!((error.status, error.os_error, error.index), (status, 0, usize::MAX));
        // SAFETY: its NUL is there, or this reads past the array and fails.
        let text = unsafe { CStr::from_ptr(error.message.as_ptr()) };
        assert_eq!(text, c"pagetie_tie_new: pagetie has a bug: it panicked");
        assert_eq!(guard("f", std::ptr::null_mut(), || panic!("on purpose")), status);
        assert_eq!(quietly(5, || panic!("on purpose")), 5);
    }

    #[test]
    fn a_payload_that_panics_when_dropped_does_not_get_out() {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("dropped on purpose");
            }
        }
        let status = guard("f", std::ptr::null_mut(), || std::panic::panic_any(Payload));
        assert_eq!(status, pagetie_status::PAGETIE_PANIC);
        quietly((), || std::panic::panic_any(Payload));
    }

    #[test]
    fn a_success_leaves_the_error_alone() {
        let mut error = fresh();
        assert_eq!(guard("f", &raw mut error, || Ok(())), pagetie_status::PAGETIE_OK);
        assert_eq!((error.os_error, error.value, error.index), (-7, 7, 7));
    }
}
