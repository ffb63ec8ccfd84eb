//! What this kernel and its settings offer to pagetie, and how to mend what is amiss.
//!
//! Each facility is tried on memory made for it, not guessed from the kernel's version: a filter of
//! system calls or a host's setting may refuse what the kernel has. The exit status is 1 only where no
//! tie can be made at all. Run it with `cargo run --example doctor`.

#![allow(unsafe_code, clippy::disallowed_methods, reason = "asks the kernel past the crate")]

use pagetie::{Access, Covered, HugePages, Region, Space, TieOptions, page};
use rustix::ioctl::{Updater, ioctl, opcode};
use std::ffi::c_void;
use std::fs::{self, File};
use std::io::{self, Error};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::ptr;

/// What huge pages without privilege are made of.
const BLOCK: usize = 2 << 20;

/// Of `vm.max_map_count`, unless somebody changed it.
const USUAL_MAP_COUNT: u64 = 65_530;

/// Whether a facility works, and if not, why.
type Probe = io::Result<()>;

struct Facility {
    name: &'static str,
    since: &'static str,
    probe: fn() -> Probe,
    /// What pagetie does without it.
    fallback: &'static str,
    /// For those whose lack is worth a line of its own.
    mend: Option<&'static str>,
}

const FACILITIES: &[Facility] = &[
    Facility {
        name: "memfd_create, no-exec flag",
        since: "6.3",
        probe: || memfd(libc::MFD_NOEXEC_SEAL).map(drop),
        fallback: "made without the flag; a host that forbids executable memfds refuses that",
        mend: None,
    },
    Facility {
        name: "mmap, MAP_FIXED",
        since: "2.6",
        probe: map_fixed,
        fallback: "none",
        mend: Some("a filter of system calls refuses mmap of a memfd: allow it"),
    },
    Facility {
        name: "mremap, MREMAP_DONTUNMAP",
        since: "5.13 for shared memory",
        probe: dont_unmap,
        fallback: "Covered::Discard alone works: nothing is kept, parked or lent",
        mend: Some("Linux 5.14 or later is needed to keep what a tie covers"),
    },
    Facility {
        name: "a tie and its end",
        since: "5.14",
        probe: || tie_and_untie(TieOptions::new(Access::ReadWrite)),
        fallback: "Covered::Discard, if the line below says yes",
        mend: Some("borrowing and keeping need /proc and mremap: see the lines about them"),
    },
    Facility {
        name: "the same with Covered::Discard",
        since: "5.14",
        probe: || tie_and_untie(TieOptions::new(Access::ReadWrite).covered(Covered::Discard)),
        fallback: "none",
        mend: None,
    },
    Facility {
        name: "PROCMAP_QUERY",
        since: "6.11",
        probe: procmap_query,
        fallback: "/proc/self/maps is read as text, slower with each mapping there is",
        mend: None,
    },
    Facility {
        name: "PAGEMAP_SCAN",
        since: "6.7",
        probe: pagemap_scan,
        fallback: "Prefault::Populate walks over pages that are mapped in already, too",
        mend: None,
    },
    Facility {
        name: "MREMAP_DONTUNMAP of a file",
        since: "5.13",
        probe: dont_unmap_file,
        fallback: "windows and populated ties map their pages in anew; nothing can be parked",
        mend: None,
    },
    Facility {
        name: "MADV_COLLAPSE of a memfd",
        since: "6.1",
        probe: collapse,
        fallback: "base pages",
        mend: Some(
            "huge pages without privilege need Linux 6.1 with CONFIG_TRANSPARENT_HUGEPAGE, \
             shmem_enabled other than deny, and no PR_SET_THP_DISABLE",
        ),
    },
    Facility {
        name: "MADV_POPULATE_READ",
        since: "5.14",
        probe: || advised(libc::MADV_POPULATE_READ),
        fallback: "each page is touched",
        mend: None,
    },
    Facility {
        name: "MADV_DONTNEED_LOCKED",
        since: "5.18",
        probe: dont_need_locked,
        fallback: "unlocked, discarded, locked again",
        mend: None,
    },
    Facility {
        name: "process_madvise on itself",
        since: "6.13",
        probe: process_madvise,
        fallback: "discard_many of private pages makes one call for each range",
        mend: None,
    },
    Facility {
        name: "MADV_GUARD_INSTALL",
        since: "6.13",
        probe: || advised(MADV_GUARD_INSTALL),
        fallback: "mprotect, which pagetie uses in any case",
        mend: None,
    },
    Facility {
        name: "mremap over several mappings",
        since: "6.17",
        probe: move_several,
        fallback: "one call for each mapping, as pagetie does in any case",
        mend: None,
    },
    Facility {
        name: "userfaultfd, user mode",
        since: "5.11",
        probe: userfaultfd,
        fallback: "ties with concurrent(true) are refused",
        mend: Some(
            "userfaultfd is missing or refused: build the kernel with CONFIG_USERFAULTFD, and let \
             the container's filter pass userfaultfd(2)",
        ),
    },
];

