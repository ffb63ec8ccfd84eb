//! Status and error of the C surface.

use super::Failure;
use crate::error::Numbers;
use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::mem::offset_of;

/// What a call came to. 0 is success. Values are never reused; new ones may join at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pagetie_status {
    /// Success.
    PAGETIE_OK = 0,
    /// A pointer that is needed was NULL.
    PAGETIE_NULL = 1,
    /// An address, offset or length is not a multiple of the page size. error: value, other = page size.
    PAGETIE_MISALIGNED = 2,
    /// The range ends past the space or region. error: [value, value_end) asked, other_end = the end.
    PAGETIE_OUT_OF_RANGE = 3,
    /// The range meets a live tie, a region's own host view, or memory of another live space. error:
    /// [value, value_end) meets [other, other_end).
    PAGETIE_OVERLAP = 4,
    /// Nothing is mapped at some of the addresses. error: [other, other_end) is the hole.
    PAGETIE_NOT_MAPPED = 5,
    /// The kernel no longer shows what we left there: nothing was touched, and retrying cannot help.
    PAGETIE_CHANGED = 6,
    /// Not plain data memory: executable, stack, heap, huge pages, sealed. error: [other, other_end).
    PAGETIE_REFUSED_MEMORY = 7,
    /// A write was asked of a read-only region or tie. NOT an access: that is PAGETIE_READ_ONLY_TIE.
    PAGETIE_READ_ONLY = 8,
    /// The process has as many mappings as vm.max_map_count allows. error: value = mappings, other =
    /// limit.
    PAGETIE_LIMIT = 9,
    /// The kernel has no memory for it.
    PAGETIE_NO_MEMORY = 10,
    /// This kernel, or this kind of region, cannot do it.
    PAGETIE_UNSUPPORTED = 11,
    /// Another failure of the system. error: os_error = errno.
    PAGETIE_OS = 12,
    /// A bug in pagetie. The handles involved must not be used again, only freed.
    PAGETIE_PANIC = 13,
    /// An enum, size, reserved or flag field is out of its range.
    PAGETIE_INVALID = 14,
    /// A range or length of zero bytes.
    PAGETIE_EMPTY = 15,
    /// The tie was ended before (pagetie_untie_all, pagetie_space_free), or belongs to the parent of
    /// this forked child.
    PAGETIE_ENDED = 16,
}

/// A status as it arrives from C: any number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Status(u32);

impl Status {
    pub(super) fn name(self) -> &'static CStr {
        const NAMES: [&CStr; 17] = [
            c"PAGETIE_OK",
            c"PAGETIE_NULL",
            c"PAGETIE_MISALIGNED",
            c"PAGETIE_OUT_OF_RANGE",
            c"PAGETIE_OVERLAP",
            c"PAGETIE_NOT_MAPPED",
            c"PAGETIE_CHANGED",
            c"PAGETIE_REFUSED_MEMORY",
            c"PAGETIE_READ_ONLY",
            c"PAGETIE_LIMIT",
            c"PAGETIE_NO_MEMORY",
            c"PAGETIE_UNSUPPORTED",
            c"PAGETIE_OS",
            c"PAGETIE_PANIC",
            c"PAGETIE_INVALID",
            c"PAGETIE_EMPTY",
            c"PAGETIE_ENDED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or(c"PAGETIE_UNKNOWN")
    }
}

/// What went wrong, with the numbers. Yours, and optional everywhere: pass NULL where the status is
/// enough. Set `size` with PAGETIE_ERROR_INIT; a call that fails fills in what your version of the struct
/// has room for, and a call that succeeds leaves it alone.
#[repr(C)]
#[derive(Debug)]
pub struct pagetie_error {
    /// sizeof(pagetie_error), set by you.
    pub size: usize,
    /// What the call returned.
    pub status: pagetie_status,
    /// errno, or 0.
    pub os_error: i32,
    /// The range asked for begins here; see each status.
    pub value: usize,
    /// What it met begins here; see each status.
    pub other: usize,
    /// One line for a person: UTF-8, always NUL-terminated, cut where too long.
    pub message: [c_char; 192],
    /// The range asked for ends here.
    pub value_end: usize,
    /// What it met ends here.
    pub other_end: usize,
    /// Which item of a list, else SIZE_MAX.
    pub index: usize,
}

const _: () = assert!(size_of::<pagetie_error>() == 248);

