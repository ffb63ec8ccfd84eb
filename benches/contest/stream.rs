//! Summing a region that is much larger than the window it is read through, while another thread
//! prepares what comes next.
//!
//! ```text
//!   region   [ chunk 0 | chunk 1 | chunk 2 | ... ]
//!                 \          \
//!   window       shown    prepared by the other thread
//! ```

use super::{
    Contender, Contest, Goal, Pages, Question, machine, memory::Usage, numbered, size_name, sum,
};
use crate::bare::BLOCK;
use pagetie::{Access, Prefault, Preparer, Region, Space, TieOptions, Window};
use std::{env, hint::black_box, ops::Range, rc::Rc, sync::mpsc, thread};
use wasmtime::{Engine, Instance, Module, Store, TypedFunc};

/// As long as the window.
const CHUNK: usize = 256 << 20;

/// As little as shows a window that slides.
pub const LEAST: usize = 2 * CHUNK;

/// What the region should have, if there is as much memory and half of it again.
const WANTED: usize = 8 << 30;

/// How many bytes are streamed: less than wanted where memory is short. `PAGETIE_STREAM_MIB` asks for
/// another length.
pub fn total() -> usize {
    if let Some(mib) = env::var("PAGETIE_STREAM_MIB").ok().and_then(|mib| mib.parse::<usize>().ok())
    {
        return usize::max(mib << 20, LEAST).next_multiple_of(CHUNK);
    }
    let fits = machine::available() * 2 / 3 / CHUNK * CHUNK;
    let total = fits.clamp(LEAST, WANTED);
    if total < WANTED {
        println!("memory is short: {} are streamed, not {}", size_name(total), size_name(WANTED));
    }
    total
}

fn chunks(len: usize) -> impl Iterator<Item = Range<usize>> {
    pieces(len, CHUNK)
}

fn pieces(len: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(piece).map(move |start| start..len.min(start + piece))
}

/// Populated at once, so that the first chunk is ready as the others are.
const HOW: TieOptions = TieOptions::new(Access::ReadOnly).prefault(Prefault::Populate);

/// Shows chunk after chunk of the region in a new window as long as one at `at`, each prepared on another
/// thread while
/// `each` is busy with the one before; `each` is told where in the space it is.
///
/// Returns the window, with the last chunk in it.
pub fn stream(
    space: &Space,
    at: usize,
    chunk: usize,
    region: &Region,
    mut each: impl FnMut(usize, usize),
) -> Window {
    let mut window = Window::new(space, at, chunk, region, HOW).expect("a window");
    let preparer: Preparer = window.preparer();
    thread::scope(|scope| {
        let (ask, asked) = mpsc::channel::<Range<usize>>();
        scope.spawn(move || {
            for range in asked {
                preparer.prepare(range).expect("prepare");
            }
        });
        let mut next = pieces(region.len(), chunk).skip(1);
        for chunk in pieces(region.len(), chunk) {
            let at = window.show(chunk.clone()).expect("show");
            if let Some(next) = next.next() {
                ask.send(next).expect("the other thread listens");
            }
            each(at, chunk.len());
        }
    });
    window
}

struct Scene {
    space: Space,
    region: Region,
    sum: u64,
}

impl Scene {
    fn new(len: usize, pages: Pages) -> Rc<Self> {
        let space = Space::reserve(CHUNK).expect("reserve");
        let (region, sum) = numbered(len, pages);
        Rc::new(Self { space, region, sum })
    }

    fn through_window(&self) -> Window {
        let mut seen = 0_u64;
        let window = stream(&self.space, 0, CHUNK, &self.region, |at, len| {
            let start = self.space.as_ptr().wrapping_add(at);
            // SAFETY: the window shows that much there, and nobody writes it.
            seen = seen.wrapping_add(unsafe { sum(black_box(start), len) });
        });
        assert_eq!(seen, self.sum);
        window
    }

    fn in_place(&self) {
        // SAFETY: the region's own view, as long as the region; nobody writes it.
        let seen = unsafe { sum(black_box(self.region.as_ptr()), self.region.len()) };
        assert_eq!(seen, self.sum);
    }
}

