//! Comparing: what pagetie, the kernel and the bytes say, and what the oracle says.
//!
//! After each step the kernel's account (`Space::inspect`), the list of ties, the handles and the
//! bytes at every readable address must be the oracle's. A page is read only after its mapping was
//! found to be the expected one, so that a wrong mapping is a message and not a fault. Where a space
//! is gone, /proc is read instead.

use super::make::{Backing, Origin, Pages};
use super::oracle::{Content, Object, ObjectId, Refusal, RegionId, SLOTS, Source, slot_offset};
use super::world::{Differs, Handle, World};
use crate::common;
use pagetie::{ErrorKind, Mapping, Prot, Region, Space};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::OnceLock;

/// What the kernel says of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    prot: Prot,
    shared: bool,
    inode: u64,
    offset: u64,
}

/// The word at an address that is known to be readable.
pub fn peek(addr: usize) -> u64 {
    // SAFETY: the kernel was asked a moment ago: the page is mapped, readable, and this case's own.
    // It has other addresses, hence volatile.
    unsafe { ptr::with_exposed_provenance::<u64>(addr).read_volatile() }
}

/// The bytes from `start` on, as the kernel copies them.
fn copy_out(start: usize, into: &mut [u8]) {
    static MEMORY: OnceLock<File> = OnceLock::new();
    let memory = MEMORY.get_or_init(|| File::open("/proc/self/mem").expect("/proc/self/mem"));
    memory.read_exact_at(into, start as u64).expect("memory that is mapped");
}

