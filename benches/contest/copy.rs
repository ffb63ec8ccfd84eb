//! `read_at` and `write_at` against memcpy between the same addresses.

use super::{Contender, Contest, Goal, Question};
use pagetie::{Region, page};
use std::{cell::RefCell, hint::black_box, ptr, rc::Rc};

/// One page, 1 MiB, 64 MiB.
fn sizes() -> [usize; 3] {
    [page::size(), 1 << 20, 64 << 20]
}

/// A buffer of the caller, `PAST` bytes past the start of a page.
///
/// Where it lies matters: some CPUs copy several times slower when the target lies less than a cache
/// line after the source modulo 4 KiB. An allocator puts large blocks 16 bytes past a page, and the
/// view of a region begins on one.
struct Buffer<const PAST: usize> {
    room: Vec<u8>,
    start: usize,
    len: usize,
}

impl<const PAST: usize> Buffer<PAST> {
    fn new(len: usize) -> Self {
        // Written to, so that its pages are there.
        let room = vec![1; len + page::size() + PAST];
        let start = room.as_ptr().align_offset(page::size()) + PAST;
        Self { room, start, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.room[self.start..][..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..][..self.len]
    }
}

/// Bytes that repeat after a prime number of them, so that a copy shifted by pages is noticed.
fn pattern(len: usize) -> Vec<u8> {
    let seed: Vec<u8> =
        (0..65_521_u32).map(|k| (k.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut bytes = vec![0; len];
    bytes.chunks_mut(seed.len()).for_each(|piece| piece.copy_from_slice(&seed[..piece.len()]));
    bytes
}

/// Out of the region.
fn read_at<const PAST: usize>(len: usize) -> Contest {
    let region = Region::new(len).expect("a region");
    let bytes = pattern(len);
    region.write_at(0, &bytes).expect("write_at");
    let mut into = Buffer::<PAST>::new(len);
    region.read_at(0, into.bytes_mut()).expect("read_at");
    assert!(into.bytes() == bytes, "read_at gives the bytes written");
    into.bytes_mut().fill(0);
    // SAFETY: the view is `len` bytes long, nobody writes it meanwhile, `into` is apart from it.
    unsafe { ptr::copy_nonoverlapping(region.as_ptr(), into.bytes_mut().as_mut_ptr(), len) };
    assert!(into.bytes() == bytes, "memcpy gives the bytes written");

    // Both copy into the same buffer.
    let into = Rc::new(RefCell::new(into));
    let (r, i) = (region.clone(), Rc::clone(&into));
    let ours = Contender::new("pagetie", move || {
        r.read_at(0, black_box(i.borrow_mut().bytes_mut())).expect("read_at");
    });
    let memcpy = Contender::new("memcpy", move || {
        let mut into = into.borrow_mut();
        let into = black_box(into.bytes_mut());
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(region.as_ptr(), into.as_mut_ptr(), len) };
        black_box(into);
    });
    Contest { ours, others: vec![(memcpy, Goal::Speed(0.8))] }
}

/// Into the region.
fn write_at<const PAST: usize>(len: usize) -> Contest {
    let region = Region::new(len).expect("a region");
    let mut from = Buffer::<PAST>::new(len);
    from.bytes_mut().copy_from_slice(&pattern(len));
    let mut check = vec![0; len];
    region.write_at(0, from.bytes()).expect("write_at");
    region.read_at(0, &mut check).expect("read_at");
    assert!(check == from.bytes(), "write_at leaves the bytes given");

    let from = Rc::new(from);
    let (r, f) = (region.clone(), Rc::clone(&from));
    let ours = Contender::new("pagetie", move || {
        r.write_at(0, black_box(f.bytes())).expect("write_at");
    });
    let memcpy = Contender::new("memcpy", move || {
        let from = black_box(from.bytes());
        // SAFETY: the view is `len` bytes long, nobody else uses it meanwhile, `from` is apart.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), region.as_ptr(), len) };
        black_box(region.as_ptr());
    });
    Contest { ours, others: vec![(memcpy, Goal::Speed(0.8))] }
}

/// Every question about copying.
pub fn all() -> Vec<Question> {
    let mut all = Vec::new();
    for len in sizes().into_iter().rev() {
        let mut ask = |what, contest| all.push(Question::new(what, len, contest));
        ask("read_at into a page-aligned buffer", read_at::<0>);
        ask("read_at into a buffer 16 bytes past a page", read_at::<16>);
        ask("write_at from a page-aligned buffer", write_at::<0>);
        ask("write_at from a buffer 16 bytes before a page", write_at::<4080>);
    }
    all
}