fn native(len: usize, pages: Pages, goal: f64) -> Contest {
    let scene = Scene::new(len, pages);
    scene.in_place();
    let (s, t, u) = (Rc::clone(&scene), Rc::clone(&scene), Rc::clone(&scene));
    let untie = |window: Window| window.untie().expect("untie");
    let ours = Contender::staged("pagetie", || (), move |()| s.through_window(), untie);
    let plain = Contender::new("a scan of the region's own view", move || t.in_place());
    let whole = Contender::new("pagetie, and the window's end", move || untie(u.through_window()));
    Contest { ours, others: vec![(plain, Goal::Time(goal)), (whole, Goal::None)] }
}

/// The same of a region that nobody has shown or read yet: no view of it has page tables to lend.
fn first_time(len: usize) -> Contest {
    let scene = Scene::new(len, Pages::Base);
    scene.in_place();
    let (s, t, u) = (Rc::clone(&scene), Rc::clone(&scene), Rc::clone(&scene));
    let before = move || {
        let fd = s.region.fd().expect("a region of ours has a descriptor");
        let space = Space::reserve(CHUNK).expect("reserve");
        Scene { space, region: Region::from_fd(fd).expect("a region"), sum: s.sum }
    };
    let timed = |scene: Scene| (scene.through_window(), scene);
    let untie = |(window, _): (Window, Scene)| window.untie().expect("untie");
    let ours = Contender::staged("pagetie", before, timed, untie);
    let plain = Contender::new("a scan of the region's own view", move || t.in_place());
    let again = Contender::staged(
        "pagetie, again",
        || (),
        move |()| u.through_window(),
        |window| window.untie().expect("untie"),
    );
    Contest { ours, others: vec![(plain, Goal::None), (again, Goal::None)] }
}

