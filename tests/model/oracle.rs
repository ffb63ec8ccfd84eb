//! The oracle: a page table so naive that it is obviously right.
//!
//! An [`Object`] is a row of pages: a region's memory, a file, what lies under a borrowed space. A
//! [`Page`] of a [`Space`] says which page of which object it shows, or zeros; whether it has a
//! private copy; what it allows. A [`Tie`] remembers the pages that it covers. Each verb is a loop
//! over pages. Nothing is merged or remembered twice, and nothing is asked of the kernel.
//!
//! A verb that has to be refused answers a [`Refusal`] and has changed nothing.

use super::moves::Aside;
use pagetie::{Access, Covered, ErrorKind, Prefault, Prot};
use std::ops::Range;

/// A page is told from others by the words at its start, in its middle and at its end.
pub const SLOTS: usize = 3;

/// Where a slot lies in a page of `unit` bytes.
pub fn slot_offset(unit: usize, slot: usize) -> usize {
    [0, unit / 2, unit - 8][slot]
}

/// The bytes of one page: `fill` up to `filled`, zeros after that, and a word in each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    fill: u8,
    filled: usize,
    slots: [u64; SLOTS],
}

impl Content {
    pub const ZERO: Self = Self { fill: 0, filled: 0, slots: [0; SLOTS] };

    /// `filled` bytes of `fill`, then zeros.
    pub fn new(unit: usize, fill: u8, filled: usize) -> Self {
        let mut content = Self { fill, filled, slots: [0; SLOTS] };
        for slot in 0..SLOTS {
            content.slots[slot] = content.background(slot_offset(unit, slot));
        }
        content
    }

    /// Bytes that only a look at every byte tells from zeros.
    pub fn between_slots(unit: usize, fill: u8) -> Self {
        Self { slots: [0; SLOTS], ..Self::new(unit, fill, unit) }
    }

    fn background(&self, offset: usize) -> u64 {
        let byte = |i| if offset + i < self.filled { self.fill } else { 0 };
        u64::from_ne_bytes(std::array::from_fn(byte))
    }

    /// Writes every byte of it into `page`.
    pub fn write_to(&self, page: &mut [u8]) {
        page.fill(0);
        page[..self.filled].fill(self.fill);
        for (slot, word) in self.slots.iter().enumerate() {
            let offset = slot_offset(page.len(), slot);
            page[offset..offset + 8].copy_from_slice(&word.to_ne_bytes());
        }
    }

    pub fn slot(&self, slot: usize) -> u64 {
        self.slots[slot]
    }

    pub fn is_zero(&self) -> bool {
        self.slots == [0; SLOTS] && (self.fill == 0 || self.filled == 0)
    }
}

pub type ObjectId = usize;
pub type RegionId = usize;
pub type TieId = usize;

/// Pages that may be seen from several places.
#[derive(Clone, Debug)]
pub struct Object {
    pub pages: Vec<Content>,
    /// Bytes that it really has; a file may end inside its last page.
    pub len: usize,
    /// What the kernel calls it, where the test can know.
    pub inode: Option<u64>,
}

/// Which pages a page of a space is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Private anonymous memory.
    Zero,
    /// A shared mapping: writes go to the object.
    Shared(ObjectId, usize),
    /// A private mapping: writes make a copy.
    Private(ObjectId, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub source: Source,
    /// What was written, for any source but [`Source::Shared`].
    pub private: Option<Content>,
    pub prot: Prot,
    /// What `protect` left it with, where that is not everything: so it is again after a growth.
    pub forbidden: Option<Prot>,
}

impl Page {
    pub fn zero(prot: Prot) -> Self {
        Self { source: Source::Zero, private: None, prot, forbidden: None }
    }
}

#[derive(Clone, Debug)]
pub struct Region {
    pub object: ObjectId,
    pub len: usize,
    pub max_len: usize,
    pub page: usize,
    pub read_only: bool,
    pub discards: bool,
    pub is_file: bool,
    /// Of huge pages (hugetlb), which allow read-write ties only.
    pub huge: bool,
}

