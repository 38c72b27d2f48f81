//! Buffers of messages, allocated on one thread and freed on another, in three ways.
//!
//! The kernel of 2021 took them in the second way: a small buffer from a slab of order 3, a large one as a block of its
//! own. Its slabs came and went through the page allocator often enough for the patch to show with messages of 64 bytes.

use std::alloc::Layout;
use std::sync::atomic::{AtomicUsize, Ordering};

use pcpmalloc::{Instance, Migratetype};

/// What a buffer has room for beside the message: the headers, and the kernel's record behind the data.
const OVERHEAD: usize = 384;
/// The order of a slab, and its bytes. It is aligned to its size.
const SLAB_ORDER: u32 = 3;
const SLAB_SIZE: usize = 4096 << SLAB_ORDER;
/// The largest buffer that comes from a slab.
const MAX_OBJECT: usize = 8 << 10;

/// Where the buffers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A block of pages for each, the smallest that has room.
    Blocks,
    /// A piece of a slab that goes when all its pieces have gone; above 8 KiB a block of its own.
    Slabs,
    /// An object of pcpmalloc's slab layer, or an exact run of pages.
    Objects,
}

/// How buffers of one size are had.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Block { order: u32 },
    Piece { size: usize },
    Object { layout: Layout },
}

impl Source {
    pub fn shape(self, message: usize) -> Shape {
        let bytes = message + OVERHEAD;
        let piece = bytes.next_power_of_two();
        match self {
            Source::Slabs if piece <= MAX_OBJECT => Shape::Piece { size: piece },
            Source::Blocks | Source::Slabs => {
                Shape::Block { order: bytes.div_ceil(4096).next_power_of_two().trailing_zeros() }
            }
            Source::Objects => {
                Shape::Object { layout: Layout::from_size_align(bytes, 64).expect("a layout") }
            }
        }
    }
}

impl Shape {
    /// Frees a buffer.
    ///
    /// # Safety
    /// It came from `Buffers::alloc` with this instance and shape, and nobody uses it any more.
    pub unsafe fn free(self, instance: &Instance, buffer: *mut u8) {
        match self {
            // SAFETY: the caller vouches for the buffer, and a buffer of this shape is a block of this order.
            Shape::Block { order } => unsafe { instance.free_pages(buffer, order) },
            // SAFETY: the caller vouches for the buffer, which holds the slab that it is a piece of.
            Shape::Piece { .. } => unsafe {
                let_go(instance, buffer.map_addr(|address| address & !(SLAB_SIZE - 1)));
            },
            // SAFETY: the caller vouches for the buffer, and a buffer of this shape has this layout.
            Shape::Object { layout } => unsafe { instance.dealloc(buffer, layout) },
        }
    }
}

/// The side that allocates.
pub struct Buffers<'a> {
    instance: &'a Instance,
    shape: Shape,
    /// The slab that pieces are cut from, null for none, and how much of it is cut.
    slab: *mut u8,
    cut: usize,
}

impl<'a> Buffers<'a> {
    pub fn new(instance: &'a Instance, shape: Shape) -> Self {
        Self { instance, shape, slab: std::ptr::null_mut(), cut: 0 }
    }

    pub fn alloc(&mut self) -> *mut u8 {
        let buffer = match self.shape {
            Shape::Block { order } => self.instance.alloc_pages(order, Migratetype::Unmovable),
            Shape::Piece { size } => self.cut(size),
            Shape::Object { layout } => self.instance.alloc(layout),
        };
        assert!(!buffer.is_null(), "out of memory");
        buffer
    }

    fn cut(&mut self, size: usize) -> *mut u8 {
        if self.slab.is_null() || self.cut + size > SLAB_SIZE {
            self.let_slab_go();
            self.slab = self.instance.alloc_pages(SLAB_ORDER, Migratetype::Unmovable);
            assert!(!self.slab.is_null(), "out of memory");
            // SAFETY: the slab is nobody else's yet, and aligned far beyond a word.
            unsafe { self.slab.cast::<AtomicUsize>().write(AtomicUsize::new(1)) };
            // The count takes the place of the first piece.
            self.cut = size;
        }
        // SAFETY: this side holds the slab. Relaxed: whoever gets the piece gets it from here.
        unsafe { holders(self.slab) }.fetch_add(1, Ordering::Relaxed);
        let piece = self.slab.wrapping_add(self.cut);
        self.cut += size;
        piece
    }

    fn let_slab_go(&mut self) {
        if !self.slab.is_null() {
            // SAFETY: this side holds the slab, and forgets it here.
            unsafe { let_go(self.instance, self.slab) };
            self.slab = std::ptr::null_mut();
        }
    }
}

impl Drop for Buffers<'_> {
    fn drop(&mut self) {
        self.let_slab_go();
    }
}

/// How many hold a slab: its pieces in use, and the side that cuts it. The count stands in its first word.
///
/// # Safety
/// The slab exists for as long as the count is used.
unsafe fn holders<'a>(slab: *mut u8) -> &'a AtomicUsize {
    // SAFETY: a slab starts with its count; the caller vouches for the slab.
    unsafe { &*slab.cast::<AtomicUsize>() }
}

/// Ends one hold of a slab; the last one frees it.
///
/// # Safety
/// The caller holds the slab once and does not use it afterwards.
unsafe fn let_go(instance: &Instance, slab: *mut u8) {
    // SAFETY: it exists until the last hold ends, and the caller's has not.
    let holders = unsafe { holders(slab) };
    // Release and Acquire: pair with each other, so that the last one sees all uses of the slab done.
    if holders.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: a block of this order of this instance, which nobody holds any more.
        unsafe { instance.free_pages(slab, SLAB_ORDER) };
    }
}
