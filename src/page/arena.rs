//! Arenas: mapping one for a zone, and unmapping all of them when an instance goes. `Zone::growing` is held while one
//! is mapped.

use core::ptr::NonNull;

use super::class_map;
use super::mm_types::{Backing, Kind, Word, bytes_of};
use super::node::is_global;
use super::section::{MemMap, cover, sections};
use super::zone::Zone;
use crate::base::config::Hugepages;
use crate::base::pfn::{
    Order, PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_PAGES, PAGEBLOCK_SIZE, PAGEBLOCKS_PER_SECTION, PAGES_PER_SECTION,
    Pfn, SECTION_SHIFT,
};
use crate::sys::bug::Line;
use crate::sys::map;
use crate::sys::sync::Ordering;

/// The largest arena that is mapped ahead of demand, in bytes.
const MAX_ARENA: usize = 1 << 30;
/// The pages that the system's pool may hold, by log2 of their sizes.
#[derive(Clone, Copy)]
enum PoolPage {
    M2 = 21,
    G1 = 30,
}

impl PoolPage {
    const fn bytes(self) -> usize {
        1 << self as u32
    }
}

const _: () = assert!(MAX_ARENA <= PAGES_PER_SECTION * PAGE_SIZE * 4 && PAGEBLOCK_SIZE <= MAX_ARENA);

/// A new arena.
pub(crate) struct Arena {
    pub(crate) address: NonNull<u8>,
    /// Bytes.
    pub(crate) length: usize,
    pub(crate) backing: Backing,
}

impl Arena {
    /// Whether it lies in more than one section.
    pub(super) fn is_across_sections(&self) -> bool {
        let start = self.address.as_ptr().addr();
        start >> SECTION_SHIFT != (start + self.length - 1) >> SECTION_SHIFT
    }
}

impl Zone {
    /// Maps an arena for at least `pages` pages that starts at a multiple of `align`: an eighth of what there is, so
    /// that what is mapped ahead of demand stays a bounded part, or just what is needed where the system refuses more.
    pub(super) fn map_arena(&self, pages: usize, align: Order) -> Option<Arena> {
        let needed = pages.div_ceil(PAGEBLOCK_PAGES).checked_mul(PAGEBLOCK_SIZE)?;
        let mapped = self.mapped_pages() << PAGE_SHIFT;
        let ahead = (mapped / 8).min(MAX_ARENA) & !(PAGEBLOCK_SIZE - 1);
        let lengths = [ahead.max(needed), needed];
        if let Some(arena) = self.map_from_pool(lengths) {
            return self.covered(arena);
        }
        let (address, length) = lengths.into_iter().find_map(|length| {
            map::map(length, align.max(Order::PAGEBLOCK).bytes()).map(|address| (address, length))
        })?;
        let backing = self.choose_backing();
        let arena = self.covered(Arena { address, length, backing })?;
        map::advise_hugepages(address, length, backing == Backing::Huge);
        map::leave_out_of_dumps(address, length);
        Some(arena)
    }

    /// An arena from the system's hugepage pool, where that is asked for: of pages of 2 MiB, and of 1 GiB once the heap is
    /// as large or where there are no others; those for the global instance only, whose arenas are never unmapped: a part
    /// of such a page cannot be. When the pool has none the zone goes on with transparent hugepages.
    fn map_from_pool(&self, lengths: [usize; 2]) -> Option<Arena> {
        if self.hugepages.load(Ordering::Relaxed) != Hugepages::Hugetlb as u8 {
            return None;
        }
        let [ahead, needed] = lengths;
        let (small, large) = (PoolPage::M2, PoolPage::G1);
        let is_large = (self.mapped_pages() << PAGE_SHIFT) + needed >= large.bytes();
        let tries = if is_large {
            [(large, needed), (small, ahead), (small, needed)]
        } else {
            [(small, ahead), (small, needed), (large, needed)]
        };
        let allowed = |page: PoolPage| page.bytes() == PAGEBLOCK_SIZE || is_global(self.id);
        let found = tries.into_iter().filter(|(page, _)| allowed(*page)).find_map(|(page, length)| {
            let length = length.checked_next_multiple_of(page.bytes())?;
            Some((map::map_hugetlb(length, page as u32)?, length))
        });
        if let Some((address, length)) = found {
            return Some(Arena { address, length, backing: Backing::Hugetlb });
        }
        self.hugepages.store(Hugepages::Thp as u8, Ordering::Relaxed);
        Line::new()
            .text("the pool of hugepages has no room (vm.nr_hugepages); using transparent hugepages")
            .print();
        None
    }

    /// A new arena that has struct pages, and a class map where that is used; without them it is of no use, and goes
    /// back.
    fn covered(&self, arena: Arena) -> Option<Arena> {
        let (address, length) = (arena.address, arena.length);
        let mapped = || !is_global(self.id) || class_map::cover(address.as_ptr().addr(), length);
        if cover(address, length) && mapped() {
            self.bind(address, length);
            return Some(arena);
        }
        // SAFETY: mapped just now, and nobody has its address.
        unsafe { map::unmap(address, length) };
        None
    }
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
    MemMap.pageblock(first).assign(0, Backing::Small);
}
