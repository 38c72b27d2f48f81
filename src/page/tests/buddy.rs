//! The buddy allocator against a model: one flag a page for in use and one for written to, and the list of what
//! is out. After the steps the recount must hold and say what the model says.
#![forbid(unsafe_code)]

use super::*;
use crate::base::pfn::{Migratetype, PAGES_PER_SECTION};
use crate::page::buddy::{CLEAN, DIRTY};
use crate::page::discard::Ranges;
use crate::page::fallback::Mode;
use crate::page::purge::Within;
use proptest::prelude::*;

const ARENAS: [Range<usize>; 2] = [3..17, 18..22];

/// What the program has.
#[derive(Clone, Copy, Debug)]
struct Live {
    start: usize,
    pages: usize,
    zeroed: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Take { order: u32, migratetype: u8 },
    TakeRun { pages: usize, align: u32 },
    Write { which: usize },
    Extend { which: usize, more: usize },
    FreePart { which: usize, from: usize, pages: usize },
    Free { which: usize },
    Purge,
    PurgeWithin { which: usize, all: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..=11_u32, 0..3_u8).prop_map(|(order, migratetype)| Step::Take { order, migratetype }),
        3 => (1..400_usize, 0..=9_u32).prop_map(|(pages, align)| Step::TakeRun { pages, align }),
        2 => (400..4000_usize, 0..=9_u32).prop_map(|(pages, align)| Step::TakeRun { pages, align }),
        4 => any::<usize>().prop_map(|which| Step::Write { which }),
        2 => (any::<usize>(), 1..1200_usize).prop_map(|(which, more)| Step::Extend { which, more }),
        3 => (any::<usize>(), any::<usize>(), any::<usize>())
            .prop_map(|(which, from, pages)| Step::FreePart { which, from, pages }),
        6 => any::<usize>().prop_map(|which| Step::Free { which }),
        1 => Just(Step::Purge),
        2 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, all)| Step::PurgeWithin { which, all }),
    ]
}

struct Model {
    field: Field,
    /// In the program's hands, or in no arena.
    used: Vec<bool>,
    /// Written to since it was new or purged.
    written: Vec<bool>,
    live: Vec<Live>,
}

impl Model {
    fn new() -> Self {
        let mut used = vec![true; PAGES_PER_SECTION];
        for arena in &ARENAS {
            used[arena.start * PAGEBLOCK_PAGES..arena.end * PAGEBLOCK_PAGES].fill(false);
        }
        Self { field: Field::new(&ARENAS), used, written: vec![false; PAGES_PER_SECTION], live: Vec::new() }
    }

    fn all_free(&self, start: usize, pages: usize) -> bool {
        start + pages <= PAGES_PER_SECTION && self.used[start..start + pages].iter().all(|used| !used)
    }

    /// Whether an aligned block of this order is free.
    fn has_block(&self, order: u32) -> bool {
        (0..PAGES_PER_SECTION).step_by(1 << order).any(|start| self.all_free(start, 1 << order))
    }

    fn has_run(&self, pages: usize, align: u32) -> bool {
        let order = Order::covering(pages).get().max(align);
        if order <= 9 {
            return self.has_block(order);
        }
        let whole = pages.next_multiple_of(PAGEBLOCK_PAGES);
        (0..PAGES_PER_SECTION).step_by(PAGEBLOCK_PAGES).any(|start| self.all_free(start, whole))
    }

    fn took(&mut self, start: usize, pages: usize, align: usize, zeroed: bool) {
        assert!(self.all_free(start, pages), "pages {start}+{pages} were handed out twice");
        assert!(start.is_multiple_of(align), "{start} is not aligned to {align}");
        let written = self.written[start..start + pages].iter().any(|written| *written);
        assert!(!(zeroed && written), "pages {start}+{pages} were written to, and count as zero");
        self.used[start..start + pages].fill(true);
        self.field.enter(start, pages);
        self.live.push(Live { start, pages, zeroed });
    }

