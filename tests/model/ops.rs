//! What happens in a sequence: the operations, how they are drawn, and how a failing sequence is
//! made short.
//!
//! Numbers are small and drawn without looking at the state, so that ranges often meet, often end
//! outside, and many operations have to be refused. Spaces, regions and ties are taken modulo what
//! there is, so that a sequence stays meaningful while steps are taken out of it.

use pagetie::{Access, Covered, Prefault, Prot};
use proptest::prelude::*;
use proptest::strategy::{NewTree, ValueTree};
use proptest::test_runner::TestRunner;
use std::fmt;

#[derive(Clone, Debug)]
pub enum Op {
    Tie {
        space: usize,
        tie: TieArgs,
    },
    TieAll {
        space: usize,
        ties: Vec<TieArgs>,
    },
    /// `region: None` is the one that the tie shows already.
    Retie {
        tie: usize,
        region: Option<usize>,
        offset: usize,
        skew: Skew,
    },
    Untie {
        tie: usize,
    },
    DropTie {
        tie: usize,
    },
    LeakTie {
        tie: usize,
    },
    UntieAll {
        space: usize,
    },
    Protect {
        space: usize,
        run: Run,
        prot: Prot,
    },
    Discard {
        space: usize,
        run: Run,
    },
    DiscardRegion {
        region: usize,
        run: Run,
    },
    /// Two words, one in the next page, where it `straddles`.
    HostWrite {
        region: Writer,
        page: usize,
        slot: usize,
        straddles: bool,
    },
    GuestWrite {
        space: usize,
        page: usize,
        slot: usize,
    },
    /// The owner of borrowed memory writes to the object behind it.
    OwnerWrite {
        object: usize,
        page: usize,
        slot: usize,
    },
    /// The owner of the memory changes protections behind the space's back.
    OwnerProtect {
        space: usize,
        at: usize,
        pages: usize,
        prot: Prot,
    },
    GrowRegion {
        region: usize,
        pages: usize,
        skew: Skew,
    },
    GrowSpace {
        space: usize,
        pages: usize,
        skew: Skew,
    },
    /// Pages of the host's own memory into a space; `guarded`: their home faults meanwhile.
    Lend {
        space: usize,
        at: usize,
        home: usize,
        pages: usize,
        skew: Skew,
        guarded: bool,
    },
    GiveBack {
        loan: usize,
        drop: bool,
    },
    /// Drops the handle, and makes a region of memory that the host has written in its place.
    Adopt {
        region: usize,
        pages: usize,
    },
    /// Drops the handle, whatever is tied, and makes a new region in its place.
    DropRegion {
        region: usize,
    },
    /// Drops the space, whatever is tied, and makes or borrows it again.
    DropSpace {
        space: usize,
    },
    Park {
        tie: usize,
    },
    Resume {
        parked: usize,
        space: usize,
        at: usize,
        skew: Skew,
    },
    DropParked {
        parked: usize,
    },
    DiscardMany {
        space: usize,
        runs: Vec<Run>,
    },
    Collapse {
        region: usize,
    },
    /// As the tie says, from the region's start on.
    Window {
        space: usize,
        tie: TieArgs,
    },
    Show {
        window: usize,
        bytes: Bytes,
    },
    Prepare {
        window: usize,
        bytes: Bytes,
    },
    UntieWindow {
        window: usize,
    },
    DropWindow {
        window: usize,
    },
}

