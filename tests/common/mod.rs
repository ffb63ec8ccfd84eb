//! What the tests share: memory with known neighbours, and the kernel's own account of it.
//!
//! Nothing here asks pagetie what is mapped. Bytes are copied at addresses that the compiler knows
//! nothing of, because two of them may show one page; mappings, lock flags and counts are read from
//! /proc.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, reason = "the tests look at the kernel past the crate")]

use std::any::type_name;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::{env, mem, ptr};

use pagetie::{Access, Region, Space};

/// Large enough that page tables move whole, and what huge pages are aligned to.
pub const HUGE: usize = 2 << 20;

pub const ACCESSES: [Access; 3] = [Access::ReadOnly, Access::ReadWrite, Access::CopyOnWrite];

/// Pages that cannot be touched on either side of a [`Memory`].
const GUARD_PAGES: usize = 4;

pub fn page() -> usize {
    pagetie::page::size()
}

/// `[first, end)` in pages, as bytes.
pub fn pages(range: Range<usize>) -> Range<usize> {
    range.start * page()..range.end * page()
}

// ------------------------------------------------------------------------------ bytes

/// `len` bytes that no other `seed` and no other place in the pattern repeats.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let word = |i: usize| seed << 48 | (i as u64).wrapping_mul(0x9e37_79b9) << 1 | 1;
    let words: Vec<[u8; 8]> = (0..len.div_ceil(8)).map(|i| word(i).to_ne_bytes()).collect();
    words.as_flattened()[..len].to_vec()
}

/// Reads one byte at an address that something else may show too.
pub fn peek(addr: usize) -> u8 {
    // SAFETY: callers pass addresses of their own readable mappings; any byte is a valid u8.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(addr)) }
}

/// Writes one byte at an address that something else may show too.
pub fn poke(addr: usize, byte: u8) {
    // SAFETY: callers pass addresses of their own writable mappings, which hold only bytes.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(addr), byte) }
}

/// Reads one byte of each page of a range.
pub fn touch_each_page(range: Range<usize>) {
    range.step_by(page()).for_each(|addr| {
        black_box(peek(addr));
    });
}

/// The bytes of readable memory.
pub fn read(range: Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(range.len());
    // The compiler must not know the address, or that another one differs from it.
    let from = black_box(ptr::with_exposed_provenance::<u8>(range.start));
    // SAFETY: callers pass their own readable mappings, which nobody writes now; the vector is new
    // and has room for all of them.
    unsafe {
        ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), range.len());
        bytes.set_len(range.len());
    }
    black_box(bytes)
}

/// Writes to writable memory.
pub fn write(addr: usize, bytes: &[u8]) {
    let to = black_box(ptr::with_exposed_provenance_mut::<u8>(addr));
    // SAFETY: callers pass their own writable mappings, which nobody else accesses now.
    unsafe { ptr::copy_nonoverlapping(black_box(bytes).as_ptr(), to, bytes.len()) }
    black_box(to);
}

/// Whether every byte of readable memory equals `expected`; says where it does not.
#[track_caller]
pub fn assert_bytes(addr: usize, expected: &[u8], what: impl Display) {
    let found = read(addr..addr + expected.len());
    if found != expected {
        let i = (0..expected.len()).find(|&i| found[i] != expected[i]).expect("a difference");
        panic!(
            "{what}: byte {i:#x} (page {}) at {:#x} is {:#04x}, not {:#04x}",
            i / page(),
            addr + i,
            found[i],
            expected[i]
        );
    }
}

#[track_caller]
pub fn assert_zero(range: Range<usize>, what: impl Display) {
    assert_bytes(range.start, &vec![0; range.len()], what);
}

/// All bytes of a region, read through its host view.
pub fn region_bytes(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    region.read_at(0, &mut bytes).expect("read the whole region");
    bytes
}

/// A region of `pages` pages that holds `pattern(seed, ..)`.
pub fn region(seed: u64, pages: usize) -> Region {
    let region = Region::new(pages * page()).expect("a region");
    region.write_at(0, &pattern(seed, region.len())).expect("fill the region");
    region
}

