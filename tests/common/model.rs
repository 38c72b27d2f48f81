//! A model of a heap: the blocks that the program has, and what the heap must say of them. Random operations run on
//! both.

use std::alloc::Layout;
use std::collections::BTreeMap;

use pcpmalloc::{Config, Hugepages, Instance, Migratetype, Usage};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::heap::{Block, all_are, class_bytes, layout};

/// The largest size that shares slabs.
const MAX_SMALL: usize = 8192;
/// From here on a block has a mapping of its own, and so has one aligned to more than a pageblock.
pub const DEDICATED_FROM: usize = 32 << 20;
const PAGEBLOCK: usize = 2 << 20;
const TYPES: [Migratetype; 3] = [Migratetype::Unmovable, Migratetype::Movable, Migratetype::Reclaimable];
/// What a sequence may hold at once; an allocation that would pass it is left out.
const MOST: usize = 160 << 20;

/// One operation. Blocks are named by an index into whatever blocks there are.
#[derive(Clone, Debug)]
pub enum Op {
    Alloc { size: usize, align: u32, zeroed: bool },
    Pages { order: u32, migratetype: usize },
    Resize { block: Index, size: usize },
    Free { block: Index },
    Trim,
    HighOrders(bool),
}

/// Sizes from 0 to 40 MiB, small ones much more often, and more often around a page and a pageblock.
pub fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        40 => 0_usize..300,
        25 => 0_usize..=MAX_SMALL + 4096,
        12 => (1_usize..70, 0_usize..5).prop_map(|(pages, more)| pages * 4096 + more - 2),
        8 => 8193_usize..600_000,
        5 => (1_usize..4, 0_usize..9000).prop_map(|(blocks, more)| blocks * PAGEBLOCK + more - 4500),
        2 => 2_usize << 20..14 << 20,
        1 => 24_usize << 20..40 << 20,
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let align = prop_oneof![12 => 0_u32..=4, 4 => 5_u32..=12, 2 => 13_u32..=21, 1 => Just(22_u32)];
    prop_oneof![
        12 => (size(), align, any::<bool>()).prop_map(|(size, align, zeroed)| Op::Alloc { size, align, zeroed }),
        2 => (prop_oneof![6 => 0_u32..=3, 2 => 4_u32..=9, 1 => 10_u32..=12], 0_usize..3)
            .prop_map(|(order, migratetype)| Op::Pages { order, migratetype }),
        6 => (any::<Index>(), size()).prop_map(|(block, size)| Op::Resize { block, size }),
        9 => any::<Index>().prop_map(|block| Op::Free { block }),
        1 => Just(Op::Trim),
        1 => any::<bool>().prop_map(Op::HighOrders),
    ]
}

/// Sequences of operations.
pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..160)
}

/// Settings of all kinds that a heap without a limit can have.
pub fn config() -> impl Strategy<Value = Config> {
    let numbers = (
        prop_oneof![Just(0_u32), Just(1), Just(9), 0_u32..2000],
        prop_oneof![Just(0_u32), Just(1), 1_u32..200],
        prop_oneof![Just(8_usize << 20), Just(0), Just(1 << 20), Just(1 << 30)],
    );
    (numbers, any::<bool>(), any::<bool>()).prop_map(|((high, batch, slack), orders, huge)| {
        let mut config = Config::new();
        (config.pcp_high, config.pcp_batch, config.slack) = (high, batch, slack);
        config.pcp_high_orders = orders;
        config.hugepages = if huge { Hugepages::Thp } else { Hugepages::Off };
        config
    })
}

/// A block of the model.
struct Live {
    block: Block,
    /// The order of a block of pages.
    order: Option<u32>,
    /// Whether it must be a run of an arena, must be a mapping, or may be either.
    run: Option<bool>,
}

impl Live {
    /// What is known of where a block of this layout lives.
    fn place(layout: Layout) -> Option<bool> {
        if layout.size() >= DEDICATED_FROM || layout.align() > PAGEBLOCK {
            return Some(false);
        }
        // An arena can lie across two sections, and a run cannot: then even 2 MiB get a mapping.
        (layout.size() < PAGEBLOCK).then_some(true)
    }

    fn pages(&self) -> usize {
        self.order.map_or(self.block.layout.size().div_ceil(4096).max(1), |order| 1 << order)
    }

    /// Bytes of the object that it is, if it is one.
    fn object(&self) -> Option<usize> {
        if self.order.is_none() { class_bytes(self.block.layout) } else { None }
    }
}

/// The model beside its heap.
pub struct Model<'a> {
    heap: &'a Instance,
    live: Vec<Live>,
    /// Where the blocks are: start and end.
    places: BTreeMap<usize, usize>,
    bytes: usize,
    seed: u8,
}

impl<'a> Model<'a> {
    pub fn new(heap: &'a Instance) -> Self {
        Self { heap, live: Vec::new(), places: BTreeMap::new(), bytes: 0, seed: 0 }
    }

