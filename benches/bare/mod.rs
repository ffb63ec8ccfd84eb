//! The bare system calls that pagetie's verbs stand on, each with its arguments ready: memory
//! mapped, descriptors open, nothing checked, nothing recorded.
//!
//! The benches run them in turn with pagetie on the same addresses, the same pages of the same
//! memory object and with the same flags, so that a ratio shows what the verb adds. They go through
//! libc's functions, as any program's do. That matters: on some CPUs the first return of a function
//! after a system call costs as much as a short system call (the kernel has emptied or overwritten
//! the CPU's stack of return addresses), and a loop with the call inlined, which no program is,
//! goes without. The two that end in `_inlined` show it.
//!
//! man: mmap(2), mremap(2), mprotect(2), msync(2), userfaultfd(2), PROCMAP_QUERY in proc_pid_maps(5).

#![allow(dead_code, reason = "each bench uses its own part of this")]
#![allow(unsafe_code, reason = "maps memory")]
#![allow(clippy::disallowed_methods, reason = "system calls beside pagetie are the point here")]

use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};
use std::{
    ffi::c_void,
    fs::File,
    io::Error,
    mem::size_of,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// What a page table covers, and a huge page.
pub const BLOCK: usize = 2 << 20;

/// Private zero pages, as an engine's linear memory has them, between two guard pages so that no
/// neighbour's mapping merges with them.
pub struct Memory {
    start: *mut u8,
    len: usize,
    /// The mapping that the memory lies in.
    whole: *mut c_void,
    whole_len: usize,
}

impl Memory {
    pub fn new(len: usize) -> Self {
        let guard = pagetie::page::size();
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let whole_len = len + 2 * guard + BLOCK;
        // SAFETY: the kernel chooses the place; nothing of ours is replaced.
        let whole =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), whole_len, ProtFlags::empty(), flags) }
                .expect("mmap of the memory");
        // Aligned, so that it can have huge pages, and page tables can move in whole.
        let lead = (whole.addr() + guard).next_multiple_of(BLOCK) - whole.addr();
        // SAFETY: at most a guard page and a block into a mapping that is that much longer.
        let start = unsafe { whole.byte_add(lead) };
        // SAFETY: a part of the mapping just made, which nobody else knows of.
        unsafe { mm::mprotect(start, len, MprotectFlags::READ | MprotectFlags::WRITE) }
            .expect("mprotect of the memory");
        Self { start: start.cast(), len, whole, whole_len }
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.start
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing refers to it any more.
        let done = unsafe { mm::munmap(self.whole, self.whole_len) };
        debug_assert!(done.is_ok(), "munmap of the memory: {done:?}");
    }
}

/// A range of a [`Memory`], where aliases come and go.
#[derive(Clone, Copy)]
pub struct Place {
    addr: *mut c_void,
    len: usize,
}

impl Place {
    /// # Safety
    /// - `memory` outlives the place.
    /// - Nobody refers to the bytes of the range, which may be replaced at any call.
    pub unsafe fn new(memory: &Memory, at: usize, len: usize) -> Self {
        assert!(at <= memory.len && len <= memory.len - at);
        // SAFETY: in bounds, as just asserted.
        let addr = unsafe { memory.start.add(at) }.cast();
        Self { addr, len }
    }

    /// One mmap: the pages of `object` at `offset` appear here.
    pub fn alias(self, object: BorrowedFd<'_>, offset: usize) {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let (fd, offset) = (object.as_raw_fd(), offset as libc::off_t);
        // SAFETY: `new`'s caller gave the range over to us.
        let got = unsafe { libc::mmap(self.addr, self.len, prot, flags, fd, offset) };
        assert_eq!(got, self.addr, "mmap of the alias");
    }

    /// One mmap: pages of zeros, which merge with the memory around them.
    pub fn zeros(self) {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: `new`'s caller gave the range over to us.
        let got = unsafe { libc::mmap(self.addr, self.len, prot, kind | libc::MAP_FIXED, -1, 0) };
        assert_eq!(got, self.addr, "mmap of zeros");
    }

    /// One mremap: what lies here moves aside, empty pages stay.
    pub fn aside(self) -> *mut c_void {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
        // The kernel reads the fifth argument with DONTUNMAP even where FIXED is not set.
        let anywhere = ptr::null_mut::<c_void>();
        // SAFETY: `new`'s caller gave the range over to us; the kernel chooses the new place.
        let got = unsafe { libc::mremap(self.addr, self.len, self.len, flags, anywhere) };
        assert_ne!(got, libc::MAP_FAILED, "mremap aside: {}", Error::last_os_error());
        got
    }

    /// One mremap: what [`aside`](Self::aside) moved comes back.
    ///
    /// # Safety
    /// `aside` is what `aside` of this place gave, for the first time.
    pub unsafe fn back(self, aside: *mut c_void) {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges are ours: see `new` and this function's own clause.
        let got = unsafe { libc::mremap(aside, self.len, self.len, flags, self.addr) };
        assert_eq!(got, self.addr, "mremap back");
    }

