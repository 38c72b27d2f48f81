//! Raw memory as a value: a block of a size known at run time that is freed when it is dropped.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::hint::black_box;
use std::ptr::NonNull;

const PAGE: usize = 4096;
const LINE: usize = 64;
const LINES: usize = PAGE / LINE;

/// At least a word long, and aligned to words, as nearly everything in a Rust program is.
pub struct Block {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: nothing but this value reaches the memory.
unsafe impl Send for Block {}

impl Block {
    /// Memory of `size` bytes that nobody has written to.
    pub fn new(size: usize) -> Self {
        assert!(size >= size_of::<u64>(), "a block holds a word");
        // SAFETY: the size is not zero.
        let start = black_box(unsafe { alloc(layout(size)) });
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout(size))), size }
    }

    /// Memory whose first word is written, as a user's would be.
    pub fn written(size: usize) -> Self {
        let block = Self::new(size);
        block.write();
        block
    }

    /// Memory with one byte of each page written: on another cache line in each, since first bytes of pages would push
    /// each other out of the cache.
    pub fn touched(size: usize) -> Self {
        let block = Self::new(size);
        for page in 0..size / PAGE {
            // SAFETY: the offset is inside page number `page` of the block.
            let byte = unsafe { block.start.add(page * PAGE + page % LINES * LINE) };
            // SAFETY: inside the block, which is this value's alone.
            unsafe { byte.write_volatile(1) };
        }
        block
    }

    pub fn write(&self) {
        // SAFETY: the block holds a word, is aligned to words, and is this value's alone.
        unsafe { self.start.cast::<u64>().write_volatile(self.size as u64) };
    }

    /// Grows or shrinks the block to `size` bytes; where it has to move, its content is copied.
    pub fn resize(&mut self, size: usize) {
        assert!(size >= size_of::<u64>(), "a block holds a word");
        // SAFETY: allocated with this layout; the new size is not zero.
        let start = black_box(unsafe { realloc(self.start.as_ptr(), layout(self.size), size) });
        self.start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout(size)));
        self.size = size;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), layout(self.size)) };
    }
}

fn layout(size: usize) -> Layout {
    // SAFETY: a power of two; sizes here are far from the end of the address space.
    unsafe { Layout::from_size_align_unchecked(size, align_of::<u64>()) }
}