/// Eight words at a time, so that the memory is what is waited for.
const GUEST: &str = r#"(module
  (memory (export "memory") 4160) ;; 260 MiB
  (func (export "sum") (param $at i32) (param $len i32) (result i64)
    (local $a v128) (local $b v128) (local $end i32)
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (loop $next
      (local.set $a (i64x2.add (local.get $a) (v128.load (local.get $at))))
      (local.set $b (i64x2.add (local.get $b) (v128.load offset=16 (local.get $at))))
      (local.set $a (i64x2.add (local.get $a) (v128.load offset=32 (local.get $at))))
      (local.set $b (i64x2.add (local.get $b) (v128.load offset=48 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (local.set $a (i64x2.add (local.get $a) (local.get $b)))
    (i64.add (i64x2.extract_lane 0 (local.get $a)) (i64x2.extract_lane 1 (local.get $a)))))"#;

/// An instance with a memory a little larger than a chunk.
struct Guest {
    store: Store<()>,
    memory: wasmtime::Memory,
    sum: TypedFunc<(u32, u32), u64>,
    /// Where chunks are put or shown: a multiple of a huge page, as an address.
    at: usize,
}

impl Guest {
    fn new() -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, GUEST).expect("the module compiles");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("instantiates");
        let memory = instance.get_memory(&mut store, "memory").expect("exported");
        let sum = instance.get_typed_func(&mut store, "sum").expect("exported");
        let start = memory.data_ptr(&store).addr();
        let at = start.next_multiple_of(BLOCK) - start;
        Self { store, memory, sum, at }
    }

    fn sum(&mut self, at: usize, len: usize) -> u64 {
        self.sum.call(&mut self.store, (at as u32, len as u32)).expect("sums")
    }

    /// Copies bytes of the region to where chunks belong.
    fn copy(&mut self, region: &Region, range: Range<usize>) {
        let into = &mut self.memory.data_mut(&mut self.store)[self.at..][..range.len()];
        region.read_at(range.start, into).expect("read_at");
    }
}

/// Shown through a window in the guest's memory.
fn guest_tied(scene: &Rc<Scene>) -> Contender {
    let (s, mut guest) = (Rc::clone(scene), Guest::new());
    let (start, len) = (guest.memory.data_ptr(&guest.store), guest.memory.data_size(&guest.store));
    // SAFETY: plain data, ours to use, which lives as long as the contender and never grows; no
    // reference into it is made, and the guest runs between our calls only.
    let space = unsafe { Space::borrow(start, len) }.expect("borrow");
    let each = move |()| {
        let (mut seen, place) = (0_u64, guest.at);
        let window = stream(&space, place, CHUNK, &s.region, |at, len| {
            seen = seen.wrapping_add(guest.sum(at, len));
        });
        assert_eq!(seen, s.sum);
        window
    };
    let untie = |window: Window| window.untie().expect("untie");
    Contender::staged("pagetie", || (), each, untie)
}

/// As many bytes as the region has, of memory that is the guest's own: the first chunk, again and again.
fn guest_in_place(scene: &Rc<Scene>, pages: Pages) -> Contender {
    let (s, mut guest) = (Rc::clone(scene), Guest::new());
    let first = chunks(s.region.len()).next().expect("a chunk");
    guest.copy(&s.region, first.clone());
    if pages == Pages::Huge {
        let start = guest.memory.data_ptr(&guest.store).wrapping_add(guest.at);
        let huge = crate::bare::collapse(start, first.len());
        if huge < first.len() {
            println!("only {} of the guest's own memory are huge", size_name(huge));
        }
    }
    // SAFETY: the first chunk of the region's own view, which nobody writes.
    let expected = unsafe { sum(s.region.as_ptr(), first.len()) };
    Contender::new("Wasmtime, in place", move || {
        for chunk in chunks(s.region.len()) {
            assert_eq!(guest.sum(guest.at, chunk.len()), expected);
        }
    })
}

/// Copied to the same place in the guest's memory, piece by piece.
fn guest_copied(scene: &Rc<Scene>, name: &'static str, piece: usize) -> Contender {
    let (s, mut guest) = (Rc::clone(scene), Guest::new());
    guest.copy(&s.region, 0..piece);
    Contender::new(name, move || {
        let mut seen = 0_u64;
        for start in (0..s.region.len()).step_by(piece) {
            guest.copy(&s.region, start..start + piece);
            seen = seen.wrapping_add(guest.sum(guest.at, piece));
        }
        assert_eq!(seen, s.sum);
    })
}

fn wasmtime(len: usize, pages: Pages, goal: f64) -> Contest {
    let scene = Scene::new(len, pages);
    let others = vec![
        (guest_in_place(&scene, pages), Goal::Time(goal)),
        (guest_copied(&scene, "Wasmtime, copied, 256 MiB a time", CHUNK), Goal::None),
        (guest_copied(&scene, "Wasmtime, copied, 1 MiB a time", 1 << 20), Goal::None),
    ];
    Contest { ours: guest_tied(&scene), others }
}

/// Every question about streaming so many bytes.
pub fn all(len: usize) -> Vec<Question> {
    let mut all = Vec::new();
    let mut ask = |what: &str, contest| all.push(Question::new(what, len, contest));
    ask("stream through a 256 MiB window, base pages", |len| native(len, Pages::Base, 1.10));
    all.push(Question::new(
        "stream through a 256 MiB window, base pages, for the first time",
        usize::min(len, 1 << 30),
        first_time,
    ));
    let mut ask = |what: &str, contest| all.push(Question::new(what, len, contest));
    ask("stream through a 256 MiB window, Wasmtime, base pages", |len| {
        wasmtime(len, Pages::Base, 1.10)
    });
    if Pages::huge_works() {
        ask("stream through a 256 MiB window, huge pages", |len| native(len, Pages::Huge, 1.03));
        ask("stream through a 256 MiB window, Wasmtime, huge pages", |len| {
            wasmtime(len, Pages::Huge, 1.03)
        });
    }
    all
}

/// How memory grows while a region is streamed that was scanned in place before: the usage before, and
/// the most of all chunks.
pub fn growth(len: usize, pages: Pages) -> (Usage, Usage) {
    let scene = Scene::new(len, pages);
    scene.in_place();
    let before = Usage::now();
    let mut most = Usage::default();
    let window = stream(&scene.space, 0, CHUNK, &scene.region, |at, len| {
        let start = scene.space.as_ptr().wrapping_add(at);
        // SAFETY: the window shows that much there, and nobody writes it.
        black_box(unsafe { sum(black_box(start), len) });
        let now = Usage::now();
        most = Usage { pss: most.pss.max(now.pss), tables: most.tables.max(now.tables) };
    });
    window.untie().expect("untie");
    (before, most)
}
