//! Giving arena memory back: whole free pageblocks beyond the slack, and everything when an instance goes.
//!
//! What stays mapped and free is bounded by a watermark: the slack, or an eighth of what is in use where that
//! is more. Beyond it, wholly free pageblocks are taken off the lists, given back outside the lock, and
//! freed again as clean, until half of the watermark is left. The half is the hysteresis.

use core::ptr::NonNull;

use super::buddy::{Buddy, DIRTY, pfn};
use super::mm_types::{FreeBlock, Kind, Word, bytes_of};
use super::section::{MemMap, sections};
use super::zone::Zone;
use crate::base::pfn::{Order, PAGEBLOCK_PAGES, PAGEBLOCK_SIZE, PAGEBLOCKS_PER_SECTION, Pfn};
use crate::sys::lock::{Guard, Lock};
use crate::sys::map;
use crate::sys::sync::Ordering;

/// The largest block that is given back at once: it is nobody's while the system works on it.
const PURGE_ORDER: Order = Order::new(13);

impl Zone {
    /// Pageblocks that may stay free and backed.
    fn watermark(&self, buddy: &Buddy) -> usize {
        let slack = self.slack_pages.load(Ordering::Relaxed);
        slack.max(buddy.used_pages() / 8) / PAGEBLOCK_PAGES
    }

    /// Whether more is free and backed than may be.
    pub(crate) fn has_excess(&self, buddy: &Buddy) -> bool {
        buddy.dirty_pageblocks > self.watermark(buddy).max(buddy.purge_from)
    }

    /// Gives pageblocks back until half of the watermark is left.
    #[cold]
    pub(crate) fn purge_excess(&self) {
        // Somebody who is at it already sees to this excess too; a free does not wait for system calls of others.
        self.purge(|zone, buddy| zone.watermark(buddy) / 2, Lock::try_lock);
    }

    /// Gives all wholly free pageblocks back. Returns their bytes.
    pub(crate) fn purge_all(&self) -> usize {
        self.purge(|_, _| 0, |purging| Some(purging.lock()))
    }

    fn purge(
        &self,
        keep: impl Fn(&Self, &Buddy) -> usize,
        enter: impl Fn(&Lock<()>) -> Option<Guard<'_, ()>>,
    ) -> usize {
        let mut purged = 0;
        loop {
            // Held while the block is on no list, so that whoever finds no memory can wait for it.
            let Some(_purging) = enter(&self.purging) else { return purged };
            let mut buddy = self.lock();
            let excess = buddy.dirty_pageblocks.saturating_sub(keep(self, &buddy));
            if excess == 0 {
                return purged;
            }
            let Some(block) = buddy.isolate_dirty(excess) else { return purged };
            (buddy.isolated, buddy.isolated_pages) = (block.pfn().raw(), block.pages());
            drop(buddy);
            let (pageblocks, done) = discard_dirty(&block);
            let mut buddy = self.lock();
            (buddy.isolated, buddy.isolated_pages) = (0, 0);
            let dirty = buddy.dirty_pageblocks + pageblocks;
            if done {
                buddy.events.purge += pageblocks as u64;
                buddy.purge_from = 0;
                purged += pageblocks * PAGEBLOCK_SIZE;
            } else {
                // The system refuses: asking again at each free would only cost. Wait for twice as much.
                buddy.events.purge_failed += pageblocks as u64;
                buddy.purge_from = dirty * 2;
            }
            buddy.free(FreeBlock::from_parts(block.pfn(), block.order(), done));
            if !done {
                return purged;
            }
        }
    }
}

impl Buddy {
    /// In a fork's child: puts back what the thread that gave it back, which the child does not have, left.
    pub(super) fn put_isolated_back(&mut self) {
        let (start, pages) = (Pfn::from_raw(self.isolated), self.isolated_pages);
        (self.isolated, self.isolated_pages) = (0, 0);
        if let Some(start) = start {
            self.free_run(start, pages, false);
        }
    }

    /// Takes a block that has something to give back, from the cold end, with 1 to `most` dirty pageblocks.
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
        Some(block)
    }
}

/// Pageblocks of a whole free block that may be backed.
fn dirty_in(block: &FreeBlock) -> usize {
    let pageblocks = (0..block.pages()).step_by(PAGEBLOCK_PAGES);
    pageblocks.filter(|start| !MemMap.pageblock(block.pfn().add(*start)).zeroed()).count()
}

/// Gives the pages of the dirty pageblocks of a block back. Returns how many there were, and whether all went.
fn discard_dirty(block: &FreeBlock) -> (usize, bool) {
    let mut pageblocks = 0;
    let mut done = true;
    for index in (0..block.pages()).step_by(PAGEBLOCK_PAGES) {
        let first = block.pfn().add(index);
        if !MemMap.pageblock(first).zeroed() {
            pageblocks += 1;
            // SAFETY: the block was taken off the free lists, so nobody uses these pages; they are private
            // anonymous memory of an arena, and a pageblock is whole pages of the machine.
            done &= unsafe { map::discard(MemMap.address(first), PAGEBLOCK_SIZE) };
        }
    }
    (pageblocks, done)
}

/// Unmaps an arena that nothing has been told of yet.
pub(crate) fn unmap_new(address: NonNull<u8>, length: usize) {
    // SAFETY: the caller, `Zone::map_arena`, mapped it just now and gave its address to nobody.
    unsafe { map::unmap(address, length) };
}

/// Unmaps all arenas of a zone, and forgets their pages.
///
/// # Safety
/// Nobody uses the zone or anything in it any more.
pub(crate) unsafe fn unmap_all(zone: u16) {
    for section in sections() {
        let mut index = 0;
        while index < PAGEBLOCKS_PER_SECTION {
            let ours = |index: usize| {
                index < PAGEBLOCKS_PER_SECTION
                    && MemMap.pageblock(section.add(index * PAGEBLOCK_PAGES)).zone() == zone
            };
            let first = index;
            while ours(index) {
                forget(section.add(index * PAGEBLOCK_PAGES));
                index += 1;
            }
            if let Some(length) = bytes_of((index - first) * PAGEBLOCK_PAGES).filter(|length| *length > 0) {
                let address = MemMap.address(section.add(first * PAGEBLOCK_PAGES));
                // SAFETY: these pageblocks are arenas of this zone, mapped and, says the caller, unused.
                if !unsafe { map::unmap(address, length) } {
                    // The kernel lacks room to split a mapping: the addresses are lost, the memory is not.
                    // SAFETY: as above.
                    unsafe { map::discard(address, length) };
                }
            }
            index += 1;
        }
    }
}

/// Makes the pages of a pageblock nobody's.
pub(super) fn forget(first: Pfn) {
    for index in 0..PAGEBLOCK_PAGES {
        let page = MemMap.page(first.add(index));
        // Reading first keeps struct pages that were never used unbacked.
        if page.word().kind() != Kind::Nothing {
            page.set_word(Word::NOTHING);
        }
    }
    MemMap.pageblock(first).assign(0, false);
}
