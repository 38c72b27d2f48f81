//! Core dumps that hold only what is in use: pages on their way out of the zone are put back into dumps, before whoever
//! takes them has them. Without that setting nothing here does anything.
//!
//! A pageblock is left out from its arena's start and each time it is given back, until something of it is taken. Of
//! several threads that take from it at once each sees to it, since each may write to its part at once.
#![forbid(unsafe_code)]

use super::section::MemMap;
use crate::base::pfn::{Order, PAGEBLOCK_PAGES, PAGEBLOCK_SIZE, Pfn};
use crate::sys::map;

/// Ranges that one hold of the zone's lock takes out of pageblocks that are left out.
const MOST: usize = 8;

/// Pages that were taken, and that dumps leave out so far.
pub(super) struct Opened {
    ranges: [Option<(Pfn, usize)>; MOST],
    length: usize,
}

/// Puts one range that was taken into dumps. As `Opened::put_into_dumps`.
#[inline]
pub(super) fn put_into_dumps(start: Pfn, pages: usize) {
    let mut opened = Opened::new();
    opened.note(start, pages);
    opened.put_into_dumps();
}

impl Opened {
    #[inline]
    pub(super) const fn new() -> Self {
        Self { ranges: [None; MOST], length: 0 }
    }

    /// Whether one more range can be noted.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.length < MOST
    }

    /// Notes pages that were taken; there must be room.
    #[inline]
    pub(super) fn note(&mut self, start: Pfn, pages: usize) {
        if map::dumps_only_used() {
            self.note_left_out(start, pages);
        }
    }

    #[cold]
    fn note_left_out(&mut self, start: Pfn, pages: usize) {
        let known = |range: &Option<(Pfn, usize)>| {
            range.is_some_and(|(first, pages)| {
                first.pageblocks(pages).any(|of| of == start.align_down(Order::PAGEBLOCK))
            })
        };
        let is_known = pages <= PAGEBLOCK_PAGES && self.ranges.iter().any(known);
        if !is_known && left_out(start, pages).next().is_some() {
            self.ranges[self.length] = Some((start, pages));
            self.length += 1;
        }
    }

    /// Puts what was noted into dumps. The zone's lock is not held, and nobody has the pages yet.
    #[inline]
    pub(super) fn put_into_dumps(&self) {
        if self.length > 0 {
            self.put_all();
        }
    }

    #[cold]
    fn put_all(&self) {
        for first in self.ranges.iter().flatten().flat_map(|(start, pages)| left_out(*start, *pages)) {
            // Where the system refuses, whoever takes more of it tries again.
            if map::put_into_dumps(MemMap.address(first), PAGEBLOCK_SIZE) {
                MemMap.pageblock(first).set_left_out(false);
            }
        }
    }
}

fn left_out(start: Pfn, pages: usize) -> impl Iterator<Item = Pfn> {
    start.pageblocks(pages).filter(|first| MemMap.pageblock(*first).left_out())
}
