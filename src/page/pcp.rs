//! A thread's page lists (Linux: per-cpu pages): blocks of order 0 to 3 and 9 that need no zone lock.
//!
//! A value without a lock of its own: it stands behind a `Bracket` in its thread's cache, or is taken by
//! whoever drains. Lists count blocks, `count` counts base pages. Order 9 has its own budget, in blocks, since
//! one block of it would push out every small page.
#![forbid(unsafe_code)]

use super::buddy::{element, pfn};
use super::mm_types::{FreeBlock, Kind, Word};
use super::section::MemMap;
use super::zone::Zone;
use crate::base::budget::Budget;
use crate::base::list::List;
use crate::base::pfn::{HUGEPAGE_ORDER, Migratetype, Order, PAGE_SIZE};
use crate::sys::sync::Ordering;

/// The largest order of the ordinary lists (Linux: `PAGE_ALLOC_COSTLY_ORDER`).
pub(crate) const COSTLY_ORDER: u32 = 3;
/// Lists: one a migratetype for orders 0 to 3, then for order 9.
pub(crate) const NR_PCP_LISTS: usize = 3 * (COSTLY_ORDER as usize + 2);
/// Blocks of order 9 that one thread keeps.
const MAX_HUGE: u32 = 2;
/// What `high` grows to in steps of batch, in batches.
const HIGH_MAX: u32 = 32;
/// What `high` settles at while demand is low, in batches: what a thread that only frees may keep. Linux keeps four;
/// here more than one only lets pages grow cold (docs/EXPERIMENT.md).
const HIGH_MIN: u32 = 1;
/// What `high` starts at, in pages.
const FIRST_HIGH: u32 = 8;

/// What happened to one thread's lists.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct PcpEvents {
    /// Times an empty list was filled from the zone.
    pub refill: u64,
    /// Times full lists gave blocks back to the zone.
    pub spill: u64,
    /// Times the lists were emptied, by their owner or by others.
    pub drain: u64,
}

/// The page lists of one thread.
#[repr(C)]
pub(crate) struct Pcp {
    lists: [List; NR_PCP_LISTS],
    /// Base pages on the lists, order 9 not counted.
    count: u32,
    /// Blocks of order 9 on the lists.
    huge: u32,
    /// Blocks of order 9 that the lists may hold. Asked for once and kept, since all threads share the budget: a
    /// counter that each block changed would go from processor to processor.
    huge_granted: u32,
    /// The most base pages that the lists hold. 0 until the first miss.
    high: u32,
    /// Refills since the last spill: none means that the thread only frees.
    refills: u32,
    /// The node whose zone the blocks are of, all of them.
    node: u32,
    pub(crate) events: PcpEvents,
}

/// The list for blocks of this order, `None` where the lists do not hold it.
#[inline]
fn pindex(order: Order, migratetype: Migratetype) -> Option<usize> {
    let base = match order.get() {
        order @ 0..=COSTLY_ORDER => order as usize,
        HUGEPAGE_ORDER => COSTLY_ORDER as usize + 1,
        _ => return None,
    };
    Some(3 * base + migratetype.index())
}

impl Pcp {
    pub(crate) const fn new() -> Self {
        Self {
            lists: [const { List::EMPTY }; NR_PCP_LISTS],
            count: 0,
            huge: 0,
            huge_granted: 0,
            high: 0,
            refills: 0,
            node: 0,
            events: PcpEvents { refill: 0, spill: 0, drain: 0 },
        }
    }

    /// The node that the lists serve.
    pub(crate) fn node(&self) -> usize {
        self.node as usize
    }

    /// Makes the lists serve another node than `zone`'s, which gets what they hold.
    pub(crate) fn move_to(&mut self, node: usize, zone: &Zone, budget: &Budget) {
        self.drain(zone, budget);
        self.node = node as u32;
    }

    /// Whether blocks of this order are kept on lists now.
    #[inline]
    pub(crate) fn serves(zone: &Zone, order: Order) -> bool {
        order == Order::ZERO
            || (matches!(order.get(), 1..=COSTLY_ORDER | HUGEPAGE_ORDER)
                && zone.high_orders.load(Ordering::Relaxed))
    }

    /// Takes a block of an order that the lists serve. `None` means out of memory.
    #[inline]
    pub(crate) fn take(
        &mut self,
        zone: &Zone,
        budget: &Budget,
        order: Order,
        migratetype: Migratetype,
    ) -> Option<FreeBlock> {
        let index = pindex(order, migratetype)?;
        match self.pop(index, order) {
            Some(block) => Some(block),
            None => self.refill(zone, budget, index, order, migratetype),
        }
    }