/// Not in every version of the libc crate.
const MADV_GUARD_INSTALL: libc::c_int = 102;

fn main() -> ExitCode {
    let mut doctor = Doctor::default();
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    println!("pagetie {}, Linux {release}, {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    println!("\nFacilities (Linux version that brought them)");
    let mut works = true;
    for Facility { name, since, probe, fallback, mend } in FACILITIES {
        let label = format!("{name} ({since})");
        match probe() {
            Ok(()) => doctor.line(&label, "yes"),
            Err(why) => {
                doctor.line(&label, &format!("no: {fallback} [{why}]"));
                if let Some(mend) = mend {
                    doctor.mend((*mend).to_owned());
                }
                works &= *name != "the same with Covered::Discard";
            }
        }
    }
    println!("\nSettings");
    doctor.pages();
    doctor.mappings();
    doctor.policy();
    println!("\nTo mend");
    if doctor.mends.is_empty() {
        println!("  nothing");
    }
    for mend in &doctor.mends {
        println!("  - {mend}");
    }
    if works {
        println!("\npagetie works here.");
        return ExitCode::SUCCESS;
    }
    println!("\npagetie does not work here: no tie can be made.");
    ExitCode::FAILURE
}

#[derive(Default)]
struct Doctor {
    mends: Vec<String>,
}

impl Doctor {
    fn line(&self, label: &str, value: &str) {
        println!("  {label:<52} {value}");
    }

    fn mend(&mut self, how: String) {
        self.mends.push(how);
    }

    /// Prints a setting of the kernel and returns it.
    fn setting(&self, label: &str, path: &str) -> Option<String> {
        let value = read(path);
        self.line(label, value.as_deref().unwrap_or("not there"));
        value
    }

    fn pages(&mut self) {
        self.line("page size", &format!("{} bytes", page::size()));
        let pools = huge_pools();
        for (kib, total, free) in &pools {
            let label = format!("huge pages of {} KiB, in the pool", kib);
            self.line(&label, &format!("{total}, {free} free"));
        }
        if pools.is_empty() {
            self.line("pools of huge pages", "not there");
            self.mend("HugePages::Require needs a kernel with CONFIG_HUGETLBFS".into());
        } else if pools.iter().all(|(_, total, _)| *total == 0) {
            self.mend(
                "HugePages::Require finds no pages: `sysctl vm.nr_hugepages=N` reserves N \
                 (HugePages::Prefer needs none)"
                    .into(),
            );
        }
        const THP: &str = "/sys/kernel/mm/transparent_hugepage";
        self.setting("transparent huge pages, enabled", &format!("{THP}/enabled"));
        let shmem =
            self.setting("transparent huge pages, shmem_enabled", &format!("{THP}/shmem_enabled"));
        if shmem.is_some_and(|shmem| shmem.contains("[deny]")) {
            self.mend(format!("no memfd gets huge pages: `echo advise > {THP}/shmem_enabled`"));
        }
        // SAFETY: asks for a flag of the process; the unused arguments are zero, as it wants.
        if unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) } == 1 {
            self.mend(
                "PR_SET_THP_DISABLE was set by whoever started this process: no huge pages \
                 without privilege"
                    .into(),
            );
        }
    }

    fn mappings(&mut self) {
        let maps = fs::read_to_string("/proc/self/maps");
        self.line(
            "/proc/self/maps",
            &maps.as_ref().map_or_else(|why| format!("not readable: {why}"), |_| "readable".into()),
        );
        if maps.is_err() {
            self.mend(
                "Space::borrow is Unsupported without /proc: `mount -t proc proc /proc` (reserved \
                 spaces work)"
                    .into(),
            );
        }
        let count = maps.map_or(0, |maps| maps.lines().count() as u64);
        self.line("mappings of this process", &count.to_string());
        let most = self.setting("vm.max_map_count", "/proc/sys/vm/max_map_count");
        let most: u64 = most.and_then(|most| most.parse().ok()).unwrap_or(USUAL_MAP_COUNT);
        if most < USUAL_MAP_COUNT {
            self.mend(format!(
                "a tie takes up to three of only {most} mappings: \
                 `sysctl vm.max_map_count={USUAL_MAP_COUNT}`"
            ));
        }
    }

    fn policy(&mut self) {
        let noexec = self.setting("vm.memfd_noexec", "/proc/sys/vm/memfd_noexec");
        if noexec.as_deref() == Some("2") && memfd(libc::MFD_NOEXEC_SEAL).is_err() {
            self.mend(
                "vm.memfd_noexec is 2, and memfds without the flag are refused: \
                 `sysctl vm.memfd_noexec=1`"
                    .into(),
            );
        }
        let overcommit = self.setting("vm.overcommit_memory", "/proc/sys/vm/overcommit_memory");
        if overcommit.as_deref() == Some("2") {
            self.mend(
                "vm.overcommit_memory is 2: private pages count in full before they are touched, so \
                 copy-on-write ties may be refused; `sysctl vm.overcommit_memory=0`, or a higher \
                 vm.overcommit_ratio"
                    .into(),
            );
        }
        let locked = limit(libc::RLIMIT_MEMLOCK);
        self.line("RLIMIT_MEMLOCK", &in_kib(locked));
        if locked < page::size() as u64 {
            self.mend(
                "nothing may be locked, so ties over locked memory are refused: raise `ulimit -l`"
                    .into(),
            );
        }
        let addresses = limit(libc::RLIMIT_AS);
        if addresses != libc::RLIM_INFINITY {
            self.line("RLIMIT_AS", &in_kib(addresses));
            self.mend(
                "addresses are limited, and reserved spaces count in full: `ulimit -v unlimited`"
                    .into(),
            );
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let filtered = status
            .lines()
            .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() != "0"));
        self.line("a filter of system calls (seccomp)", if filtered { "yes" } else { "no" });
        if filtered {
            self.mend(
                "a filter of system calls is in force: memory registered with a userfaultfd is not \
                 recognised when it is borrowed; if a line above says no, let the filter pass it"
                    .into(),
            );
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The pools of huge pages: KiB of a page, pages, free ones.
fn huge_pools() -> Vec<(u64, u64, u64)> {
    let number = |path: String| read(&path).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut pools: Vec<_> = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let path = path.display();
            Some((
                kib,
                number(format!("{path}/nr_hugepages")),
                number(format!("{path}/free_hugepages")),
            ))
        })
        .collect();
    pools.sort_unstable();
    pools
}

fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills the struct that it is given.
    unsafe { libc::getrlimit(resource, &mut limit) };
    limit.rlim_cur
}

fn in_kib(bytes: u64) -> String {
    if bytes == libc::RLIM_INFINITY {
        return "unlimited".into();
    }
    format!("{} KiB", bytes >> 10)
}

/// Fresh private pages, unmapped when dropped.
struct Scratch {
    start: *mut c_void,
    len: usize,
}

impl Scratch {
    fn new(len: usize, protection: libc::c_int) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses the place; nothing is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        Ok(Self { start: mapped(start)?, len })
    }

    fn writable(pages: usize) -> io::Result<Self> {
        Self::new(pages * page::size(), libc::PROT_READ | libc::PROT_WRITE)
    }

    /// What mremap moved to `start`.
    fn at(start: *mut c_void, len: usize) -> io::Result<Self> {
        Ok(Self { start: mapped(start)?, len })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: addresses of our own, to which nothing refers any more.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

fn mapped(start: *mut c_void) -> io::Result<*mut c_void> {
    if start == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(start) }
}

fn checked(rc: impl Into<i64>) -> io::Result<i64> {
    let rc = rc.into();
    if rc < 0 { Err(Error::last_os_error()) } else { Ok(rc) }
}

fn wrong(what: &str) -> Probe {
    Err(Error::other(what.to_owned()))
}