// ------------------------------------------------------------------------------ memory

/// Memory that a test owns as an engine would: mapped by nobody but the test, 2 MiB aligned,
/// with pages on both sides that cannot be touched and belong to the test too.
#[derive(Debug)]
pub struct Memory {
    start: usize,
    len: usize,
    file: Option<File>,
}

impl Memory {
    /// Anonymous memory, as an engine maps it: readable, writable, without reserve.
    pub fn private(pages: usize) -> Self {
        Self::with(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, None)
    }

    /// Anonymous memory mapped without `MAP_NORESERVE`, which no query of the kernel shows.
    pub fn accounted(pages: usize) -> Self {
        Self::with(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)
    }

    /// Shared anonymous memory.
    pub fn shared(pages: usize) -> Self {
        Self::with(pages, libc::MAP_SHARED | libc::MAP_ANONYMOUS, None)
    }

    /// A shared map of a file that holds `contents`.
    pub fn file(contents: &[u8]) -> Self {
        let pages = contents.len().div_ceil(page());
        Self::with(pages, libc::MAP_SHARED, Some(memfd(contents)))
    }

    /// A private map of a file that holds `contents`, as wasmtime's pool maps data segments.
    pub fn image(contents: &[u8]) -> Self {
        let pages = contents.len().div_ceil(page());
        Self::with(pages, libc::MAP_PRIVATE, Some(memfd(contents)))
    }

    /// Memory that was written, as [`Memory::fill`] with 1, and then moved: its pages are numbered
    /// after their old place, so fresh ones at the new place never merge with them.
    pub fn moved(pages: usize) -> Self {
        let (from, to) = (Self::private(pages), Self::private(pages));
        from.fill(1);
        let old = ptr::with_exposed_provenance_mut(from.start());
        let new: *mut libc::c_void = ptr::with_exposed_provenance_mut(to.start());
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both are new and nobody else's.
        let got = unsafe { libc::mremap(old, from.len(), to.len(), flags, new) };
        assert_eq!(got, new, "mremap: {}", io::Error::last_os_error());
        map(from.start(), from.len(), libc::PROT_NONE, PRIVATE, None);
        to
    }

    fn with(pages: usize, flags: libc::c_int, file: Option<File>) -> Self {
        let (len, guard) = (pages * page(), GUARD_PAGES * page());
        let all = HUGE + guard + len + guard;
        let raw = map(0, all, libc::PROT_NONE, PRIVATE, None);
        let start = (raw + guard).next_multiple_of(HUGE);
        // What is left of the reservation outside the guards goes back at once.
        unmap(raw..start - guard);
        unmap(start + len + guard..raw + all);
        map(start, len, libc::PROT_READ | libc::PROT_WRITE, flags, file.as_ref());
        Self { start, len, file }
    }

