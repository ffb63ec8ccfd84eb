//! What is mapped, from `/proc/self/maps`: by `PROCMAP_QUERY`, or by reading the file.
//!
//! References: proc(5); `PROCMAP_QUERY` in `linux/fs.h`, Linux 6.11.

use super::memory::Protection;
use super::{Errno, Result};
use rustix::fs::{self, Mode, OFlags};
use rustix::ioctl::{Updater, ioctl, opcode};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// One mapping, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vma {
    pub start: usize,
    pub end: usize,
    pub protection: Protection,
    pub shared: bool,
    /// The byte of the object that `start` shows.
    pub offset: u64,
    pub device: (u32, u32),
    /// 0: anonymous.
    pub inode: u64,
    /// `None` where this kernel does not tell.
    pub page_size: Option<usize>,
}

/// What became of a query.
#[derive(Debug)]
enum Answer {
    Whole,
    /// The kernel does not know it, or a filter of system calls refuses it: the file is read instead.
    NotKnown,
}

/// The kernel's `struct procmap_query`.
#[repr(C)]
#[derive(Default)]
struct Query {
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

const _: () = assert!(size_of::<Query>() == 104);

const PROCMAP_QUERY: rustix::ioctl::Opcode = opcode::read_write::<Query>(b'f', 17);

const READABLE: u64 = 1;
const WRITABLE: u64 = 2;
const EXECUTABLE: u64 = 4;
const SHARED: u64 = 8;
const COVERING_OR_NEXT: u64 = 0x10;

/// Long enough for the names that matter, `[heap]` and its like; a longer one is a file's.
const NAME: usize = 64;

/// The mappings of this process: an open `/proc/self/maps`. In a forked child it goes on to answer for the
/// parent.
#[derive(Debug)]
pub(crate) struct Maps {
    fd: OwnedFd,
    no_query: AtomicBool,
    reader: Mutex<Reader>,
}

/// What reading the file takes; allocated early, since it is read where memory is short.
#[derive(Debug)]
struct Reader {
    /// Opened where `Maps::fd` does not answer any more.
    again: Option<OwnedFd>,
    buffer: Vec<u8>,
}

/// The kernel hands out whole lines, at most a page of them at once or one long line.
const CHUNK: usize = 16 << 10;

impl Maps {
    pub fn open() -> Result<Self> {
        let reader = Reader { again: None, buffer: vec![0; 2 * CHUNK] };
        let (no_query, reader) = (AtomicBool::new(false), Mutex::new(reader));
        Ok(Self { fd: Self::open_file()?, no_query, reader })
    }

    /// Reading ends with the thread whose file it is. The first thread's outlives all others, unless it
    /// is gone already: then it is this thread's.
    fn open_file() -> Result<OwnedFd> {
        let open = |path| fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        match open("/proc/self/maps") {
            Ok(fd) if rustix::io::pread(&fd, &mut [0; 1], 0) == Ok(1) => Ok(fd),
            _ => Ok(open("/proc/thread-self/maps")?),
        }
    }

    /// Calls `visit` for each mapping that meets `[start, end)`, in order, until it breaks.
    pub fn visit(
        &self,
        start: usize,
        end: usize,
        mut visit: impl FnMut(&Vma) -> ControlFlow<()>,
    ) -> Result<()> {
        if !self.no_query.load(Ordering::Relaxed) {
            match self.query(start, end, None, &mut |vma, _| visit(vma)) {
                Ok(Answer::NotKnown) => self.no_query.store(true, Ordering::Relaxed),
                answered => return answered.map(drop),
            }
        }
        self.parse(start, end, &mut |vma, _| visit(vma))
    }

