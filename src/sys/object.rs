//! Memory objects: memfd_create(2), seals, ftruncate(2), fallocate(2), fstat(2).

use super::{Errno, Result};
use rustix::fs::{self, FallocateFlags, FileType, MemfdFlags, Mode, OFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The size of a huge page: a power of two, as the kernel encodes it in `MFD_HUGE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HugeSize(u32);

impl HugeSize {
    /// 0: the system's default size. `None` where `bytes` is not a power of two.
    pub fn new(bytes: usize) -> Option<Self> {
        match bytes {
            0 => Some(Self(0)),
            _ => bytes.is_power_of_two().then(|| Self(bytes.trailing_zeros())),
        }
    }
}

/// What fstat(2) and fstatfs(2) say of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub len: u64,
    pub is_regular: bool,
    /// It has no name in any file system.
    pub is_unlinked: bool,
    pub device: (u32, u32),
    pub inode: u64,
    /// Its page size, where it lies on hugetlbfs.
    pub huge_page: Option<usize>,
}

/// A descriptor of something that can be mapped.
#[derive(Debug)]
pub(crate) struct Object(OwnedFd);

impl Object {
    /// A new memfd without length that cannot be executed, if the kernel knows the flag for that.
    ///
    /// # References
    /// memfd_create(2); `MFD_NOEXEC_SEAL` since Linux 6.3, `EINVAL` before.
    pub fn memfd(name: &CStr, huge: Option<HugeSize>) -> Result<Self> {
        const HUGE_SHIFT: u32 = 26;
        let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        if let Some(HugeSize(log2)) = huge {
            flags |= MemfdFlags::HUGETLB | MemfdFlags::from_bits_retain(log2 << HUGE_SHIFT);
        }
        let fd = match fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(rustix::io::Errno::INVAL) => fs::memfd_create(name, flags)?,
            made => made?,
        };
        Ok(Self(fd))
    }

    /// Opens a file, for reading and writing where that is allowed, else for reading.
    ///
    /// # References
    /// open(2).
    pub fn open(path: &Path, read_only: bool) -> Result<Self> {
        let open =
            |access| fs::open(path, access | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
        if !read_only {
            match open(OFlags::RDWR).map_err(Errno::from) {
                Ok(fd) => return Ok(Self(fd)),
                Err(Errno::ACCES | Errno::PERM | Errno::ROFS | Errno::TXTBSY) => {}
                // A directory says EISDIR to a writer; the caller refuses it by its type.
                Err(errno) if errno.raw() == libc::EISDIR => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self(open(OFlags::RDONLY)?))
    }

    /// A descriptor of our own for the same open file.
    ///
    /// # References
    /// fcntl(2) `F_DUPFD_CLOEXEC`.
    pub fn duplicate(fd: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(fd, 0)?))
    }

    /// # References
    /// fstat(2), fstatfs(2).
    pub fn stat(&self) -> Result<Stat> {
        const HUGETLBFS_MAGIC: i64 = 0x958458f6;
        let stat = fs::fstat(&self.0)?;
        let file_system = fs::fstatfs(&self.0)?;
        let huge = file_system.f_type as i64 == HUGETLBFS_MAGIC;
        Ok(Stat {
            len: u64::try_from(stat.st_size).unwrap_or(0),
            is_regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            is_unlinked: stat.st_nlink == 0,
            device: (fs::major(stat.st_dev), fs::minor(stat.st_dev)),
            inode: stat.st_ino,
            huge_page: huge.then_some(file_system.f_bsize as usize),
        })
    }

    /// Whether the descriptor itself may be written through.
    ///
    /// # References
    /// fcntl(2) `F_GETFL`.
    pub fn is_writable(&self) -> Result<bool> {
        let access = fs::fcntl_getfl(&self.0)? & OFlags::ACCMODE;
        Ok(access == OFlags::RDWR)
    }

    /// Whether a seal forbids new writable mappings; `None` for what is no memory file.
    ///
    /// # References
    /// fcntl(2) `F_GET_SEALS`; `F_SEAL_FUTURE_WRITE` since Linux 5.1.
    pub fn write_sealed(&self) -> Option<bool> {
        let seals = fs::fcntl_get_seals(&self.0).ok()?;
        Some(seals.intersects(fs::SealFlags::WRITE | fs::SealFlags::FUTURE_WRITE))
    }

    /// From now on nobody can shrink it, so that no page of it can ever raise SIGBUS.
    ///
    /// # References
    /// fcntl(2) `F_ADD_SEALS`, Linux 3.17; hugetlbfs since 4.16.
    pub fn seal_shrink(self) -> Result<Self> {
        // The memfd crate wants to own the descriptor, and gives it back as a file.
        let memfd = memfd::Memfd::try_from_fd(self.0).map_err(|_| Errno::INVAL)?;
        match memfd.add_seal(memfd::FileSeal::SealShrink) {
            Ok(()) => Ok(Self(memfd.into_file().into())),
            Err(memfd::Error::AddSeals(error)) => Err(Errno(error.raw_os_error().unwrap_or(0))),
            Err(_) => Err(Errno::INVAL),
        }
    }

    /// Sets the length.
    ///
    /// # References
    /// ftruncate(2).
    pub fn set_len(&self, len: u64) -> Result<()> {
        Ok(fs::ftruncate(&self.0, len)?)
    }

    /// Makes it at least `len` long, and never shorter, whoever else does the same.
    ///
    /// # References
    /// ftruncate(2), which cannot shorten what is sealed; fallocate(2) of the last byte otherwise, where
    /// the file system has it.
    pub fn extend(&self, len: u64) -> Result<()> {
        let sealed =
            fs::fcntl_get_seals(&self.0).is_ok_and(|seals| seals.contains(fs::SealFlags::SHRINK));
        if !sealed {
            let last = len.saturating_sub(1);
            match fs::fallocate(&self.0, FallocateFlags::empty(), last, 1) {
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                done => return Ok(done?),
            }
        }
        match self.set_len(len) {
            // Another thread or process made it longer still.
            Err(Errno::PERM) if fs::fstat(&self.0)?.st_size as u64 >= len => Ok(()),
            done => done,
        }
    }

    /// Takes the pages of `[offset, offset + len)` now, so that touching them later cannot fail.
    ///
    /// # References
    /// fallocate(2).
    pub fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        Ok(fs::fallocate(&self.0, FallocateFlags::empty(), offset, len)?)
    }

    /// The bytes read zero through every mapping, and their pages go back.
    ///
    /// # References
    /// fallocate(2) `FALLOC_FL_PUNCH_HOLE`.
    pub fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fs::fallocate(&self.0, flags, offset, len)?)
    }
}

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