#[derive(Clone, Debug)]
pub struct Tie {
    pub id: TieId,
    /// Pages of the space.
    pub at: usize,
    pub region: RegionId,
    /// Pages into the region.
    pub offset: usize,
    pub access: Access,
    pub prefault: Prefault,
    /// What untying brings back, page by page.
    pub covered: Vec<Page>,
    /// As it was made.
    pub asked: Asked,
}

impl Tie {
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.covered.len()
    }
}

/// Pages of the host that a space shows.
#[derive(Clone, Debug)]
pub struct Loan {
    pub id: TieId,
    pub space: usize,
    /// Pages of the space, and of the host's memory.
    pub at: usize,
    pub home: usize,
    /// What the host's pages allowed.
    pub prots: Vec<Prot>,
    /// What giving them back brings back, page by page.
    pub covered: Vec<Page>,
}

impl Loan {
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.covered.len()
    }

    pub fn homes(&self) -> Range<usize> {
        self.home..self.home + self.covered.len()
    }
}

#[derive(Clone, Debug)]
pub struct Space {
    /// Every page of the memory, also those that the space has not grown over yet.
    pub pages: Vec<Page>,
    /// Pages of it that belong to the space.
    pub len: usize,
    /// Addresses of the crate's own, not borrowed ones.
    pub reserved: bool,
    pub ties: Vec<Tie>,
}

/// A tie as it is asked for, in bytes.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: usize,
    pub region: RegionId,
    pub offset: usize,
    pub len: usize,
    pub access: Access,
    pub covered: Covered,
    pub prefault: Prefault,
    pub concurrent: bool,
}

#[derive(Clone, Debug)]
pub struct Refusal {
    pub kind: ErrorKind,
    /// The items of a list that it may name.
    pub items: Vec<usize>,
    /// The ranges that an overlap may name, in bytes.
    pub met: Vec<Range<usize>>,
}

impl From<ErrorKind> for Refusal {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, items: Vec::new(), met: Vec::new() }
    }
}

pub fn refuse_if(wrong: bool, kind: ErrorKind) -> Result<(), Refusal> {
    if wrong { Err(kind.into()) } else { Ok(()) }
}

/// The protection that a tie of this access has at first, and may not exceed.
pub fn allowed(access: Access) -> Prot {
    if access == Access::ReadOnly { Prot::Read } else { Prot::ReadWrite }
}

fn overlaps(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// Bytes of a page.
    pub unit: usize,
    pub objects: Vec<Object>,
    pub regions: Vec<Region>,
    pub spaces: Vec<Space>,
    /// The host's own memory, and what of it is lent.
    pub host: Vec<Page>,
    pub loans: Vec<Loan>,
    pub parked: Vec<Aside>,
    next_tie: TieId,
}

impl Oracle {
    pub fn new(unit: usize) -> Self {
        Self { unit, ..Self::default() }
    }

    /// The bytes that a page shows to whoever may read it.
    pub fn shown(&self, page: &Page) -> Content {
        match (page.private, page.source) {
            (Some(own), _) => own,
            (None, Source::Zero) => Content::ZERO,
            (None, Source::Shared(object, at) | Source::Private(object, at)) => {
                self.objects[object].pages[at]
            }
        }
    }

    pub fn tied(&self, s: usize, page: usize) -> Option<&Tie> {
        self.spaces[s].ties.iter().find(|tie| tie.range().contains(&page))
    }

    /// The live tie of a handle, and its space.
    pub fn live(&self, id: TieId) -> Option<(usize, &Tie)> {
        let ties = |s: usize| self.spaces[s].ties.iter().map(move |tie| (s, tie));
        (0..self.spaces.len()).flat_map(ties).find(|(_, tie)| tie.id == id)
    }

    fn bytes(&self, pages: Range<usize>) -> Range<usize> {
        pages.start * self.unit..pages.end * self.unit
    }

    // ------------------------------------------------------------------------------- tie

    pub fn tie(&mut self, s: usize, asked: &Asked) -> Result<TieId, Refusal> {
        let ids = self.tie_all(s, std::slice::from_ref(asked));
        ids.map(|ids| ids[0]).map_err(|refusal| Refusal { items: Vec::new(), ..refusal })
    }

