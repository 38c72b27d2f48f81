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
use crate::sys::lock::{Guard, Lock};
use crate::sys::map;

/// Blocks that are isolated at a time.
const BATCH: usize = 64;
/// The largest block that is isolated, and the most that are together: nobody can have them meanwhile.
const PURGE_ORDER: Order = Order::new(13);
const BATCH_PAGES: usize = 4 << 13;
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
}

impl Within {
    /// The smallest order that is given back of a pageblock with `free` free pages, `None` for nothing.
    fn least_order(self, free: usize, huge: bool) -> Option<Order> {
        let (split_from, all_from) = match self {
            Self::Worth => (SPLIT_FROM, ALL_FROM),
            Self::All => (PAGEBLOCK_PAGES / 2, 1),
        };
        if !(1..PAGEBLOCK_PAGES).contains(&free) || huge && free < split_from {
            return None;
        }
        Some(if free >= all_from { Order::covering(map::os_page_size() / PAGE_SIZE) } else { LEAST_ORDER })
    }
}

/// Blocks on their way back to the system.
struct Batch {
    blocks: [Option<FreeBlock>; BATCH],
    length: usize,
    pages: usize,
}

impl Batch {
    const fn new() -> Self {
        Self { blocks: [const { None }; BATCH], length: 0, pages: 0 }
    }

    fn has_room(&self) -> bool {
        self.length < BATCH && self.pages < BATCH_PAGES
    }

    fn push(&mut self, block: FreeBlock) {
        self.pages += block.pages();
        self.blocks[self.length] = Some(block);
        self.length += 1;
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
            self.purge_within(Within::All);
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
            let mut batch = Batch::new();
            {
                let mut buddy = self.lock();
                let mut excess = buddy.dirty_pageblocks.saturating_sub(keep(self, &mut buddy));
                while excess > 0 && batch.has_room() {
                    let before = buddy.dirty_pageblocks;
                    let Some(block) = buddy.isolate_dirty(excess) else { break };
                    excess -= before - buddy.dirty_pageblocks;
                    batch.push(block);
                }
            }
            if batch.length == 0 {
                return purged;
            }
            let (pageblocks, done) = discard_dirty(&batch);
            let mut buddy = self.lock();
            batch.blocks.into_iter().flatten().for_each(|block| buddy.free_isolated(block, done));
            if !done {
                // The system refuses: asking again at each free would only cost. Wait for twice as much.
                buddy.events.purge_failed += pageblocks as u64;
                buddy.purge_from = buddy.dirty_pageblocks * 2;
                return purged;
            }
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
                let mut batch = Batch::new();
                {
                    let mut buddy = self.lock();
                    let to = (next + SCAN).min(PAGEBLOCKS_PER_SECTION);
                    while next < to && batch.length == 0 {
                        buddy.isolate_within(section.add(next * PAGEBLOCK_PAGES), within, &mut batch);
                        // A pageblock with more than one batch holds is looked at again.
                        next += usize::from(batch.has_room());
                    }
                }
                if batch.length == 0 {
                    continue;
                }
                let done = discard_blocks(&batch);
                let pages = batch.pages;
                let mut buddy = self.lock();
                batch.blocks.into_iter().flatten().for_each(|block| buddy.free_isolated(block, done));
                if !done {
                    buddy.events.purge_failed += 1;
                    return purged;
                }
                buddy.events.purge_pages += pages as u64;
                purged += pages * PAGE_SIZE;
            }
        }
        purged
    }
}

impl Buddy {
    /// Takes a block that is on no list out of everybody's reach.
    fn isolate(&mut self, block: &FreeBlock) {
        let word = Word::new(Kind::Isolated, self.zone).with_order(block.order());
        MemMap.page(block.pfn()).set_word(word);
        self.isolated.push_back(&MemMap, element(block.pfn()));
        self.isolated_pages += block.pages();
    }

    fn leave_isolation(&mut self, block: &FreeBlock) {
        MemMap.page(block.pfn()).set_word(Word::NOTHING);
        self.isolated.remove(&MemMap, element(block.pfn()));
        self.isolated_pages -= block.pages();
    }

    /// Isolates a block that has something to give back, from the cold end, with 1 to `most` dirty pageblocks.
    pub(super) fn isolate_dirty(&mut self, most: usize) -> Option<FreeBlock> {
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
        self.isolate(&block);
        Some(block)
    }

    /// Isolates what is worth giving back of a pageblock that is partly in use, as far as the batch has room.
    fn isolate_within(&mut self, first: Pfn, within: Within, batch: &mut Batch) {
        let pageblock = MemMap.pageblock(first);
        let free = pageblock.free();
        if pageblock.zone() != self.zone || pageblock.hugetlb() {
            return;
        }
        let Some(least) = within.least_order(free, pageblock.huge()) else { return };
        let (mut index, mut left) = (0, free);
        while left > 0 && index < PAGEBLOCK_PAGES && batch.has_room() {
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
                self.isolate(&block);
                batch.push(block);
            }
        }
    }

    /// Frees an isolated block again, as clean if the system took it.
    pub(super) fn free_isolated(&mut self, block: FreeBlock, clean: bool) {
        self.leave_isolation(&block);
        for start in (0..block.pages()).step_by(PAGEBLOCK_PAGES).filter(|_| clean) {
            let pageblock = MemMap.pageblock(block.pfn().add(start));
            if block.order() < Order::PAGEBLOCK {
                pageblock.set_split(true);
            } else if !pageblock.zeroed() {
                pageblock.set_split(false);
                pageblock.set_purged(true);
            }
        }
        self.free(FreeBlock::from_parts(block.pfn(), block.order(), clean));
    }

    /// In a fork's child: frees what the thread that gave it back, which the child does not have, left isolated.
    pub(super) fn put_isolated_back(&mut self) {
        while let Some(first) = self.isolated.first() {
            let first = pfn(first);
            let block = FreeBlock::from_parts(first, MemMap.page(first).word().order(), false);
            self.free_isolated(block, false);
        }
    }
}

/// Pageblocks of a whole free block that may be backed.
fn dirty_in(block: &FreeBlock) -> usize {
    let starts = (0..block.pages()).step_by(PAGEBLOCK_PAGES);
    starts.filter(|start| !MemMap.pageblock(block.pfn().add(*start)).zeroed()).count()
}

/// Gives the dirty pageblocks of whole free blocks back. Returns how many there were, and whether all went.
fn discard_dirty(batch: &Batch) -> (usize, bool) {
    let mut ranges = Ranges::new();
    let mut pageblocks = 0;
    for block in batch.blocks.iter().flatten() {
        for index in (0..block.pages()).step_by(PAGEBLOCK_PAGES) {
            let first = block.pfn().add(index);
            if !MemMap.pageblock(first).zeroed() {
                pageblocks += 1;
                ranges.add(first, PAGEBLOCK_PAGES);
                if map::leave_out_of_dumps(MemMap.address(first), PAGEBLOCK_SIZE) {
                    MemMap.pageblock(first).set_left_out(true);
                }
            }
        }
        ranges.add_struct_pages(block);
    }
    (pageblocks, ranges.discard())
}

/// Gives whole blocks back. Returns whether all went.
fn discard_blocks(batch: &Batch) -> bool {
    let mut ranges = Ranges::new();
    for block in batch.blocks.iter().flatten() {
        ranges.add(block.pfn(), block.pages());
    }
    ranges.discard()
}
