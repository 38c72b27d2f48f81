//! Giving arena memory back to the system: wholly free pageblocks, and under pressure free pages of pageblocks
//! that are in use.
//!
//! Blocks are isolated under the zone's lock, given back without it, many by one system call, and freed again as
//! clean. Meanwhile they are on the list `isolated`, which nobody is served from; `purging` is held, so that
//! whoever finds no memory can wait for them. When to give back is the business of `watermark.rs`.
#![forbid(unsafe_code)]

use super::buddy::{Buddy, DIRTY, element, pfn};
use super::discard::Ranges;
use super::mm_types::{FreeBlock, Kind, Word};
use super::section::{MemMap, sections};
use super::zone::Zone;
use crate::base::pfn::{Order, PAGE_SIZE, PAGEBLOCK_PAGES, PAGEBLOCK_SIZE, PAGEBLOCKS_PER_SECTION, Pfn};
use crate::sys::clock_ms;
use crate::sys::lock::{Guard, Lock};
use crate::sys::map;

/// The largest block that is isolated, and the most pages that are together: nobody can have them meanwhile.
const PURGE_ORDER: Order = Order::new(13);
const BATCH_PAGES: usize = 4 << 13;
/// Ranges that one block makes at most: every other pageblock of it, and its struct pages.
const RANGES: usize = (PURGE_ORDER.pages() / PAGEBLOCK_PAGES).div_ceil(2) + 1;
/// The smallest free block of a pageblock in use that is given back: below it a system call costs more than the pages
/// are worth. Linux calls order 4 and above costly for the same reason.
const LEAST_ORDER: Order = Order::new(4);
/// A pageblock with so many free pages is split up, if it is a hugepage: what little is in use does not need one.
const SPLIT_FROM: usize = PAGEBLOCK_PAGES / 4 * 3;
/// A pageblock with so many free pages gives back even the smallest blocks: it is a few stray pages that keep it.
const ALL_FROM: usize = PAGEBLOCK_PAGES / 8 * 7;
/// Pageblocks that one hold of the lock looks into.
const SCAN: usize = 16;

/// How much of pageblocks in use goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// What is worth it by itself: blocks of 64 KiB and more, of hugepages only where three quarters are free, and all
    /// where seven eighths are.
    Worth,
    /// All that is free, as somebody asked for, but for hugepages of which less than half is.
    All,
    /// All that is free, until the limit is kept.
    ToLimit,
}

impl Within {
    /// The smallest order that is given back of a pageblock with `free` free pages, `None` for nothing.
    fn least_order(self, free: usize, huge: bool) -> Option<Order> {
        let (split_from, all_from) = match self {
            Self::Worth => (SPLIT_FROM, ALL_FROM),
            Self::All => (PAGEBLOCK_PAGES / 2, 1),
            Self::ToLimit => (1, 1),
        };
        if !(1..PAGEBLOCK_PAGES).contains(&free) || huge && free < split_from {
            return None;
        }
        Some(if free >= all_from { Order::covering(map::os_page_size() / PAGE_SIZE) } else { LEAST_ORDER })
    }
}

impl Zone {
    /// Gives pageblocks back until the low watermark is reached.
    #[cold]
    pub(crate) fn purge_excess(&self) {
        // Somebody who is at it already sees to this excess too; a free does not wait for system calls of others.
        self.purge(|zone, buddy| zone.low(buddy), Lock::try_lock);
    }

    /// Gives half of the pageblocks back that are wholly free and backed beyond the low watermark.
    pub(crate) fn purge_half(&self) {
        let mut buddy = self.lock();
        let low = self.low(&mut buddy);
        let keep = low + buddy.dirty_pageblocks.saturating_sub(low) / 2;
        drop(buddy);
        self.purge(|_, _| keep, Lock::try_lock);
    }

    /// Gives all wholly free pageblocks back. Returns their bytes.
    pub(crate) fn purge_all(&self) -> usize {
        self.purge(|_, _| 0, |purging| Some(purging.lock()))
    }