    fn freed(&mut self, start: usize, pages: usize, zeroed: bool) {
        self.used[start..start + pages].fill(false);
        self.field.buddy.free_run(self.field.pfn(start), pages, zeroed);
    }

    fn step(&mut self, step: &Step) {
        let chosen = |which: usize| (which % self.live.len().max(1)).min(self.live.len());
        match *step {
            Step::Take { order, migratetype } => {
                let migratetype = Migratetype::from_raw(migratetype);
                let order = Order::new(order);
                match self.field.buddy.take_from_any(order, migratetype, &mut Mode::Own) {
                    Some(block) => {
                        assert_eq!(block.order(), order);
                        self.took(block.pfn().index(), block.pages(), block.pages(), block.zeroed());
                    }
                    None => assert!(!self.has_block(order.get()), "a free block was not found"),
                }
            }
            Step::TakeRun { pages, align } => {
                match self.field.buddy.take_run(pages, Order::new(align), MOVABLE) {
                    Some(run) => self.took(run.start.index(), pages, 1 << align, run.zeroed),
                    None => assert!(!self.has_run(pages, align), "a free run was not found"),
                }
            }
            Step::Write { which } => {
                let which = chosen(which);
                if let Some(live) = self.live.get_mut(which) {
                    live.zeroed = false;
                    self.written[live.start..live.start + live.pages].fill(true);
                }
            }
            Step::Extend { which, more } => self.extend(chosen(which), more),
            Step::FreePart { which, from, pages } => self.free_part(chosen(which), from, pages),
            Step::Free { which } if !self.live.is_empty() => {
                let live = self.live.swap_remove(chosen(which));
                self.field.leave(live.start);
                self.freed(live.start, live.pages, live.zeroed);
            }
            Step::Free { .. } => {}
            Step::Purge => self.purge(),
            Step::PurgeWithin { which, all } => self.purge_within(which, all),
        }
    }

    fn extend(&mut self, which: usize, more: usize) {
        let Some(live) = self.live.get(which).copied() else { return };
        let end = live.start + live.pages;
        let extended = self.field.buddy.extend_run(self.field.pfn(live.start), live.pages, more);
        assert_eq!(extended.is_some(), self.all_free(end, more));
        let Some(zeroed) = extended else { return };
        assert!(!(zeroed && self.written[end..end + more].iter().any(|written| *written)));
        self.used[end..end + more].fill(true);
        let live = &mut self.live[which];
        live.pages += more;
        live.zeroed &= zeroed;
        self.field.enter(live.start, live.pages);
    }

    /// Frees some pages out of the middle of a run; what is left of it before and after stay runs.
    fn free_part(&mut self, which: usize, from: usize, pages: usize) {
        let Some(live) = self.live.get(which).copied() else { return };
        let from = from % live.pages;
        let pages = 1 + pages % (live.pages - from);
        self.live.swap_remove(which);
        self.field.leave(live.start);
        for (start, pages) in [(live.start, from), (live.start + from + pages, live.pages - from - pages)] {
            if pages > 0 {
                self.field.enter(start, pages);
                self.live.push(Live { start, pages, zeroed: live.zeroed });
            }
        }
        self.freed(live.start + from, pages, live.zeroed);
    }

    /// What `purge` does, but for the system call.
    fn purge(&mut self) {
        let buddy = &mut self.field.buddy;
        let Some(block) = buddy.isolate_dirty(3) else {
            assert_eq!(buddy.dirty_pageblocks, 0);
            return;
        };
        let (start, pages) = (block.first.index(), block.order.pages());
        let dirty = (start..start + pages)
            .step_by(PAGEBLOCK_PAGES)
            .filter(|start| !MemMap.pageblock(self.field.pfn(*start)).zeroed())
            .count();
        assert!((1..=3).contains(&dirty), "{dirty} dirty pageblocks were taken");
        assert!(self.all_free(start, pages));
        self.written[start..start + pages].fill(false);
        self.field.buddy.free_all_isolated(true);
    }

