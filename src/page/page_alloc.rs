//! The front door of the page layer: blocks and exact runs, through the thread's lists where it has some and
//! straight from the zone where it has none (Linux's boot pageset).
#![forbid(unsafe_code)]

use super::mm_types::{FreeBlock, Kind, Word};
use super::pcp::{COSTLY_ORDER, Pcp};
use super::run::Taken;
use super::section::MemMap;
use super::zone::Zone;
use crate::base::budget::Budget;
use crate::base::pfn::{HUGEPAGE_ORDER, Migratetype, Order, PAGES_PER_SECTION, Pfn};

/// Where a thread gets its pages.
pub(crate) struct PageAlloc<'a> {
    pub(crate) zone: &'a Zone,
    pub(crate) budget: &'a Budget,
    /// The thread's lists; `None` for a thread without a cache, or while somebody drains it.
    pub(crate) pcp: Option<&'a mut Pcp>,
}

impl PageAlloc<'_> {
    /// Takes a block of 2^order pages, aligned to its size.
    #[inline]
    pub(crate) fn alloc_pages(&mut self, order: Order, migratetype: Migratetype) -> Option<FreeBlock> {
        match &mut self.pcp {
            Some(pcp) if Pcp::serves(self.zone, order) => {
                pcp.take(self.zone, self.budget, order, migratetype)
            }
            _ => self.zone.take(order, migratetype),
        }
    }

    /// Gives a block back.
    #[inline]
    pub(crate) fn free_pages(&mut self, block: FreeBlock) {
        match &mut self.pcp {
            Some(pcp) if Pcp::serves(self.zone, block.order()) => pcp.put(self.zone, self.budget, block),
            _ => {
                let mut block = Some(block);
                self.zone.free_bulk(1, &mut || block.take());
            }
        }
    }

    /// Takes exactly `pages` pages that start at a multiple of `align`, at most a pageblock, and writes them
    /// down as a run: the object of a class, or of none (0).
    #[inline]
    pub(crate) fn alloc_run(&mut self, pages: usize, align: Order, class: usize) -> Option<Taken> {
        let order = Order::covering(pages.min(PAGES_PER_SECTION)).max(align);
        let taken = if order.get() <= COSTLY_ORDER || order.pages() == pages && order.get() == HUGEPAGE_ORDER
        {
            let block = self.alloc_pages(order, Migratetype::Movable)?;
            let taken = Taken { start: block.pfn(), zeroed: block.zeroed() };
            self.free_tail(block, pages);
            taken
        } else if pages <= PAGES_PER_SECTION {
            self.zone.take_run(pages, align, Migratetype::Movable)?
        } else {
            return None;
        };
        let page = MemMap.page(taken.start);
        page.set_run_pages(pages);
        page.set_word(Word::new(Kind::Run, self.zone.id).with_class(class as u8));
        Some(taken)
    }

    /// Gives back what a run does not need of the block it was cut from.
    #[inline]
    fn free_tail(&mut self, block: FreeBlock, pages: usize) {
        if pages < block.pages() {
            for piece in FreeBlock::pieces(block.pfn().add(pages), block.pages() - pages, block.zeroed()) {
                self.free_pages(piece);
            }
        }
    }

    /// Gives back the run that starts here.
    #[inline]
    pub(crate) fn free_run(&mut self, start: Pfn) {
        let page = MemMap.page(start);
        let pages = page.run_pages();
        page.set_word(Word::NOTHING);
        self.free_range(start, pages);
    }

    #[inline]
    fn free_range(&mut self, start: Pfn, pages: usize) {
        if pages <= 1 << COSTLY_ORDER || pages == 1 << HUGEPAGE_ORDER && start.is_aligned(Order::PAGEBLOCK) {
            for piece in FreeBlock::pieces(start, pages, false) {
                self.free_pages(piece);
            }
        } else {
            self.zone.free_run(start, pages);
        }
    }

    /// Makes the run that starts here `pages` pages long, where it stands. False leaves it as it was.
    pub(crate) fn resize_run(&mut self, start: Pfn, pages: usize) -> bool {
        let page = MemMap.page(start);
        let before = page.run_pages();
        if pages > before {
            if self.zone.extend_run(start, before, pages - before).is_none() {
                return false;
            }
            page.set_run_pages(pages);
        } else if pages < before {
            page.set_run_pages(pages);
            self.free_range(start.add(pages), before - pages);
        }
        true
    }
}
