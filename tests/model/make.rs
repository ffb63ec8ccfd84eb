//! A fresh world: the regions, and the memory under the spaces, as engines map theirs.

use super::oracle::{
    self, Content, Object, ObjectId, Oracle, Page, RegionId, SLOTS, Source, slot_offset,
};
use super::world::{Kind, Tally, World};
use crate::common;
use libc::{PROT_NONE, PROT_READ, PROT_WRITE};
use pagetie::{HugePages, Prot, Region, RegionBuilder, Space};
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;

/// Where a region's pages come from.
#[derive(Clone, Debug)]
pub enum Origin {
    Memory {
        pages: usize,
        max_pages: usize,
        how: MemoryMode,
    },
    File {
        path: PathBuf,
        object: ObjectId,
        how: FileMode,
        max_pages: usize,
    },
    /// Memory that the host has already.
    Adopted {
        pages: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMode {
    Plain,
    /// Its ties are built aside and moved in.
    Hidden,
    Huge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    ReadOnly,
    ReadWrite,
    Discards,
}

#[derive(Clone, Debug)]
pub struct Pages {
    pub origin: Origin,
    pub id: RegionId,
    /// `None` after it was dropped for good.
    pub region: Option<Region>,
}

/// One space and the memory it lies over.
#[derive(Debug)]
pub struct Place {
    pub start: usize,
    /// Pages that are borrowed at first.
    pub first_len: usize,
    /// `None` after it was dropped for good.
    pub space: Option<Space>,
    /// `None` for a reserved space; dropped after it otherwise.
    pub memory: Option<Memory>,
}

/// Memory that an engine would own, with a page that nobody may touch on either side.
#[derive(Debug)]
pub struct Memory {
    pub all: Range<usize>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        common::unmap(self.all.clone());
    }
}

/// A part of it, as the engine maps it.
struct Part {
    pages: usize,
    shows: Shows,
    prot: Prot,
    /// Pages of the part that the engine has written.
    written: &'static [usize],
}

#[derive(Clone, Copy)]
enum Shows {
    Anonymous,
    SharedAnonymous,
    /// A backing object, shared, from this page on.
    Shared(usize, usize),
    Image(usize, usize),
}

/// A memfd under borrowed memory, which its owner may write.
#[derive(Debug)]
pub struct Backing {
    pub file: File,
    pub object: ObjectId,
}

impl<'t> World<'t> {
    pub fn new(kind: Kind, eager: bool, tally: &'t Tally) -> Self {
        let unit = if kind == Kind::Huge { common::HUGE } else { common::page() };
        let directory = tempfile::tempdir().expect("a directory for files");
        let mut world = Self {
            oracle: Oracle::new(unit),
            handles: Vec::new(),
            panes: Vec::new(),
            parked: Vec::new(),
            places: Vec::new(),
            regions: Vec::new(),
            backings: Vec::new(),
            host: Memory { all: 0..0 },
            loans: Vec::new(),
            adopted: Vec::new(),
            directory,
            unit,
            step: 0,
            eager,
            tally,
        };
        world.add_host();
        match kind {
            Kind::Base => world.fill_base(),
            Kind::Huge => world.fill_huge(),
        }
        world
    }