/// A memfd of one page.
fn memfd(flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends in a zero.
    let fd = unsafe { libc::memfd_create(c"doctor".as_ptr(), flags | libc::MFD_CLOEXEC) };
    checked(fd)?;
    // SAFETY: a new descriptor, which nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let file = File::from(fd);
    file.set_len(page::size() as u64)?;
    Ok(file.into())
}

fn map_fixed() -> Probe {
    let fd = memfd(libc::MFD_NOEXEC_SEAL).or_else(|_| memfd(0))?;
    let scratch = Scratch::new(page::size(), libc::PROT_NONE)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: over the scratch page, which nobody uses.
    let got =
        unsafe { libc::mmap(scratch.start, scratch.len, protection, flags, fd.as_raw_fd(), 0) };
    if mapped(got)? == scratch.start { Ok(()) } else { wrong("mapped elsewhere") }
}

fn dont_unmap() -> Probe {
    let scratch = Scratch::writable(1)?;
    let byte = scratch.start.cast::<u8>();
    // SAFETY: the scratch page is writable.
    unsafe { byte.write_volatile(7) };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    let anywhere = ptr::null_mut::<c_void>();
    // SAFETY: moves the scratch page to a place that the kernel chooses.
    let moved = unsafe { libc::mremap(scratch.start, scratch.len, scratch.len, flags, anywhere) };
    let moved = Scratch::at(moved, scratch.len)?;
    // SAFETY: both are mapped and readable.
    let seen = unsafe { (byte.read_volatile(), moved.start.cast::<u8>().read_volatile()) };
    if seen == (0, 7) { Ok(()) } else { wrong("the page did not move") }
}

fn dont_unmap_file() -> Probe {
    let fd = memfd(libc::MFD_NOEXEC_SEAL).or_else(|_| memfd(0))?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let (anywhere, len) = (ptr::null_mut::<c_void>(), page::size());
    // SAFETY: maps a new page wherever the kernel likes.
    let start =
        unsafe { libc::mmap(anywhere, len, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    let view = Scratch::at(start, len)?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
    // SAFETY: moves the page tables of the scratch page to a place that the kernel chooses.
    let moved = unsafe { libc::mremap(view.start, len, len, flags, anywhere) };
    let moved = Scratch::at(moved, len)?;
    // SAFETY: both are mapped, writable and readable.
    let seen = unsafe {
        moved.start.cast::<u8>().write_volatile(7);
        view.start.cast::<u8>().read_volatile()
    };
    if seen == 7 { Ok(()) } else { wrong("the old addresses show something else") }
}

fn tie_and_untie(how: TieOptions) -> Probe {
    let page = page::size();
    let region = Region::new(page)?;
    region.write_at(0, &[7])?;
    let space = Space::reserve(page)?;
    let tie = space.tie(0, &region, .., how)?;
    // SAFETY: the tie is live, so its address is readable; nobody writes.
    let seen = unsafe { tie.as_ptr().read_volatile() };
    tie.untie()?;
    if seen == 7 { Ok(()) } else { wrong("the tie shows another byte") }
}

/// The kernel's `struct procmap_query`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    addr: u64,
    start: u64,
    end: u64,
    others: [u64; 8],
}

const _: () = assert!(size_of::<Query>() == 104);

fn procmap_query() -> Probe {
    let maps = File::open("/proc/self/maps")?;
    let scratch = Scratch::writable(1)?;
    let addr = scratch.start.addr() as u64;
    let mut query = Query { size: size_of::<Query>() as u64, addr, ..Query::default() };
    const CALL: rustix::ioctl::Opcode = opcode::read_write::<Query>(b'f', 17);
    // SAFETY: PROCMAP_QUERY reads and writes one `struct procmap_query`, and asks for no names.
    unsafe { ioctl(&maps, Updater::<CALL, _>::new(&mut query)) }?;
    if (query.start..query.end).contains(&addr) { Ok(()) } else { wrong("another mapping") }
}

/// The kernel's `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    runs: u64,
    room: u64,
    most: u64,
    inverted: u64,
    mask: u64,
    any_of: u64,
    wanted: u64,
}

const _: () = assert!(size_of::<Scan>() == 96);

