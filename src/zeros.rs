//! [`Zeros`]: pages of zeros that merge with the memory around them.
//!
//! Where a tie threw away what it covered, its end lays fresh pages. If their mapping differs from the
//! engine's in any flag, it stays a mapping of its own, and each such tie would cost two for good. The
//! one flag that cannot be asked for is `MAP_NORESERVE`: both ways are tried and the kernel is asked
//! which one merged, once a space. That is done while the first such tie is made, whose pages are thrown
//! away anyhow, and never at its end, when other threads may write there again. Where neither merges
//! (named or advised memory), the covered mapping itself is kept, emptied.
//!
//! Source: mmap(2) `MAP_NORESERVE`; `vma_merge` in the kernel's mm/vma.c.

#![allow(unsafe_code, reason = "maps over addresses that its callers own or were lent")]

use crate::page::{self, Pages};
use crate::process::Process;
use crate::sys::{self, Errno, Protection, Vma};
use std::ops::{ControlFlow, Range};

/// How fresh pages are mapped in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// No pages had a neighbour to merge with yet: `MAP_NORESERVE` is as good as any.
    Untried,
    NoReserve,
    Reserve,
    /// Neither merges.
    Neither,
}

impl Zeros {
    /// Whether throwing these pages away takes keeping their mapping.
    pub fn need_the_mapping(self, vma: &Vma) -> bool {
        self == Zeros::Neither && !vma.shared && vma.inode == 0
    }

    /// Lays pages of zeros over `home`.
    ///
    /// # Safety
    /// The caller owns `home` or was lent it to be mapped over, and no reference into it lives.
    pub unsafe fn lay(self, home: Pages, protection: Protection) -> Result<(), Errno> {
        let reserve = self == Zeros::Reserve;
        // SAFETY: the caller's promise is that of this function.
        unsafe { sys::map_zeros_over(home.start(), home.len(), protection, reserve) }
    }

    /// Finds out which pages merge with the memory around `home`, by laying them there.
    ///
    /// # Safety
    /// As [`Zeros::lay`]; the bytes at `home` are nobody's.
    pub unsafe fn learn(
        &mut self,
        process: &Process,
        space: &Range<usize>,
        home: Pages,
        protection: Protection,
    ) -> Result<(), Errno> {
        for tried in [Zeros::NoReserve, Zeros::Reserve] {
            // SAFETY: the caller's promise is that of this function.
            process.ballast().sparing(|| unsafe { tried.lay(home, protection) })?;
            match Merged::ask(process, space, home, protection) {
                Merged::Yes => {
                    *self = tried;
                    return Ok(());
                }
                Merged::NothingToMergeWith => return Ok(()),
                Merged::No => {}
            }
        }
        *self = Zeros::Neither;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merged {
    Yes,
    No,
    NothingToMergeWith,
}

impl Merged {
    fn ask(process: &Process, space: &Range<usize>, home: Pages, protection: Protection) -> Self {
        let mut answer = Merged::NothingToMergeWith;
        let Some(maps) = process.maps() else {
            return answer;
        };
        let start = home.start().saturating_sub(page::size()).max(space.start);
        let end = home.end().saturating_add(page::size()).min(space.end);
        let _ = maps.visit(start, end, |vma| {
            let beside = vma.end <= home.start() || home.end() <= vma.start;
            if beside {
                if vma.inode == 0 && !vma.shared && vma.protection == protection {
                    answer = Merged::No;
                }
            } else if vma.start.max(start) < home.start() || home.end() < vma.end.min(end) {
                answer = Merged::Yes;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        answer
    }
}