/// Text into a fixed place, cut between characters, with room for the NUL.
struct Line<'a> {
    into: &'a mut [c_char],
    len: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            let Some(place) = self.into.get_mut(self.len..self.len + bytes.len()) else {
                return Err(std::fmt::Error);
            };
            for (place, &byte) in place.iter_mut().zip(bytes) {
                *place = byte as c_char;
            }
            self.len += bytes.len();
        }
        Ok(())
    }
}

/// Tells C why `function` failed; `None`: it panicked.
pub(super) fn report(
    function: &'static str,
    error: *mut pagetie_error,
    failure: Option<Failure>,
) -> pagetie_status {
    let (status, os_error, numbers, index) = match failure {
        None => (pagetie_status::PAGETIE_PANIC, 0, Numbers::default(), None),
        Some(Failure::Null(_, index)) => {
            (pagetie_status::PAGETIE_NULL, 0, Numbers::default(), index)
        }
        Some(Failure::Invalid(_, value, index)) => {
            let numbers = Numbers { value: value as usize, ..Numbers::default() };
            (pagetie_status::PAGETIE_INVALID, 0, numbers, index)
        }
        Some(Failure::Refused(error)) => {
            let os_error = error.raw_os_error().unwrap_or(0);
            (error.kind().into(), os_error, error.numbers(), error.index())
        }
    };
    if error.is_null() {
        return status;
    }
    // SAFETY: not NULL, so the caller's, which begins with its size.
    let size = unsafe { (&raw const (*error).size).read_unaligned() };
    let visible = size.min(size_of::<pagetie_error>());
    let mut full = pagetie_error {
        size,
        status,
        os_error,
        value: numbers.value,
        other: numbers.other,
        message: [0; 192],
        value_end: numbers.value_end,
        other_end: numbers.other_end,
        index: index.unwrap_or(usize::MAX),
    };
    // A caller whose struct ends inside the message sees it end there.
    let message = visible.saturating_sub(offset_of!(pagetie_error, message)).min(192);
    let room = message.saturating_sub(1);
    let mut line = Line { into: &mut full.message[..room], len: 0 };
    // Cut where it is too long.
    let _ = match failure {
        None => write!(line, "{function}: pagetie has a bug: it panicked"),
        Some(Failure::Null(name, None)) => write!(line, "{function}: {name} is NULL"),
        Some(Failure::Null(name, Some(index))) => {
            write!(line, "{function}: item {index}: {name} is NULL")
        }
        Some(Failure::Invalid(name, value, None)) => {
            write!(line, "{function}: {name} is out of its range: {value}")
        }
        Some(Failure::Invalid(name, value, Some(index))) => {
            write!(line, "{function}: item {index}: {name} is out of its range: {value}")
        }
        Some(Failure::Refused(error)) => write!(line, "{error}"),
    };
    let known = size_of::<usize>();
    if visible > known {
        // SAFETY: the first `size` bytes of the struct are the caller's and writable; its size stays as
        // it is. `full` has no padding, so every byte that is copied is initialised.
        unsafe {
            let from = (&raw const full).cast::<u8>().add(known);
            from.copy_to_nonoverlapping(error.cast::<u8>().add(known), visible - known);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters() {
        for (room, kept) in [(0, ""), (1, "a"), (2, "a"), (3, "a\u{e4}"), (4, "a\u{e4}b")] {
            let mut bytes = [0; 8];
            let mut line = Line { into: &mut bytes[..room], len: 0 };
            let whole = write!(line, "a\u{e4}b").is_ok();
            assert_eq!(whole, room == 4);
            let text: Vec<u8> = bytes.iter().map(|&byte| byte as u8).collect();
            assert_eq!(text.split(|&byte| byte == 0).next(), Some(kept.as_bytes()));
        }
    }

    #[test]
    fn every_status_is_named_like_its_constant() {
        for number in 0..18 {
            let name = Status(number).name().to_str().expect("ASCII");
            // SAFETY: 0..=16 are the values of the enum, in a row.
            let constant = (number <= 16)
                .then(|| unsafe { std::mem::transmute::<u32, pagetie_status>(number) });
            match constant {
                Some(constant) => assert_eq!(name, format!("{constant:?}")),
                None => assert_eq!(name, "PAGETIE_UNKNOWN"),
            }
        }
        assert_eq!(Status(u32::MAX).name(), c"PAGETIE_UNKNOWN");
    }
}
