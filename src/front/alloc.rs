//! Allocating, freeing and reallocating, for any instance: by class up to 256 KiB, as a run of pages above, as a
//! mapping of its own from 32 MiB up.
//!
//! What a block is follows from its layout alone: its size rounded up to its alignment, if that is at most
//! `MAX_SIZE`, names its class (unless it is to be aligned to more than a page), and anything else carries a page
//! word. So Rust's `dealloc` needs no look-up for objects, and every `realloc` of a layout leaves a block that the new
//! one describes. C's may leave a run that shrank: its `free` asks the page.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::misuse;
use super::state::State;
use super::thread::{self, ThreadCache};
use crate::base::pfn::{Order, PAGE_SIZE, PAGEBLOCK_SIZE, Pfn};
use crate::base::topology::instance_of;
use crate::page::dedicated::{self, DEDICATED_FROM};
use crate::page::mm_types::Kind;
use crate::page::page_alloc::PageAlloc;
use crate::page::section::{MemMap, pfn_of};
use crate::slab::size_class::{CLASSES, MAX_SIZE, MAX_SMALL, class_by_last, large_class_by_last};
use crate::slab::thread_sheaves::Miss;

/// From this many bytes on no request can be served: the address space of a process is 2^47 or 2^48 bytes.
const HOPELESS: usize = 1 << 46;

/// What a layout asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// An object of this class.
    Object(usize),
    /// A run of pages, or a mapping: bytes, and their alignment in bytes.
    Pages(usize, usize),
}

/// The offset of the last byte of a layout whose size is rounded up to its alignment, for an alignment of a power
/// of two by one `or`. Of an empty layout it is `usize::MAX`.
#[inline(always)]
fn last_byte(layout: Layout) -> usize {
    layout.size().wrapping_sub(1) | (layout.align() - 1)
}

/// The class of a layout that shares slabs with others. Folds to a constant where the layout is one.
#[inline(always)]
pub(crate) fn small_class(layout: Layout) -> Option<usize> {
    let last = last_byte(layout);
    (last < MAX_SMALL).then(|| class_by_last(last))
}

impl Request {
    /// What this layout asks for.
    #[inline(always)]
    pub(crate) fn of(layout: Layout) -> Self {
        let last = last_byte(layout);
        if last < MAX_SMALL {
            Self::Object(class_by_last(last))
        } else if last < MAX_SIZE && layout.align() <= PAGE_SIZE {
            Self::Object(large_class_by_last(last))
        } else {
            Self::Pages(layout.size(), layout.align())
        }
    }
}

/// Frees an object of the global instance.
#[inline(always)]
pub(crate) fn free_class(object: NonNull<u8>, class: usize) {
    if !thread::current().sheaves.of(class).push(object.as_ptr()) {
        free_class_slow(object, class);
    }
}

#[cold]
#[inline(never)]
fn free_class_slow(object: NonNull<u8>, class: usize) {
    let state = super::global::ready();
    state.free_object(thread::of_global_to_free(), object, class);
}

impl State {
    /// An object of this class for the calling thread, whose cache is `cache`.
    pub(crate) fn alloc_object(&self, cache: Option<&ThreadCache>, class: usize) -> Option<NonNull<u8>> {
        self.fit_machine();
        self.drain_idle();
        self.try_alloc_object(cache, class).or_else(|| {
            self.reclaim(cache);
            self.try_alloc_object(cache, class)
        })
    }

    fn try_alloc_object(&self, cache: Option<&ThreadCache>, class: usize) -> Option<NonNull<u8>> {
        let cached = cache.and_then(|cache| {
            let sheaves = cache.sheaves.of(class);
            sheaves.pop().or_else(|| self.with_miss(Some(cache), class, |miss| sheaves.alloc_miss(miss)))
        });
        cached.or_else(|| {
            // Without a cache, or without a sheaf, for want of memory or budget: one object straight from the slabs.
            self.take_pages(cache, |pages| {
                let mut slot = [core::ptr::null_mut()];
                let miss = self.miss(class, pages);
                miss.cache.take_objects(class, &mut slot, miss.meta, miss.pages);
                NonNull::new(slot[0])
            })
        })
    }

    /// Frees an object of this instance's.
    pub(crate) fn free_object(&self, cache: Option<&ThreadCache>, object: NonNull<u8>, class: usize) {
        match cache {
            Some(cache) => {
                let sheaves = cache.sheaves.of(class);
                if !sheaves.push(object.as_ptr()) {
                    self.with_miss(Some(cache), class, |miss| sheaves.free_miss(object, miss));
                    self.relieve(Some(cache), sheaves.room() + 1);
                }
            }
            None => self.with_miss(None, class, |miss| miss.give(&mut [object.as_ptr()])),
        }
    }

