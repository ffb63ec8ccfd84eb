//! [`Error`]: what was refused or failed, with the numbers.
//!
//! An error is a few words of plain data: it allocates nothing, since it may have to report that
//! there is no memory. Its text is written only when somebody asks for it.

use crate::sys::{Call, Errno};
use crate::{Parked, Tie};
use std::fmt;
use std::ops::Range;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An address, offset or length is not a multiple of the page size. Never rounded: see
    /// [`Error::nearest`].
    Misaligned,
    /// The range ends past the space or the region, or past what a `usize` holds.
    OutOfRange,
    /// The range meets a live tie or loan, a region's own host view, or the memory of another live space.
    /// See [`Error::other_range`].
    Overlap,
    /// Nothing is mapped at some of the addresses.
    NotMapped,
    /// The kernel no longer shows what was left there. Nothing was touched, and trying again cannot
    /// help.
    Changed,
    /// Not plain data memory: executable, a stack, the heap, huge pages, sealed.
    RefusedMemory,
    /// A write was asked of something read-only.
    ReadOnly,
    /// The process has as many mappings as `vm.max_map_count` allows.
    Limit,
    /// The kernel has no memory for it.
    NoMemory,
    /// This kernel, or this kind of region, cannot do it.
    Unsupported,
    /// Another failure of the operating system: see [`Error::raw_os_error`].
    Os,
    /// A range or length of zero bytes.
    Empty,
    /// The tie, or its space, was ended before; or this is a forked child of the process that made
    /// it.
    Ended,
}

/// A refusal or a failure, with the numbers that explain it.
///
/// Unless an item's documentation says otherwise, a call that returned an error has changed nothing.
///
/// ```
/// use pagetie::{ErrorKind, Region, page};
/// let error = Region::new(page::size() + 1).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Misaligned);
/// assert_eq!(error.nearest(), Some((page::size(), 2 * page::size())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    op: Op,
    index: Option<u32>,
    detail: Detail,
}

/// A half-open range that is `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// Of an error that is not about a range.
    pub const NONE: Self = Self { start: 0, end: 0 };
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start, self.end)
    }
}

/// The verb that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Region,
    Grow,
    Prefetch,
    Collapse,
    RegionDiscard,
    Read,
    Write,
    View,
    Reserve,
    Borrow,
    GrownTo,
    Lend,
    GiveBack,
    Adopt,
    Tie,
    Retie,
    Untie,
    UntieAll,
    Park,
    Resume,
    Window,
    Show,
    Prepare,
    Protect,
    Discard,
    DiscardMany,
    Inspect,
}

impl Op {
    const fn name(self) -> &'static str {
        match self {
            Op::Region => "region",
            Op::Grow => "grow",
            Op::Prefetch => "prefetch",
            Op::Collapse => "collapse",
            Op::RegionDiscard => "discard of the region",
            Op::Read => "read",
            Op::Write => "write",
            Op::View => "view",
            Op::Reserve => "reserve",
            Op::Borrow => "borrow",
            Op::GrownTo => "grown_to",
            Op::Lend => "lend",
            Op::GiveBack => "give_back",
            Op::Adopt => "adopt",
            Op::Tie => "tie",
            Op::Retie => "retie",
            Op::Untie => "untie",
            Op::UntieAll => "untie_all",
            Op::Park => "park",
            Op::Resume => "resume",
            Op::Window => "window",
            Op::Show => "show",
            Op::Prepare => "prepare",
            Op::Protect => "protect",
            Op::Discard => "discard",
            Op::DiscardMany => "discard_many",
            Op::Inspect => "inspect",
        }
    }
}

/// What a number or range is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    At,
    Offset,
    /// A byte of the region, counted from the start of a window.
    Shown,
    Word,
    Len,
    MaxLen,
    Addr,
    HugePage,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Subject::At => "at",
            Subject::Offset | Subject::Word => "offset",
            Subject::Shown => "counted from its first page,",
            Subject::Len => "len",
            Subject::MaxLen => "max_len",
            Subject::Addr => "addr",
            Subject::HugePage => "huge page size",
        }
    }

    /// The thing whose end a range of this subject may not pass.
    const fn owner(self) -> &'static str {
        match self {
            Subject::At => "the space",
            Subject::Offset | Subject::Word => "the region",
            Subject::Shown => "the window",
            Subject::Len | Subject::HugePage => "the range",
            Subject::MaxLen => "the region's max_len",
            Subject::Addr => "the address space",
        }
    }
}

/// What an overlapping range belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Tie,
    Loan,
    Item,
    HostView,
    Space,
}