    fn fill_base(&mut self) {
        self.add_memory(6, 10, MemoryMode::Plain);
        self.add_memory(12, 12, MemoryMode::Hidden);
        let (path, object) = self.add_file("discards", 8, 0x66);
        let read_only = path.clone();
        self.add_region(Origin::File { path, object, how: FileMode::Discards, max_pages: 11 });
        let (path, other) = self.add_file("keeps", 6, 0x77);
        self.add_region(Origin::File {
            path,
            object: other,
            how: FileMode::ReadWrite,
            max_pages: 0,
        });
        // The same file again: what is written through the other region shows in this one.
        let how = FileMode::ReadOnly;
        self.add_region(Origin::File { path: read_only, object, how, max_pages: 10 });

        let shared = self.add_backing(10, 0x88);
        let image = self.add_backing(12, 0x99);
        let part = |pages, shows, prot, written| Part { pages, shows, prot, written };
        self.add_reserved(12);
        self.add_borrowed(
            8,
            &[
                part(2, Shows::Anonymous, Prot::ReadWrite, &[0, 1]),
                part(2, Shows::Anonymous, Prot::Read, &[0]),
                part(2, Shows::Anonymous, Prot::ReadWrite, &[1]),
                part(1, Shows::Anonymous, Prot::None, &[0]),
                part(5, Shows::Anonymous, Prot::ReadWrite, &[2, 3]),
            ],
        );
        self.add_borrowed(
            10,
            &[
                part(4, Shows::SharedAnonymous, Prot::ReadWrite, &[1, 2]),
                part(1, Shows::Shared(shared, 0), Prot::ReadWrite, &[]),
                part(1, Shows::Shared(shared, 1), Prot::Read, &[]),
                part(4, Shows::Shared(shared, 2), Prot::ReadWrite, &[1]),
            ],
        );
        self.add_borrowed(
            10,
            &[
                part(3, Shows::Image(image, 1), Prot::ReadWrite, &[0]),
                part(2, Shows::Image(image, 4), Prot::Read, &[1]),
                part(5, Shows::Image(image, 6), Prot::ReadWrite, &[0, 3]),
            ],
        );
        self.add_borrowed(
            7,
            &[
                part(3, Shows::Anonymous, Prot::ReadWrite, &[1]),
                part(2, Shows::Shared(shared, 4), Prot::ReadWrite, &[]),
                part(4, Shows::Image(image, 0), Prot::ReadWrite, &[1]),
                part(3, Shows::Anonymous, Prot::None, &[]),
            ],
        );
    }

    fn fill_huge(&mut self) {
        self.add_memory(3, 4, MemoryMode::Huge);
        self.add_memory(5, 6, MemoryMode::Plain);
        self.add_reserved(6);
        let part = |pages, prot, written| Part { pages, shows: Shows::Anonymous, prot, written };
        self.add_borrowed(
            5,
            &[
                part(2, Prot::ReadWrite, &[0]),
                part(2, Prot::Read, &[1]),
                part(3, Prot::ReadWrite, &[]),
            ],
        );
    }

    // --------------------------------------------------------------------------- making

    fn add_object(&mut self, pages: Vec<Content>, len: usize, inode: Option<u64>) -> ObjectId {
        self.oracle.objects.push(Object { pages, len, inode });
        self.oracle.objects.len() - 1
    }

    /// A file that ends inside its last page, between the second and the third slot.
    fn add_file(&mut self, name: &str, pages: usize, fill: u8) -> (PathBuf, ObjectId) {
        let unit = self.unit;
        let len = (pages - 1) * unit + unit * 3 / 4 + 5;
        let path = self.directory.path().join(name);
        fs::write(&path, vec![fill; len]).expect("write a file");
        let inode = fs::metadata(&path).expect("the file's inode").ino();
        let filled = |page: usize| (len - page * unit).min(unit);
        let content = (0..pages).map(|page| Content::new(unit, fill, filled(page))).collect();
        (path, self.add_object(content, len, Some(inode)))
    }

    fn add_backing(&mut self, pages: usize, fill: u8) -> usize {
        let len = pages * self.unit;
        let file = common::memfd(&vec![fill; len]);
        let inode = file.metadata().expect("a memfd's inode").ino();
        let content = vec![Content::new(self.unit, fill, self.unit); pages];
        let object = self.add_object(content, len, Some(inode));
        self.backings.push(Backing { file, object });
        self.backings.len() - 1
    }

    /// The host's own memory: a page in the middle that it may only read, one that is a guard, and one
    /// behind that is not part of it.
    fn add_host(&mut self) {
        const PAGES: usize = 8;
        let unit = self.unit;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let start = common::map(0, (PAGES + 2) * unit, PROT_NONE, private, None);
        self.host = Memory { all: start..start + (PAGES + 2) * unit };
        common::mprotect(start..start + PAGES * unit, PROT_READ | PROT_WRITE);
        self.oracle.host = vec![Page::zero(Prot::ReadWrite); PAGES];
        for page in (0..PAGES).filter(|page| page % 3 != 2) {
            let content = Content::new(unit, 0x40 + page as u8, unit);
            let mut bytes = vec![0; unit];
            content.write_to(&mut bytes);
            common::write(start + page * unit, &bytes);
            self.oracle.host[page].private = Some(content);
        }
        for (page, prot) in [(3, Prot::Read), (6, Prot::None)] {
            let at = start + page * unit;
            common::mprotect(at..at + unit, if prot == Prot::Read { PROT_READ } else { PROT_NONE });
            self.oracle.host[page].prot = prot;
        }
    }

