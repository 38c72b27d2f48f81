//! An instance as a value: a heap apart from the process's own, with the same machine behind it.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::global::pointer;
use super::misuse;
use super::registry;
use super::state::State;
use super::thread;
use super::validate::Usage;
use crate::base::config::Config;
use crate::base::pfn::{MAX_ORDER, Migratetype, Order, Pfn};
use crate::base::topology::instance_of;
use crate::page::mm_types::{FreeBlock, Kind, Word};
use crate::page::section::{MemMap, pfn_of};
use crate::page::validate::Violation;

/// A heap of one's own. Any thread may use it; threads cache for it as they do for the global heap. Dropping
/// it returns all of its memory to the system at once.
#[derive(Debug)]
pub struct Instance {
    state: NonNull<State>,
}

// SAFETY: a State is made to be used by many threads at once: its fields are atomics, locks, and values behind
// them; `Instance` is the only handle that ends it.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Instance {
    /// A new heap with these settings; the environment has no part in it. `None` where 1022 others exist, or
    /// where there is no memory.
    pub fn new(config: Config) -> Option<Self> {
        // A thread's table of caches stands in its cache of the global instance.
        super::global::ready();
        Some(Self { state: registry::create(&config)? })
    }

    pub(crate) fn state(&self) -> &State {
        // SAFETY: `create` made it, and only dropping `self` ends it.
        unsafe { self.state.as_ref() }
    }

    /// Allocates; null means out of memory. Every size, 0 included, and alignment that a layout can express
    /// works.
    pub fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(layout) = not_empty(layout) else { return core::ptr::null_mut() };
        let state = self.state();
        pointer(state.alloc(thread::of(state), layout))
    }

    /// Allocates memory that reads as zero; null means out of memory.
    pub fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(layout) = not_empty(layout) else { return core::ptr::null_mut() };
        let state = self.state();
        pointer(state.alloc_zeroed(thread::of(state), layout))
    }

    /// Frees a block.
    ///
    /// # Safety
    /// The block is this instance's, of this layout, and nobody uses it any more.
    pub unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let state = self.state();
        if let (Some(block), Some(layout)) = (NonNull::new(block), not_empty(layout)) {
            // SAFETY: the caller vouches for the block.
            unsafe { state.free(thread::of(state), block, layout) };
        }
    }

    /// Changes a block's size; null means out of memory, and the block stays as it was.
    ///
    /// # Safety
    /// The block is this instance's and of this layout; `size`, rounded up to its alignment, is at most
    /// `isize::MAX`.
    pub unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let state = self.state();
        let new = Layout::from_size_align(size, layout.align()).ok().and_then(not_empty);
        let (Some(block), Some(old), Some(new)) = (NonNull::new(block), not_empty(layout), new) else {
            return core::ptr::null_mut();
        };
        // SAFETY: the caller vouches for the block.
        pointer(unsafe { state.realloc(thread::of(state), block, old, new) })
    }

    /// Allocates a block of 2^`order` pages of 4 KiB, aligned to its size. Orders 0 to 16; null for others, and
    /// where memory is out.
    pub fn alloc_pages(&self, order: u32, migratetype: Migratetype) -> *mut u8 {
        if order > MAX_ORDER {
            return core::ptr::null_mut();
        }
        let state = self.state();
        state.fit_machine();
        let order = Order::new(order);
        let cache = thread::of(state);
        let take = || state.take_pages(cache, |pages| pages.alloc_pages(order, migratetype));
        let block = take().or_else(|| {
            state.reclaim(cache);
            take()
        });
        let Some(block) = block else { return core::ptr::null_mut() };
        let page = MemMap.page(block.pfn());
        page.set_run_pages(block.pages());
        page.set_word(Word::new(Kind::Run, MemMap.pageblock(block.pfn()).zone()));
        MemMap.address(block.pfn()).as_ptr()
    }

    /// Frees a block of pages. A pointer that is no such block ends the process with one line.
    ///
    /// # Safety
    /// The block came from `alloc_pages` of this instance with this order, and nobody uses it any more.
    pub unsafe fn free_pages(&self, block: *mut u8, order: u32) {
        let state = self.state();
        let pages = 1_usize.checked_shl(order).unwrap_or(0);
        let is_such = |pfn: &Pfn| {
            let page = MemMap.page(*pfn);
            let word = page.word();
            let is_ours =
                word.kind() == Kind::Run && instance_of(word.zone()) == state.id && word.class() == 0;
            is_ours && page.run_pages() == pages
        };
        let Some(pfn) =
            pfn_of(block.addr()).filter(is_such).filter(|pfn| MemMap.address(*pfn).as_ptr() == block)
        else {
            misuse::report("free", block.addr())
        };
        MemMap.page(pfn).set_word(Word::NOTHING);
        let block = FreeBlock::from_parts(pfn, Order::new(order), false);
        state.with_pages(thread::of(state), |pages| pages.free_pages(block));
    }

    /// Switches blocks of orders 1-3 and 9 on threads' page lists on or off.
    pub fn set_pcp_high_orders(&self, on: bool) {
        let state = self.state();
        state.set_pcp_high_orders(thread::of(state), on);
    }

    /// Gives all free memory back that can be given back. Returns its bytes.
    pub fn trim(&self) -> usize {
        let state = self.state();
        state.trim(thread::of(state))
    }

    /// Recounts every page, slab, list and cache against the counters. Other threads must not use the instance
    /// meanwhile.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn validate(&self) -> Result<Usage, Violation> {
        self.state().validate()
    }
}

/// The layout with room for at least a byte, which has an address of the right alignment. `None` for alignment
/// 2^63, of which only the empty layout exists and which no address but null has.
fn not_empty(layout: Layout) -> Option<Layout> {
    if layout.size() > 0 { Some(layout) } else { Layout::from_size_align(1, layout.align()).ok() }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: `create` made it; blocks of it are not used after its drop, as with any value.
        unsafe { registry::destroy(self.state) };
    }
}