    /// [`alias`](Self::alias) with the system call inlined into the caller's loop.
    #[inline(always)]
    pub fn alias_inlined(self, object: BorrowedFd<'_>, offset: usize) {
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: `new`'s caller gave the range over to us.
        let got =
            unsafe { mm::mmap(self.addr, self.len, READ_WRITE, flags, object, offset as u64) };
        assert_eq!(got, Ok(self.addr), "mmap of the alias");
    }

    /// [`zeros`](Self::zeros) with the system call inlined into the caller's loop.
    #[inline(always)]
    pub fn zeros_inlined(self) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: `new`'s caller gave the range over to us.
        let got = unsafe { mm::mmap_anonymous(self.addr, self.len, READ_WRITE, flags) };
        assert_eq!(got, Ok(self.addr), "mmap of zeros");
    }

    /// One madvise: the pages are mapped in as loads would do it.
    pub fn populate(self) {
        self.advise(libc::MADV_POPULATE_READ);
    }

    /// One madvise: private pages forget what was written to them.
    pub fn forget(self) {
        self.advise(libc::MADV_DONTNEED);
    }

    fn advise(self, advice: i32) {
        // SAFETY: `new`'s caller gave the range over to us.
        let got = unsafe { libc::madvise(self.addr, self.len, advice) };
        assert_eq!(got, 0, "madvise({advice}): {}", Error::last_os_error());
    }

    /// One mremap: what lies here moves over `to`, empty pages stay.
    pub fn move_over(self, to: Place) {
        assert_eq!(self.len, to.len);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        // SAFETY: `new`'s callers gave both ranges over to us.
        let got = unsafe { libc::mremap(self.addr, self.len, self.len, flags, to.addr) };
        assert_eq!(got, to.addr, "mremap over: {}", Error::last_os_error());
    }

    /// One mprotect: to be read only, or written too.
    pub fn protect(self, write: bool) {
        let prot = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        // SAFETY: `new`'s caller gave the range over to us.
        let got = unsafe { libc::mprotect(self.addr, self.len, prot) };
        assert_eq!(got, 0, "mprotect: {}", Error::last_os_error());
    }

    /// One msync: tells locked pages (EBUSY) and holes (ENOMEM), and changes nothing.
    pub fn probe(self) {
        // SAFETY: MS_INVALIDATE alone reads and writes no byte.
        let got = unsafe { libc::msync(self.addr, self.len, libc::MS_INVALIDATE) };
        assert_eq!(got, 0, "msync: {}", Error::last_os_error());
    }
}

/// The own process, for advice on many ranges at once.
pub struct Batch {
    own: OwnedFd,
    vectors: Vec<libc::iovec>,
}

impl Batch {
    /// None where the kernel is older than 6.13.
    ///
    /// # Safety
    /// As [`Place::new`], for as long as the batch is used.
    pub unsafe fn new(places: &[Place]) -> Option<Self> {
        // SAFETY: makes a descriptor and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
        if fd < 0 {
            println!("skipped: no pidfd_open here: {}", Error::last_os_error());
            return None;
        }
        // SAFETY: a new descriptor, owned by nobody else.
        let own = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let vector = |place: &Place| libc::iovec { iov_base: place.addr, iov_len: place.len };
        let batch = Self { own, vectors: places.iter().map(vector).collect() };
        let known = batch.advise(&batch.vectors[..1]) > 0;
        if !known {
            println!("skipped: no process_madvise on the own process here (Linux 6.13)");
        }
        known.then_some(batch)
    }

    /// As few process_madvise as there can be: private pages forget what was written to them.
    pub fn forget(&self) {
        const IOV_MAX: usize = 1024;
        for vectors in self.vectors.chunks(IOV_MAX) {
            let bytes: usize = vectors.iter().map(|vector| vector.iov_len).sum();
            assert_eq!(self.advise(vectors), bytes as libc::c_long);
        }
    }

    fn advise(&self, vectors: &[libc::iovec]) -> libc::c_long {
        let (own, start, count) = (self.own.as_raw_fd(), vectors.as_ptr(), vectors.len());
        let advice = libc::MADV_DONTNEED;
        // SAFETY: `new`'s caller gave the ranges over to us.
        unsafe { libc::syscall(libc::SYS_process_madvise, own, start, count, advice, 0) }
    }
}

/// A madvise for each huge page's worth of memory; how many bytes are huge afterwards.
pub fn collapse(start: *const u8, len: usize) -> usize {
    let blocks = (0..len).step_by(BLOCK).filter(|at| {
        let block = start.wrapping_add(*at).cast_mut().cast();
        // SAFETY: changes no byte, whatever is mapped there.
        unsafe { libc::madvise(block, BLOCK, libc::MADV_COLLAPSE) == 0 }
    });
    blocks.count() * BLOCK
}