    /// A region of memory that the host has written, but for each fourth page.
    fn adopt(&mut self, pages: usize) -> (Region, ObjectId) {
        let (unit, len) = (self.unit, pages * self.unit);
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let start = common::map(0, len, PROT_READ | PROT_WRITE, private, None);
        let memory = Memory { all: start..start + len };
        let written = |page: usize| if page % 4 == 3 { 0 } else { 0x50 + page as u8 };
        let content: Vec<_> =
            (0..pages).map(|page| Content::new(unit, written(page), unit)).collect();
        for page in (0..pages).filter(|page| page % 4 != 3) {
            common::write(start + page * unit, &vec![written(page); unit]);
        }
        // SAFETY: the memory is this case's own, stays mapped until after the region is gone, and no
        // reference into it is ever made.
        let region = unsafe { Region::adopt(ptr::with_exposed_provenance_mut(start), len) };
        let region = region.expect("adopt the memory");
        let object = self.add_object(content, len, Some(inode_of(&region)));
        self.adopted.push((memory, object));
        (region, object)
    }

    fn add_memory(&mut self, pages: usize, max_pages: usize, how: MemoryMode) {
        self.add_region(Origin::Memory { pages, max_pages, how });
    }

    fn add_region(&mut self, origin: Origin) {
        let (id, region) = self.make_region(&origin);
        self.regions.push(Pages { origin, id, region: Some(region) });
    }

    pub fn make_region(&mut self, origin: &Origin) -> (RegionId, Region) {
        let unit = self.unit;
        let (region, object, max_len, discards) = match *origin {
            Origin::Memory { pages, max_pages, how } => {
                let max_len = max_pages * unit;
                let builder = Region::builder().max_len(max_len);
                let builder = match how {
                    MemoryMode::Plain => builder,
                    MemoryMode::Hidden => builder.hide_from_fork(true),
                    MemoryMode::Huge => builder.huge_pages(HugePages::Require(unit)),
                };
                let region = builder.build(pages * unit).expect("a region");
                let inode = inode_of(&region);
                let len = pages * unit;
                let object = self.add_object(vec![Content::ZERO; pages], len, Some(inode));
                // The host has written most of it; the other pages are holes.
                for page in (0..pages).filter(|page| page % 4 != 3) {
                    for slot in 0..SLOTS {
                        let offset = page * unit + slot_offset(unit, slot);
                        let word = 0x4057_0000 + (object * 0x100 + page) as u64;
                        region.write_at(offset, &word.to_ne_bytes()).expect("write a region");
                        self.oracle.object_write(object, offset, word);
                    }
                }
                (region, object, max_len, true)
            }
            Origin::Adopted { pages } => {
                let (region, object) = self.adopt(pages);
                (region, object, pages * unit, true)
            }
            Origin::File { ref path, object, how, max_pages } => {
                let max_len = self.oracle.objects[object].len.max(max_pages * unit);
                let builder = Region::builder().max_len(max_pages * unit);
                let region = open(builder, path, how);
                assert_eq!(self.oracle.objects[object].inode, Some(inode_of(&region)));
                (region, object, max_len, how == FileMode::Discards)
            }
        };
        let model = oracle::Region {
            object,
            len: region.len(),
            max_len,
            page: region.page_size(),
            read_only: region.is_read_only(),
            discards,
            is_file: matches!(origin, Origin::File { .. }),
            huge: matches!(origin, Origin::Memory { how: MemoryMode::Huge, .. }),
        };
        assert_eq!(model.len, self.oracle.objects[object].len);
        assert_eq!(model.page, if model.huge { unit } else { common::page() });
        assert_eq!(model.read_only, matches!(origin, Origin::File { how: FileMode::ReadOnly, .. }));
        self.oracle.regions.push(model);
        (self.oracle.regions.len() - 1, region)
    }