    /// Gives back what the limit leaves no room for, now that more is in use: clean memory went out, and what is free
    /// and dirty has no place beside it.
    #[cold]
    pub(crate) fn purge_to_limit(&self) {
        let keep = |zone: &Self, buddy: &mut Buddy| {
            let above = zone.above_limit(buddy).div_ceil(PAGEBLOCK_PAGES);
            buddy.dirty_pageblocks.saturating_sub(above)
        };
        self.purge(keep, |purging| Some(purging.lock()));
        if self.above_limit(&self.lock()) > 0 {
            self.purge_within(Within::ToLimit);
        }
    }

    fn purge(
        &self,
        keep: impl Fn(&Self, &mut Buddy) -> usize,
        enter: impl Fn(&Lock<()>) -> Option<Guard<'_, ()>>,
    ) -> usize {
        let mut purged = 0;
        loop {
            let Some(_purging) = enter(&self.purging) else { return purged };
            let mut ranges = Ranges::new();
            {
                let mut buddy = self.lock();
                buddy.free_what_a_fork_left();
                let mut excess = buddy.dirty_pageblocks.saturating_sub(keep(self, &mut buddy));
                while excess > 0 && ranges.has_room_for(RANGES) && buddy.isolated_pages < BATCH_PAGES {
                    let before = buddy.dirty_pageblocks;
                    let Some(block) = buddy.isolate_dirty(excess) else { break };
                    excess -= before - buddy.dirty_pageblocks;
                    add_dirty(&mut ranges, block);
                }
            }
            if ranges.is_empty() {
                return purged;
            }
            let done = ranges.discard();
            ranges.leave_out_of_dumps();
            let mut buddy = self.lock();
            let pageblocks = buddy.free_all_isolated(done) / PAGEBLOCK_PAGES;
            if !done {
                // The system refuses: asking again at each free would only cost. Wait for twice as much.
                buddy.events.purge_failed += pageblocks as u64;
                buddy.purge_from = buddy.dirty_pageblocks * 2;
                return purged;
            }
            buddy.boost.given_back(clock_ms());
            buddy.events.purge += pageblocks as u64;
            buddy.purge_from = 0;
            purged += pageblocks * PAGEBLOCK_SIZE;
        }
    }

    /// Gives back free pages of pageblocks that are in use. Returns their bytes.
    #[cold]
    pub(crate) fn purge_within(&self, within: Within) -> usize {
        let mut purged = 0;
        for section in sections() {
            let mut next = 0;
            while next < PAGEBLOCKS_PER_SECTION {
                let _purging = self.purging.lock();
                let mut ranges = Ranges::new();
                {
                    let mut buddy = self.lock();
                    buddy.free_what_a_fork_left();
                    let to = (next + SCAN).min(PAGEBLOCKS_PER_SECTION);
                    while next < to && ranges.has_room_for(1) {
                        buddy.isolate_within(section.add(next * PAGEBLOCK_PAGES), within, &mut ranges);
                        // A pageblock for which there was not enough room is looked at again.
                        next += usize::from(ranges.has_room_for(1));
                    }
                }
                if ranges.is_empty() {
                    continue;
                }
                let done = ranges.discard();
                let mut buddy = self.lock();
                let pages = buddy.free_all_isolated(done);
                if !done {
                    buddy.events.purge_failed += 1;
                    return purged;
                }
                buddy.boost_within.given_back(clock_ms());
                buddy.events.purge_pages += pages as u64;
                purged += pages * PAGE_SIZE;
                if within == Within::ToLimit && self.above_limit(&buddy) == 0 {
                    return purged;
                }
            }
        }
        purged
    }
}

/// A block that is being given back. A name: the list of them owns it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Isolated {
    pub(super) first: Pfn,
    pub(super) order: Order,
}

impl Buddy {
    /// Takes a block that is on no list out of everybody's reach.
    fn isolate(&mut self, block: FreeBlock) -> Isolated {
        let (first, order) = (block.pfn(), block.order());
        MemMap.page(first).set_word(Word::new(Kind::Isolated, self.zone).with_order(order));
        self.isolated.push_back(&MemMap, element(first));
        self.isolated_pages += order.pages();
        Isolated { first, order }
    }