    pub fn start(&self) -> usize {
        self.start
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn file_behind(&self) -> &File {
        self.file.as_ref().expect("memory that has a file")
    }

    pub fn is_image(&self) -> bool {
        self.file.is_some() && map_of(self.start).perms.ends_with('p')
    }

    /// Addresses of all of it.
    pub fn all(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// Addresses of some of its pages.
    pub fn pages(&self, range: Range<usize>) -> Range<usize> {
        self.start + range.start * page()..self.start + range.end * page()
    }

    /// Addresses of all of it and of its guards.
    pub fn arena(&self) -> Range<usize> {
        self.start - GUARD_PAGES * page()..self.start + self.len + GUARD_PAGES * page()
    }

    pub fn fill(&self, seed: u64) -> Vec<u8> {
        let bytes = pattern(seed, self.len);
        write(self.start, &bytes);
        bytes
    }

    /// A space over all of it.
    pub fn borrow(&self) -> Space {
        self.try_borrow(self.all()).expect("borrow the test's own memory")
    }

    /// A space over some of it.
    pub fn try_borrow(&self, range: Range<usize>) -> pagetie::Result<Space> {
        // SAFETY: the memory is the test's own, holds only bytes that are read and written
        // volatile, and a test that unmaps it does so to see what pagetie makes of that.
        unsafe { Space::borrow(ptr::with_exposed_provenance_mut(range.start), range.len()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        unmap(self.arena());
    }
}

pub const PRIVATE: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// A memory object that holds `contents`.
pub fn memfd(contents: &[u8]) -> File {
    // SAFETY: the name is a C string, and the call touches no memory of ours.
    let fd = unsafe {
        libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    assert!(fd >= 0, "memfd_create: {}", io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(contents).expect("fill a memfd");
    file
}

/// mmap(2); an address other than 0 is replaced, whatever lies there.
#[track_caller]
pub fn map(addr: usize, len: usize, prot: i32, flags: i32, file: Option<&File>) -> usize {
    map_at(addr, len, prot, flags, file, 0)
}

#[track_caller]
pub fn map_at(
    addr: usize,
    len: usize,
    prot: i32,
    flags: i32,
    file: Option<&File>,
    offset: usize,
) -> usize {
    let fixed = if addr == 0 { 0 } else { libc::MAP_FIXED };
    let fd = file.map_or(-1, |f| f.as_raw_fd());
    let offset = offset.try_into().expect("an offset that fits");
    let at = ptr::with_exposed_provenance_mut(addr);
    // SAFETY: tests replace only their own mappings.
    let got = unsafe { libc::mmap(at, len, prot, flags | fixed, fd, offset) };
    assert!(got != libc::MAP_FAILED, "mmap of {len:#x}: {}", io::Error::last_os_error());
    got.expose_provenance()
}

#[track_caller]
pub fn unmap(range: Range<usize>) {
    if !range.is_empty() {
        // SAFETY: tests unmap only their own mappings.
        let rc =
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(range.start), range.len()) };
        assert_eq!(rc, 0, "munmap: {}", io::Error::last_os_error());
    }
}

#[track_caller]
pub fn mprotect(range: Range<usize>, prot: i32) {
    // SAFETY: tests protect only their own mappings, and no reference points into them.
    let rc =
        unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(range.start), range.len(), prot) };
    assert_eq!(rc, 0, "mprotect: {}", io::Error::last_os_error());
}

/// madvise(2), with the kernel's refusal handed back.
pub fn madvise(range: Range<usize>, advice: i32) -> io::Result<()> {
    // SAFETY: tests advise only their own mappings, and no reference points into them.
    let rc = unsafe {
        libc::madvise(ptr::with_exposed_provenance_mut(range.start), range.len(), advice)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// mlock(2), with the kernel's refusal handed back.
pub fn mlock(range: Range<usize>) -> io::Result<()> {
    // SAFETY: locking changes no byte.
    let rc = unsafe { libc::mlock(ptr::with_exposed_provenance(range.start), range.len()) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Which pages of a mapping are in memory now.
pub fn resident(range: Range<usize>) -> Vec<bool> {
    let mut pages = vec![0u8; range.len() / page()];
    // SAFETY: the vector has a byte for each page of the range.
    let rc = unsafe {
        libc::mincore(
            ptr::with_exposed_provenance_mut(range.start),
            range.len(),
            pages.as_mut_ptr(),
        )
    };
    assert_eq!(rc, 0, "mincore: {}", io::Error::last_os_error());
    pages.iter().map(|p| p & 1 != 0).collect()
}

/// Minor page faults of this thread so far.
pub fn faults() -> i64 {
    // SAFETY: all zeros are a valid rusage, and it is a valid place for the answer.
    let usage = unsafe {
        let mut usage = mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &mut usage), 0);
        usage
    };
    usage.ru_minflt
}

// ------------------------------------------------------------------------------ /proc

/// One mapping, as /proc/self/maps has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub range: Span,
    pub perms: String,
    pub offset: u64,
    pub device: String,
    pub inode: u64,
    pub name: String,
}

/// A range that sorts and prints in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let range = Span {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
    };
    Some(Line {
        range,
        perms: fields.next()?.to_owned(),
        offset: u64::from_str_radix(fields.next()?, 16).ok()?,
        device: fields.next()?.to_owned(),
        inode: fields.next()?.parse().ok()?,
        name: fields.next().unwrap_or("").trim_start().to_owned(),
    })
}

/// Every mapping of the process.
pub fn maps() -> Vec<Line> {
    let text = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    text.lines().map(|line| parse(line).expect("a line of /proc/self/maps")).collect()
}

/// The mappings that touch `range`, whole.
pub fn maps_in(range: Range<usize>) -> Vec<Line> {
    maps().into_iter().filter(|l| l.range.start < range.end && range.start < l.range.end).collect()
}

/// The one mapping that `addr` lies in.
#[track_caller]
pub fn map_of(addr: usize) -> Line {
    let mut found = maps_in(addr..addr + 1);
    assert_eq!(found.len(), 1, "nothing is mapped at {addr:#x}");
    found.remove(0)
}

/// The protections of a range, page by page, as "rw-p".
pub fn perms(range: Range<usize>) -> Vec<String> {
    let maps = maps_in(range.clone());
    let of = |addr: usize| maps.iter().find(|l| l.range.start <= addr && addr < l.range.end);
    range
        .step_by(page())
        .map(|addr| of(addr).map_or("hole".to_owned(), |l| l.perms.clone()))
        .collect()
}

/// The flags of the kernel (two letters each) for the mappings that touch `range`.
pub fn flags(range: Range<usize>) -> Vec<(Span, BTreeSet<String>)> {
    let text = fs::read_to_string("/proc/self/smaps").expect("/proc/self/smaps");
    let mut at = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let at: Span = at.expect("flags follow their mapping");
            if at.start < range.end && range.start < at.end {
                // "sd" says that pages were written since somebody last asked: not ours to keep.
                let flags = flags.split_whitespace().filter(|f| *f != "sd").map(str::to_owned);
                found.push((at, flags.collect()));
            }
        } else if let Some(line) = parse(line) {
            at = Some(line.range);
        }
    }
    found
}