impl World<'_> {
    /// Every byte of the borrowed memory, inaccessible ones too, and of the objects under it.
    pub fn check_bytes_left(&mut self) -> Result<(), Differs> {
        for s in 0..self.places.len() {
            if self.places[s].memory.is_some() {
                self.owner_protect(s, 0..self.oracle.spaces[s].pages.len(), Prot::Read);
                self.check_memory(s)?;
                self.check_words(s, true)?;
            }
        }
        let host = self.host.all.start;
        for (number, page) in self.oracle.host.iter().enumerate() {
            let start = host + number * self.unit;
            common::mprotect(start..start + self.unit, libc::PROT_READ);
            let bytes = common::read(start..start + self.unit);
            compare_bytes(&self.oracle.shown(page), self.unit, &bytes)
                .map_err(|differs| format!("the host's page {number}: {differs}"))?;
        }
        // Regions of them are gone: the bytes stay.
        for (memory, object) in &self.adopted {
            let pages = &self.oracle.objects[*object].pages;
            let bytes = common::read(memory.all.clone());
            for (number, (content, found)) in pages.iter().zip(bytes.chunks(self.unit)).enumerate()
            {
                compare_bytes(content, self.unit, found)
                    .map_err(|differs| format!("adopted page {number}: {differs}"))?;
            }
        }
        for Backing { file, object } in &self.backings {
            self.check_file(file, *object)?;
        }
        for Pages { origin, .. } in &self.regions {
            if let Origin::File { path, object, .. } = origin {
                self.check_file(&File::open(path).expect("open a file"), *object)?;
            }
        }
        Ok(())
    }

    fn check_file(&self, file: &File, object: ObjectId) -> Result<(), Differs> {
        let Object { pages, len, .. } = &self.oracle.objects[object];
        let mut bytes = vec![0; *len];
        file.read_exact_at(&mut bytes, 0).expect("read a file");
        for (number, (content, found)) in pages.iter().zip(bytes.chunks(self.unit)).enumerate() {
            compare_bytes(content, self.unit, found)
                .map_err(|differs| format!("object {object} page {number}: {differs}"))?;
        }
        Ok(())
    }

    /// Compares everything with the oracle: the bytes in slots, and in turn every byte of one space
    /// and of one region.
    pub fn check(&self) -> Result<(), Differs> {
        // Huge pages have many bytes.
        let now = self.unit == common::page() || self.step % 16 == 0;
        self.check_all(|one, count| self.eager && now && self.step as usize % count == one)
    }

    /// Compares everything, with every byte.
    pub fn check_every_byte(&self) -> Result<(), Differs> {
        self.check_all(|_, _| true)
    }

    fn check_all(&self, wholly: impl Fn(usize, usize) -> bool) -> Result<(), Differs> {
        for s in 0..self.places.len() {
            let named = |differs| format!("space {s}: {differs}");
            let Some(space) = &self.places[s].space else { continue };
            self.check_ties(s, space).map_err(named)?;
            let mappings = space.inspect(..).map_err(|error| named(format!("inspect: {error}")))?;
            self.check_mappings(s, &self.spread_out(s, &mappings)).map_err(named)?;
            self.check_words(s, wholly(s, self.places.len())).map_err(named)?;
        }
        for (r, Pages { id, region, .. }) in self.regions.iter().enumerate() {
            if let Some(region) = region {
                self.check_region(*id, region, wholly(r, self.regions.len()))
                    .map_err(|differs| format!("region {r}: {differs}"))?;
            }
        }
        self.check_host().map_err(|differs| format!("the host's memory: {differs}"))?;
        for (id, loan) in &self.loans {
            let live = self.oracle.loans.iter().find(|live| live.id == *id);
            if loan.is_live() != live.is_some() {
                return Err(format!("the handle {loan:?}: expected live: {}", live.is_some()));
            }
        }
        self.check_moves()?;
        self.handles.iter().try_for_each(|handle| self.check_handle(handle))
    }

    fn host_lines(&self) -> Vec<common::Line> {
        let start = self.host.all.start;
        common::maps_in(start..start + self.oracle.host.len() * self.unit)
    }

    /// The host's own memory: /proc has its mappings.
    fn check_host(&self) -> Result<(), Differs> {
        let start = self.host.all.start;
        // All of /proc is read for it.
        let now = self.step % 4 == 0;
        let lines = if now { self.host_lines() } else { Vec::new() };
        for (number, page) in self.oracle.host.iter().enumerate() {
            let addr = start + number * self.unit;
            let line = lines.iter().find(|line| line.range.start <= addr && addr < line.range.end);
            let perms = match page.prot {
                Prot::ReadWrite => "rw-p",
                Prot::Read => "r--p",
                _ => "---p",
            };
            if now && !line.is_some_and(|line| line.perms == perms && line.inode == 0) {
                return Err(format!("page {number} is {line:?}, expected {page:?}"));
            }
            let content = self.oracle.shown(page);
            if page.prot != Prot::None && (self.eager || !content.is_zero()) {
                compare_slots(&content, |slot| Ok(Some(peek(addr + slot_offset(self.unit, slot)))))
                    .map_err(|differs| format!("page {number} ({page:?}): {differs}"))?;
            }
        }
        Ok(())
    }

    fn check_ties(&self, s: usize, space: &Space) -> Result<(), Differs> {
        let model = &self.oracle.spaces[s];
        let mut expected: Vec<_> = model.ties.iter().collect();
        expected.sort_by_key(|tie| tie.at);
        let expected: Vec<_> = expected
            .iter()
            .map(|tie| {
                let len = tie.covered.len() * self.unit;
                (tie.at * self.unit, len, tie.offset * self.unit, tie.access, true)
            })
            .collect();
        let found = space.ties();
        let found: Vec<_> =
            found.iter().map(|tie| (tie.at, tie.len, tie.offset, tie.access, tie.held)).collect();
        if found != expected {
            return Err(format!(
                "ties (at, len, offset, access, held) are\n  {found:x?}, expected\n  {expected:x?}"
            ));
        }
        match space.len() == model.len * self.unit {
            true => Ok(()),
            false => Err(format!("len is {:#x}, expected {} pages", space.len(), model.len)),
        }
    }

    /// The mappings of a space, page by page; `None` for a hole, or a page of several mappings.
    fn spread_out(&self, s: usize, mappings: &[Mapping]) -> Vec<Option<Seen>> {
        let start = self.places[s].start;
        let mut pages = vec![None; self.oracle.spaces[s].len];
        for mapping in mappings {
            for (page, seen) in pages.iter_mut().enumerate() {
                let addr = start + page * self.unit;
                let inside = mapping.addr.start <= addr && addr + self.unit <= mapping.addr.end;
                if inside && !mapping.executable {
                    let offset = mapping.offset + (addr - mapping.addr.start) as u64;
                    let &Mapping { prot, shared, inode, .. } = mapping;
                    *seen = Some(Seen { prot, shared, inode, offset });
                }
            }
        }
        pages
    }

    fn check_mappings(&self, s: usize, found: &[Option<Seen>]) -> Result<(), Differs> {
        for (number, seen) in found.iter().enumerate() {
            let page = self.oracle.spaces[s].pages[number];
            let identity = |object: ObjectId, at: usize| {
                let inode = self.oracle.objects[object].inode;
                inode.map(|inode| (inode, (at * self.unit) as u64))
            };
            let (shared, object) = match page.source {
                Source::Zero => (false, Some((0, 0))),
                Source::Shared(object, at) => (true, identity(object, at)),
                Source::Private(object, at) => (false, identity(object, at)),
            };
            let is_so = |seen: &Seen| {
                // Anonymous memory has no offset, and its shared kind an inode of the kernel's own.
                let same = object.is_none_or(|(inode, offset)| {
                    seen.inode == inode && (inode == 0 || seen.offset == offset)
                });
                seen.prot == page.prot && seen.shared == shared && same
            };
            if !seen.as_ref().is_some_and(is_so) {
                return Err(format!(
                    "the kernel has page {number} as\n  {seen:x?}, expected\n  {page:x?} of \
                     (inode, offset) {object:x?}"
                ));
            }
        }
        Ok(())
    }

    /// The bytes at every readable address. In a case that is not eager pages of zeros stay
    /// untouched, for as long as not all bytes are wanted.
    fn check_words(&self, s: usize, whole: bool) -> Result<(), Differs> {
        let model = &self.oracle.spaces[s];
        let present = if self.places[s].space.is_some() { model.len } else { model.pages.len() };
        let mut bytes = vec![0; if whole { self.unit } else { 0 }];
        for (number, page) in model.pages[..present].iter().enumerate() {
            let content = self.oracle.shown(page);
            let reads = whole || self.eager || !content.is_zero();
            if page.prot == Prot::None || !reads {
                continue;
            }
            let start = self.places[s].start + number * self.unit;
            let same = if whole {
                copy_out(start, &mut bytes);
                compare_bytes(&content, self.unit, &bytes)
            } else {
                compare_slots(&content, |slot| Ok(Some(peek(start + slot_offset(self.unit, slot)))))
            };
            same.map_err(|differs| format!("page {number} ({page:x?}): {differs}"))?;
        }
        Ok(())
    }

    fn check_region(&self, id: RegionId, region: &Region, whole: bool) -> Result<(), Differs> {
        let model = &self.oracle.regions[id];
        if region.len() != model.len {
            return Err(format!("len is {:#x}, expected {:#x}", region.len(), model.len));
        }
        let pages = &self.oracle.objects[model.object].pages[..model.len.div_ceil(self.unit)];
        let mut bytes = vec![0; if whole { self.unit } else { 0 }];
        for (number, content) in pages.iter().enumerate() {
            if content.is_zero() && !self.eager && !whole {
                continue;
            }
            let start = number * self.unit;
            let same = if whole {
                let bytes = &mut bytes[..self.unit.min(model.len - start)];
                region.read_at(start, bytes).map_err(|error| error.to_string())?;
                compare_bytes(content, self.unit, bytes)
            } else {
                compare_slots(content, |slot| {
                    let (offset, mut word) = (start + slot_offset(self.unit, slot), [0; 8]);
                    if offset + word.len() > model.len {
                        // Past the end of a file.
                        return Ok(None);
                    }
                    region.read_at(offset, &mut word).map_err(|error| error.to_string())?;
                    Ok(Some(u64::from_ne_bytes(word)))
                })
            };
            same.map_err(|differs| format!("page {number}: {differs}"))?;
        }
        Ok(())
    }

    fn check_handle(&self, handle: &Handle) -> Result<(), Differs> {
        let Handle { id, tie, .. } = handle;
        let live = self.oracle.live(*id);
        let named = |what: String| Err(format!("the handle {tie:?}: {what}"));
        if tie.is_live() != live.is_some() {
            return named(format!("expected live: {}", live.is_some()));
        }
        let Some((s, model)) = live else { return Ok(()) };
        let found = (tie.as_ptr().expose_provenance(), tie.at(), tie.len(), tie.offset());
        let (at, len) = (model.at * self.unit, model.covered.len() * self.unit);
        let expected = (self.places[s].start + at, at, len, model.offset * self.unit);
        if found != expected || tie.access() != model.access {
            return named(format!("(start, at, len, offset) {expected:x?} is expected"));
        }
        Ok(())
    }

    /// Borrowed memory without its space: /proc has its mappings, beyond the space's end too.
    pub fn check_memory(&self, s: usize) -> Result<(), Differs> {
        let place = &self.places[s];
        if place.memory.is_none() {
            return Ok(());
        }
        let named = |differs| format!("memory of space {s}: {differs}");
        let (start, count) = (place.start, self.oracle.spaces[s].pages.len());
        let lines = common::maps_in(start..start + count * self.unit);
        let mut pages = vec![None; count];
        for (page, seen) in pages.iter_mut().enumerate() {
            let addr = start + page * self.unit;
            let inside = |line: &&common::Line| {
                line.range.start <= addr && addr + self.unit <= line.range.end
            };
            let Some(line) = lines.iter().find(inside) else { continue };
            let prot = match &line.perms[..3] {
                "rw-" => Prot::ReadWrite,
                "r--" => Prot::Read,
                "---" => Prot::None,
                _ => continue,
            };
            let offset = line.offset + (addr - line.range.start) as u64;
            let (shared, inode) = (line.perms.ends_with('s'), line.inode);
            *seen = Some(Seen { prot, shared, inode, offset });
        }
        self.check_mappings(s, &pages).map_err(named)?;
        self.check_words(s, false).map_err(named)
    }
}

