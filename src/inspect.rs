//! `inspect`: what the kernel says is mapped in a range. Asked every time, never remembered.
//!
//! Inside the crate this is also the net under every change: what lies under a new tie ([`layout`]),
//! and whether a tie still shows what was left there ([`confirm`]).
//!
//! Source: proc(5); `PROCMAP_QUERY`, Linux 6.11; before, `/proc/self/maps` is read.

use crate::alias::Alias;
use crate::error::{Error, Op, Span, Why};
use crate::list::OneOrMore;
use crate::page::{Extent, Pages};
use crate::process::Process;
use crate::space::Shared;
use crate::sys::{Call, Maps, Protection, Vma};
use crate::{Prot, Space, page};
use std::ops::{ControlFlow, Range, RangeBounds};

/// One mapping of the kernel, cut to the range that was asked about.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub addr: Range<usize>,
    /// What they allow. Write-only memory counts as read-write: the hardware knows no other.
    pub prot: Prot,
    /// Whether code may be run from it. Never so for ties.
    pub executable: bool,
    /// Whether stores go to the object behind it (`MAP_SHARED`).
    pub shared: bool,
    /// The byte of the object that `addr.start` shows; 0 for anonymous memory.
    pub offset: u64,
    /// The object's inode number; 0 for anonymous memory.
    pub inode: u64,
}

impl Space {
    /// Asks the kernel what is mapped in the range, in the order of addresses. Addresses of which
    /// nothing is returned have nothing mapped.
    ///
    /// # Units
    /// Bytes of the space. The range need not be aligned: every page that it meets is answered for.
    ///
    /// # Errors
    /// - [`ErrorKind::Empty`](crate::ErrorKind::Empty), [`OutOfRange`](crate::ErrorKind::OutOfRange),
    ///   [`Ended`](crate::ErrorKind::Ended).
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): without /proc.
    ///
    /// # Threads
    /// Each mapping is read whole; several are not one snapshot.
    ///
    /// # Source
    /// `PROCMAP_QUERY`, Linux 6.11; `/proc/self/maps` before.
    #[doc(alias = "PROCMAP_QUERY")]
    pub fn inspect(&self, range: impl RangeBounds<usize>) -> Result<Vec<Mapping>, Error> {
        self.shared().inspect(Extent::of(&range, self.len()))
    }
}

impl Shared {
    pub(crate) fn inspect(&self, extent: Extent) -> Result<Vec<Mapping>, Error> {
        let (asked, addresses) = self.any_bytes(Op::Inspect, extent)?;
        let _state = self.lock(Op::Inspect)?;
        let maps = self.maps(Op::Inspect)?;
        let start = page::round_down(addresses.start, page::size());
        let end = page::round_up(addresses.end, page::size()).unwrap_or(usize::MAX);
        let mut mappings = Vec::new();
        maps.visit(start, end, |vma| {
            let vma = clip(vma, start, end);
            mappings.push(Mapping {
                addr: vma.start..vma.end,
                prot: prot_of(vma.protection),
                executable: vma.protection.executable(),
                shared: vma.shared,
                offset: vma.offset,
                inode: vma.inode,
            });
            ControlFlow::Continue(())
        })
        .map_err(|errno| Error::os(Op::Inspect, Call::ProcMaps, errno, asked))?;
        Ok(mappings)
    }
}

const fn prot_of(protection: Protection) -> Prot {
    match (protection.readable(), protection.writable()) {
        (_, true) => Prot::ReadWrite,
        (true, false) => Prot::Read,
        (false, false) => Prot::None,
    }
}

/// The part of a mapping between two addresses, with the offset to match.
fn clip(vma: &Vma, start: usize, end: usize) -> Vma {
    let skipped = start.saturating_sub(vma.start);
    let offset = if vma.inode == 0 { vma.offset } else { vma.offset + skipped as u64 };
    Vma { start: vma.start.max(start), end: vma.end.min(end), offset, ..*vma }
}

/// The mappings of a range, cut to it, without a hole between them.
pub(crate) type Layout = OneOrMore<Vma>;

