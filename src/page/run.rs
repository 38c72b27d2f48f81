//! Exact runs of pages: found in the buddy lists, trimmed and extended in place. Part of the buddy allocator,
//! under the zone's lock.
//!
//! Up to a pageblock, a block of 2^n pages is taken and its tail goes back; free pages right before it are used up
//! first, so that runs of sizes between two powers of two stand one after another and leave no holes. Above, a run is
//! whole adjacent free pageblocks, wherever they start, and the tail of the last one goes back.
#![forbid(unsafe_code)]

use super::buddy::Buddy;
use super::fallback::Mode;
use super::mm_types::{FreeBlock, Kind};
use super::section::{MemMap, sections};
use crate::base::pfn::{Migratetype, Order, PAGEBLOCK_PAGES, PAGEBLOCKS_PER_SECTION, PAGES_PER_SECTION, Pfn};

/// A run on its way out: where it starts, and whether it reads as zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) start: Pfn,
    pub(crate) zeroed: bool,
}

impl Buddy {
    /// Takes exactly `pages` pages (1 to a section) that start at a multiple of `align`. `None` means that no
    /// such run is free.
    pub(crate) fn take_run(&mut self, pages: usize, align: Order, migratetype: Migratetype) -> Option<Taken> {
        let order = Order::covering(pages).max(align);
        if let Some(block) = self.take_from_any(order, migratetype, &mut Mode::Own) {
            if pages < block.pages() && align == Order::ZERO && order < Order::PAGEBLOCK {
                return Some(self.pack(block, pages));
            }
            let taken = Taken { start: block.pfn(), zeroed: block.zeroed() };
            let rest = block.pages() - pages;
            // From a block of many pageblocks each part goes back as clean as it is.
            self.put_back(block.pfn().add(pages).index(), rest, block);
            return Some(taken);
        }
        // An order above a pageblock's asks for more than the run needs.
        if order > Order::PAGEBLOCK { self.take_adjacent(pages) } else { None }
    }

    /// As `take_run`, with as many free pages again right behind it, for a run that grows and may go on growing. `None`
    /// where there is no such place.
    pub(crate) fn take_run_with_room(&mut self, pages: usize) -> Option<Taken> {
        let room = pages.checked_mul(2).filter(|pages| *pages <= PAGES_PER_SECTION)?;
        let taken = self.take_run(room, Order::ZERO, Migratetype::Movable)?;
        let behind = taken.start.add(pages);
        if room > PAGEBLOCK_PAGES {
            self.free_by_pageblock(behind, pages);
        } else {
            self.free_run(behind, pages, taken.zeroed);
        }
        Some(taken)
    }

    /// A run of `pages` pages, fewer than this block has: it starts where the free pages right before the block do, and
    /// ends in the block only if they are too few. So what is left over is never behind a run but for the last one.
    fn pack(&mut self, block: FreeBlock, pages: usize) -> Taken {
        let (mut start, mut before) = (block.pfn(), 0);
        // With twice as many before it, what stands before those is a place for a run by itself.
        while before < 2 * pages
            && let Some(head) = self.free_block_before(start)
        {
            before += MemMap.page(head).word().order().pages();
            start = head;
        }
        let (mut next, mut left, mut zeroed) = (start, pages, true);
        while left > 0 && next < block.pfn() {
            let part = self.take_block(next);
            self.hand_out(&part);
            let used = part.pages().min(left);
            (left, zeroed, next) = (left - used, zeroed && part.zeroed(), next.add(used));
            self.free_run(next, part.pages() - used, part.zeroed());
        }
        if left == 0 {
            self.free(block);
        } else {
            zeroed &= block.zeroed();
            self.put_back(block.pfn().index() + left, block.pages() - left, block);
        }
        Taken { start, zeroed }
    }

    /// The start of the free block of the same pageblock that ends where this page starts.
    fn free_block_before(&self, pfn: Pfn) -> Option<Pfn> {
        if pfn.is_aligned(Order::PAGEBLOCK) {
            return None;
        }
        let last = pfn.previous();
        Order::ZERO.to_pageblock().find_map(|order| {
            let head = last.align_down(order);
            let word = MemMap.page(head).word();
            (word.kind() == Kind::Buddy && word.zone() == self.zone && word.order() == order).then_some(head)
        })
    }

    /// Puts the last `rest` pages of a block that was just taken back, from page `index` of the section on.
    fn put_back(&mut self, index: usize, rest: usize, block: FreeBlock) {
        let Some(start) = (rest > 0).then(|| Pfn::new(block.pfn().section(), index)).flatten() else {
            return;
        };
        if block.order() <= Order::PAGEBLOCK {
            self.free_run(start, rest, block.zeroed());
            return;
        }
        self.free_by_pageblock(start, rest);
    }

    /// Frees pages of pageblocks that were whole until just now, each part as clean as its pageblock is.
    fn free_by_pageblock(&mut self, start: Pfn, pages: usize) {
        let end = start.index() + pages;
        let mut index = start.index();
        while index < end {
            let first = start.add(index - start.index());
            let part = ((first.pageblock() + 1) * PAGEBLOCK_PAGES).min(end) - index;
            self.free_run(first, part, MemMap.pageblock(first).zeroed());
            index += part;
        }
    }