    /// All of the list, or nothing. Each kind of refusal is looked for in every item before the next.
    pub fn tie_all(&mut self, s: usize, list: &[Asked]) -> Result<Vec<TieId>, Refusal> {
        let mut places = Vec::new();
        for (index, asked) in list.iter().enumerate() {
            let place = self.check_tie(s, asked);
            places.push(place.map_err(|refusal| Refusal { items: vec![index], ..refusal })?);
        }
        for (index, place) in places.iter().enumerate() {
            let ties = self.spaces[s].ties.iter().map(Tie::range);
            let live = ties.chain(self.loans_of(s).map(Loan::range));
            let met = live.filter(|live| overlaps(live, place));
            let met: Vec<_> = met.map(|live| self.bytes(live)).collect();
            if !met.is_empty() {
                return Err(Refusal { kind: ErrorKind::Overlap, items: vec![index], met });
            }
        }
        // Where items meet each other, any two may be named: the later as refused, the earlier as met.
        let (mut later, mut met) = (Vec::new(), Vec::new());
        for (index, place) in places.iter().enumerate() {
            for earlier in places[..index].iter().filter(|earlier| overlaps(earlier, place)) {
                later.push(index);
                met.push(self.bytes(earlier.clone()));
            }
        }
        if !met.is_empty() {
            return Err(Refusal { kind: ErrorKind::Overlap, items: later, met });
        }
        // Neighbours are laid together, and refused together.
        for (asked, place) in list.iter().zip(&places) {
            let any = || (0..list.len()).collect();
            self.check_moment(s, asked, place)
                .map_err(|refusal| Refusal { items: any(), ..refusal })?;
        }
        let lay = |(asked, place): (&Asked, &Range<usize>)| self.lay(s, asked, place.clone());
        Ok(list.iter().zip(&places).map(lay).collect())
    }

    /// The pages of the space that a tie would take.
    fn check_tie(&self, s: usize, asked: &Asked) -> Result<Range<usize>, Refusal> {
        let (space, region) = (&self.spaces[s], &self.regions[asked.region]);
        self.check_aligned(region, asked.at, asked.offset, asked.len)?;
        refuse_if(asked.len == 0, ErrorKind::Empty)?;
        self.check_offset(region, asked.offset, asked.len)?;
        let len = asked.len.next_multiple_of(self.unit);
        let end = asked.at.checked_add(len).filter(|&end| end <= space.len * self.unit);
        let end = end.ok_or(ErrorKind::OutOfRange)?;
        self.check_access(region, asked.access, asked.prefault)?;
        Ok(asked.at / self.unit..end / self.unit)
    }

    fn check_aligned(
        &self,
        region: &Region,
        at: usize,
        offset: usize,
        len: usize,
    ) -> Result<(), Refusal> {
        let whole = |n: usize| n % region.page == 0;
        // The last, partial page of a file may be asked for by the bytes it has.
        let to_the_end = offset.checked_add(len) == Some(region.len);
        let aligned = whole(at) && whole(offset) && (whole(len) || to_the_end);
        refuse_if(!aligned, ErrorKind::Misaligned)
    }

    fn check_offset(&self, region: &Region, offset: usize, len: usize) -> Result<(), Refusal> {
        let last = region.len.next_multiple_of(region.page);
        let within = offset.checked_add(len).is_some_and(|end| end <= last);
        refuse_if(!within, ErrorKind::OutOfRange)
    }

    fn check_access(
        &self,
        region: &Region,
        access: Access,
        prefault: Prefault,
    ) -> Result<(), Refusal> {
        let writes = access == Access::ReadWrite;
        refuse_if(writes && region.read_only, ErrorKind::ReadOnly)?;
        refuse_if(region.huge && !writes, ErrorKind::Unsupported)?;
        let copies = prefault == Prefault::Copy;
        refuse_if(copies && access != Access::CopyOnWrite, ErrorKind::Unsupported)
    }