fn pagemap_scan() -> Probe {
    const CALL: rustix::ioctl::Opcode = opcode::read_write::<Scan>(b'f', 16);
    const PRESENT: u64 = 1 << 3;
    let pagemap = File::open("/proc/self/pagemap")?;
    let scratch = Scratch::writable(1)?;
    let start = scratch.start.addr() as u64;
    let mut runs = [[0_u64; 3]; 1];
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        start,
        end: start + scratch.len as u64,
        runs: runs.as_mut_ptr().expose_provenance() as u64,
        room: runs.len() as u64,
        inverted: PRESENT,
        mask: PRESENT,
        wanted: PRESENT,
        ..Scan::default()
    };
    // SAFETY: PAGEMAP_SCAN reads and writes one `struct pm_scan_arg`, and at most one run into the live array.
    unsafe { ioctl(&pagemap, Updater::<CALL, _>::new(&mut scan)) }?;
    if runs[0][0] == start { Ok(()) } else { wrong("a page that was never touched is there") }
}

fn collapse() -> Probe {
    let region = Region::builder().huge_pages(HugePages::Prefer).build(BLOCK)?;
    region.write_at(0, &[1])?;
    if region.collapse()? == BLOCK { Ok(()) } else { wrong("refused") }
}

fn advise(scratch: &Scratch, advice: libc::c_int) -> Probe {
    // SAFETY: scratch pages, whose bytes nobody needs.
    checked(unsafe { libc::madvise(scratch.start, scratch.len, advice) }).map(drop)
}

fn advised(advice: libc::c_int) -> Probe {
    advise(&Scratch::writable(1)?, advice)
}

fn dont_need_locked() -> Probe {
    let scratch = Scratch::writable(1)?;
    // Without the right to lock, the advice alone is tried.
    // SAFETY: locks the scratch page, until it is unmapped.
    let _ = unsafe { libc::mlock(scratch.start, scratch.len) };
    advise(&scratch, libc::MADV_DONTNEED_LOCKED)
}

fn process_madvise() -> Probe {
    let scratch = Scratch::writable(1)?;
    // SAFETY: opens a descriptor of this process.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
    // SAFETY: a new descriptor, which nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let vector = libc::iovec { iov_base: scratch.start, iov_len: scratch.len };
    // SAFETY: one vector, of the scratch page, whose bytes nobody needs.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            fd.as_raw_fd(),
            &raw const vector,
            1_usize,
            libc::MADV_DONTNEED,
            0_usize,
        )
    };
    if checked(done)? == scratch.len as i64 { Ok(()) } else { wrong("done in part") }
}

fn move_several() -> Probe {
    let page = page::size();
    let from = Scratch::writable(2)?;
    let to = Scratch::new(2 * page, libc::PROT_NONE)?;
    // Another protection makes a mapping of its own of the second page.
    // SAFETY: the second of two pages, which nobody uses.
    checked(unsafe { libc::mprotect(from.start.byte_add(page), page, libc::PROT_READ) })?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges are scratch. What an error leaves unmapped is unmapped once more at the end,
    // by the only thread there is.
    let moved = unsafe { libc::mremap(from.start, from.len, from.len, flags, to.start) };
    mapped(moved).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Default)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

fn userfaultfd() -> Probe {
    const USER_MODE_ONLY: libc::c_int = 1;
    const UFFD: u8 = 0xaa;
    const API: rustix::ioctl::Opcode = opcode::read_write::<UffdioApi>(UFFD, 0x3f);
    const REGISTER: rustix::ioctl::Opcode = opcode::read_write::<UffdioRegister>(UFFD, 0);
    const MISSING: u64 = 1;
    let scratch = Scratch::writable(1)?;
    // SAFETY: makes a new descriptor.
    let fd =
        checked(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) })?;
    // SAFETY: a new descriptor, which nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = UffdioApi { api: UFFD.into(), ..UffdioApi::default() };
    // SAFETY: UFFDIO_API reads and writes one `struct uffdio_api`.
    unsafe { ioctl(&fd, Updater::<API, _>::new(&mut api)) }?;
    let (start, len) = (scratch.start.addr() as u64, scratch.len as u64);
    let mut register = UffdioRegister { start, len, mode: MISSING, ioctls: 0 };
    // SAFETY: UFFDIO_REGISTER reads and writes one `struct uffdio_register`; nobody touches the page.
    unsafe { ioctl(&fd, Updater::<REGISTER, _>::new(&mut register)) }?;
    Ok(())
}