    /// Puts a block of an order that the lists serve on its list; the lists give some back where that is too
    /// much for them.
    #[inline]
    pub(crate) fn put(&mut self, zone: &Zone, budget: &Budget, block: FreeBlock) {
        if block.order().get() == HUGEPAGE_ORDER {
            return self.put_huge(zone, budget, block);
        }
        let index = self.push(block);
        if self.count > self.high {
            self.overflow(zone, budget, index);
        }
    }

    #[inline]
    fn pop(&mut self, index: usize, order: Order) -> Option<FreeBlock> {
        let pfn = pfn(self.lists[index].pop_front(&MemMap)?);
        self.count_out(order);
        let page = MemMap.page(pfn);
        let zeroed = page.word().zeroed();
        page.set_word(Word::NOTHING);
        Some(FreeBlock::from_parts(pfn, order, zeroed))
    }

    #[inline]
    fn count_out(&mut self, order: Order) {
        if order.get() == HUGEPAGE_ORDER {
            self.huge -= 1;
        } else {
            self.count -= order.pages() as u32;
        }
    }

    /// Puts a block at the warm end of the list of its pageblock's type, and returns the list. The type may
    /// change while the block is here; the buddy lists read it again.
    #[inline]
    fn push(&mut self, block: FreeBlock) -> usize {
        let migratetype = MemMap.pageblock(block.pfn()).migratetype();
        let index = pindex(block.order(), migratetype).unwrap_or(0);
        self.lists[index].push_front(&MemMap, element(block.pfn()));
        self.note(block);
        index
    }

    /// Writes a block on a list down and counts it.
    #[inline]
    fn note(&mut self, block: FreeBlock) {
        let word = Word::new(Kind::Pcp, 0).with_order(block.order()).with_zeroed(block.zeroed());
        MemMap.page(block.pfn()).set_word(word);
        if block.order().get() == HUGEPAGE_ORDER {
            self.huge += 1;
        } else {
            self.count += block.pages() as u32;
        }
    }

    #[cold]
    fn put_huge(&mut self, zone: &Zone, budget: &Budget, block: FreeBlock) {
        if self.has_room_for_huge(zone, budget) {
            self.push(block);
        } else {
            zone.free_run(block.pfn(), block.pages());
        }
    }

    /// Whether the lists may hold one block of order 9 more; asks for it where it was not granted yet.
    fn has_room_for_huge(&mut self, zone: &Zone, budget: &Budget) -> bool {
        if self.huge == self.huge_granted && self.huge < MAX_HUGE && zone.grant_huge(budget) {
            self.huge_granted += 1;
        }
        self.huge < self.huge_granted
    }

    /// Fills an empty list, in address order, and takes the first block of it.
    #[cold]
    fn refill(
        &mut self,
        zone: &Zone,
        budget: &Budget,
        index: usize,
        order: Order,
        migratetype: Migratetype,
    ) -> Option<FreeBlock> {
        self.events.refill += 1;
        self.refills += 1;
        let batch = zone.batch();
        let huge = order.get() == HUGEPAGE_ORDER;
        // Of order 9 one to use, and one to keep where the thread and all threads together may.
        let wanted = if huge {
            1 + u32::from(self.has_room_for_huge(zone, budget))
        } else {
            self.grow_high(zone, budget);
            let wanted = (batch >> order.get()).max(2);
            if self.high >= HIGH_MAX * batch {
                self.make_room(zone, index, wanted << order.get());
            }
            let room = self.high.saturating_sub(self.count) >> order.get();
            wanted.min(room.max(1))
        };
        let mut first = None;
        zone.take_bulk(order, migratetype, wanted as usize, &mut |block| {
            if first.is_none() {
                first = Some(block);
                return;
            }
            self.lists[index].push_back(&MemMap, element(block.pfn()));
            self.note(block);
        });
        first
    }

    /// Gives cold pages of other orders back, so that `pages` find room in lists that hold as much as lists may: else
    /// pages that nobody wants would make every later refill one of a single block. Not in smaller lists, which would
    /// empty themselves in turn for each order that is asked for.
    fn make_room(&mut self, zone: &Zone, index: usize, pages: u32) {
        let lacking = (self.count + pages).saturating_sub(self.high);
        if lacking > 0 {
            self.events.spill += 1;
            self.spill(zone, index + 1, lacking.min(self.count) as usize);
        }
    }

    /// Lets the lists hold more after a miss: doubling at first, then a batch at a time. The budget may refuse.
    fn grow_high(&mut self, zone: &Zone, budget: &Budget) {
        let batch = zone.batch();
        let fixed = zone.fixed_high.load(Ordering::Relaxed);
        let (min, max) = if fixed > 0 { (fixed, fixed) } else { (HIGH_MIN * batch, HIGH_MAX * batch) };
        let to = match self.high {
            0 => FIRST_HIGH.min(max),
            high if high < min => (2 * high).min(min),
            high => (high + batch).min(max),
        };
        let more = to.saturating_sub(self.high);
        if more > 0 && budget.take(more as usize * PAGE_SIZE) {
            self.high = to;
        }
    }