    /// Frees all isolated blocks again, as clean if the system took them. Returns the pages that were dirty.
    pub(super) fn free_all_isolated(&mut self, clean: bool) -> usize {
        let mut pages = 0;
        while let Some(first) = self.isolated.pop_front(&MemMap) {
            let first = pfn(first);
            let order = MemMap.page(first).word().order();
            MemMap.page(first).set_word(Word::NOTHING);
            self.isolated_pages -= order.pages();
            for first in first.pageblocks(order.pages()) {
                let pageblock = MemMap.pageblock(first);
                let whole = order >= Order::PAGEBLOCK;
                if whole && pageblock.zeroed() {
                    continue;
                }
                pages += order.pages().min(PAGEBLOCK_PAGES);
                if clean {
                    pageblock.set_split(!whole);
                    pageblock.set_purged(whole);
                }
                // Of a pageblock in use somebody may be at it, who just took pages of it.
                if clean && whole {
                    pageblock.set_left_out(map::dumps_only_used());
                }
            }
            self.free(FreeBlock::from_parts(first, order, clean));
        }
        pages
    }

    /// Frees, as dirty, what is isolated before whoever holds `purging` isolates anything: in a fork's child what another
    /// thread of the parent was giving back, where `fork_child` could not see to it.
    fn free_what_a_fork_left(&mut self) {
        if self.isolated_pages > 0 {
            self.free_all_isolated(false);
        }
    }

    /// Isolates a block that has something to give back, from the cold end, with 1 to `most` dirty pageblocks.
    pub(super) fn isolate_dirty(&mut self, most: usize) -> Option<Isolated> {
        let found = Order::PAGEBLOCK.and_above().find_map(|order| {
            let mut blocks = self.areas[order.index()].lists[DIRTY].iter_back(&MemMap).map(pfn);
            blocks.find(|pfn| !MemMap.pageblock(*pfn).hugetlb())
        })?;
        let mut block = self.take_block(found);
        while block.order() > PURGE_ORDER || block.order() > Order::PAGEBLOCK && dirty_in(&block) > most {
            // One half at least is dirty, and that is the one to go on with; the upper one if both are, since
            // the lower one is taken first.
            let (lower, upper) = block.split();
            let (lower, upper) = (self.as_clean_as_it_is(lower), self.as_clean_as_it_is(upper));
            let (dirty, other) = if upper.zeroed() { (lower, upper) } else { (upper, lower) };
            self.insert(other);
            block = dirty;
        }
        let block = self.leave_whole(block);
        self.count_taken(&block);
        Some(self.isolate(block))
    }

    /// Isolates what is to go back of a pageblock that is partly in use, as far as there is room for ranges.
    pub(super) fn isolate_within(&mut self, first: Pfn, within: Within, ranges: &mut Ranges) {
        let pageblock = MemMap.pageblock(first);
        let free = pageblock.free();
        if pageblock.zone() != self.zone || pageblock.hugetlb() {
            return;
        }
        let Some(least) = within.least_order(free, pageblock.huge()) else { return };
        let (mut index, mut left) = (0, free);
        while left > 0 && index < PAGEBLOCK_PAGES && ranges.has_room_for(1) {
            let page = first.add(index);
            let word = MemMap.page(page).word();
            if word.kind() != Kind::Buddy {
                index += 1;
                continue;
            }
            let pages = word.order().pages();
            (index, left) = (index + pages, left - pages.min(left));
            if word.backed() && word.order() >= least {
                let block = self.take_block(page);
                self.count_taken(&block);
                let block = self.isolate(block);
                ranges.add(block.first, pages);
            }
        }
    }
}

/// Pageblocks of a whole free block that may be backed.
fn dirty_in(block: &FreeBlock) -> usize {
    block.pageblocks().filter(|first| !MemMap.pageblock(*first).zeroed()).count()
}

/// Adds the dirty pageblocks of a whole free block, and its struct pages: at most `RANGES` ranges.
fn add_dirty(ranges: &mut Ranges, block: Isolated) {
    for first in
        block.first.pageblocks(block.order.pages()).filter(|first| !MemMap.pageblock(*first).zeroed())
    {
        ranges.add(first, PAGEBLOCK_PAGES);
    }
    ranges.add_struct_pages(block.first, block.order.pages());
}