impl Op {
    /// The name under which outcomes are counted.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Tie { .. } => "tie",
            Op::TieAll { .. } => "tie_all",
            Op::Retie { .. } => "retie",
            Op::Untie { .. } => "untie",
            Op::DropTie { .. } => "drop tie",
            Op::LeakTie { .. } => "leak tie",
            Op::UntieAll { .. } => "untie_all",
            Op::Protect { .. } => "protect",
            Op::Discard { .. } => "discard",
            Op::DiscardRegion { .. } => "discard region",
            Op::HostWrite { .. } => "host write",
            Op::GuestWrite { .. } => "guest write",
            Op::OwnerWrite { .. } => "owner write",
            Op::OwnerProtect { .. } => "owner protect",
            Op::GrowRegion { .. } => "grow region",
            Op::GrowSpace { .. } => "grow space",
            Op::Lend { .. } => "lend",
            Op::GiveBack { .. } => "give back",
            Op::Adopt { .. } => "adopt",
            Op::DropRegion { .. } => "drop region",
            Op::DropSpace { .. } => "drop space",
            Op::Park { .. } => "park",
            Op::Resume { .. } => "resume",
            Op::DropParked { .. } => "drop parked",
            Op::DiscardMany { .. } => "discard_many",
            Op::Collapse { .. } => "collapse",
            Op::Window { .. } => "window",
            Op::Show { .. } => "show",
            Op::Prepare { .. } => "prepare",
            Op::UntieWindow { .. } => "untie window",
            Op::DropWindow { .. } => "drop window",
        }
    }

    fn space_mut(&mut self) -> Option<&mut usize> {
        match self {
            Op::Tie { space, .. }
            | Op::TieAll { space, .. }
            | Op::UntieAll { space }
            | Op::Protect { space, .. }
            | Op::Discard { space, .. }
            | Op::GuestWrite { space, .. }
            | Op::OwnerProtect { space, .. }
            | Op::GrowSpace { space, .. }
            | Op::Lend { space, .. }
            | Op::DropSpace { space }
            | Op::Resume { space, .. }
            | Op::DiscardMany { space, .. }
            | Op::Window { space, .. } => Some(space),
            _ => None,
        }
    }
}

/// A tie as it is drawn, in pages.
#[derive(Clone)]
pub struct TieArgs {
    pub at: usize,
    pub region: usize,
    pub offset: usize,
    pub pages: usize,
    pub skew: Skew,
    pub access: Access,
    pub covered: Covered,
    pub prefault: Prefault,
    pub concurrent: bool,
}

/// One line, with what differs from the default only.
impl fmt::Debug for TieArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, region, offset, pages, skew, access, covered, prefault, concurrent } = self;
        write!(f, "{access:?} at {at}: {pages} pages of region {region} from {offset}")?;
        if *skew != Skew::None {
            write!(f, ", skew {skew:?}")?;
        }
        if *covered != Covered::Keep {
            write!(f, ", covered {covered:?}")?;
        }
        if *prefault != Prefault::No {
            write!(f, ", prefault {prefault:?}")?;
        }
        if *concurrent { write!(f, ", concurrent") } else { Ok(()) }
    }
}

/// A run of pages.
#[derive(Clone)]
pub struct Run {
    pub at: usize,
    pub pages: usize,
    pub skew: Skew,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.at, self.at + self.pages)?;
        if self.skew == Skew::None { Ok(()) } else { write!(f, " skew {:?}", self.skew) }
    }
}

/// Bytes of a region, of any alignment: lengths are counted in parts of a page.
#[derive(Clone)]
pub struct Bytes {
    pub page: usize,
    pub from: usize,
    pub parts: usize,
}

impl Bytes {
    pub const PARTS: usize = 1000;
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts of a page from {}.{:03}", self.parts, self.page, self.from)
    }
}

/// What is wrong with a range on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    None,
    /// Not on a page: the start in the space, the start in the region, the length.
    At,
    Offset,
    Len,
    /// Start and length both.
    AtAndLen,
    /// Starts far outside: near the end of the address space.
    FarAt,
    FarOffset,
}

/// Through which handle the host writes.
#[derive(Clone, Copy, Debug)]
pub enum Writer {
    Region(usize),
    /// The region that a tie keeps, whose own handle may be gone.
    OfTie(usize),
}

/// Within every space, but not always.
fn page() -> impl Strategy<Value = usize> {
    prop_oneof![10 => 0..8usize, 1 => 8..14usize]
}

/// Within every region, but not always.
fn offset() -> impl Strategy<Value = usize> {
    prop_oneof![10 => 0..5usize, 1 => 5..12usize]
}

