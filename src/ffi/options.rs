//! Enums and option structs of the C surface, checked on their way in.

use super::Failure;
use crate::{Access, Covered, HugePages, Prefault, Prot, Region, RegionBuilder, TieOptions};
use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, offset_of};

/// What a tie may do, for its whole life.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pagetie_access {
    /// Loads only: nobody can write the region through this tie, even where an engine makes the
    /// addresses writable behind our back. A store traps or kills.
    PAGETIE_READ_ONLY_TIE = 0,
    /// Loads and stores: both sides see each other's writes at once.
    PAGETIE_READ_WRITE_TIE = 1,
    /// Loads see the region; stores stay with this tie, page by page, and never fault.
    PAGETIE_COPY_ON_WRITE_TIE = 2,
}

/// What addresses allow now; never above the access of the tie under them, and never executable.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum pagetie_prot {
    /// Neither loads nor stores.
    PAGETIE_PROT_NONE = 0,
    /// Loads.
    PAGETIE_PROT_READ = 1,
    /// Loads and stores.
    PAGETIE_PROT_READ_WRITE = 2,
}

/// An access as it arrives from C: any number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAccess(pub(super) u32);

/// A protection as it arrives from C: any number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawProt(pub(super) u32);

impl RawAccess {
    pub(super) fn check(self, index: Option<usize>) -> Result<Access, Failure> {
        match self.0 {
            0 => Ok(Access::ReadOnly),
            1 => Ok(Access::ReadWrite),
            2 => Ok(Access::CopyOnWrite),
            other => Err(Failure::Invalid("access", i64::from(other as i32), index)),
        }
    }
}

impl From<Access> for RawAccess {
    fn from(access: Access) -> Self {
        Self(match access {
            Access::ReadOnly => pagetie_access::PAGETIE_READ_ONLY_TIE,
            Access::ReadWrite => pagetie_access::PAGETIE_READ_WRITE_TIE,
            Access::CopyOnWrite => pagetie_access::PAGETIE_COPY_ON_WRITE_TIE,
        } as u32)
    }
}

impl RawProt {
    pub(super) fn check(self) -> Result<Prot, Failure> {
        match self.0 {
            0 => Ok(Prot::None),
            1 => Ok(Prot::Read),
            2 => Ok(Prot::ReadWrite),
            other => Err(Failure::Invalid("prot", i64::from(other as i32), None)),
        }
    }
}

impl From<Prot> for RawProt {
    fn from(prot: Prot) -> Self {
        Self(match prot {
            Prot::None => pagetie_prot::PAGETIE_PROT_NONE,
            Prot::Read => pagetie_prot::PAGETIE_PROT_READ,
            Prot::ReadWrite => pagetie_prot::PAGETIE_PROT_READ_WRITE,
        } as u32)
    }
}

/// How a region is made. NULL, or zeros behind `size`, are the defaults. Set `size` with
/// PAGETIE_REGION_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pagetie_region_options {
    /// sizeof(pagetie_region_options), set by you.
    pub size: usize,
    /// Shown in /proc/self/maps; NULL: "pagetie". Copied.
    pub name: *const c_char,
    /// 0 never; 1 prefer; 2 require hugetlb pages.
    pub huge_pages: i32,
    /// At fork: 0 the child shares the pages as with any shared map; 1 it gets neither view nor ties.
    pub hide_from_fork: i32,
    /// With require: the size in bytes; 0: the system's default.
    pub huge_page_size: usize,
    /// How far pagetie_region_grow may go; 0: len. Takes addresses only.
    pub max_len: usize,
    /// 0 no; 1 take the memory, or read the file in, at once.
    pub prefault: i32,
    /// Regions of a file: 0 discard is refused; 1 it may punch holes on disk.
    pub allow_discard: i32,
    /// from_fd, open: 0 as the descriptor allows; 1 never write.
    pub read_only: i32,
    /// 0.
    pub reserved: i32,
}

/// How memory is borrowed. Set `size` with PAGETIE_SPACE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pagetie_space_options {
    /// sizeof(pagetie_space_options), set by you.
    pub size: usize,
    /// 1: memory in [heap] may be borrowed; you promise that it is not freed while tied.
    pub allow_heap: i32,
    /// 0.
    pub reserved: i32,
}

/// How a tie is made. Set `size` with PAGETIE_TIE_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pagetie_tie_options {
    /// sizeof(pagetie_tie_options), set by you.
    pub size: usize,
    /// 0 keep: untie brings back what was covered; 1 discard: untie leaves zero pages.
    pub covered: i32,
    /// 0 no; 1 populate, still following the region: from 512 KiB on with page tables that a view of the
    /// region lends, and has back when the tie ends; 2 copy-on-write only: copy everything now.
    pub prefault: i32,
    /// 1: other threads may write the covered range during the call, and lose nothing.
    pub concurrent: i32,
    /// 0.
    pub reserved: i32,
}

const _: () = assert!(size_of::<pagetie_region_options>() == 56);
const _: () = assert!(size_of::<pagetie_space_options>() == 16);
const _: () = assert!(size_of::<pagetie_tie_options>() == 24);

/// A struct that begins with its size, whose fields may all be zero, and which has no padding.
///
/// # Safety
/// `repr(C)`, the first field is `size: usize`, any bytes are a value of it, and `STARTS` are where the
/// fields begin, in order.
unsafe trait SizeFirst: Copy {
    const STARTS: &[usize];
}

