//! What the library says of itself and of its system.

use super::error;
use std::ffi::c_char;

/// The name of a status, "PAGETIE_OVERLAP" for example: static text, also for a number that is none.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn pagetie_status_name(status: error::Status) -> *const c_char {
    status.name().as_ptr()
}

/// The page size of this system in bytes. Regions of huge pages have a larger one of their own, which
/// pagetie_region_page_size tells. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn pagetie_page_size() -> usize {
    crate::page::size()
}

/// The version of the library that runs: major << 16 | minor << 8 | patch. Compare it with the
/// PAGETIE_VERSION_ macros of the header that was compiled against. Since 0.1.
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