fn pages() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 1..=3usize, 5 => 4..=5usize, 1 => 6..=9usize, 1 => Just(0)]
}

fn region() -> impl Strategy<Value = usize> {
    0..REGIONS
}

/// Mostly the space in which most happens, which [`case`] draws.
fn space() -> impl Strategy<Value = usize> {
    prop_oneof![Just(HOME), 0..SPACES]
}

/// Taken modulo what there is.
fn index() -> impl Strategy<Value = usize> {
    0..24usize
}

fn slot() -> impl Strategy<Value = usize> {
    0..super::oracle::SLOTS
}

fn skew() -> impl Strategy<Value = Skew> {
    prop_oneof![
        60 => Just(Skew::None),
        1 => Just(Skew::At),
        1 => Just(Skew::Offset),
        1 => Just(Skew::Len),
        1 => Just(Skew::AtAndLen),
        1 => Just(Skew::FarAt),
        1 => Just(Skew::FarOffset),
    ]
}

fn prot() -> impl Strategy<Value = Prot> {
    prop_oneof![Just(Prot::ReadWrite), Just(Prot::Read), Just(Prot::None)]
}

fn run() -> impl Strategy<Value = Run> {
    (page(), pages(), skew()).prop_map(|(at, pages, skew)| Run { at, pages, skew })
}

/// An item of a list is short and mostly right, since one wrong item refuses the list.
fn item() -> impl Strategy<Value = TieArgs> {
    let right = prop::option::weighted(0.9, (0..8usize, 0..4usize, 1..=2usize));
    (tie_args(), right).prop_map(|(tie, right)| match right {
        Some((at, offset, pages)) => TieArgs { at, offset, pages, skew: Skew::None, ..tie },
        None => tie,
    })
}

/// Most lists are of items that lie side by side: such that become one mapping, and such that must
/// not, since they only go on in the space, or show another region.
fn list() -> impl Strategy<Value = Vec<TieArgs>> {
    let items = prop::collection::vec(item(), 1..=4);
    (items, 0..4u8).prop_map(|(mut items, beside)| {
        for i in 1..items.len() {
            let (last, own) = (items[i - 1].clone(), items[i].clone());
            let (at, offset) = (last.at + last.pages, last.offset + last.pages);
            let next = TieArgs { at, offset, pages: own.pages, ..last };
            items[i] = match beside {
                0 => own,
                1 => next,
                2 => TieArgs { offset: own.offset, ..next },
                _ => TieArgs { region: own.region, ..next },
            };
        }
        items
    })
}

