//! Which pageblocks get transparent hugepages (Linux: `huge_memory.c`, `khugepaged.c`).
//!
//! A hugepage costs a third of the faults' time and fewer TLB misses, and 2 MiB for the first byte that is touched.
//! So a small heap stays on small pages, and a large one gets hugepages if its memory is used densely: when an arena
//! is mapped, the zone looks at some pageblocks that were filled with small pages, and asks the kernel how much of
//! them is in memory. A program that touches little of what it allocates stays on small pages. Advice is given to
//! whole arenas, since each difference splits a mapping; later pageblocks that turn out to be dense are collapsed, a
//! few with each arena, so that the time it takes is in proportion to what the program itself takes.
#![forbid(unsafe_code)]

use super::mm_types::Backing;
use super::section::{MemMap, sections};
use super::zone::Zone;
use crate::base::config::Hugepages;
use crate::base::pfn::{PAGE_SIZE, PAGEBLOCK_PAGES, PAGEBLOCK_SIZE, PAGEBLOCKS_PER_SECTION, Pfn};
use crate::sys::env::has_hugepages_of;
use crate::sys::map;
use crate::sys::sync::Ordering;

/// Above this many bytes of arenas, new ones may ask for hugepages: below some 10 MiB of heap they only cost.
const HUGEPAGES_FROM: usize = 16 << 20;
/// Above this many bytes pageblocks on small pages are collapsed: below, the time it takes is not earned.
const COLLAPSE_FROM: usize = 64 << 20;
/// Pageblocks that are asked about before an arena is mapped.
const SAMPLES: usize = 16;
/// Of what is in use in them, so many of 16 parts must be in memory for hugepages to pay.
const DENSE_16THS: usize = 10;
/// Of a pageblock so many bytes must be in memory for it to be collapsed.
const COLLAPSE_DENSE: usize = PAGEBLOCK_SIZE / 16 * 15;
/// Pageblocks that one search for some to collapse looks at, for each that it may collapse.
const LOOK_AT: usize = 8;
/// One pageblock is collapsed for so many bytes by which the heap grows.
const COLLAPSE_PART: usize = 4 * PAGEBLOCK_SIZE;

impl Zone {
    /// What is to back a new arena.
    pub(super) fn choose_backing(&self) -> Backing {
        let mapped = self.mapped_pages() * PAGE_SIZE;
        let wanted = self.wants_hugepages() && mapped >= HUGEPAGES_FROM;
        if wanted && has_hugepages_of(PAGEBLOCK_SIZE) && self.is_dense() {
            Backing::Huge
        } else {
            Backing::Small
        }
    }

    pub(crate) fn wants_hugepages(&self) -> bool {
        // Relaxed: a knob.
        self.hugepages.load(Ordering::Relaxed) != Hugepages::Off as u8
    }

    /// Pageblocks of this zone on small pages of which most is in use, from a place in the order of sections on.
    ///
    /// Without the zone's lock: where something changes at this moment, the estimate is a pageblock worse.
    fn small_backed(&self, from: usize, most_free: usize) -> impl Iterator<Item = (usize, Pfn)> {
        let pageblocks = sections().flat_map(|section| {
            (0..PAGEBLOCKS_PER_SECTION).map(move |index| {
                let place = usize::from(section.section()) * PAGEBLOCKS_PER_SECTION + index;
                (place, section.add(index * PAGEBLOCK_PAGES))
            })
        });
        pageblocks.filter(move |(place, first)| {
            let pageblock = MemMap.pageblock(*first);
            let small = pageblock.zone() == self.id && !pageblock.huge() && !pageblock.hugetlb();
            *place >= from && small && pageblock.free() <= most_free
        })
    }

    /// Whether the zone's memory is used densely, as far as pageblocks on small pages tell. Where there is none to ask,
    /// it counts as dense.
    fn is_dense(&self) -> bool {
        let in_use = || self.small_backed(0, PAGEBLOCK_PAGES / 4).map(|(_, first)| first);
        let step = in_use().count().div_ceil(SAMPLES).max(1);
        let (mut resident, mut asked) = (0, 0);
        for first in in_use().step_by(step) {
            if let Some(bytes) = map::resident(MemMap.address(first), PAGEBLOCK_SIZE) {
                resident += bytes;
                asked += PAGEBLOCK_SIZE - MemMap.pageblock(first).free() * PAGE_SIZE;
            }
        }
        resident * 16 >= asked * DENSE_16THS
    }

    /// Makes hugepages of pageblocks that small pages fill, a number in proportion to the bytes by which the zone has
    /// just grown. Contents stay what they are, whoever uses them meanwhile.
    #[cold]
    pub(super) fn collapse(&self, grown: usize) {
        if self.mapped_pages() * PAGE_SIZE < COLLAPSE_FROM {
            return;
        }
        let most = grown.div_ceil(COLLAPSE_PART);
        // Relaxed, here and below: at worst two threads look at the same pageblocks.
        let from = self.collapse_from.load(Ordering::Relaxed);
        let (mut next, mut collapsed, mut seen) = (0, 0, 0);
        for (place, first) in self.small_backed(from, 0).take(LOOK_AT * most) {
            (next, seen) = (place + 1, seen + 1);
            let address = MemMap.address(first);
            let dense = map::resident(address, PAGEBLOCK_SIZE).is_some_and(|bytes| bytes >= COLLAPSE_DENSE);
            if dense && map::collapse(address, PAGEBLOCK_SIZE) {
                let mut buddy = self.lock();
                MemMap.pageblock(first).set_huge();
                buddy.events.collapse += 1;
                collapsed += 1;
            }
            if collapsed == most {
                break;
            }
        }
        // After the last one the search starts from the beginning.
        let next = if seen < LOOK_AT * most && collapsed < most { 0 } else { next };
        self.collapse_from.store(next, Ordering::Relaxed);
    }
}