    fn add_reserved(&mut self, pages: usize) {
        let space = Space::reserve(pages * self.unit).expect("a reserved space");
        self.add_space(vec![Page::zero(Prot::None); pages], pages, true);
        let start = space.as_ptr().expose_provenance();
        self.places.push(Place { start, memory: None, first_len: pages, space: Some(space) });
    }

    fn add_space(&mut self, pages: Vec<Page>, len: usize, reserved: bool) {
        let ties = Vec::new();
        self.oracle.spaces.push(oracle::Space { pages, len, reserved, ties });
    }

    fn add_borrowed(&mut self, first_len: usize, parts: &[Part]) {
        let unit = self.unit;
        let total = parts.iter().map(|part| part.pages).sum::<usize>();
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let len = (total + 3) * unit;
        let base = common::map(0, len, PROT_NONE, private, None);
        let memory = Memory { all: base..base + len };
        // A page of nobody's stays in front, and one behind.
        let start = (base + unit).next_multiple_of(unit);

        let mut model = Vec::new();
        for part in parts {
            let at = start + model.len() * unit;
            let rw = PROT_READ | PROT_WRITE;
            let backing = |index: usize| &self.backings[index];
            let shared = |object, from| move |page| Source::Shared(object, from + page);
            let source: Box<dyn Fn(usize) -> Source> = match part.shows {
                Shows::Anonymous => {
                    common::map(at, part.pages * unit, rw, private, None);
                    Box::new(|_| Source::Zero)
                }
                Shows::SharedAnonymous => {
                    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
                    common::map(at, part.pages * unit, rw, flags, None);
                    let object =
                        self.add_object(vec![Content::ZERO; part.pages], part.pages * unit, None);
                    Box::new(shared(object, 0))
                }
                Shows::Shared(index, from) => {
                    let file = Some(&backing(index).file);
                    let flags = libc::MAP_SHARED;
                    common::map_at(at, part.pages * unit, rw, flags, file, from * unit);
                    Box::new(shared(backing(index).object, from))
                }
                Shows::Image(index, from) => {
                    let file = Some(&backing(index).file);
                    let flags = libc::MAP_PRIVATE;
                    common::map_at(at, part.pages * unit, rw, flags, file, from * unit);
                    let object = backing(index).object;
                    Box::new(move |page| Source::Private(object, from + page))
                }
            };
            let prot = Prot::ReadWrite;
            model.extend((0..part.pages).map(|page| Page {
                source: source(page),
                private: None,
                prot,
                forbidden: None,
            }));
        }
        self.add_space(model, first_len, false);
        self.places.push(Place { start, memory: Some(memory), first_len, space: None });

        let (s, mut first) = (self.places.len() - 1, 0);
        for part in parts {
            for page in part.written {
                for slot in 0..SLOTS {
                    let word = 0xface_0000 + (first + page) as u64;
                    self.store(s, first + page, slot, word);
                }
            }
            self.owner_protect(s, first..first + part.pages, part.prot);
            first += part.pages;
        }
        self.places[s].space = Some(self.borrow(s));
    }

    pub fn borrow(&self, s: usize) -> Space {
        let place = &self.places[s];
        let start = ptr::with_exposed_provenance_mut(place.start);
        // SAFETY: the memory is this case's own, stays mapped until after the space is gone, nobody
        // else touches it during a call, and no reference into it is ever made.
        unsafe { Space::borrow(start, place.first_len * self.unit) }.expect("borrow the memory")
    }
}

fn inode_of(region: &Region) -> u64 {
    let fd = region.fd().expect("a region's descriptor").as_fd().try_clone_to_owned();
    File::from(fd.expect("a descriptor")).metadata().expect("a region's inode").ino()
}

fn open(builder: RegionBuilder, path: &Path, how: FileMode) -> Region {
    let opened = match how {
        FileMode::ReadOnly => builder.read_only(true).open(path),
        FileMode::Discards => builder.allow_discard(true).open(path),
        FileMode::ReadWrite => {
            let file = File::options().read(true).write(true).open(path).expect("open a file");
            builder.from_fd(file)
        }
    };
    opened.expect("a region of a file")
}