/// Why memory was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Executable,
    Heap,
    Stack,
    HugePages,
    Special,
    Sealed,
    Watched,
    Shared,
    File,
    Inaccessible,
    NotWritable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    Misaligned { subject: Subject, value: usize, page: usize, rest: usize, len: usize },
    Empty { subject: Subject, start: usize },
    OutOfRange { subject: Subject, asked: Span, limit: usize },
    Shorter { asked: Span, len: usize },
    Overlap { asked: Span, other: Span, met: Met },
    NotMapped { asked: Span, hole: Span },
    Changed { asked: Span },
    Lost { asked: Span },
    Refused { asked: Span, found: Span, why: Why },
    ReadOnly { asked: Span },
    ReadOnlyTie { asked: Span, tie: Span },
    ReadOnlyLoan { asked: Span, loan: Span },
    Limit { count: usize, limit: usize, asked: Span },
    NoMemory { call: Call, errno: Errno, asked: Span },
    Unsupported { why: &'static str, errno: Option<Errno> },
    Os { call: Call, errno: Errno, asked: Span },
    Ended { forked: bool },
}

impl Error {
    const fn of(op: Op, detail: Detail) -> Self {
        Self { op, index: None, detail }
    }

    /// `value` lies `rest` bytes past a valid one; `len` is that of the range that begins with it, or 0
    /// where it is not the start of one.
    pub(crate) const fn misaligned(
        op: Op,
        subject: Subject,
        value: usize,
        page: usize,
        rest: usize,
        len: usize,
    ) -> Self {
        Self::of(op, Detail::Misaligned { subject, value, page, rest, len })
    }

    pub(crate) const fn empty(op: Op, subject: Subject, start: usize) -> Self {
        Self::of(op, Detail::Empty { subject, start })
    }

    pub(crate) const fn shorter(op: Op, asked: usize, len: usize) -> Self {
        Self::of(op, Detail::Shorter { asked: Span { start: 0, end: asked }, len })
    }

    pub(crate) const fn out_of_range(op: Op, subject: Subject, asked: Span, limit: usize) -> Self {
        Self::of(op, Detail::OutOfRange { subject, asked, limit })
    }

    pub(crate) const fn overlap(op: Op, asked: Span, other: Span, met: Met) -> Self {
        Self::of(op, Detail::Overlap { asked, other, met })
    }

    pub(crate) const fn not_mapped(op: Op, asked: Span, hole: Span) -> Self {
        Self::of(op, Detail::NotMapped { asked, hole })
    }

    /// Lent pages that somebody else replaced: what was there is gone.
    pub(crate) const fn lost(op: Op, asked: Span) -> Self {
        Self::of(op, Detail::Lost { asked })
    }

    pub(crate) const fn changed(op: Op, asked: Span) -> Self {
        Self::of(op, Detail::Changed { asked })
    }

    pub(crate) const fn refused(op: Op, asked: Span, found: Span, why: Why) -> Self {
        Self::of(op, Detail::Refused { asked, found, why })
    }

    pub(crate) const fn read_only(op: Op, asked: Span) -> Self {
        Self::of(op, Detail::ReadOnly { asked })
    }

    pub(crate) const fn read_only_tie(op: Op, asked: Span, tie: Span) -> Self {
        Self::of(op, Detail::ReadOnlyTie { asked, tie })
    }

    pub(crate) const fn read_only_loan(op: Op, asked: Span, loan: Span) -> Self {
        Self::of(op, Detail::ReadOnlyLoan { asked, loan })
    }

    pub(crate) const fn limit(op: Op, asked: Span, count: usize, limit: usize) -> Self {
        Self::of(op, Detail::Limit { count, limit, asked })
    }

    pub(crate) const fn unsupported(op: Op, why: &'static str, errno: Option<Errno>) -> Self {
        Self::of(op, Detail::Unsupported { why, errno })
    }

    pub(crate) const fn ended(op: Op, forked: bool) -> Self {
        Self::of(op, Detail::Ended { forked })
    }

    /// A failed system call; `ENOMEM` is [`ErrorKind::NoMemory`].
    pub(crate) fn os(op: Op, call: Call, errno: Errno, asked: Span) -> Self {
        if errno == Errno::NOMEM {
            Self::of(op, Detail::NoMemory { call, errno, asked })
        } else {
            Self::of(op, Detail::Os { call, errno, asked })
        }
    }

    /// The same error, of item `index` of a list.
    pub(crate) fn at_index(self, index: usize) -> Self {
        Self { index: u32::try_from(index).ok(), ..self }
    }