    /// The same with each mapping's name: a path, `[heap]`, `[stack]`, or nothing.
    pub fn visit_named(
        &self,
        start: usize,
        end: usize,
        mut visit: impl FnMut(&Vma, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        if !self.no_query.load(Ordering::Relaxed) {
            match self.query(start, end, Some([0; NAME]), &mut visit) {
                Ok(Answer::NotKnown) => self.no_query.store(true, Ordering::Relaxed),
                answered => return answered.map(drop),
            }
        }
        self.parse(start, end, &mut visit)
    }

    /// How many mappings the process has.
    pub fn count(&self) -> Result<usize> {
        let mut count = 0;
        self.parse(0, usize::MAX, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    fn query(
        &self,
        start: usize,
        end: usize,
        mut name: Option<[u8; NAME]>,
        visit: &mut dyn FnMut(&Vma, &[u8]) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let mut next = start as u64;
        while next < end as u64 {
            let mut query = Query {
                size: size_of::<Query>() as u64,
                query_flags: COVERING_OR_NEXT,
                query_addr: next,
                ..Query::default()
            };
            if let Some(name) = &mut name {
                query.vma_name_size = NAME as u32;
                query.vma_name_addr = name.as_mut_ptr().expose_provenance() as u64;
            }
            match self.query_one(&mut query) {
                Ok(()) => {}
                Err(Errno::NOENT) => return Ok(Answer::Whole),
                Err(errno) if errno.raw() == libc::ENAMETOOLONG => {
                    // A file with a long path: ask again without the name.
                    query.vma_name_size = 0;
                    query.vma_name_addr = 0;
                    match self.query_one(&mut query) {
                        Ok(()) => {}
                        Err(Errno::NOENT) => return Ok(Answer::Whole),
                        Err(errno) => return Err(errno),
                    }
                }
                Err(_) if next == start as u64 => return Ok(Answer::NotKnown),
                Err(errno) => return Err(errno),
            }
            if query.vma_start >= end as u64 {
                return Ok(Answer::Whole);
            }
            let flag = |bit| query.vma_flags & bit != 0;
            let vma = Vma {
                start: query.vma_start as usize,
                end: query.vma_end as usize,
                protection: Protection::new(flag(READABLE), flag(WRITABLE), flag(EXECUTABLE)),
                shared: flag(SHARED),
                offset: query.vma_offset,
                device: (query.dev_major, query.dev_minor),
                inode: query.inode,
                page_size: Some(query.vma_page_size as usize),
            };
            // The size that comes back counts the NUL; 0: it has no name.
            let named = name.as_ref().map_or(&[][..], |name| {
                &name[..(query.vma_name_size as usize).min(NAME).saturating_sub(1)]
            });
            if visit(&vma, named).is_break() {
                return Ok(Answer::Whole);
            }
            next = query.vma_end;
        }
        Ok(Answer::Whole)
    }

    fn query_one(&self, query: &mut Query) -> Result<()> {
        // SAFETY: PROCMAP_QUERY reads and writes one `struct procmap_query`, and writes the name into
        // the live buffer of NAME bytes that its fields describe.
        unsafe { ioctl(&self.fd, Updater::<PROCMAP_QUERY, _>::new(query)) }.map_err(Errno::from)
    }

    /// The fallback before Linux 6.11: reads the file, up to the range's end.
    fn parse(
        &self,
        start: usize,
        end: usize,
        visit: &mut dyn FnMut(&Vma, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let Reader { again, buffer } = &mut *reader;
        let (mut offset, mut kept) = (0u64, 0);
        loop {
            if buffer.len() - kept < CHUNK {
                buffer.resize(kept + CHUNK, 0);
            }
            let fd = again.as_ref().unwrap_or(&self.fd);
            let read = match rustix::io::pread(fd, &mut buffer[kept..], offset) {
                // The thread whose file it is has gone.
                Err(rustix::io::Errno::SRCH) if offset == 0 => {
                    *again = Some(Self::open_file()?);
                    rustix::io::pread(again.as_ref().unwrap_or(&self.fd), &mut buffer[kept..], 0)?
                }
                read => read?,
            };
            if read == 0 {
                return Ok(());
            }
            offset += read as u64;
            let filled = kept + read;
            let mut done = 0;
            while let Some(newline) = buffer[done..filled].iter().position(|&byte| byte == b'\n') {
                let line = &buffer[done..done + newline];
                done += newline + 1;
                let (vma, name) = parse_line(line).ok_or(Errno::INVAL)?;
                if vma.start >= end {
                    return Ok(());
                }
                if vma.end > start && visit(&vma, name).is_break() {
                    return Ok(());
                }
            }
            buffer.copy_within(done..filled, 0);
            kept = filled - done;
        }
    }
}

/// `start-end rwxp offset major:minor inode   name`, numbers but the inode in hexadecimal.
fn parse_line(line: &[u8]) -> Option<(Vma, &[u8])> {
    let mut rest = line;
    let mut field = |stop: u8| {
        let at = rest.iter().position(|&byte| byte == stop).unwrap_or(rest.len());
        let (field, after) = rest.split_at(at);
        rest = after.get(1..).unwrap_or(&[]);
        field
    };
    let number =
        |digits: &[u8], radix| u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let start = number(field(b'-'), 16)? as usize;
    let end = number(field(b' '), 16)? as usize;
    let &[read, write, execute, shared] = field(b' ') else {
        return None;
    };
    let offset = number(field(b' '), 16)?;
    let device = (number(field(b':'), 16)? as u32, number(field(b' '), 16)? as u32);
    let inode = number(field(b' '), 10)?;
    let protection = Protection::new(read == b'r', write == b'w', execute == b'x');
    let shared = shared == b's';
    let vma = Vma { start, end, protection, shared, offset, device, inode, page_size: None };
    Some((vma, rest.trim_ascii_start()))
}

/// The page size of a mapping; read from `smaps` where [`Vma::page_size`] does not tell.
///
/// # References
/// proc(5) `smaps`, `KernelPageSize`.
pub(crate) fn page_size_of(vma: &Vma) -> Option<usize> {
    if vma.page_size.is_some() {
        return vma.page_size;
    }
    // Pages of hugetlb have an inode, anonymous ones too: no need to walk all pages of the process.
    if vma.inode == 0 {
        return Some(super::page_size());
    }
    let addr = vma.start;
    let smaps = std::fs::read("/proc/thread-self/smaps").ok()?;
    let mut inside = false;
    for line in smaps.split(|&byte| byte == b'\n') {
        if let Some((vma, _)) = parse_line(line) {
            inside = vma.start <= addr && addr < vma.end;
        } else if inside {
            if let Some(size) = line.strip_prefix(b"KernelPageSize:") {
                let text = std::str::from_utf8(size).ok()?.trim().strip_suffix(" kB")?;
                return text.parse::<usize>().ok()?.checked_mul(1024);
            }
        }
    }
    None
}

/// How many mappings a process may have. Allocates nothing: it is asked where memory is short.
///
/// # References
/// proc(5) `/proc/sys/vm/max_map_count`.
pub(crate) fn max_map_count() -> Option<usize> {
    let path = "/proc/sys/vm/max_map_count";
    let fd = fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 24];
    let len = rustix::io::read(&fd, &mut text).ok()?;
    std::str::from_utf8(text.get(..len)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_line_is_read_whole() {
        let line = b"7f0000001000-7f0000003000 rw-s 00002000 00:01 1027   /memfd:a b (deleted)";
        let (vma, name) = parse_line(line).unwrap();
        assert_eq!((vma.start, vma.end), (0x7f00_0000_1000, 0x7f00_0000_3000));
        assert_eq!((vma.offset, vma.device, vma.inode), (0x2000, (0, 1), 1027));
        assert!(vma.shared && vma.protection == Protection::READ_WRITE);
        assert_eq!(name, b"/memfd:a b (deleted)");
        let anonymous = b"01000-02000 ---p 00000000 00:00 0 ";
        assert_eq!(parse_line(anonymous).unwrap().1, b"");
        assert!(parse_line(b"Size:   4 kB").is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn both_ways_give_the_same_answer() {
        let maps = Maps::open().unwrap();
        let mut asked = Vec::new();
        let mut read = Vec::new();
        let all = (0, usize::MAX);
        match maps.query(all.0, all.1, Some([0; NAME]), &mut |vma, name| {
            asked.push((
                Vma { page_size: None, ..*vma },
                name.starts_with(b"[").then(|| name.to_vec()),
            ));
            ControlFlow::Continue(())
        }) {
            Ok(Answer::NotKnown) => {
                // Not println, which the harness captures.
                let _ = writeln!(std::io::stderr(), "skipped: PROCMAP_QUERY needs Linux 6.11");
                return;
            }
            answered => drop(answered.unwrap()),
        }
        maps.parse(all.0, all.1, &mut |vma, name| {
            read.push((*vma, name.starts_with(b"[").then(|| name.to_vec())));
            ControlFlow::Continue(())
        })
        .unwrap();
        // Other tests map and unmap meanwhile: what both saw at the same place is compared.
        let common = |list: &[(Vma, Option<Vec<u8>>)]| -> Vec<_> {
            list.iter().filter(|(vma, _)| vma.inode != 0).cloned().collect()
        };
        let (asked, read) = (common(&asked), common(&read));
        assert!(asked.len() > 3);
        assert_eq!(asked, read);
    }
}