    /// The lists hold more than `high` after a free.
    #[cold]
    fn overflow(&mut self, zone: &Zone, budget: &Budget, index: usize) {
        let batch = zone.batch();
        if self.high < HIGH_MIN * batch {
            self.grow_high(zone, budget);
            if self.count <= self.high {
                return;
            }
        }
        // Nothing was wanted since the last spill, so less need be kept.
        if self.refills == 0 && self.high > HIGH_MIN * batch && zone.fixed_high.load(Ordering::Relaxed) == 0 {
            let less = batch.min(self.high - HIGH_MIN * batch);
            self.high -= less;
            budget.put(less as usize * PAGE_SIZE);
        }
        self.refills = 0;
        self.events.spill += 1;
        let pages = (self.count - self.high).max(batch).min(self.count);
        self.spill(zone, index, pages as usize);
    }

    /// Gives `pages` base pages back, the coldest of each list in turn, from list `index` on, a batch to a hold
    /// of the zone's lock.
    fn spill(&mut self, zone: &Zone, mut index: usize, pages: usize) {
        let mut left = pages as isize;
        let batch = zone.batch() as usize;
        zone.free_bulk(batch, &mut || {
            if left <= 0 || self.count == 0 {
                return None;
            }
            let small = NR_PCP_LISTS - 3;
            while self.lists[index % small].is_empty() {
                index += 1;
            }
            let block = self.pop_cold(index % small);
            index += 1;
            left -= block.as_ref().map_or(0, FreeBlock::pages) as isize;
            block
        });
    }

    fn pop_cold(&mut self, index: usize) -> Option<FreeBlock> {
        let pfn = pfn(self.lists[index].pop_back(&MemMap)?);
        let page = MemMap.page(pfn);
        let word = page.word();
        self.count_out(word.order());
        page.set_word(Word::NOTHING);
        Some(FreeBlock::from_parts(pfn, word.order(), word.zeroed()))
    }

    /// Gives everything back. The lists start again at capacity 0.
    pub(crate) fn drain(&mut self, zone: &Zone, budget: &Budget) {
        self.events.drain += 1;
        budget.put(self.high as usize * PAGE_SIZE);
        self.high = 0;
        self.drain_from(0, zone, budget);
    }

    /// Gives blocks of order 9 back: of a thread that has ended they are too much to keep.
    pub(crate) fn drain_huge(&mut self, zone: &Zone, budget: &Budget) {
        self.drain_from(NR_PCP_LISTS - 3, zone, budget);
    }

    /// Gives the blocks of the lists from this one on back, those of order 9 among them.
    fn drain_from(&mut self, first: usize, zone: &Zone, budget: &Budget) {
        zone.end_huge(budget, core::mem::take(&mut self.huge_granted));
        let mut index = first;
        zone.free_bulk(zone.batch() as usize, &mut || {
            while index < NR_PCP_LISTS {
                if let Some(block) = self.pop_cold(index) {
                    return Some(block);
                }
                index += 1;
            }
            None
        });
    }

    /// Gives up lists whose thread a fork left behind: what they held is lost, what they had been granted is not.
    pub(crate) fn write_off(self, zone: &Zone, budget: &Budget) {
        budget.put(self.high as usize * PAGE_SIZE);
        zone.end_huge(budget, self.huge_granted);
    }

    /// Base pages on the lists, those of order 9 among them.
    pub(crate) fn pages(&self) -> usize {
        self.count as usize + (self.huge as usize) * (1 << HUGEPAGE_ORDER)
    }

    /// Base pages on the lists, the most that there may be, and blocks of order 9.
    pub(crate) fn counts(&self) -> (u32, u32, u32) {
        (self.count, self.high, self.huge)
    }

    /// Whether the counts are those of the lists, and each list's links and words are sound.
    pub(crate) fn is_sound(&self) -> bool {
        let blocks = |base: usize| self.lists[3 * base..3 * base + 3].iter().map(List::len).sum::<usize>();
        let small: usize = (0..=COSTLY_ORDER as usize).map(|order| blocks(order) << order).sum();
        let words = |(index, list): (usize, &List)| {
            let order = if index / 3 > COSTLY_ORDER as usize { HUGEPAGE_ORDER } else { index as u32 / 3 };
            list.is_sound(&MemMap)
                && list.iter(&MemMap).all(|element| {
                    let word = MemMap.page(pfn(element)).word();
                    word.kind() == Kind::Pcp && word.order().get() == order
                })
        };
        small == self.count as usize
            && blocks(COSTLY_ORDER as usize + 1) == self.huge as usize
            && self.lists.iter().enumerate().all(words)
    }
}