fn tie_args() -> impl Strategy<Value = TieArgs> {
    let access =
        prop_oneof![Just(Access::ReadWrite), Just(Access::ReadOnly), Just(Access::CopyOnWrite)];
    let covered = prop_oneof![3 => Just(Covered::Keep), 1 => Just(Covered::Discard)];
    let prefault = prop_oneof![
        12 => Just(Prefault::No),
        1 => Just(Prefault::Populate),
        1 => Just(Prefault::Copy),
    ];
    let how = (access, covered, prefault, prop::bool::weighted(0.2));
    let place = (page(), region(), offset(), pages(), skew());
    (place, how).prop_map(|((at, region, offset, pages, skew), how)| {
        let (access, covered, prefault, concurrent) = how;
        TieArgs { at, region, offset, pages, skew, access, covered, prefault, concurrent }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let writer = prop_oneof![
        5 => region().prop_map(Writer::Region),
        1 => index().prop_map(Writer::OfTie),
    ];
    prop_oneof![
        22 => (space(), tie_args()).prop_map(|(space, tie)| Op::Tie { space, tie }),
        10 => (space(), page(), slot())
            .prop_map(|(space, page, slot)| Op::GuestWrite { space, page, slot }),
        6 => (writer, page(), slot(), any::<bool>()).prop_map(|(region, page, slot, straddles)| {
            Op::HostWrite { region, page, slot, straddles }
        }),
        4 => index().prop_map(|tie| Op::Untie { tie }),
        3 => index().prop_map(|tie| Op::DropTie { tie }),
        1 => index().prop_map(|tie| Op::LeakTie { tie }),
        7 => (index(), prop::option::of(region()), offset(), skew())
            .prop_map(|(tie, region, offset, skew)| Op::Retie { tie, region, offset, skew }),
        6 => (space(), list()).prop_map(|(space, ties)| Op::TieAll { space, ties }),
        7 => (space(), run(), prot())
            .prop_map(|(space, run, prot)| Op::Protect { space, run, prot }),
        7 => (space(), run()).prop_map(|(space, run)| Op::Discard { space, run }),
        3 => (region(), run()).prop_map(|(region, run)| Op::DiscardRegion { region, run }),
        3 => (index(), page(), slot())
            .prop_map(|(object, page, slot)| Op::OwnerWrite { object, page, slot }),
        3 => (space(), page(), 1..=4usize, prot())
            .prop_map(|(space, at, pages, prot)| Op::OwnerProtect { space, at, pages, prot }),
        1 => space().prop_map(|space| Op::UntieAll { space }),
        2 => (region(), 5..=13usize, skew())
            .prop_map(|(region, pages, skew)| Op::GrowRegion { region, pages, skew }),
        2 => (space(), 6..=14usize, skew())
            .prop_map(|(space, pages, skew)| Op::GrowSpace { space, pages, skew }),
        6 => ((space(), page()), 0..9usize, pages(), skew(), any::<bool>())
            .prop_map(|((space, at), home, pages, skew, guarded)| {
                Op::Lend { space, at, home, pages, skew, guarded }
            }),
        4 => (index(), any::<bool>()).prop_map(|(loan, drop)| Op::GiveBack { loan, drop }),
        1 => (region(), 1..=6usize).prop_map(|(region, pages)| Op::Adopt { region, pages }),
        1 => region().prop_map(|region| Op::DropRegion { region }),
        1 => space().prop_map(|space| Op::DropSpace { space }),
        10 => parked_op(),
        13 => window_op(),
        4 => (space(), runs()).prop_map(|(space, runs)| Op::DiscardMany { space, runs }),
        1 => region().prop_map(|region| Op::Collapse { region }),
    ]
}

fn parked_op() -> impl Strategy<Value = Op> {
    let place_skew =
        prop_oneof![16 => Just(Skew::None), 1 => Just(Skew::At), 1 => Just(Skew::FarAt)];
    prop_oneof![
        10 => index().prop_map(|tie| Op::Park { tie }),
        10 => (index(), space(), page(), place_skew)
            .prop_map(|(parked, space, at, skew)| Op::Resume { parked, space, at, skew }),
        1 => index().prop_map(|parked| Op::DropParked { parked }),
    ]
}

fn window_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (space(), tie_args()).prop_map(|(space, tie)| Op::Window { space, tie }),
        14 => (index(), bytes()).prop_map(|(window, bytes)| Op::Show { window, bytes }),
        6 => (index(), bytes()).prop_map(|(window, bytes)| Op::Prepare { window, bytes }),
        1 => index().prop_map(|window| Op::UntieWindow { window }),
        1 => index().prop_map(|window| Op::DropWindow { window }),
    ]
}

/// Often whole pages, which are what begins or ends where something else does.
fn bytes() -> impl Strategy<Value = Bytes> {
    let from = prop_oneof![1 => Just(0), 2 => 0..Bytes::PARTS];
    let parts = prop_oneof![
        6 => 1..=Bytes::PARTS,
        2 => (1..=2usize).prop_map(|pages| pages * Bytes::PARTS),
        3 => 1..=4 * Bytes::PARTS,
        1 => Just(0),
    ];
    (offset(), from, parts).prop_map(|(page, from, parts)| Bytes { page, from, parts })
}