    /// The same error, of an item of a list where it is about one.
    pub(crate) fn of_item(self, index: Option<usize>) -> Self {
        index.map_or(self, |index| self.at_index(index))
    }

    /// What kind of thing went wrong.
    pub const fn kind(&self) -> ErrorKind {
        match self.detail {
            Detail::Misaligned { .. } => ErrorKind::Misaligned,
            Detail::Empty { .. } => ErrorKind::Empty,
            Detail::OutOfRange { .. } | Detail::Shorter { .. } => ErrorKind::OutOfRange,
            Detail::Overlap { .. } => ErrorKind::Overlap,
            Detail::NotMapped { .. } => ErrorKind::NotMapped,
            Detail::Changed { .. } | Detail::Lost { .. } => ErrorKind::Changed,
            Detail::Refused { .. } => ErrorKind::RefusedMemory,
            Detail::ReadOnly { .. } | Detail::ReadOnlyTie { .. } | Detail::ReadOnlyLoan { .. } => {
                ErrorKind::ReadOnly
            }
            Detail::Limit { .. } => ErrorKind::Limit,
            Detail::NoMemory { .. } => ErrorKind::NoMemory,
            Detail::Unsupported { .. } => ErrorKind::Unsupported,
            Detail::Os { .. } => ErrorKind::Os,
            Detail::Ended { .. } => ErrorKind::Ended,
        }
    }

    /// The `errno` of the system call that failed, where one did.
    pub const fn raw_os_error(&self) -> Option<i32> {
        match self.detail {
            Detail::NoMemory { errno, .. } | Detail::Os { errno, .. } => Some(errno.raw()),
            Detail::Unsupported { errno: Some(errno), .. } => Some(errno.raw()),
            _ => None,
        }
    }

    /// The range that is at fault: bytes of the space (`at`), bytes of the region where its range is the
    /// wrong one (`offset`), addresses for [`Space::borrow`](crate::Space::borrow), host views, and memory
    /// that is lent or adopted. `None` where the error is not about a range.
    pub const fn range(&self) -> Option<Range<usize>> {
        match self.detail {
            Detail::Os { asked: Span::NONE, .. } => None,
            Detail::OutOfRange { asked, .. }
            | Detail::Shorter { asked, .. }
            | Detail::Overlap { asked, .. }
            | Detail::NotMapped { asked, .. }
            | Detail::Changed { asked }
            | Detail::Lost { asked }
            | Detail::Refused { asked, .. }
            | Detail::ReadOnly { asked }
            | Detail::ReadOnlyTie { asked, .. }
            | Detail::ReadOnlyLoan { asked, .. }
            | Detail::Limit { asked, .. }
            | Detail::NoMemory { asked, .. }
            | Detail::Os { asked, .. } => Some(asked.start..asked.end),
            Detail::Misaligned { value, len, .. } if len > 0 => {
                Some(value..value.saturating_add(len))
            }
            Detail::Empty { start, .. } => Some(start..start),
            Detail::Misaligned { .. } | Detail::Unsupported { .. } | Detail::Ended { .. } => None,
        }
    }

    /// The range it met, counted like [`Error::range`]: the live tie or loan of an overlap, the read-only
    /// tie or loan, the hole of
    /// [`ErrorKind::NotMapped`], the mapping of [`ErrorKind::RefusedMemory`].
    pub const fn other_range(&self) -> Option<Range<usize>> {
        match self.detail {
            Detail::Overlap { other, .. }
            | Detail::ReadOnlyTie { tie: other, .. }
            | Detail::ReadOnlyLoan { loan: other, .. } => Some(other.start..other.end),
            Detail::NotMapped { hole, .. } => Some(hole.start..hole.end),
            Detail::Refused { found, .. } => Some(found.start..found.end),
            _ => None,
        }
    }

    /// [`ErrorKind::Misaligned`]: the nearest valid values below and above. Where there is none on
    /// one side, both are the other.
    pub const fn nearest(&self) -> Option<(usize, usize)> {
        match self.detail {
            Detail::Misaligned { value, page, rest, .. } => {
                let above = value.checked_add(page - rest);
                Some(match (value.checked_sub(rest), above) {
                    (Some(below), Some(above)) => (below, above),
                    (Some(only), None) | (None, Some(only)) => (only, only),
                    (None, None) => (value, value),
                })
            }
            _ => None,
        }
    }

    /// Which item of a list was refused ([`Space::tie_all`](crate::Space::tie_all)).
    pub fn index(&self) -> Option<usize> {
        self.index.map(|index| index as usize)
    }
}