    /// A concurrent tie cannot move private pages of a file aside unseen.
    fn check_moment(&self, s: usize, asked: &Asked, place: &Range<usize>) -> Result<(), Refusal> {
        let covered = &self.spaces[s].pages[place.clone()];
        let of_a_file = covered.iter().any(|page| matches!(page.source, Source::Private(..)));
        let moves = asked.concurrent && asked.covered == Covered::Keep;
        refuse_if(moves && of_a_file, ErrorKind::Unsupported)
    }

    fn lay(&mut self, s: usize, asked: &Asked, place: Range<usize>) -> TieId {
        let offset = asked.offset / self.unit;
        let mut covered = self.spaces[s].pages[place.clone()].to_vec();
        if asked.covered == Covered::Discard {
            for page in &mut covered {
                *page = Page { forbidden: page.forbidden, ..Page::zero(page.prot) };
            }
        }
        for (i, page) in place.clone().enumerate() {
            let alias = self.alias(asked.region, offset + i, asked.access, asked.prefault);
            self.spaces[s].pages[page] = alias;
        }
        let id = self.next_tie;
        self.next_tie += 1;
        let Asked { region, access, prefault, .. } = *asked;
        let (at, asked) = (place.start, asked.clone());
        let tie = Tie { id, at, region, offset, access, prefault, covered, asked };
        self.spaces[s].ties.push(tie);
        id
    }

    /// A page of a region as a fresh tie shows it.
    fn alias(&self, region: RegionId, page: usize, access: Access, prefault: Prefault) -> Page {
        let object = self.regions[region].object;
        let source = match access {
            Access::ReadWrite => Source::Shared(object, page),
            _ => Source::Private(object, page),
        };
        let follows = Page { source, private: None, prot: allowed(access), forbidden: None };
        match prefault {
            Prefault::Copy => Page { private: Some(self.shown(&follows)), ..follows },
            _ => follows,
        }
    }

    /// `ended` is what the handle remembers of itself: where it was, its bytes, its access.
    pub fn retie(
        &mut self,
        id: TieId,
        ended: (usize, usize, Access),
        region: RegionId,
        offset: usize,
    ) -> Result<(), Refusal> {
        let (at, len, access) = ended;
        let target = &self.regions[region];
        self.check_aligned(target, at, offset, len)?;
        self.check_offset(target, offset, len)?;
        let s = self.live(id).ok_or(ErrorKind::Ended)?.0;
        self.check_access(target, access, Prefault::No)?;

        let index = self.spaces[s].ties.iter().position(|tie| tie.id == id).expect("it is live");
        let offset = offset / self.unit;
        let Tie { at, prefault, .. } = self.spaces[s].ties[index];
        for i in 0..len / self.unit {
            self.spaces[s].pages[at + i] = self.alias(region, offset + i, access, prefault);
        }
        let tie = &mut self.spaces[s].ties[index];
        (tie.region, tie.offset) = (region, offset);
        Ok(())
    }

    // ----------------------------------------------------------------------------- untie

    /// Ends a tie; one that was ended before is left alone.
    pub fn untie(&mut self, id: TieId) {
        let Some((s, tie)) = self.take(id) else { return };
        for (page, covered) in tie.range().zip(tie.covered) {
            let now = &mut self.spaces[s].pages[page];
            // A protection that somebody changed since is the one that holds.
            let changed = now.prot != allowed(tie.access);
            let prot = if changed { now.prot } else { covered.prot };
            let forbidden = now.forbidden.filter(|&prot| prot != allowed(tie.access));
            *now = Page { prot, forbidden: forbidden.or(covered.forbidden), ..covered };
        }
    }

    pub fn untie_all(&mut self, s: usize) {
        while let Some(id) = self.spaces[s].ties.last().map(|tie| tie.id) {
            self.untie(id);
        }
        let loans: Vec<_> = self.loans_of(s).map(|loan| loan.id).collect();
        loans.into_iter().for_each(|id| self.give_back(id));
    }

    /// Forgets a tie; its pages stay as if they had always been there.
    pub fn leak(&mut self, id: TieId) {
        self.take(id);
    }

    fn take(&mut self, id: TieId) -> Option<(usize, Tie)> {
        let s = self.live(id)?.0;
        let index = self.spaces[s].ties.iter().position(|tie| tie.id == id)?;
        Some((s, self.spaces[s].ties.remove(index)))
    }

