//! The front door of the page layer: blocks and exact runs, through the thread's lists where it has some and
//! straight from the zone where it has none (Linux's boot pageset).
#![forbid(unsafe_code)]

use super::mm_types::{FreeBlock, Kind, Word};
use super::pcp::{COSTLY_ORDER, Pcp};
use super::per_node::PerNode;
use super::run::Taken;
use super::section::MemMap;
use super::zone::Zone;
use crate::base::budget::Budget;
use crate::base::pfn::{HUGEPAGE_ORDER, Migratetype, Order, PAGES_PER_SECTION, Pfn};

/// Where a thread gets its pages.
pub(crate) struct PageAlloc<'a> {
    /// The zone that blocks are taken from.
    pub(crate) zone: &'a Zone,
    /// The instance's zones, which blocks go back to; `None` where `zone` is the only one for good.
    pub(crate) zones: Option<&'a PerNode<Zone>>,
    pub(crate) budget: &'a Budget,
    /// The thread's lists, which hold blocks of `zone`; `None` for a thread without a cache, or while somebody drains
    /// it.
    pub(crate) pcp: Option<&'a mut Pcp>,
}

impl<'a> PageAlloc<'a> {
    /// The zone that a page belongs to.
    #[inline]
    fn home(&self, page: Pfn) -> &'a Zone {
        match self.zones {
            Some(zones) if !zones.is_one() => zones.home(page),
            _ => self.zone,
        }
    }

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
        let home = self.home(block.pfn());
        match &mut self.pcp {
            Some(pcp) if home.id == self.zone.id && Pcp::serves(home, block.order()) => {
                pcp.put(home, self.budget, block)
            }
            _ => {
                let mut block = Some(block);
                home.free_bulk(1, &mut || block.take());
            }
        }
    }

    /// Takes exactly `pages` pages that start at a multiple of `align`, at most a pageblock, and writes them
    /// down as a run: the object of a class, or of none (0).
    #[inline]
    pub(crate) fn alloc_run(&mut self, pages: usize, align: Order, class: usize) -> Option<Taken> {
        let order = Order::covering(pages.min(PAGES_PER_SECTION));
        let taken = if Self::is_block(pages) && align <= order {
            let block = self.alloc_pages(order, Migratetype::Movable)?;
            Taken { start: block.pfn(), zeroed: block.zeroed() }
        } else if pages <= PAGES_PER_SECTION {
            self.zone.take_run(pages, align, Migratetype::Movable)?
        } else {
            return None;
        };
        self.enter_run(taken.start, pages, class);
        Some(taken)
    }

    /// As `alloc_run`, for a run that grows: where it can go on growing, if there is such a place.
    pub(crate) fn alloc_growing_run(&mut self, pages: usize) -> Option<Taken> {
        let taken = self.zone.take_run_with_room(pages)?;
        self.enter_run(taken.start, pages, 0);
        Some(taken)
    }

    /// Writes a run down.
    #[inline]
    fn enter_run(&self, start: Pfn, pages: usize, class: usize) {
        let page = MemMap.page(start);
        page.set_run_pages(pages);
        page.set_word(Word::new(Kind::Run, self.zone.id).with_class(class as u8));
    }

    /// Takes 1 to `wanted` runs of `pages` pages, at most a pageblock, as objects of a class, and hands the first page of
    /// each to `put`. Returns how many there were; 0 means out of memory.
    pub(crate) fn alloc_runs(
        &mut self,
        pages: usize,
        class: usize,
        wanted: usize,
        put: &mut dyn FnMut(Pfn),
    ) -> usize {
        if Self::is_block(pages) {
            return (0..wanted)
                .map_while(|_| self.alloc_run(pages, Order::ZERO, class))
                .map(|run| put(run.start))
                .count();
        }
        self.zone.take_runs(pages, wanted, &mut |run| {
            self.enter_run(run.start, pages, class);
            put(run.start);
        })
    }

    /// Whether a run of this many pages is a block that the thread's lists serve. Any other comes from the zone, which
    /// sets runs one after another: lists would keep what is left of a block of a power of two.
    #[inline]
    fn is_block(pages: usize) -> bool {
        pages.is_power_of_two() && (pages <= 1 << COSTLY_ORDER || pages == 1 << HUGEPAGE_ORDER)
    }

    /// Gives back runs of `pages` pages, all of one zone, a batch of pages to a hold of its lock where they came from
    /// there.
    pub(crate) fn free_runs(&mut self, pages: usize, starts: &mut dyn Iterator<Item = Pfn>) {
        if Self::is_block(pages) {
            return starts.for_each(|start| self.free_run(start));
        }
        let mut starts = starts.peekable();
        let Some(home) = starts.peek().map(|start| self.home(*start)) else { return };
        let mut pieces = starts.flat_map(|start| {
            let page = MemMap.page(start);
            page.set_word(Word::NOTHING);
            FreeBlock::pieces(start, page.run_pages(), false)
        });
        home.free_bulk(home.batch() as usize, &mut || pieces.next());
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
        if Self::is_block(pages) && start.is_aligned(Order::covering(pages)) {
            self.free_pages(FreeBlock::from_parts(start, Order::covering(pages), false));
        } else {
            self.home(start).free_run(start, pages);
        }
    }

    /// Makes the run that starts here `pages` pages long, where it stands. False leaves it as it was.
    pub(crate) fn resize_run(&mut self, start: Pfn, pages: usize) -> bool {
        let page = MemMap.page(start);
        let before = page.run_pages();
        if pages > before {
            if self.home(start).extend_run(start, before, pages - before).is_none() {
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