    /// A large object of this class, and whether it reads as zero: a thread's, or one that no sheaf has seen.
    fn alloc_large_object(&self, cache: Option<&ThreadCache>, class: usize) -> Option<(NonNull<u8>, bool)> {
        let cached = cache.and_then(|cache| {
            let sheaves = cache.sheaves.of(class);
            sheaves.pop().or_else(|| self.with_miss(Some(cache), class, |miss| sheaves.alloc_cached(miss)))
        });
        if let Some(object) = cached {
            return Some((object, false));
        }
        self.fit_machine();
        let take = || {
            self.take_pages(cache, |pages| {
                let miss = self.miss(class, pages);
                miss.cache.take_large(class, miss.pages)
            })
        };
        take().or_else(|| {
            self.reclaim(cache);
            take()
        })
    }

    /// Runs `work` with what a miss in this class needs.
    pub(crate) fn with_miss<R>(
        &self,
        cache: Option<&ThreadCache>,
        class: usize,
        work: impl FnOnce(&mut Miss<'_, '_>) -> R,
    ) -> R {
        self.with_pages(cache, |pages| work(&mut self.miss(class, pages)))
    }

    /// What a miss in this class needs.
    pub(crate) fn miss<'a, 'p>(&'a self, class: usize, pages: &'a mut PageAlloc<'p>) -> Miss<'a, 'p> {
        let slabs = if self.slabs.is_one() { &self.slabs.first } else { self.slabs.of(pages.zone.node()) };
        let (nodes, pool, meta, budget) = (Some(&self.slabs), &self.pool, &self.meta, &self.budget);
        Miss { cache: &slabs.caches[class], class, nodes, pool, meta, budget, pages }
    }

    /// Pages for `size` bytes aligned to `align`, and whether they read as zero.
    #[cold]
    #[inline(never)]
    pub(crate) fn alloc_large(
        &self,
        cache: Option<&ThreadCache>,
        size: usize,
        align: usize,
    ) -> Option<(NonNull<u8>, bool)> {
        self.fit_machine();
        self.try_alloc_large(cache, size, align).or_else(|| {
            // What no address space could hold is not worth emptying caches for.
            if size.max(align) >= HOPELESS {
                return None;
            }
            self.reclaim(cache);
            self.try_alloc_large(cache, size, align)
        })
    }

    fn try_alloc_large(
        &self,
        cache: Option<&ThreadCache>,
        size: usize,
        align: usize,
    ) -> Option<(NonNull<u8>, bool)> {
        let run = || {
            let pages = size.div_ceil(PAGE_SIZE).max(1);
            let order = Order::covering(align.div_ceil(PAGE_SIZE));
            let run = self.take_pages(cache, |source| source.alloc_run(pages, order, 0))?;
            Some((MemMap.address(run.start), run.zeroed))
        };
        let dedicated = || Some((self.within_limit(|zone| zone.map_dedicated(size, align))?, true));
        // Each is a way out for the other: an arena can lie across two sections, which a run cannot; and where
        // the address space is used up, what is free of it is in the arenas.
        if align > PAGEBLOCK_SIZE {
            dedicated()
        } else if size >= DEDICATED_FROM {
            dedicated().or_else(run)
        } else if size >= PAGEBLOCK_SIZE {
            run().or_else(dedicated)
        } else {
            run()
        }
    }

    /// Frees what `alloc_large` of this instance returned.
    #[cold]
    #[inline(never)]
    pub(crate) fn free_large(&self, cache: Option<&ThreadCache>, address: NonNull<u8>) {
        let (pfn, kind) = self.large_at(address, "free");
        match kind {
            Kind::Run => {
                self.with_pages(cache, |pages| pages.free_run(pfn));
                self.relieve(cache, 1);
            }
            // SAFETY: the word says that a mapping of its own starts here, and it is the caller's to free.
            _ => unsafe { self.zones.first.unmap_dedicated(pfn) },
        }
    }

    /// The first page of a run or mapping of this instance that starts at this address. Anything else is the
    /// caller's mistake: one line, and the process ends.
    fn large_at(&self, address: NonNull<u8>, what: &str) -> (Pfn, Kind) {
        let at = address.as_ptr().addr();
        if let Some(pfn) = pfn_of(at).filter(|_| at.is_multiple_of(PAGE_SIZE)) {
            let word = MemMap.page(pfn).word();
            let large = matches!(word.kind(), Kind::Run | Kind::Dedicated) && word.class() == 0;
            if large && instance_of(word.zone()) == self.id {
                return (pfn, word.kind());
            }
        }
        misuse::report(what, at)
    }

    /// Bytes that the run or mapping at this address has.
    pub(crate) fn large_size(&self, address: NonNull<u8>) -> usize {
        match self.large_at(address, "realloc") {
            (pfn, Kind::Run) => MemMap.page(pfn).run_pages() * PAGE_SIZE,
            (pfn, _) => dedicated::length_of(pfn),
        }
    }