/// Why there is no [`Layout`].
#[derive(Debug)]
pub(crate) enum NoLayout {
    Hole(Pages),
    Os(crate::sys::Errno),
}

/// Asks what lies in a range that must not have a hole.
pub(crate) fn layout(maps: &Maps, pages: Pages) -> Result<Layout, NoLayout> {
    let mut found: Option<Layout> = None;
    let mut next = pages.start();
    maps.visit(pages.start(), pages.end(), |vma| {
        if vma.start > next {
            return ControlFlow::Break(());
        }
        let vma = clip(vma, pages.start(), pages.end());
        next = vma.end;
        match &mut found {
            None => found = Some(OneOrMore::one(vma)),
            Some(found) => found.push(vma),
        }
        if next == pages.end() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(NoLayout::Os)?;
    match (found, Pages::known(next, pages.end())) {
        (Some(found), None) => Ok(found),
        (_, rest) => {
            let rest = rest.unwrap_or(pages);
            Err(NoLayout::Hole(hole(maps, rest)))
        }
    }
}

/// The part of a layout that lies in `pages`.
pub(crate) fn part(layout: &Layout, pages: Pages) -> Option<Layout> {
    let within = |vma: &&Vma| vma.start < pages.end() && pages.start() < vma.end;
    let clipped = layout.iter().filter(within).map(|vma| clip(vma, pages.start(), pages.end()));
    OneOrMore::collect(clipped)
}

/// Whether nothing is mapped somewhere in a range, as far as the kernel can be asked.
pub(crate) fn has_hole(process: &Process, pages: Pages) -> bool {
    process.maps().is_some_and(|maps| matches!(layout(maps, pages), Err(NoLayout::Hole(_))))
}

/// The addresses from the start of `pages` on at which nothing is mapped.
fn hole(maps: &Maps, pages: Pages) -> Pages {
    let mut end = pages.end();
    let _ = maps.visit(pages.start(), pages.end(), |vma| {
        end = vma.start;
        ControlFlow::Break(())
    });
    Pages::known(pages.start(), end).unwrap_or(pages)
}

/// Refuses what must never be covered or re-protected: code, and huge pages that are not ours.
pub(crate) fn refuse_special(
    layout: &Layout,
    ours: impl Fn(&Vma) -> bool,
) -> Result<(), (Span, Why)> {
    for vma in layout.iter() {
        let found = Span { start: vma.start, end: vma.end };
        if vma.protection.executable() {
            return Err((found, Why::Executable));
        }
        if vma.page_size.is_some_and(|size| size != page::size()) && !ours(vma) {
            return Err((found, Why::HugePages));
        }
    }
    Ok(())
}

/// What became of a tie.
#[derive(Debug)]
pub(crate) enum Confirmed {
    /// It shows what was left there, with these protections.
    Same(OneOrMore<(Pages, Protection)>),
    /// It does not. Whether some page of it still does.
    Changed { some_left: bool },
}

impl Confirmed {
    pub const fn is_same(&self) -> bool {
        matches!(self, Confirmed::Same(_))
    }
}

/// Asks whether `pages` still show what a tie left there: the object, each offset, and whether the
/// mapping is shared.
pub(crate) fn confirm(
    maps: &Maps,
    pages: Pages,
    alias: &Alias,
    laid_at: usize,
) -> Result<Confirmed, crate::sys::Errno> {
    let mut protections: Option<OneOrMore<(Pages, Protection)>> = None;
    let mut next = pages.start();
    let mut same = true;
    maps.visit(pages.start(), pages.end(), |vma| {
        let vma = clip(vma, pages.start(), pages.end());
        if !alias.is_shown_by(&vma, laid_at) {
            same = false;
            return ControlFlow::Continue(());
        }
        same &= vma.start == next;
        next = vma.end;
        if let Some(part) = Pages::known(vma.start, vma.end) {
            match &mut protections {
                None => protections = Some(OneOrMore::one((part, vma.protection))),
                Some(protections) => protections.push((part, vma.protection)),
            }
        }
        if same && next == pages.end() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(match protections {
        Some(protections) if same && next == pages.end() => Confirmed::Same(protections),
        some => Confirmed::Changed { some_left: some.is_some() },
    })
}