    /// Does one operation on heap and model.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Alloc { size, align, zeroed } => self.alloc(layout(*size, 1 << align), *zeroed),
            Op::Pages { order, migratetype } => self.pages(*order, *migratetype),
            Op::Resize { block, size } => self.resize(block, *size),
            Op::Free { block } => self.free(block),
            Op::Trim => {
                self.heap.trim();
            }
            Op::HighOrders(on) => self.heap.set_pcp_high_orders(*on),
        }
    }

    fn alloc(&mut self, layout: Layout, zeroed: bool) {
        if self.bytes + layout.size() > MOST {
            return;
        }
        let address = if zeroed { self.heap.alloc_zeroed(layout) } else { self.heap.alloc(layout) };
        assert!(!address.is_null(), "{layout:?}: there is memory");
        if zeroed {
            // SAFETY: the block has this many bytes, all of them zeroed, and nobody writes to it meanwhile.
            let bytes = unsafe { std::slice::from_raw_parts(address, layout.size()) };
            assert!(all_are(bytes, 0), "{layout:?} at {address:p} is not zeroed");
        }
        self.enter(address, layout, None);
    }

    fn pages(&mut self, order: u32, migratetype: usize) {
        let migratetype = TYPES[migratetype];
        let bytes = 4096 << order;
        if self.bytes + bytes <= MOST {
            let address = self.heap.alloc_pages(order, migratetype);
            assert!(!address.is_null(), "order {order}: there is memory");
            self.enter(address, layout(bytes, bytes), Some(order));
        }
    }

    fn enter(&mut self, address: *mut u8, layout: Layout, order: Option<u32>) {
        self.seed = self.seed.wrapping_add(1).max(1);
        let block = Block::filled(address, layout, self.seed).expect("not null");
        let run = if order.is_some() { Some(true) } else { Live::place(layout) };
        self.occupy(&block);
        self.live.push(Live { block, order, run });
    }

    /// Notes where a block is; no other block may be there.
    fn occupy(&mut self, block: &Block) {
        let start = block.address.addr();
        let end = start + block.layout.size().max(1);
        let before = self.places.range(..end).next_back();
        assert!(before.is_none_or(|(_, before)| *before <= start), "{block:?} overlaps another block");
        self.places.insert(start, end);
        self.bytes += block.layout.size();
    }

    fn vacate(&mut self, block: &Block) {
        self.places.remove(&block.address.addr());
        self.bytes -= block.layout.size();
    }

    fn resize(&mut self, index: &Index, size: usize) {
        if self.live.is_empty() {
            return;
        }
        let mut live = self.live.swap_remove(index.index(self.live.len()));
        if live.order.is_none() && self.bytes + size <= MOST {
            self.vacate(&live.block);
            let was_object = live.object().is_some();
            assert!(live.block.resize(self.heap, size), "{:?} to {size}: there is memory", live.block);
            // A run stays a run while it is small enough; a mapping may stay one however small it gets.
            let fresh = Live::place(live.block.layout);
            live.run =
                if was_object || fresh == Some(false) || live.run == Some(true) { fresh } else { None };
            self.occupy(&live.block);
        }
        self.live.push(live);
    }

    fn free(&mut self, index: &Index) {
        if !self.live.is_empty() {
            let live = self.live.swap_remove(index.index(self.live.len()));
            self.vacate(&live.block);
            self.give_back(live);
        }
    }

    fn give_back(&self, live: Live) {
        match live.order {
            None => live.block.free(self.heap),
            Some(order) => {
                live.block.check();
                // SAFETY: the block came from `alloc_pages` with this order, and its user ends here.
                unsafe { self.heap.free_pages(live.block.address, order) };
            }
        }
    }

    /// Checks all blocks, recounts the heap and compares what it counts with what the model has.
    pub fn check(&self) -> Usage {
        self.live.iter().for_each(|live| live.block.check());
        let usage = self.heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
        let sum = |keep: &dyn Fn(&Live) -> bool| {
            self.live
                .iter()
                .filter(|live| live.object().is_none() && keep(live))
                .map(Live::pages)
                .sum::<usize>()
                * 4096
        };
        let objects: usize = self.live.iter().filter_map(Live::object).sum();
        assert_eq!(usage.live_objects, objects, "bytes of live objects");
        let (runs, mappings) = (usage.pages.run * 4096, usage.dedicated);
        assert_eq!(runs + mappings, sum(&|_| true), "bytes of pages: {runs} in runs, {mappings} mapped");
        assert!(runs >= sum(&|live| live.run == Some(true)), "a run has become a mapping");
        assert!(mappings >= sum(&|live| live.run == Some(false)), "a mapping has become a run");
        usage
    }

    /// Gives all blocks back; then nothing is in use, and after a trim nothing is cached either.
    pub fn finish(mut self) {
        for live in std::mem::take(&mut self.live) {
            self.give_back(live);
        }
        let usage = self.check();
        assert_eq!((usage.live_objects, usage.dedicated, usage.pages.run), (0, 0, 0));
        self.heap.trim();
        let usage = self.check();
        assert_eq!((usage.cached_objects, usage.pages.slab, usage.pages.pcp), (0, 0, 0));
        assert_eq!(usage.pages.free, usage.pages.managed);
    }
}
