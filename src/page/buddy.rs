//! The buddy allocator: free blocks by order and list, split on the way out, merged on the way in.
//!
//! Only `zone.rs` holds one, behind the zone's lock, which guards everything here: the lists, the words of
//! pages on them, and the pageblocks' free counts and types.
//!
//! Below a pageblock's order a block is on the list of its pageblock's migratetype. From that order up it is
//! wholly free pageblocks, which have no type worth keeping: they become Movable, and the two lists tell
//! whether something backs them (`DIRTY`) or they read as zero (`CLEAN`). Dirty ones go out first: they cost
//! no fault, and what stays clean needs no giving back.
#![forbid(unsafe_code)]

use core::num::NonZeroU32;

use super::mm_types::{Backing, FreeBlock, Kind, Word};
use super::section::MemMap;
use super::watermark::Boost;
use crate::base::list::List;
use crate::base::pfn::{Migratetype, NR_ORDERS, Order, PAGEBLOCK_PAGES, Pfn};
use crate::sys::bug::{bug, bug_on};
use crate::sys::clock_ms;

/// Lists of an order below a pageblock's: one a migratetype.
pub(crate) const NR_LISTS: usize = 3;
/// From a pageblock's order up: blocks of which some part may be backed by memory.
pub(crate) const DIRTY: usize = 0;
/// From a pageblock's order up: blocks that read as zero and that nothing backs.
pub(crate) const CLEAN: usize = 1;

/// The free blocks of one order.
#[repr(C)]
pub(crate) struct FreeArea {
    pub(crate) lists: [List; NR_LISTS],
}

impl FreeArea {
    const EMPTY: Self = Self { lists: [const { List::EMPTY }; NR_LISTS] };

    /// Free blocks of this order.
    pub(crate) fn blocks(&self) -> usize {
        self.lists.iter().map(List::len).sum()
    }
}

/// What happened, counted where it is rare: under the zone's lock.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ZoneEvents {
    /// Times the lock was taken to allocate or free.
    pub lock: u64,
    /// Blocks split in two.
    pub split: u64,
    /// Blocks merged with their buddy.
    pub merge: u64,
    /// Pageblocks taken over by another migratetype.
    pub claim: u64,
    /// Blocks taken from pageblocks of another migratetype.
    pub steal: u64,
    /// Arenas mapped.
    pub grow: u64,
    /// Pageblocks given back to the system.
    pub purge: u64,
    /// Times the system refused to take pageblocks back.
    pub purge_failed: u64,
    /// Pages given back that were free within pageblocks in use.
    pub purge_pages: u64,
    /// Pageblocks given back before that were wanted again.
    pub refault: u64,
    /// Pages given back within pageblocks that were wanted again.
    pub refault_pages: u64,
    /// Pageblocks filled with small pages that became hugepages.
    pub collapse: u64,
}

impl ZoneEvents {
    /// Adds another zone's.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            lock,
            split,
            merge,
            claim,
            steal,
            grow,
            purge,
            purge_failed,
            purge_pages,
            refault,
            refault_pages,
            collapse,
        } = other;
        self.lock += lock;
        self.split += split;
        self.merge += merge;
        self.claim += claim;
        self.steal += steal;
        self.grow += grow;
        self.purge += purge;
        self.purge_failed += purge_failed;
        self.purge_pages += purge_pages;
        self.refault += refault;
        self.refault_pages += refault_pages;
        self.collapse += collapse;
    }

    const ZERO: Self = Self {
        lock: 0,
        split: 0,
        merge: 0,
        claim: 0,
        steal: 0,
        grow: 0,
        purge: 0,
        purge_failed: 0,
        purge_pages: 0,
        refault: 0,
        refault_pages: 0,
        collapse: 0,
    };
}

/// The free memory of a zone.
#[repr(C)]
pub(crate) struct Buddy {
    pub(crate) areas: [FreeArea; NR_ORDERS],
    /// Pages on the lists.
    pub(crate) free_pages: usize,
    /// Pages of the zone's arenas.
    pub(crate) managed_pages: usize,
    /// Wholly free pageblocks that may be backed and can be given back.
    pub(crate) dirty_pageblocks: usize,
    /// Pages on the lists below a pageblock's order that may be backed and can be given back.
    pub(crate) backed_pages: usize,
    /// Blocks that are being given back, and their pages. Nothing is served from them meanwhile.
    pub(crate) isolated: List,
    pub(crate) isolated_pages: usize,
    /// What memory that was given back and is wanted again adds to what may stay: pageblocks, and pages within others.
    pub(crate) boost: Boost,
    pub(crate) boost_within: Boost,
    /// No giving back below this many dirty pageblocks: the system refused to take some.
    pub(crate) purge_from: usize,
    /// Pages in mappings of their own.
    pub(crate) dedicated_pages: usize,
    /// Those mappings, by their first page.
    pub(crate) dedicated: List,
    pub(crate) zone: u16,
    /// Whether pageblocks have migratetypes; else all are Movable.
    pub(crate) group_by_mobility: bool,
    pub(crate) events: ZoneEvents,
}