/// Whether the mapping of an address has a flag of the kernel.
#[track_caller]
pub fn has_flag(addr: usize, flag: &str) -> bool {
    let found = flags(addr..addr + 1);
    assert_eq!(found.len(), 1, "nothing is mapped at {addr:#x}");
    found[0].1.contains(flag)
}

/// Which pages of a range have a flag of the kernel.
pub fn flagged(range: Range<usize>, flag: &str) -> Vec<bool> {
    let found = flags(range.clone());
    let of = |addr: usize| found.iter().find(|(at, _)| at.start <= addr && addr < at.end);
    range
        .step_by(page())
        .map(|addr| of(addr).is_some_and(|(_, flags)| flags.contains(flag)))
        .collect()
}

/// Bytes that the process has locked in memory.
pub fn locked() -> usize {
    let text = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = text.lines().find_map(|l| l.strip_prefix("VmLck:")).expect("a VmLck line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of kilobytes") * 1024
}

/// Open descriptors of the process.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count()
}

/// Everything a call may change: all mappings of the process, and the bytes of watched memory.
///
/// The heap of the allocator is left out, since it grows as the test runs. Bytes are kept in a
/// memory object, where the kernel copies them: taking a picture maps nothing, and costs one
/// descriptor.
#[derive(Debug)]
pub struct Picture {
    maps: Vec<Line>,
    locked: usize,
    /// What could be read of the watched ranges, in the order in which the file has it.
    readable: Vec<Range<usize>>,
    bytes: File,
}

impl Picture {
    /// Reads what of the watched ranges may be read.
    pub fn take(watched: &[Range<usize>]) -> Self {
        let maps: Vec<Line> = maps().into_iter().filter(|l| l.name != "[heap]").collect();
        let (mut readable, bytes) = (Vec::new(), memfd(&[]));
        for range in watched {
            for line in maps.iter().filter(|l| l.perms.starts_with('r')) {
                let part = line.range.start.max(range.start)..line.range.end.min(range.end);
                if !part.is_empty() {
                    save(&bytes, part.clone());
                    readable.push(part);
                }
            }
        }
        Self { maps, locked: locked(), readable, bytes }
    }

    pub fn count(&self) -> usize {
        self.maps.len()
    }