    /// Makes a run or mapping hold `size` bytes (more than `MAX_SMALL`) without copying. The result is where it
    /// is now; `None` means that it must be copied, and nothing has changed.
    pub(crate) fn resize_large(
        &self,
        cache: Option<&ThreadCache>,
        address: NonNull<u8>,
        size: usize,
        align: usize,
    ) -> Option<NonNull<u8>> {
        let (pfn, kind) = self.large_at(address, "realloc");
        if kind == Kind::Run {
            let pages = size.div_ceil(PAGE_SIZE);
            // A run that grows to what has a mapping of its own had better get one.
            let stays = size < DEDICATED_FROM || pages <= MemMap.page(pfn).run_pages();
            let resized = stays && self.with_pages(cache, |source| source.resize_run(pfn, pages));
            return resized.then_some(address);
        }
        if align > PAGEBLOCK_SIZE {
            return None;
        }
        // SAFETY: the word says that a mapping of its own starts here. Moving it keeps the alignment of a
        // pageblock, and its owner is the caller. One attempt after another, so it is still there.
        self.within_limit(|zone| unsafe { zone.resize_dedicated(pfn, size) })
    }

    /// Allocates for a layout. `None` means out of memory.
    #[inline]
    pub(crate) fn alloc(&self, cache: Option<&ThreadCache>, layout: Layout) -> Option<NonNull<u8>> {
        match Request::of(layout) {
            Request::Object(class) => self.alloc_object(cache, class),
            Request::Pages(size, align) => Some(self.alloc_large(cache, size, align)?.0),
        }
    }

    /// As `alloc`, for a block that replaces a smaller one and may grow further.
    pub(crate) fn alloc_growing(&self, cache: Option<&ThreadCache>, layout: Layout) -> Option<NonNull<u8>> {
        let run = match Request::of(layout) {
            Request::Pages(size, align) if align <= PAGE_SIZE && size < DEDICATED_FROM => {
                self.fit_machine();
                let pages = size.div_ceil(PAGE_SIZE);
                self.with_pages(cache, |source| source.alloc_growing_run(pages))
            }
            _ => None,
        };
        run.map(|run| MemMap.address(run.start)).or_else(|| self.alloc(cache, layout))
    }

    /// Allocates zeroed memory for a layout, clearing only what is not known to be zero.
    pub(crate) fn alloc_zeroed(&self, cache: Option<&ThreadCache>, layout: Layout) -> Option<NonNull<u8>> {
        let (block, zeroed) = match Request::of(layout) {
            Request::Object(class) if CLASSES[class].is_large() => self.alloc_large_object(cache, class)?,
            Request::Object(class) => (self.alloc_object(cache, class)?, false),
            Request::Pages(size, align) => self.alloc_large(cache, size, align)?,
        };
        if !zeroed {
            // SAFETY: the block was allocated just now and holds at least `size` bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        Some(block)
    }

    /// Frees a block of this layout.
    ///
    /// # Safety
    /// The block is this instance's, of this layout, and nobody uses it any more.
    #[inline]
    pub(crate) unsafe fn free(&self, cache: Option<&ThreadCache>, block: NonNull<u8>, layout: Layout) {
        match Request::of(layout) {
            Request::Object(class) => self.free_object(cache, block, class),
            Request::Pages(..) => self.free_large(cache, block),
        }
    }

    /// Reallocates a block; `new` has the same alignment. The block is found by the new layout afterwards, so that
    /// a smaller size may need a block of another class: `None`, which leaves the old block, is possible there too.
    ///
    /// # Safety
    /// The block is this instance's and of layout `old`.
    pub(crate) unsafe fn realloc(
        &self,
        cache: Option<&ThreadCache>,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Option<NonNull<u8>> {
        match (Request::of(old), Request::of(new)) {
            (Request::Object(before), Request::Object(after)) if before == after => return Some(block),
            (Request::Pages(..), Request::Pages(size, align)) => {
                if let Some(moved) = self.resize_large(cache, block, size, align) {
                    return Some(moved);
                }
            }
            _ => {}
        }
        let moved =
            if new.size() > old.size() { self.alloc_growing(cache, new) } else { self.alloc(cache, new) };
        let Some(moved) = moved else {
            // Caches are empty now: what they held may have been all that it lacked to grow where it is.
            return match (Request::of(old), Request::of(new)) {
                (Request::Pages(..), Request::Pages(size, align)) => {
                    self.resize_large(cache, block, size, align)
                }
                _ => None,
            };
        };
        let kept = old.size().min(new.size());
        // SAFETY: both blocks hold at least `kept` bytes, and the new one is nobody else's.
        unsafe { moved.copy_from_nonoverlapping(block, kept) };
        // SAFETY: the caller's block, which the copy replaces.
        unsafe { self.free(cache, block, old) };
        Some(moved)
    }
}

/// Bytes that an object of this class holds.
#[inline]
pub(crate) fn class_size(class: usize) -> usize {
    CLASSES[class].size as usize
}