// SAFETY: see the struct: its size first; then integers and a pointer.
unsafe impl SizeFirst for pagetie_region_options {
    const STARTS: &[usize] = &[
        offset_of!(Self, size),
        offset_of!(Self, name),
        offset_of!(Self, huge_pages),
        offset_of!(Self, hide_from_fork),
        offset_of!(Self, huge_page_size),
        offset_of!(Self, max_len),
        offset_of!(Self, prefault),
        offset_of!(Self, allow_discard),
        offset_of!(Self, read_only),
        offset_of!(Self, reserved),
    ];
}
// SAFETY: see the struct: its size first, then integers.
unsafe impl SizeFirst for pagetie_space_options {
    const STARTS: &[usize] =
        &[offset_of!(Self, size), offset_of!(Self, allow_heap), offset_of!(Self, reserved)];
}
// SAFETY: see the struct: its size first, then integers.
unsafe impl SizeFirst for pagetie_tie_options {
    const STARTS: &[usize] = &[
        offset_of!(Self, size),
        offset_of!(Self, covered),
        offset_of!(Self, prefault),
        offset_of!(Self, concurrent),
        offset_of!(Self, reserved),
    ];
}

/// No options struct of any version is longer: a `size` beyond it was never set.
const LONGEST: usize = 1024;

/// Copies an options struct in: fields that do not end within the caller's size are zero, and bytes past
/// ours must be.
///
/// # Safety
/// NULL, or a struct of as many readable bytes as its first field says.
unsafe fn read<T: SizeFirst>(options: *const T) -> Result<Option<T>, Failure> {
    if options.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise: it begins with its size.
    let size = unsafe { options.cast::<usize>().read_unaligned() };
    if !(size_of::<usize>()..=LONGEST).contains(&size) {
        return Err(Failure::Invalid("options->size", size as i64, None));
    }
    let bytes = options.cast::<u8>();
    for i in size_of::<T>()..size {
        // SAFETY: the caller's promise: `size` bytes are readable.
        if unsafe { bytes.add(i).read() } != 0 {
            let name = "options: a byte of a field unknown here";
            return Err(Failure::Invalid(name, i as i64, None));
        }
    }
    // Without padding a field ends where the next begins. Half a pointer is none.
    let ends = T::STARTS.iter().skip(1).chain([&size_of::<T>()]);
    let known = ends.copied().filter(|&end| end <= size).max().unwrap_or(0);
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable there and fit here.
    unsafe { bytes.copy_to_nonoverlapping(value.as_mut_ptr().cast::<u8>(), known) };
    // SAFETY: any bytes are a value of it, by `SizeFirst`.
    Ok(Some(unsafe { value.assume_init() }))
}

pub(super) fn flag(name: &'static str, value: i32) -> Result<bool, Failure> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Failure::Invalid(name, i64::from(other), None)),
    }
}

fn reserved(name: &'static str, value: i32) -> Result<(), Failure> {
    if value == 0 { Ok(()) } else { Err(Failure::Invalid(name, i64::from(value), None)) }
}

/// # Safety
/// NULL, or options as the header says, with a name that is NULL or NUL-terminated.
pub(super) unsafe fn region(
    options: *const pagetie_region_options,
) -> Result<RegionBuilder, Failure> {
    let builder = Region::builder();
    // SAFETY: the caller's promise.
    let Some(options) = (unsafe { read(options)? }) else { return Ok(builder) };
    reserved("options->reserved", options.reserved)?;
    let huge_pages = match options.huge_pages {
        0 => HugePages::Never,
        1 => HugePages::Prefer,
        2 => HugePages::Require(options.huge_page_size),
        other => return Err(Failure::Invalid("options->huge_pages", i64::from(other), None)),
    };
    let mut builder = builder
        .huge_pages(huge_pages)
        .max_len(options.max_len)
        .hide_from_fork(flag("options->hide_from_fork", options.hide_from_fork)?)
        .prefault(flag("options->prefault", options.prefault)?)
        .allow_discard(flag("options->allow_discard", options.allow_discard)?)
        .read_only(flag("options->read_only", options.read_only)?);
    if !options.name.is_null() {
        // SAFETY: the caller's promise: NUL-terminated.
        let name = unsafe { CStr::from_ptr(options.name) };
        builder = builder.name(&name.to_string_lossy());
    }
    Ok(builder)
}

/// # Safety
/// NULL, or options as the header says.
pub(super) unsafe fn heap_allowed(options: *const pagetie_space_options) -> Result<bool, Failure> {
    // SAFETY: the caller's promise.
    let Some(options) = (unsafe { read(options)? }) else { return Ok(false) };
    reserved("options->reserved", options.reserved)?;
    flag("options->allow_heap", options.allow_heap)
}

/// The options of a tie but for its access.
///
/// # Safety
/// NULL, or options as the header says.
pub(super) unsafe fn tie(
    options: *const pagetie_tie_options,
) -> Result<impl Fn(Access) -> TieOptions, Failure> {
    // SAFETY: the caller's promise.
    let options = unsafe { read(options)? };
    let (mut covered, mut prefault, mut concurrent) = (Covered::Keep, Prefault::No, false);
    if let Some(options) = options {
        reserved("options->reserved", options.reserved)?;
        covered = match flag("options->covered", options.covered)? {
            false => Covered::Keep,
            true => Covered::Discard,
        };
        prefault = match options.prefault {
            0 => Prefault::No,
            1 => Prefault::Populate,
            2 => Prefault::Copy,
            other => return Err(Failure::Invalid("options->prefault", i64::from(other), None)),
        };
        concurrent = flag("options->concurrent", options.concurrent)?;
    }
    Ok(move |access| {
        TieOptions::new(access).covered(covered).prefault(prefault).concurrent(concurrent)
    })
}