    // ------------------------------------------------------------------- lend and give back

    fn loans_of(&self, s: usize) -> impl Iterator<Item = &Loan> {
        self.loans.iter().filter(move |loan| loan.space == s)
    }

    fn is_lent_read_only(&self, s: usize, page: usize) -> bool {
        let mut loans = self.loans_of(s).filter(|loan| loan.range().contains(&page));
        loans.any(|loan| loan.prots[page - loan.at] == Prot::Read)
    }

    /// `at` and `home` in bytes of the space and of the host's memory, which begins at `host`.
    pub fn lend(
        &mut self,
        s: usize,
        (at, home, len): (usize, usize, usize),
        host: usize,
        guarded: bool,
    ) -> Result<TieId, Refusal> {
        let misaligned = [at, home, len].iter().any(|n| n % self.unit != 0);
        refuse_if(misaligned, ErrorKind::Misaligned)?;
        refuse_if(len == 0, ErrorKind::Empty)?;
        let end = at.checked_add(len).filter(|&end| end <= self.spaces[s].len * self.unit);
        let place = at / self.unit..end.ok_or(ErrorKind::OutOfRange)? / self.unit;
        let homes = home / self.unit..(home + len) / self.unit;
        let overlap = |met: Vec<Range<usize>>| match met.is_empty() {
            true => Ok(()),
            false => Err(Refusal { kind: ErrorKind::Overlap, items: Vec::new(), met }),
        };
        let ties = self.spaces[s].ties.iter().map(Tie::range);
        let live = ties.chain(self.loans_of(s).map(Loan::range));
        let met = live.filter(|live| overlaps(live, &place));
        overlap(met.map(|live| self.bytes(live)).collect())?;
        // Past its end is the page that nobody may touch.
        let readable =
            |page| self.host.get(page).is_some_and(|page: &Page| page.prot != Prot::None);
        refuse_if(!homes.clone().all(readable), ErrorKind::RefusedMemory)?;
        // Homes side by side of one space are one range.
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for page in 0..self.host.len() {
            let lent = self.loans.iter().find(|loan| loan.homes().contains(&page));
            match (lent, runs.last_mut()) {
                (Some(loan), Some((of, run))) if *of == loan.space && run.end == page => {
                    run.end = page + 1;
                }
                (Some(loan), _) => runs.push((loan.space, page..page + 1)),
                (None, _) => {}
            }
        }
        let met = runs.into_iter().map(|(_, run)| run).filter(|run| overlaps(run, &homes));
        let addresses = |run| {
            let bytes = self.bytes(run);
            host + bytes.start..host + bytes.end
        };
        overlap(met.map(addresses).collect())?;

        let covered = self.spaces[s].pages[place.clone()].to_vec();
        let prots = self.host[homes.clone()].iter().map(|page| page.prot).collect();
        for (page, home) in place.clone().zip(homes.clone()) {
            let vacated = if guarded { Prot::None } else { self.host[home].prot };
            let lent = std::mem::replace(&mut self.host[home], Page::zero(vacated));
            self.spaces[s].pages[page] = Page { forbidden: None, ..lent };
        }
        let id = self.next_tie;
        self.next_tie += 1;
        let (at, home) = (place.start, homes.start);
        self.loans.push(Loan { id, space: s, at, home, prots, covered });
        Ok(id)
    }

    /// Ends a loan; one that was ended before is left alone.
    pub fn give_back(&mut self, id: TieId) {
        let Some(index) = self.loans.iter().position(|loan| loan.id == id) else { return };
        let Loan { space, at, home, prots, covered, .. } = self.loans.remove(index);
        for (i, (lent, covered)) in prots.into_iter().zip(covered).enumerate() {
            let now = self.spaces[space].pages[at + i];
            let prot = if now.prot == lent { covered.prot } else { now.prot };
            let forbidden = now.forbidden;
            self.spaces[space].pages[at + i] = Page { prot, forbidden, ..covered };
            self.host[home + i] = Page { prot: lent, forbidden: None, ..now };
        }
    }