    /// Takes the first adjacent whole pageblocks, in the order of sections and addresses, that hold `pages`.
    fn take_adjacent(&mut self, pages: usize) -> Option<Taken> {
        let wanted = pages.div_ceil(PAGEBLOCK_PAGES);
        if self.free_pages < wanted * PAGEBLOCK_PAGES {
            return None;
        }
        let start = sections().find_map(|section| self.adjacent_in(section, wanted))?;
        let zeroed = self.carve(start, wanted);
        let rest = wanted * PAGEBLOCK_PAGES - pages;
        if rest > 0 {
            let tail = start.add(pages);
            self.free_run(tail, rest, MemMap.pageblock(tail).zeroed());
        }
        Some(Taken { start, zeroed })
    }

    fn adjacent_in(&self, section: Pfn, wanted: usize) -> Option<Pfn> {
        let (mut adjacent, mut backing) = (0, false);
        for index in 0..PAGEBLOCKS_PER_SECTION {
            let first = section.add(index * PAGEBLOCK_PAGES);
            let pageblock = MemMap.pageblock(first);
            let free = pageblock.zone() == self.zone && pageblock.free() == PAGEBLOCK_PAGES;
            // A run has one backing, as a block has.
            let alike = adjacent == 0 || pageblock.hugetlb() == backing;
            backing = pageblock.hugetlb();
            adjacent = match (free, alike) {
                (true, true) => adjacent + 1,
                (true, false) => 1,
                (false, _) => 0,
            };
            if adjacent == wanted {
                return Some(section.add((index + 1 - wanted) * PAGEBLOCK_PAGES));
            }
        }
        None
    }

    /// Takes `count` pageblocks that are wholly free, out of whatever blocks they are part of. Returns whether
    /// all of them read as zero.
    pub(super) fn carve(&mut self, start: Pfn, count: usize) -> bool {
        let end = start.index() + count * PAGEBLOCK_PAGES;
        let mut zeroed = true;
        let mut index = start.index();
        while index < end {
            let Some(head) = self.whole_block_of(start.add(index - start.index())) else { break };
            let block = self.take_block(head);
            let (from, to) = (block.pfn().index(), block.pfn().index() + block.pages());
            self.insert_range(block.pfn(), start.index().saturating_sub(from).min(block.pages()));
            if to > end {
                self.insert_range(start.add(end - start.index()), to - end);
            }
            let (from, to) = (from.max(start.index()), to.min(end));
            for piece in FreeBlock::pieces(start.add(from - start.index()), to - from, false) {
                let piece = self.hand_out_whole(piece);
                zeroed &= piece.zeroed();
                self.count_taken(&piece);
            }
            index = to;
        }
        zeroed
    }

    /// Puts whole free pageblocks that were part of a larger free block back on the lists, as they are.
    fn insert_range(&mut self, start: Pfn, pages: usize) {
        if pages == 0 {
            return;
        }
        for piece in FreeBlock::pieces(start, pages, false) {
            let piece = self.as_clean_as_it_is(piece);
            self.insert(piece);
        }
    }

    /// The start of the free block that holds this whole free pageblock.
    pub(super) fn whole_block_of(&self, pfn: Pfn) -> Option<Pfn> {
        Order::PAGEBLOCK.and_above().find_map(|order| {
            let head = pfn.align_down(order);
            let word = MemMap.page(head).word();
            (word.kind() == Kind::Buddy && word.zone() == self.zone && word.order() >= order).then_some(head)
        })
    }

    /// Takes the `more` pages right after a run of `pages` pages, if all of them are free. Returns whether they
    /// read as zero.
    pub(crate) fn extend_run(&mut self, start: Pfn, pages: usize, more: usize) -> Option<bool> {
        let end = start.index() + pages + more;
        if end > PAGES_PER_SECTION {
            return None;
        }
        // A run ends where a block ends, so what follows is free only as blocks that start right there.
        let mut next = start.index() + pages;
        while next < end {
            let page = start.add(next - start.index());
            let word = MemMap.page(page).word();
            let alike = MemMap.pageblock(page).hugetlb() == MemMap.pageblock(start).hugetlb();
            if word.kind() != Kind::Buddy || word.zone() != self.zone || !alike {
                return None;
            }
            next += word.order().pages();
        }
        let mut zeroed = true;
        let mut next = start.add(pages);
        let mut left = more;
        while left > 0 {
            let block = self.take_block(next);
            let whole = block.order() >= Order::PAGEBLOCK;
            let block = if whole { self.hand_out_whole(block) } else { block };
            self.hand_out(&block);
            let used = block.pages().min(left);
            zeroed &= block.zeroed();
            left -= used;
            let rest = block.pages() - used;
            if rest > 0 {
                self.put_back(block.pfn().index() + used, rest, block);
                break;
            }
            next = next.add(if left > 0 { used } else { 0 });
        }
        Some(zeroed)
    }
}