    /// What `purge_within` does to one pageblock, but for the system call.
    fn purge_within(&mut self, which: usize, all: bool) {
        let pageblocks: Vec<_> = ARENAS.into_iter().flatten().collect();
        let first = pageblocks[which % pageblocks.len()] * PAGEBLOCK_PAGES;
        let free = self.used[first..first + PAGEBLOCK_PAGES].iter().filter(|used| !**used).count();
        let within = if all { Within::All } else { Within::Worth };
        self.field.buddy.isolate_within(self.field.pfn(first), within, &mut Ranges::new());
        for element in self.field.buddy.isolated.iter(&MemMap) {
            let block = crate::page::buddy::pfn(element);
            let (start, pages) = (block.index(), MemMap.page(block).word().order().pages());
            assert!((first..first + PAGEBLOCK_PAGES).contains(&start) && free < PAGEBLOCK_PAGES);
            assert!(self.all_free(start, pages));
            assert!(all || pages >= 16 || free >= 448, "{pages} pages of a pageblock with {free} free");
            self.written[start..start + pages].fill(false);
        }
        self.field.buddy.free_all_isolated(true);
    }

    fn check(&self) {
        let census = self.field.census();
        let free = self.used.iter().filter(|used| !**used).count();
        let run: usize = self.live.iter().map(|live| live.pages).sum();
        assert_eq!((census.free, census.run, census.pcp, census.slab), (free, run, 0, 0));
        assert_eq!(census.managed, free + run);
        for (start, pages, zeroed) in self.field.free_blocks() {
            assert!(self.all_free(start, pages));
            assert!(!(zeroed && self.written[start..start + pages].iter().any(|written| *written)));
            let words = (start + 1..start + pages).map(|index| MemMap.page(self.field.pfn(index)).word());
            assert!(words.into_iter().all(|word| word == Word::NOTHING), "a word inside a free block");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_buddy_allocator_is_its_model(steps in prop::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        for (number, step) in steps.iter().enumerate() {
            model.step(step);
            if number % 4 == 0 {
                model.check();
            }
        }
        model.check();
        for live in std::mem::take(&mut model.live) {
            model.field.leave(live.start);
            model.freed(live.start, live.pages, live.zeroed);
        }
        model.check();
        let left: Vec<_> =
            model.field.free_blocks().into_iter().map(|(start, pages, _)| (start, pages)).collect();
        prop_assert_eq!(left, ARENAS.into_iter().flat_map(maximal).collect::<Vec<_>>());
    }
}

#[test]
fn a_whole_section_is_one_block() {
    let mut field = Field::new(&[0..PAGEBLOCKS_PER_SECTION]);
    assert_eq!(field.free_blocks(), [(0, PAGES_PER_SECTION, true)]);
    let block = field.buddy.take(Order::MAX, MOVABLE).unwrap();
    field.enter(0, PAGES_PER_SECTION);
    assert_eq!(field.census().run, PAGES_PER_SECTION);
    assert!(field.buddy.take(Order::ZERO, MOVABLE).is_none());
    field.leave(0);
    field.buddy.free(block);
    let first = field.buddy.take(Order::ZERO, MOVABLE).unwrap();
    assert_eq!((field.buddy.events.split, field.buddy.free_pages), (16, PAGES_PER_SECTION - 1));
    field.buddy.free(first);
    assert_eq!((field.buddy.events.merge, field.census().free), (16, PAGES_PER_SECTION));
}

#[test]
fn used_pageblocks_go_out_before_clean_ones() {
    let mut field = Field::new(&[0..4]);
    let whole = |field: &mut Field| field.buddy.take(Order::PAGEBLOCK, MOVABLE).unwrap();
    let (first, second, third) = (whole(&mut field), whole(&mut field), whole(&mut field));
    assert!(first.zeroed() && second.zeroed() && third.zeroed());
    let used = second.pfn();
    field.buddy.free(FreeBlock::from_parts(used, Order::PAGEBLOCK, false));
    let area = &field.buddy.areas[9].lists;
    assert_eq!((area[DIRTY].len(), area[CLEAN].len(), field.buddy.dirty_pageblocks), (1, 1, 1));
    let again = whole(&mut field);
    assert!(again.pfn() == used && !again.zeroed());
    assert_eq!(field.buddy.dirty_pageblocks, 0);
}

#[test]
fn each_half_of_a_split_block_is_as_clean_as_it_is() {
    let mut field = Field::new(&[0..8]);
    let run = field.buddy.take_run(8 * PAGEBLOCK_PAGES, Order::ZERO, MOVABLE).unwrap();
    assert!(run.zeroed);
    field.buddy.free_run(field.pfn(0), 5 * PAGEBLOCK_PAGES, false);
    field.buddy.free_run(field.pfn(5 * PAGEBLOCK_PAGES), 3 * PAGEBLOCK_PAGES, true);
    assert_eq!(field.free_blocks(), [(0, 8 * PAGEBLOCK_PAGES, false)]);
    assert_eq!(field.buddy.dirty_pageblocks, 5);
    // 4 and 5 are an order-10 block of which one half is clean: all halves are told apart.
    let zeroed: Vec<_> = (0..8).map(|_| field.buddy.take(Order::PAGEBLOCK, MOVABLE).unwrap()).collect();
    let mut clean: Vec<_> = zeroed.iter().filter(|b| b.zeroed()).map(|b| b.pfn().pageblock()).collect();
    clean.sort_unstable();
    assert_eq!((clean, field.buddy.dirty_pageblocks), (vec![5, 6, 7], 0));
}

#[test]
fn memory_of_the_hugepage_pool_stays_apart() {
    let mut field = Field::new(&[0..1]);
    field.add(1..2, Backing::Hugetlb);
    assert_eq!(field.free_blocks(), [(0, 512, true), (512, 512, true)]);
    let (a, b) = (field.buddy.take(Order::PAGEBLOCK, MOVABLE), field.buddy.take(Order::PAGEBLOCK, MOVABLE));
    for block in [a.unwrap(), b.unwrap()] {
        field.buddy.free(FreeBlock::from_parts(block.pfn(), block.order(), false));
    }
    // What cannot be given back does not count as excess.
    assert_eq!((field.census().free, field.buddy.dirty_pageblocks), (1024, 1));
    assert_eq!(field.buddy.isolate_dirty(9).unwrap().first, field.pfn(0));
    assert!(field.buddy.isolate_dirty(9).is_none());
}

#[test]
fn zones_that_are_neighbours_do_not_merge() {
    let mut field = Field::new(&[0..1]);
    let mut other = Buddy::new(zone_number());
    other.add_arena(field.pfn(512), 512, Backing::Small);
    assert_eq!((field.free_blocks(), free_blocks(&other).len()), (vec![(0, 512, true)], 1));
    let run = field.buddy.take_run(3, Order::ZERO, MOVABLE).unwrap();
    assert_eq!(field.buddy.extend_run(run.start, 3, 509), Some(true));
    assert_eq!(field.buddy.extend_run(run.start, 512, 1), None);
    assert!(field.buddy.take_run(513, Order::ZERO, MOVABLE).is_none());
}

#[test]
fn a_free_block_on_no_list_of_its_own_is_noticed() {
    let mut field = Field::new(&[0..2]);
    let block = field.buddy.take(Order::ZERO, MOVABLE).unwrap();
    let broken = |field: &Field| census(&field.buddy, &mut |_| Ok(())).unwrap_err().what;
    assert_eq!(broken(&field), "a page of an arena that nobody has");
    field.enter(block.pfn().index(), 1);
    field.census();
    // A count that says free what is in use, in a pageblock where nothing is free.
    let whole = field.buddy.take(Order::PAGEBLOCK, MOVABLE).unwrap();
    field.enter(whole.pfn().index(), 512);
    field.census();
    MemMap.pageblock(whole.pfn()).set_free(512);
    assert_eq!(broken(&field), "a pageblock's count of free pages is wrong");
    MemMap.pageblock(whole.pfn()).set_free(0);
    field.buddy.free_pages += 1;
    assert_eq!(broken(&field), "the count of free pages is not that of the pages");
}
