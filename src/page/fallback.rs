//! When a migratetype has no free block of its own: claim a pageblock of another type, else steal a block.
//!
//! Part of the buddy allocator, under the zone's lock. The order is Linux's (`__rmqueue` since 6.15): own
//! blocks and whole pageblocks first, then claim from the largest foreign block down, then steal the smallest.
#![forbid(unsafe_code)]

use super::buddy::{Buddy, pfn};
use super::mm_types::{FreeBlock, Kind};
use super::section::MemMap;
use crate::base::pfn::{Migratetype, Order, PAGEBLOCK_PAGES, Pfn};

/// How the last block of a batch was found, so that the next one need not search again where nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Among the type's own blocks, or in a whole pageblock.
    Own,
    /// By claiming. The claimed pageblock's blocks are own ones now, so `Own` comes first again.
    Claim,
    /// By stealing: nothing can be claimed while the batch lasts.
    Steal,
}

impl Buddy {
    /// Takes a block of this order for this type, from wherever there is one (Linux: `__rmqueue`). `None`
    /// means that no free block of this order or above is left.
    pub(crate) fn take_from_any(
        &mut self,
        order: Order,
        migratetype: Migratetype,
        mode: &mut Mode,
    ) -> Option<FreeBlock> {
        let migratetype = if self.group_by_mobility { migratetype } else { Migratetype::Movable };
        if *mode < Mode::Steal {
            if let Some(block) = self.take(order, migratetype) {
                return Some(block);
            }
            if order < Order::PAGEBLOCK && self.claim(order, migratetype) {
                *mode = Mode::Claim;
                return self.take(order, migratetype);
            }
        }
        let block = self.steal(order, migratetype)?;
        *mode = Mode::Steal;
        Some(block)
    }

    /// Takes over a pageblock that holds a free block of at least this order, preferring the largest block.
    fn claim(&mut self, order: Order, migratetype: Migratetype) -> bool {
        for from in order.to_pageblock().rev() {
            for other in migratetype.fallbacks() {
                let Some(first) = self.areas[from.index()].lists[other.index()].first() else { continue };
                let first = pfn(first).align_down(Order::PAGEBLOCK);
                if can_claim(first, migratetype) {
                    self.change_type(first, migratetype);
                    self.events.claim += 1;
                    return true;
                }
            }
        }
        false
    }

    /// Takes the smallest block of any other type, whose pageblock keeps its type.
    fn steal(&mut self, order: Order, migratetype: Migratetype) -> Option<FreeBlock> {
        for from in order.to_pageblock() {
            for other in migratetype.fallbacks() {
                let Some(first) = self.areas[from.index()].lists[other.index()].first() else { continue };
                let block = self.take_block(pfn(first));
                self.events.steal += 1;
                return Some(self.cut_down(block, order));
            }
        }
        None
    }

    /// Gives a pageblock a new type and moves its free blocks to that type's lists (Linux:
    /// `move_freepages_block`).
    fn change_type(&mut self, first: Pfn, migratetype: Migratetype) {
        let pageblock = MemMap.pageblock(first);
        pageblock.set_migratetype(migratetype);
        let mut pages_to_move = pageblock.free();
        let mut index = 0;
        while pages_to_move > 0 && index < PAGEBLOCK_PAGES {
            let pfn = first.add(index);
            if MemMap.page(pfn).word().kind() != Kind::Buddy {
                index += 1;
                continue;
            }
            let block = self.take_block(pfn);
            index += block.pages();
            pages_to_move -= block.pages();
            self.insert(block);
        }
    }
}

/// Whether at least half of the pageblock is free or of a like type already. What is in use is read without
/// its owner's leave: a page on its way from one use to another only makes the estimate a page worse.
fn can_claim(first: Pfn, migratetype: Migratetype) -> bool {
    let pageblock = MemMap.pageblock(first);
    let mut fit = pageblock.free();
    let mut index = 0;
    while fit < PAGEBLOCK_PAGES / 2 && index < PAGEBLOCK_PAGES {
        let page = MemMap.page(first.add(index));
        let word = page.word();
        let (pages, kind) = match word.kind() {
            Kind::Slab => (1, Some(Migratetype::Unmovable)),
            Kind::Run => (page.run_pages().clamp(1, PAGEBLOCK_PAGES - index), Some(Migratetype::Movable)),
            Kind::Buddy | Kind::Pcp | Kind::Isolated => (word.order().pages(), None),
            Kind::Nothing | Kind::Dedicated => (1, None),
        };
        fit += if kind == Some(migratetype) { pages } else { 0 };
        index += pages;
    }
    fit >= PAGEBLOCK_PAGES / 2
}