impl Buddy {
    pub(crate) const fn new(zone: u16) -> Self {
        Self {
            areas: [const { FreeArea::EMPTY }; NR_ORDERS],
            free_pages: 0,
            managed_pages: 0,
            dirty_pageblocks: 0,
            backed_pages: 0,
            isolated: List::EMPTY,
            isolated_pages: 0,
            boost: Boost::NONE,
            boost_within: Boost::NONE,
            purge_from: 0,
            dedicated_pages: 0,
            dedicated: List::EMPTY,
            zone,
            group_by_mobility: true,
            events: ZoneEvents::ZERO,
        }
    }

    /// Adds new pageblocks, from an arena that reads as zero. `pages` is whole pageblocks of one section.
    pub(crate) fn add_arena(&mut self, start: Pfn, pages: usize, backing: Backing) {
        for first in start.pageblocks(pages) {
            MemMap.pageblock(first).assign(self.zone, backing);
        }
        self.managed_pages += pages;
        self.free_run(start, pages, true);
    }

    /// Frees `pages` pages from `start` on, which the caller owns, whatever blocks they came from.
    pub(crate) fn free_run(&mut self, start: Pfn, pages: usize, zeroed: bool) {
        for block in FreeBlock::pieces(start, pages, zeroed) {
            self.free(block);
        }
    }

    /// Puts a block back and merges it with its buddy for as long as that is free.
    pub(crate) fn free(&mut self, block: FreeBlock) {
        self.free_pages += block.pages();
        if block.order() >= Order::PAGEBLOCK {
            self.mark_whole(&block);
        } else {
            let pageblock = MemMap.pageblock(block.pfn());
            pageblock.set_free(pageblock.free() + block.pages());
        }
        let mut block = block;
        while block.order() < Order::MAX {
            let Some(buddy) = self.take_buddy_of(&block) else { break };
            block = block.merge(buddy);
            self.events.merge += 1;
            if block.order() == Order::PAGEBLOCK {
                self.mark_whole(&block);
            }
        }
        self.insert(block);
    }

    /// Notes that pageblocks are wholly free now.
    fn mark_whole(&mut self, block: &FreeBlock) {
        for first in block.pageblocks() {
            let pageblock = MemMap.pageblock(first);
            pageblock.set_free(PAGEBLOCK_PAGES);
            pageblock.set_migratetype(Migratetype::Movable);
            // Memory of the hugepage pool cannot be given back, so it counts as clean only while untouched.
            pageblock.set_zeroed(block.zeroed());
            self.dirty_pageblocks += usize::from(!block.zeroed() && !pageblock.hugetlb());
        }
    }

    /// Takes the buddy off its list, if it is free as a whole and may be merged with.
    fn take_buddy_of(&mut self, block: &FreeBlock) -> Option<FreeBlock> {
        let buddy = block.pfn().buddy(block.order());
        let word = MemMap.page(buddy).word();
        let free = word.kind() == Kind::Buddy && word.zone() == self.zone && word.order() == block.order();
        let backing = |pfn| MemMap.pageblock(pfn).hugetlb();
        (free && backing(buddy) == backing(block.pfn())).then(|| self.take_block(buddy))
    }

    /// Takes the free block that starts here off its list. Free counts of pageblocks stay as they are.
    pub(crate) fn take_block(&mut self, pfn: Pfn) -> FreeBlock {
        let page = MemMap.page(pfn);
        let word = page.word();
        bug_on!(word.kind() != Kind::Buddy || word.zone() != self.zone, "a free list with a page in use");
        let list = word.list().min(NR_LISTS - 1);
        self.areas[word.order().index()].lists[list].remove(&MemMap, element(pfn));
        self.backed_pages -= if word.backed() { word.order().pages() } else { 0 };
        page.set_word(Word::NOTHING);
        FreeBlock::from_parts(pfn, word.order(), word.zeroed())
    }

    /// Puts a block on its list. No merging, no counting.
    pub(crate) fn insert(&mut self, block: FreeBlock) {
        let (pfn, order) = (block.pfn(), block.order());
        let pageblock = MemMap.pageblock(pfn);
        let list = if order < Order::PAGEBLOCK {
            pageblock.migratetype().index()
        } else if block.zeroed() {
            CLEAN
        } else {
            DIRTY
        };
        // What reads as zero has not been touched; a hugepage is there as a whole once any of it was.
        let backed =
            order < Order::PAGEBLOCK && !pageblock.hugetlb() && (!block.zeroed() || pageblock.huge());
        self.backed_pages += if backed { block.pages() } else { 0 };
        let word = Word::new(Kind::Buddy, self.zone).with_order(order).with_list(list);
        MemMap.page(pfn).set_word(word.with_zeroed(block.zeroed()).with_backed(backed));
        // Blocks that may soon grow or whose pageblock may soon be whole go to the tail, to be taken last.
        let last = order < Order::PAGEBLOCK
            && (pageblock.free() >= PAGEBLOCK_PAGES / 2 || self.parent_has_free_buddy(pfn, order));
        let list = &mut self.areas[order.index()].lists[list];
        if last { list.push_back(&MemMap, element(pfn)) } else { list.push_front(&MemMap, element(pfn)) }
    }

