//! The host's side: regions with known bytes, maps of somebody else, and a process of one's own.

use std::{env, ffi::c_void, fs, ops::Range, process::Command, ptr::NonNull};

use pagetie::Region;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Bytes that differ from page to page and from seed to seed, none of them zero.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 97 + i + usize::from(seed)) as u8 | 1).collect()
}

/// A region that holds [`pattern`].
pub fn region(len: usize, seed: u8) -> Region {
    let region = Region::new(len).expect("a region");
    region.write_at(0, &pattern(len, seed)).expect("in bounds");
    region
}

pub fn read(region: &Region, range: Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; range.len()];
    region.read_at(range.start, &mut bytes).expect("in bounds");
    bytes
}

pub fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte)).sum()
}

/// Number of mappings of this process.
pub fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").expect("/proc is mounted").lines().count()
}

/// Somebody else's memory, in addresses that a guest's memory has left.
pub struct Squatter {
    start: NonNull<c_void>,
    bytes: Vec<u8>,
}

impl Squatter {
    pub fn new(at: *mut u8, len: usize) -> Self {
        let bytes = pattern(len, 77);
        // SAFETY: NOREPLACE maps free addresses only, and nothing else knows of these pages.
        let start = unsafe {
            let rw = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
            let start = mmap_anonymous(at.cast(), len, rw, flags).expect("the addresses are free");
            start.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), len);
            start
        };
        assert_eq!(start, at.cast());
        Self { start: NonNull::new(start).expect("not NULL"), bytes }
    }

    #[track_caller]
    pub fn assert_untouched(&self) {
        // SAFETY: `start` is `bytes.len()` bytes of a live map that nobody writes any more.
        let now = unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().cast::<u8>(), self.bytes.len())
        };
        assert!(now == self.bytes, "memory of somebody else was changed");
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        // SAFETY: maps exactly what `new` has mapped.
        unsafe { munmap(self.start.as_ptr(), self.bytes.len()) }.expect("it is still mapped");
    }
}

/// Runs `body` in a process where no other test maps or unmaps anything.
///
/// `test` is the path of the calling test, which the new process runs alone.
#[track_caller]
pub fn alone(test: &str, body: impl FnOnce()) {
    const MARK: &str = "PAGETIE_TEST_ALONE";
    if env::var_os(MARK).is_some_and(|name| name == test) {
        return body();
    }
    let output = Command::new(env::current_exe().expect("the test knows its path"))
        .args([test, "--exact", "--test-threads=1", "--nocapture"])
        .env(MARK, test)
        .output()
        .expect("the test runs once more");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
}