/// Compares the words in slots; `None` for one that cannot be had.
fn compare_slots(
    content: &Content,
    found: impl Fn(usize) -> Result<Option<u64>, Differs>,
) -> Result<(), Differs> {
    for slot in 0..SLOTS {
        let expected = content.slot(slot);
        match found(slot)? {
            Some(found) if found != expected => {
                return Err(format!("slot {slot} has {found:#x}, expected {expected:#x}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Compares every byte of a page, or of what there is of it.
fn compare_bytes(content: &Content, unit: usize, found: &[u8]) -> Result<(), Differs> {
    let mut expected = vec![0; unit];
    content.write_to(&mut expected);
    if *found == expected[..found.len()] {
        return Ok(());
    }
    let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    let at = differs.expect("some byte differs") & !7;
    let words = |bytes: &[u8]| bytes[at..].iter().take(8).copied().collect::<Vec<_>>();
    Err(format!("at {at:#x} are {:x?}, expected {:x?}", words(found), words(&expected)))
}

/// Both sides allowed it, or both refused it for the same reason.
pub fn agree<T, U>(
    expected: Result<T, Refusal>,
    found: pagetie::Result<U>,
) -> Result<Result<(T, U), ErrorKind>, Differs> {
    let (refusal, error) = match (expected, found) {
        (Ok(expected), Ok(found)) => return Ok(Ok((expected, found))),
        (Ok(_), Err(error)) => {
            return Err(format!("refused, which should be done: {:?}, {error}", error.kind()));
        }
        (Err(refusal), Ok(_)) => {
            return Err(format!("done, which should be refused: {:?}", refusal.kind));
        }
        (Err(refusal), Err(error)) => (refusal, error),
    };
    let kind = error.kind();
    if kind != refusal.kind {
        return Err(format!("refused as {kind:?} ({error}), expected {:?}", refusal.kind));
    }
    let named = |index| refusal.items.contains(&index);
    if error.index().is_some_and(|index| !named(index))
        || error.index().is_none() != refusal.items.is_empty()
    {
        return Err(format!(
            "the item is {:?}, expected one of {:?}",
            error.index(),
            refusal.items
        ));
    }
    let met = error.other_range();
    if kind == ErrorKind::Overlap && !met.as_ref().is_some_and(|met| refusal.met.contains(met)) {
        return Err(format!("met {met:x?}, expected one of {:x?}", refusal.met));
    }
    Ok(Err(kind))
}