/// An error's numbers, as `pagetie_error` has them; 0 where there is none.
#[cfg(feature = "capi")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub value: usize,
    pub value_end: usize,
    pub other: usize,
    pub other_end: usize,
}

#[cfg(feature = "capi")]
impl Error {
    /// The numbers for C: `[value, value_end)` is what was asked, `[other, other_end)` what it met; of a
    /// misaligned value the value and the page size, of the mapping limit the count and the limit.
    pub(crate) fn numbers(&self) -> Numbers {
        match self.detail {
            Detail::Misaligned { value, page, .. } => {
                let value_end = self.range().map_or(0, |range| range.end);
                Numbers { value, value_end, other: page, other_end: 0 }
            }
            Detail::Limit { count, limit, .. } => {
                Numbers { value: count, other: limit, ..Numbers::default() }
            }
            Detail::OutOfRange { asked, limit, .. } => {
                Numbers { value: asked.start, value_end: asked.end, other: 0, other_end: limit }
            }
            Detail::Shorter { asked, len } => {
                Numbers { value: asked.start, value_end: asked.end, other: 0, other_end: len }
            }
            _ => {
                let (asked, other) =
                    (self.range().unwrap_or(0..0), self.other_range().unwrap_or(0..0));
                Numbers {
                    value: asked.start,
                    value_end: asked.end,
                    other: other.start,
                    other_end: other.end,
                }
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.op.name())?;
        if let Some(index) = self.index {
            write!(f, "item {index}: ")?;
        }
        match self.detail {
            Detail::Misaligned { subject, value, page, rest, .. } => {
                write!(f, "{} {value:#x} ", subject.name())?;
                if subject == Subject::Word {
                    write!(f, "is not a multiple of {page:#x}, the size of the atomic")?;
                } else if subject == Subject::HugePage {
                    f.write_str("is not a power of two")?;
                } else if rest == value & (page - 1) {
                    write!(f, "is not a multiple of the page size {page:#x}")?;
                } else {
                    write!(f, "is not on a page of {page:#x} bytes: the space starts inside one")?;
                }
                match self.nearest() {
                    Some((below, above)) if below != above => {
                        write!(f, "; nearest: {below:#x} and {above:#x}")
                    }
                    Some((only, _)) => write!(f, "; nearest: {only:#x}"),
                    None => Ok(()),
                }
            }
            Detail::Empty { subject: Subject::Len, .. } => f.write_str("len is 0"),
            Detail::Empty { subject, start } => {
                write!(f, "the range at {} {start:#x} is empty", subject.name())
            }
            Detail::Shorter { asked, len } => {
                write!(f, "{:#x} bytes are less than the {len:#x} that there are", asked.end)
            }
            Detail::OutOfRange { subject, asked, limit } => {
                let owner = subject.owner();
                write!(
                    f,
                    "{} {asked} does not end within {owner} of {limit:#x} bytes",
                    subject.name()
                )
            }
            Detail::Overlap { asked, other, met } => match met {
                Met::Tie => write!(f, "{asked} meets the live tie {other}; untie that one first"),
                Met::Loan => write!(f, "{asked} meets the loan {other}; give that one back first"),
                Met::Item => write!(f, "{asked} meets {other}, another item of the same list"),
                Met::HostView => write!(f, "{asked} meets {other}, the region's own host view"),
                Met::Space => write!(f, "{asked} meets {other}, the memory of another live space"),
            },
            Detail::NotMapped { asked, hole } => {
                write!(f, "nothing is mapped at {hole}, inside {asked}")
            }
            Detail::Changed { asked } => {
                write!(f, "{asked} no longer shows what was left there; nothing was touched")
            }
            Detail::Lost { asked } => {
                write!(f, "the pages lent to {asked} are gone: somebody else replaced them there")
            }
            Detail::Refused { asked, found, why } => {
                let what = match why {
                    Why::Executable => "is executable",
                    Why::Heap => "is the brk heap ([heap]); borrow_heap allows it",
                    Why::Stack => "is a stack",
                    Why::HugePages => "is of huge pages (hugetlb)",
                    Why::Special => "is a special mapping of the kernel",
                    Why::Sealed => "is sealed (mseal)",
                    Why::Watched => "is registered with a userfaultfd, which a tie would end",
                    Why::Shared => "is shared memory",
                    Why::File => "is a map of a file",
                    Why::Inaccessible => "is inaccessible",
                    Why::NotWritable => "cannot be read and written",
                };
                write!(f, "{found}, inside {asked}, {what}")
            }
            Detail::ReadOnly { asked } => {
                write!(f, "the region is read-only, and {asked} would be written or writable")
            }
            Detail::ReadOnlyTie { asked, tie } => {
                write!(f, "{asked} meets {tie}, a read-only tie, which stays read-only")
            }
            Detail::ReadOnlyLoan { asked, loan } => {
                write!(f, "{asked} meets {loan}, lent pages that are read-only at home")
            }
            Detail::Limit { count, limit, asked } => write!(
                f,
                "no mapping is left for {asked}: {count} of vm.max_map_count = {limit} are in use; \
                 untie some, or raise the limit"
            ),
            Detail::NoMemory { call, errno, asked } | Detail::Os { call, errno, asked } => {
                f.write_str(call.name())?;
                match asked {
                    Span::NONE => write!(f, ": {errno}"),
                    asked => write!(f, " of {asked}: {errno}"),
                }
            }
            Detail::Unsupported { why, errno } => {
                f.write_str(why)?;
                match errno {
                    Some(errno) => write!(f, ": {errno}"),
                    None => Ok(()),
                }
            }
            Detail::Ended { forked: false } => f.write_str("it has ended before"),
            Detail::Ended { forked: true } => {
                f.write_str("it belongs to the parent process and has ended in this forked child")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match (error.kind(), error.raw_os_error()) {
            (ErrorKind::Os, Some(errno)) => std::io::Error::from_raw_os_error(errno).kind(),
            (ErrorKind::Misaligned | ErrorKind::OutOfRange | ErrorKind::Empty, _) => {
                Io::InvalidInput
            }
            (ErrorKind::ReadOnly | ErrorKind::RefusedMemory, _) => Io::PermissionDenied,
            (ErrorKind::Limit | ErrorKind::NoMemory, _) => Io::OutOfMemory,
            (ErrorKind::Unsupported, _) => Io::Unsupported,
            _ => Io::Other,
        };
        std::io::Error::new(kind, error)
    }
}

/// What [`Tie::untie`] and [`Tie::park`] give back when they cannot: the error, and the tie.
///
/// The tie is as live as before, and untying it may be tried again, unless the error is
/// [`ErrorKind::Changed`]: then it has ended, and `tie` can only be dropped.
///
/// Converts into [`Error`] and [`std::io::Error`], so `?` works; the tie is dropped then, which tries
/// once more.
#[derive(Debug)]
pub struct UntieError {
    /// Why.
    pub error: Error,
    /// The tie that is still there.
    pub tie: Tie,
}

impl fmt::Display for UntieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for UntieError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<UntieError> for Error {
    fn from(failed: UntieError) -> Self {
        failed.error
    }
}

impl From<UntieError> for std::io::Error {
    fn from(failed: UntieError) -> Self {
        failed.error.into()
    }
}

/// What [`Parked::resume`] gives back when it cannot: the error, and the alias, as warm as before.
#[derive(Debug)]
pub struct ResumeError {
    /// Why.
    pub error: Error,
    /// The alias that is still parked.
    pub parked: Parked,
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ResumeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<ResumeError> for Error {
    fn from(failed: ResumeError) -> Self {
        failed.error
    }
}

impl From<ResumeError> for std::io::Error {
    fn from(failed: ResumeError) -> Self {
        failed.error.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_and_name_the_numbers() {
        assert!(size_of::<Error>() <= 64, "{} bytes", size_of::<Error>());
        let span = |start, end| Span { start, end };
        let cases = [
            (
                Error::misaligned(Op::Tie, Subject::Offset, 0x1800, 0x1000, 0x800, 0),
                "tie: offset 0x1800 is not a multiple of the page size 0x1000; nearest: 0x1000 and 0x2000",
            ),
            (
                Error::misaligned(Op::Tie, Subject::At, 0, 0x1000, 0x10, 0),
                "tie: at 0x0 is not on a page of 0x1000 bytes: the space starts inside one; nearest: 0xff0",
            ),
            (
                Error::overlap(Op::Tie, span(0, 0x2000), span(0x1000, 0x3000), Met::Tie)
                    .at_index(3),
                "tie: item 3: [0x0, 0x2000) meets the live tie [0x1000, 0x3000); untie that one first",
            ),
            (
                Error::os(Op::Tie, Call::Mmap, Errno::NOMEM, span(0x1000, 0x2000)),
                "tie: mmap of [0x1000, 0x2000): Cannot allocate memory (os error 12)",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn io_errors_keep_the_text() {
        let error = Error::ended(Op::Retie, false);
        assert_eq!(std::io::Error::from(error).to_string(), error.to_string());
    }
}
