//! Ranges of isolated pages on their way back to the system, and what backs their struct pages, many by one call.

use core::ptr::NonNull;

use super::mm_types::bytes_of;
use super::section::MemMap;
use crate::base::pfn::Pfn;
use crate::sys::map::{self, Range};

/// Ranges that one system call takes: they stand on the stack of whoever frees.
const MOST: usize = 32;

/// Ranges of isolated pages, for one system call.
pub(super) struct Ranges {
    ranges: [Range; MOST],
    length: usize,
}

impl Ranges {
    pub(super) const fn new() -> Self {
        Self { ranges: [const { Range::EMPTY }; MOST], length: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether so many ranges can be added.
    pub(super) fn has_room_for(&self, ranges: usize) -> bool {
        self.length + ranges <= MOST
    }

    /// Adds `pages` isolated pages, to the last range where they follow it. There must be room for a range.
    pub(super) fn add(&mut self, start: Pfn, pages: usize) {
        if let Some(bytes) = bytes_of(pages) {
            self.push(Range::new(MemMap.address(start), bytes));
        }
    }

    /// Adds what backs the struct pages of an isolated block of `pages` pages, but for its first page's, which says what
    /// it is: the others are never used, say nothing, and read as zero afterwards too.
    pub(super) fn add_struct_pages(&mut self, first: Pfn, pages: usize) {
        let range = MemMap.struct_pages(first.add(1), pages - 1);
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
        let extended = self.length > 0 && self.ranges[self.length - 1].extend(&range);
        if !extended && self.length < MOST {
            self.ranges[self.length] = range;
            self.length += 1;
        }
    }

    /// Leaves them out of core dumps, if that is wanted.
    pub(super) fn leave_out_of_dumps(&self) {
        self.ranges[..self.length].iter().for_each(Range::leave_out_of_dumps);
    }

    /// Gives them back. Returns whether all went.
    pub(super) fn discard(&self) -> bool {
        // SAFETY: the blocks that the ranges come from were isolated, so nobody uses these pages, nor writes the words
        // within them; both are private anonymous memory, of an arena and of a section, and whole pages of the machine.
        unsafe { map::discard_all(&self.ranges[..self.length]) }
    }
}
