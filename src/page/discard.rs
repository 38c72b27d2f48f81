//! Ranges of isolated pages on their way back to the system, and what backs their struct pages, many by one call.

use core::ptr::NonNull;

use super::mm_types::{FreeBlock, bytes_of};
use super::section::MemMap;
use crate::base::pfn::Pfn;
use crate::sys::map::{self, Range};

/// Ranges that one system call takes: a bounded part of the stack of whoever frees.
const MOST: usize = 64;

/// Ranges of isolated pages, for one system call.
pub(super) struct Ranges {
    ranges: [Range; MOST],
    length: usize,
    done: bool,
}

impl Ranges {
    pub(super) const fn new() -> Self {
        Self { ranges: [const { Range::EMPTY }; MOST], length: 0, done: true }
    }

    /// Adds `pages` isolated pages, to the last range where they follow it.
    pub(super) fn add(&mut self, start: Pfn, pages: usize) {
        let Some(bytes) = bytes_of(pages) else { return };
        self.push(Range::new(MemMap.address(start), bytes));
    }

    /// Adds what backs the struct pages of a whole free block but for its first page's, which says what it is: the
    /// others are never used, say nothing, and read as zero afterwards too.
    pub(super) fn add_struct_pages(&mut self, block: &FreeBlock) {
        let range = MemMap.struct_pages(block.pfn().add(1), block.pages() - 1);
        let page = map::os_page_size();
        let start = range.start.addr().next_multiple_of(page);
        let length = (range.end.addr() & !(page - 1)).saturating_sub(start);
        if let Some(address) = NonNull::new(range.start.with_addr(start).cast::<u8>().cast_mut())
            && length > 0
        {
            self.push(Range::new(address, length));
        }
    }

    fn push(&mut self, range: Range) {
        if self.length > 0 && self.ranges[self.length - 1].extend(&range) {
            return;
        }
        if self.length == MOST {
            self.done &= self.flush();
        }
        self.ranges[self.length] = range;
        self.length += 1;
    }

    fn flush(&mut self) -> bool {
        let ranges = &self.ranges[..core::mem::take(&mut self.length)];
        // SAFETY: the blocks that the ranges come from were isolated, so nobody uses these pages, nor writes the words
        // within them; both are private anonymous memory, of an arena and of a section, and whole pages of the machine.
        ranges.is_empty() || unsafe { map::discard_all(ranges) }
    }

    /// Gives them back. Returns whether all went.
    pub(super) fn discard(mut self) -> bool {
        self.flush() & self.done
    }
}