    // ----------------------------------------------------------------- protect and discard

    /// The end of a byte range of a space, as far as its numbers tell.
    pub fn check_numbers(
        &self,
        s: usize,
        at: usize,
        len: usize,
        base: usize,
    ) -> Result<usize, Refusal> {
        refuse_if(at % base != 0 || len % base != 0, ErrorKind::Misaligned)?;
        refuse_if(len == 0, ErrorKind::Empty)?;
        let end = at.checked_add(len).filter(|&end| end <= self.spaces[s].len * self.unit);
        end.ok_or(ErrorKind::OutOfRange.into())
    }

    /// The pages of a byte range of a space. A tie of huge pages is taken by huge pages only.
    fn check_range(
        &self,
        s: usize,
        at: usize,
        len: usize,
        base: usize,
    ) -> Result<Range<usize>, Refusal> {
        let end = self.check_numbers(s, at, len, base)?;
        let cut = |n: usize| {
            let tie = self.tied(s, n / self.unit);
            n % self.unit != 0 && tie.is_some_and(|tie| self.regions[tie.region].huge)
        };
        refuse_if(cut(at) || cut(end), ErrorKind::Misaligned)?;
        Ok(at / self.unit..end / self.unit)
    }

    pub fn protect(
        &mut self,
        s: usize,
        at: usize,
        len: usize,
        base: usize,
        prot: Prot,
    ) -> Result<(), Refusal> {
        let pages = self.check_range(s, at, len, base)?;
        let read_only = |page| {
            self.tied(s, page).is_some_and(|tie| tie.access == Access::ReadOnly)
                || self.is_lent_read_only(s, page)
        };
        let beyond = prot == Prot::ReadWrite && pages.clone().any(read_only);
        refuse_if(beyond, ErrorKind::ReadOnly)?;
        for page in &mut self.spaces[s].pages[pages.clone()] {
            page.forbidden = (prot != Prot::ReadWrite).then_some(prot);
        }
        self.protect_behind(s, pages, prot);
        Ok(())
    }

    /// The owner of the memory, with a system call of its own: no ceiling holds.
    pub fn protect_behind(&mut self, s: usize, pages: Range<usize>, prot: Prot) {
        for page in &mut self.spaces[s].pages[pages] {
            page.prot = prot;
        }
    }

    /// The pages that would be discarded.
    pub fn check_discard(
        &self,
        s: usize,
        at: usize,
        len: usize,
        base: usize,
    ) -> Result<Range<usize>, Refusal> {
        let pages = self.check_range(s, at, len, base)?;
        let mut unsupported = false;
        for page in pages.clone() {
            refuse_if(self.is_lent_read_only(s, page), ErrorKind::ReadOnly)?;
            match self.tied(s, page).map(|tie| (tie.access, tie.region)) {
                Some((Access::ReadOnly, _)) => return Err(ErrorKind::ReadOnly.into()),
                Some((Access::ReadWrite, region)) => unsupported |= !self.regions[region].discards,
                Some(_) => {}
                None => {
                    unsupported |= matches!(self.spaces[s].pages[page].source, Source::Shared(..))
                }
            }
        }
        refuse_if(unsupported, ErrorKind::Unsupported)?;
        Ok(pages)
    }

    pub fn discard(&mut self, s: usize, at: usize, len: usize, base: usize) -> Result<(), Refusal> {
        for page in self.check_discard(s, at, len, base)? {
            match self.spaces[s].pages[page].source {
                Source::Shared(object, at) => self.objects[object].pages[at] = Content::ZERO,
                Source::Zero | Source::Private(..) => self.spaces[s].pages[page].private = None,
            }
        }
        Ok(())
    }

    pub fn discard_region(
        &mut self,
        r: RegionId,
        offset: usize,
        len: usize,
    ) -> Result<(), Refusal> {
        let region = self.regions[r].clone();
        self.check_aligned(&region, 0, offset, len)?;
        refuse_if(len == 0, ErrorKind::Empty)?;
        self.check_offset(&region, offset, len)?;
        refuse_if(region.read_only, ErrorKind::ReadOnly)?;
        refuse_if(!region.discards, ErrorKind::Unsupported)?;
        for page in offset / self.unit..(offset + len).div_ceil(self.unit) {
            self.objects[region.object].pages[page] = Content::ZERO;
        }
        Ok(())
    }