/// Short and mostly right, since one wrong item refuses the list; in any order.
fn runs() -> impl Strategy<Value = Vec<Run>> {
    let right = (0..8usize, 1..=2usize);
    let right = right.prop_map(|(at, pages)| Run { at, pages, skew: Skew::None });
    prop::collection::vec(prop_oneof![12 => right, 1 => run()], 0..=4)
}

/// As many as the world of base pages has.
const REGIONS: usize = 5;
const SPACES: usize = 5;
const HOME: usize = usize::MAX;

/// One sequence, and how its end goes.
#[derive(Clone)]
pub struct Case {
    pub ops: Vec<Op>,
    /// Every page is read after every step. Otherwise pages of zeros stay untouched for as long as
    /// nothing else touches them, and are read at the end only.
    pub eager: bool,
    /// In which order everything is dropped at the end; 0 is the order of making.
    pub drops: u32,
}

/// The steps as they are numbered in a failure, one a line.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "eager: {}, drops: {}, steps:", self.eager, self.drops)?;
        self.ops.iter().enumerate().try_for_each(|(i, op)| writeln!(f, "{i:4}: {op:?}"))
    }
}

/// Cases of `steps` operations.
pub fn case(steps: usize) -> impl Strategy<Value = Case> {
    let drops = prop_oneof![1 => Just(0), 3 => any::<u32>()];
    (Steps { op: op().boxed(), len: steps }, 0..SPACES, any::<bool>(), drops).prop_map(
        |(mut ops, home, eager, drops)| {
            for space in ops.iter_mut().filter_map(Op::space_mut) {
                if *space == HOME {
                    *space = home;
                }
            }
            Case { ops, eager, drops }
        },
    )
}

/// Sequences of exactly `len` steps, which shrink by losing steps. (A `prop::collection::vec` of
/// fixed length does not shrink below it.)
#[derive(Debug)]
pub struct Steps<O: Strategy> {
    pub op: O,
    pub len: usize,
}

impl<O: Strategy> Strategy for Steps<O> {
    type Tree = StepsTree<O::Tree>;
    type Value = Vec<O::Value>;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let steps: Result<Vec<_>, _> = (0..self.len).map(|_| self.op.new_tree(runner)).collect();
        let chunk = self.len.next_power_of_two();
        Ok(StepsTree { steps: steps?, removed: Vec::new(), chunk, at: 0, last: None })
    }
}

/// First halves, quarters and so on are taken out, down to single steps; then each step that is left
/// is made simpler.
#[derive(Debug)]
pub struct StepsTree<T> {
    steps: Vec<T>,
    /// The steps of the last removal, in case it has to be undone.
    removed: Vec<T>,
    /// How many steps the next removal takes; 0 when steps are made simpler.
    chunk: usize,
    at: usize,
    last: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Removed,
    Simplified,
}

impl<T: ValueTree> ValueTree for StepsTree<T> {
    type Value = Vec<T::Value>;

    fn current(&self) -> Self::Value {
        self.steps.iter().map(ValueTree::current).collect()
    }

    fn simplify(&mut self) -> bool {
        while self.chunk > 0 {
            if self.at < self.steps.len() {
                let end = self.steps.len().min(self.at + self.chunk);
                self.removed = self.steps.drain(self.at..end).collect();
                self.last = Some(Change::Removed);
                return true;
            }
            (self.chunk, self.at) = (self.chunk / 2, 0);
        }
        while self.at < self.steps.len() {
            if self.steps[self.at].simplify() {
                self.last = Some(Change::Simplified);
                return true;
            }
            self.at += 1;
        }
        false
    }

    fn complicate(&mut self) -> bool {
        match self.last {
            Some(Change::Removed) => {
                self.last = None;
                let count = self.removed.len();
                self.steps.splice(self.at..self.at, self.removed.drain(..));
                self.at += count;
                true
            }
            Some(Change::Simplified) => {
                let changed = self.steps[self.at].complicate();
                if !changed {
                    (self.at, self.last) = (self.at + 1, None);
                }
                // The runner needs a failing value to go on from, and asks `simplify` for the next.
                changed || self.at < self.steps.len()
            }
            None => false,
        }
    }
}