    /// Whether the block of the next order that holds this one has a free buddy: then freeing this block's own
    /// buddy makes two steps at once (Linux: `buddy_merge_likely`).
    fn parent_has_free_buddy(&self, pfn: Pfn, order: Order) -> bool {
        let parent = pfn.align_down(order.above()).buddy(order.above());
        let word = MemMap.page(parent).word();
        word.kind() == Kind::Buddy && word.zone() == self.zone && word.order() == order.above()
    }

    /// Takes a block of at least this order and cuts it down (Linux: `__rmqueue_smallest`). For orders below a
    /// pageblock's: from pageblocks of this type, or from whole ones, which become of this type.
    pub(crate) fn take(&mut self, order: Order, migratetype: Migratetype) -> Option<FreeBlock> {
        if order < Order::PAGEBLOCK {
            let own = order.to_pageblock().find_map(|order| {
                let first = self.areas[order.index()].lists[migratetype.index()].first()?;
                Some(self.take_block(pfn(first)))
            });
            if let Some(block) = own {
                return Some(self.cut_down(block, order));
            }
        }
        let block = self.take_whole(order.max(Order::PAGEBLOCK))?;
        if order < Order::PAGEBLOCK {
            MemMap.pageblock(block.pfn()).set_migratetype(migratetype);
        }
        Some(self.cut_down(block, order))
    }

    /// Takes whole pageblocks: exactly a block of this order, cut from the smallest dirty one, else from the
    /// smallest clean one. They count as not free from here on.
    fn take_whole(&mut self, order: Order) -> Option<FreeBlock> {
        let first = [DIRTY, CLEAN].into_iter().find_map(|list| {
            order.and_above().find_map(|order| self.areas[order.index()].lists[list].first())
        })?;
        let mut block = self.take_block(pfn(first));
        while block.order() > order {
            // The lower half goes out. Each half is as clean as its pageblocks are.
            let (lower, upper) = block.split();
            self.events.split += 1;
            self.insert(self.as_clean_as_it_is(upper));
            block = lower;
        }
        Some(self.hand_out_whole(block))
    }

    /// The block with its own cleanness, which after a split is more than that of the whole.
    pub(crate) fn as_clean_as_it_is(&self, block: FreeBlock) -> FreeBlock {
        let clean = block.pageblocks().all(|first| MemMap.pageblock(first).zeroed());
        FreeBlock::from_parts(block.pfn(), block.order(), clean)
    }

    /// As `leave_whole`, for a block that somebody wants: what was given back before was given back too early.
    pub(crate) fn hand_out_whole(&mut self, block: FreeBlock) -> FreeBlock {
        for first in block.pageblocks() {
            let pageblock = MemMap.pageblock(first);
            if pageblock.purged() {
                pageblock.set_purged(false);
                self.boost.wanted(PAGEBLOCK_PAGES, clock_ms());
                self.events.refault += 1;
            }
        }
        self.leave_whole(block)
    }

    /// Notes that the pageblocks of this block are free as a whole no longer. Their pages still are.
    pub(crate) fn leave_whole(&mut self, block: FreeBlock) -> FreeBlock {
        let block = self.as_clean_as_it_is(block);
        for first in block.pageblocks() {
            let pageblock = MemMap.pageblock(first);
            self.dirty_pageblocks -= usize::from(!pageblock.zeroed() && !pageblock.hugetlb());
        }
        block
    }

    /// Cuts a block down to `order`, puts the upper halves back, and counts the rest as taken.
    pub(crate) fn cut_down(&mut self, block: FreeBlock, order: Order) -> FreeBlock {
        let mut block = block;
        while block.order() > order {
            let (lower, upper) = block.split();
            self.events.split += 1;
            self.insert(upper);
            block = lower;
        }
        self.hand_out(&block);
        block
    }

    /// Counts the pages of a block that somebody wants as free no longer.
    pub(crate) fn hand_out(&mut self, block: &FreeBlock) {
        // Clean memory of a pageblock of which parts were given back is such a part.
        if block.zeroed() && MemMap.pageblock(block.pfn()).split() {
            self.boost_within.wanted(block.pages(), clock_ms());
            self.events.refault_pages += block.pages() as u64;
        }
        self.count_taken(block);
    }

    /// Counts the block's pages as free no longer.
    pub(crate) fn count_taken(&mut self, block: &FreeBlock) {
        self.free_pages -= block.pages();
        let step = block.pages().min(PAGEBLOCK_PAGES);
        for first in block.pageblocks() {
            let pageblock = MemMap.pageblock(first);
            pageblock.set_free(pageblock.free() - step);
        }
    }
}

/// The pfn as an element of a list.
#[inline]
pub(crate) fn element(pfn: Pfn) -> NonZeroU32 {
    NonZeroU32::new(pfn.raw()).unwrap_or(NonZeroU32::MIN)
}

/// The element of a list as a pfn.
#[inline]
pub(crate) fn pfn(element: NonZeroU32) -> Pfn {
    match Pfn::from_raw(element.get()) {
        Some(pfn) => pfn,
        None => bug("bug: page 0 on a list"),
    }
}