    // ---------------------------------------------------------------------------- writes

    /// `Region::write_at`: words that lie in slots.
    pub fn host_write(&mut self, r: RegionId, offset: usize, words: &[u64]) -> Result<(), Refusal> {
        let region = &self.regions[r];
        let end = offset.checked_add(8 * words.len());
        refuse_if(end.is_none_or(|end| end > region.len), ErrorKind::OutOfRange)?;
        refuse_if(region.read_only, ErrorKind::ReadOnly)?;
        let object = region.object;
        for (i, &word) in words.iter().enumerate() {
            self.object_write(object, offset + 8 * i, word);
        }
        Ok(())
    }

    pub fn object_write(&mut self, object: ObjectId, offset: usize, word: u64) {
        let (page, within) = (offset / self.unit, offset % self.unit);
        let slot = (0..SLOTS).find(|&slot| slot_offset(self.unit, slot) == within);
        self.objects[object].pages[page].slots[slot.expect("the test writes slots")] = word;
    }

    /// Whether a store to this slot neither faults nor goes to bytes past the end of a file, which
    /// are not kept.
    pub fn may_store(&self, s: usize, page: usize, slot: usize) -> bool {
        let Page { source, prot, .. } = self.spaces[s].pages[page];
        let kept = match source {
            Source::Shared(object, at) => {
                at * self.unit + slot_offset(self.unit, slot) + 8 <= self.objects[object].len
            }
            _ => true,
        };
        prot == Prot::ReadWrite && kept
    }

    pub fn store(&mut self, s: usize, page: usize, slot: usize, word: u64) {
        let mut shown = self.shown(&self.spaces[s].pages[page]);
        shown.slots[slot] = word;
        match self.spaces[s].pages[page].source {
            Source::Shared(object, at) => self.objects[object].pages[at] = shown,
            _ => self.spaces[s].pages[page].private = Some(shown),
        }
    }

    // ---------------------------------------------------------------------- grow and drop

    pub fn grow_region(&mut self, r: RegionId, len: usize) -> Result<(), Refusal> {
        let Region { object, max_len, page, is_file, read_only, len: old, .. } = self.regions[r];
        refuse_if(!is_file && len % page != 0, ErrorKind::Misaligned)?;
        refuse_if(len < old || len > max_len, ErrorKind::OutOfRange)?;
        // Another handle may have made the file longer already.
        let longer = len > self.objects[object].len;
        refuse_if(longer && read_only, ErrorKind::ReadOnly)?;
        if longer {
            let pages = len.div_ceil(self.unit);
            self.objects[object].pages.resize(pages, Content::ZERO);
            self.objects[object].len = len;
        }
        self.regions[r].len = len;
        Ok(())
    }

    /// `elsewhere`: the memory is said to start at another address now.
    pub fn grow_space(&mut self, s: usize, len: usize, elsewhere: bool) -> Result<(), Refusal> {
        let space = &mut self.spaces[s];
        refuse_if(space.reserved, ErrorKind::Unsupported)?;
        refuse_if(elsewhere, ErrorKind::Changed)?;
        refuse_if(len < space.len * self.unit, ErrorKind::OutOfRange)?;
        space.len = len / self.unit;
        let level =
            |prot| [Prot::None, Prot::Read, Prot::ReadWrite].iter().position(|&p| p == prot);
        for page in 0..self.spaces[s].pages.len() {
            let read_only = self.tied(s, page).is_some_and(|tie| tie.access == Access::ReadOnly);
            let now = &mut self.spaces[s].pages[page];
            if let Some(wanted) = now.forbidden.or(read_only.then_some(Prot::Read)) {
                if level(now.prot) > level(wanted) {
                    // What was stored into a read-only tie meanwhile goes.
                    if read_only && now.prot == Prot::ReadWrite {
                        now.private = None;
                    }
                    now.prot = wanted;
                }
            }
        }
        Ok(())
    }
}