/// One fallocate: the object's pages go back.
pub fn punch(object: BorrowedFd<'_>, offset: usize, len: usize) {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: changes bytes behind shared mappings, of which nobody here holds a reference.
    let got = unsafe {
        libc::fallocate(object.as_raw_fd(), mode, offset as libc::off_t, len as libc::off_t)
    };
    assert_eq!(got, 0, "fallocate: {}", Error::last_os_error());
}

/// `struct procmap_query` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

const _: () = assert!(size_of::<ProcmapQuery>() == 104);
/// `_IOWR('f', 17, struct procmap_query)`
const PROCMAP_QUERY: u64 = 3 << 30 | (size_of::<ProcmapQuery>() as u64) << 16 | 0x66 << 8 | 17;

/// The open maps file of this process, which answers what is mapped where.
pub struct Maps(File);

impl Maps {
    /// None where the kernel is older than 6.11.
    pub fn open() -> Option<Self> {
        let maps = Self(File::open("/proc/thread-self/maps").ok()?);
        let here = &raw const maps as *mut c_void;
        let known = maps.ask(Place { addr: here, len: 1 });
        if !known {
            println!("skipped: no PROCMAP_QUERY here (Linux 6.11)");
        }
        known.then_some(maps)
    }

    /// One ioctl: the mapping at the start of `place`. False where the kernel has no answer.
    pub fn ask(&self, place: Place) -> bool {
        self.query(place.addr as u64).is_some()
    }

    /// One ioctl for each mapping of `place`; how many there are. None where something is not mapped.
    pub fn walk(&self, place: Place) -> Option<usize> {
        let (mut next, end) = (place.addr as u64, place.addr as u64 + place.len as u64);
        let mut mappings = 0;
        while next < end {
            next = self.query(next)?;
            mappings += 1;
        }
        Some(mappings)
    }

    /// Where the mapping ends that `addr` lies in.
    fn query(&self, addr: u64) -> Option<u64> {
        let mut query = ProcmapQuery {
            size: size_of::<ProcmapQuery>() as u64,
            query_addr: addr,
            ..Default::default()
        };
        // SAFETY: the ioctl reads and writes the one struct, whose size is asserted above.
        let got = unsafe { libc::ioctl(self.0.as_raw_fd(), PROCMAP_QUERY as _, &raw mut query) };
        (got == 0 && query.vma_start <= addr).then_some(query.vma_end)
    }
}

/// `struct uffdio_api`, `struct uffdio_register`, `struct uffdio_range` of linux/userfaultfd.h.
#[repr(C)]
struct UffdApi {
    api: u64,
    features: u64,
    ioctls: u64,
}
#[repr(C)]
struct UffdRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}
#[repr(C)]
struct UffdRange {
    start: u64,
    len: u64,
}

const UFFD_USER_MODE_ONLY: i32 = 1;
const UFFDIO_API: u64 = 3 << 30 | (size_of::<UffdApi>() as u64) << 16 | 0xaa << 8 | 0x3f;
const UFFDIO_REGISTER: u64 = 3 << 30 | (size_of::<UffdRegister>() as u64) << 16 | 0xaa << 8;
const UFFDIO_WAKE: u64 = 2 << 30 | (size_of::<UffdRange>() as u64) << 16 | 0xaa << 8 | 0x02;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

/// An open userfaultfd: threads that meet a missing page in a held range wait until it is woken.
pub struct Faults(OwnedFd);

impl Faults {
    /// None where the kernel or a filter refuses it.
    pub fn open() -> Option<Self> {
        let flags = libc::O_CLOEXEC | UFFD_USER_MODE_ONLY;
        // SAFETY: makes a descriptor and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        if fd < 0 {
            println!("skipped: no userfaultfd here: {}", Error::last_os_error());
            return None;
        }
        // SAFETY: a new descriptor, owned by nobody else.
        let faults = Self(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        let mut api = UffdApi { api: 0xaa, features: 0, ioctls: 0 };
        faults.ioctl(UFFDIO_API, &mut api);
        Some(faults)
    }

    /// One ioctl: from now on a missing page here stops the thread that meets it.
    pub fn hold(&self, place: Place) {
        let (start, len) = (place.addr as u64, place.len as u64);
        let mode = UFFDIO_REGISTER_MODE_MISSING;
        self.ioctl(UFFDIO_REGISTER, &mut UffdRegister { start, len, mode, ioctls: 0 });
    }

    /// One ioctl: the threads that stopped here go on.
    pub fn wake(&self, place: Place) {
        self.ioctl(UFFDIO_WAKE, &mut UffdRange { start: place.addr as u64, len: place.len as u64 });
    }

    fn ioctl<T>(&self, request: u64, argument: &mut T) {
        // SAFETY: each request above carries the size of the struct it is called with.
        let got = unsafe { libc::ioctl(self.0.as_raw_fd(), request as _, ptr::from_mut(argument)) };
        assert_eq!(got, 0, "userfaultfd ioctl: {}", Error::last_os_error());
    }
}