    #[track_caller]
    pub fn assert_same(&self, later: &Picture, what: impl Display) {
        let gone: Vec<_> = self.maps.iter().filter(|l| !later.maps.contains(l)).collect();
        let new: Vec<_> = later.maps.iter().filter(|l| !self.maps.contains(l)).collect();
        assert!(
            gone.is_empty() && new.is_empty(),
            "{what}: mappings went {gone:#?}, came {new:#?}"
        );
        assert_eq!(self.maps.len(), later.maps.len(), "{what}: number of mappings");
        assert_eq!(self.locked, later.locked, "{what}: locked bytes");
        assert_eq!(self.readable, later.readable, "{what}: what is readable");
        let mut at = 0;
        for range in &self.readable {
            for addr in range.clone().step_by(CHUNK) {
                let len = CHUNK.min(range.end - addr);
                let [before, after] = [self, later].map(|picture| {
                    let mut bytes = vec![0; len];
                    picture.bytes.read_exact_at(&mut bytes, at).expect("read a picture");
                    bytes
                });
                if before != after {
                    let i = (0..len).find(|&i| before[i] != after[i]).expect("a difference");
                    let (was, is) = (before[i], after[i]);
                    panic!("{what}: the byte at {:#x} was {was:#04x}, is {is:#04x}", addr + i);
                }
                at += len as u64;
            }
        }
    }
}

/// Small enough that a buffer of it is a block of the heap.
const CHUNK: usize = 64 << 10;

/// Appends the bytes of readable memory to a file. The kernel reads them, as a load would.
fn save(file: &File, range: Range<usize>) {
    let mut rest = range;
    while !rest.is_empty() {
        let from = ptr::with_exposed_provenance(rest.start);
        // SAFETY: the kernel has just listed the range as readable.
        let got = unsafe { libc::write(file.as_raw_fd(), from, rest.len()) };
        assert!(got > 0, "the bytes at {rest:#x?}: {}", io::Error::last_os_error());
        rest.start += got as usize;
    }
}

// ------------------------------------------------------------------------------ runs

const ALONE: &str = "PAGETIE_TEST_ALONE";

/// Runs a test in a process of its own, where nothing else maps, locks or allocates.
///
/// `body` is a closure of the test function: its type names the test.
#[track_caller]
pub fn alone<F: FnOnce()>(body: F) {
    if env::var_os(ALONE).is_some() {
        // What the crate sets up once, at its first space and tie, is there before the test looks.
        let space = Space::reserve(page()).expect("a space");
        let tie = space.tie(0, &region(0, 1), .., Access::ReadWrite).expect("a tie");
        tie.untie().expect("untie");
        return body();
    }
    let path = type_name::<F>().strip_suffix("::{{closure}}").expect("a closure of a test");
    let (_, name) = path.split_once("::").expect("a test of this crate");
    let out = Command::new(env::current_exe().expect("the test's own path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        // One arena: a thread's own arena is a mapping that grows.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("run the test again");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    for line in stderr.lines().filter(|l| l.starts_with("skipped: ")) {
        say(line);
    }
    assert!(
        out.status.success() && stdout.contains("1 passed"),
        "{name}, in a process of its own: {}\n{stdout}\n{stderr}",
        out.status
    );
}

/// Says, past the test harness' capture, that a test did not run and what it lacks.
pub fn skip(why: impl Display) {
    let thread = std::thread::current();
    // A process of one test runs it in its first thread, and has its name from whoever started it.
    let asked = env::args().nth(1).filter(|name| !name.starts_with('-'));
    let name = thread.name().filter(|name| *name != "main").or(asked.as_deref());
    say(&format!("skipped: {}: {why}", name.unwrap_or("test")));
}

fn say(line: &str) {
    writeln!(io::stderr(), "{line}").expect("stderr");
}

/// The default huge page size and how many such pages are free.
pub fn huge_pages() -> (usize, usize) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    };
    let free = field("HugePages_Free:").unwrap_or(0);
    let reserved = field("HugePages_Rsvd:").unwrap_or(0);
    (field("Hugepagesize:").unwrap_or(0) * 1024, free.saturating_sub(reserved))
}
