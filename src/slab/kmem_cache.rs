//! A kmem cache: the slabs of one class that have free objects, and the class's barn.
//!
//! `node` guards the partial list, the slabs' bitmaps and counts; `barn` guards the barn. Neither is held while
//! taking any other lock. Objects go in and out in batches, a bounded number to a hold.

use core::ptr::NonNull;

use super::barn::Barn;
use super::sheaf::Object;
use super::size_class::{CLASSES, NR_CLASSES};
use super::slab_page::{Bitmap, NotAnObject, Slab, needs_bitmap};
use crate::base::list::List;
use crate::base::pfn::PAGE_SIZE;
use crate::page::buddy::{element, pfn};
use crate::page::meta::Meta;
use crate::page::mm_types::Word;
use crate::page::page_alloc::PageAlloc;
use crate::page::per_node::Record;
use crate::page::section::MemMap;
use crate::sys::bug::Line;
use crate::sys::lock::Lock;

/// Objects that one hold of a node's lock moves.
const CHUNK: usize = 64;

/// The slabs of one class (Linux: `kmem_cache_node`).
#[repr(C)]
pub(crate) struct Node {
    /// Slabs with free objects and with objects in use, the ones that filled up last first.
    partial: List,
    /// All slabs.
    pub(crate) slabs: usize,
    /// Objects that are free in them.
    pub(crate) free: usize,
    /// Records for bitmaps that no slab uses; each starts with the address of the next.
    bitmaps: *mut Bitmap,
    pub(crate) events: NodeEvents,
}

// SAFETY: the bitmaps' addresses are only used under the lock that holds this value.
unsafe impl Send for Node {}

/// What happened, counted where it is rare.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NodeEvents {
    /// Times objects were taken from slabs.
    pub refill: u64,
    /// Times objects were put back into slabs.
    pub flush: u64,
    /// Slabs made.
    pub slab_new: u64,
    /// Slabs given back to the page allocator.
    pub slab_free: u64,
}

/// One class.
#[repr(C, align(64))]
pub(crate) struct KmemCache {
    pub(crate) node: Lock<Node>,
    pub(crate) barn: Lock<Barn>,
}

impl KmemCache {
    pub(crate) const fn new() -> Self {
        let events = NodeEvents { refill: 0, flush: 0, slab_new: 0, slab_free: 0 };
        Self {
            node: Lock::new(Node {
                partial: List::EMPTY,
                slabs: 0,
                free: 0,
                bitmaps: core::ptr::null_mut(),
                events,
            }),
            barn: Lock::new(Barn::new()),
        }
    }

    /// Fills `slots` from the first on, as far as there is memory. Of objects that share slabs those that were
    /// taken first stand last: a sheaf is used from its end. Returns how many were filled.
    pub(crate) fn take_objects(
        &self,
        class: usize,
        slots: &mut [Object],
        meta: &Meta,
        pages: &mut PageAlloc<'_>,
    ) -> usize {
        if CLASSES[class].is_large() {
            return self.take_large_objects(class, slots, pages);
        }
        let mut filled = self.take_partial(class, slots);
        while filled < slots.len() {
            let Some(slab) = self.new_slab(class, meta, pages) else { break };
            let taken = slab.take(&mut slots[filled..]);
            filled += taken;
            let left = usize::from(CLASSES[class].objects) - taken;
            let mut node = self.node.lock();
            node.slabs += 1;
            node.free += left;
            node.events.slab_new += 1;
            if left > 0 {
                node.partial.push_front(&MemMap, element(slab.first));
            }
        }
        slots[..filled].reverse();
        filled
    }

    fn take_large_objects(&self, class: usize, slots: &mut [Object], pages: &mut PageAlloc<'_>) -> usize {
        let mut filled = 0;
        while filled < slots.len() {
            let more = Slab::make_many_large(pages, class, &mut slots[filled..]);
            if more == 0 {
                break;
            }
            filled += more;
        }
        self.count_large(filled);
        filled
    }

    /// Takes a large object that no sheaf has seen, and says whether it reads as zero.
    pub(crate) fn take_large(&self, class: usize, pages: &mut PageAlloc<'_>) -> Option<(NonNull<u8>, bool)> {
        let taken = Slab::make_large(pages, class)?;
        self.count_large(1);
        Some(taken)
    }

    fn count_large(&self, objects: usize) {
        let mut node = self.node.lock();
        node.slabs += objects;
        node.events.refill += 1;
        node.events.slab_new += objects as u64;
    }

    fn take_partial(&self, class: usize, slots: &mut [Object]) -> usize {
        let mut filled = 0;
        for chunk in slots.chunks_mut(CHUNK) {
            let mut node = self.node.lock();
            node.events.refill += u64::from(filled == 0);
            let mut here = 0;
            while here < chunk.len() {
                let Some(first) = node.partial.first() else { break };
                let slab = Slab { first: pfn(first), class };
                here += slab.take(&mut chunk[here..]);
                if slab.is_full() {
                    node.partial.remove(&MemMap, first);
                }
            }
            node.free -= here;
            filled += here;
            if here < chunk.len() {
                break;
            }
        }
        filled
    }

    fn new_slab(&self, class: usize, meta: &Meta, pages: &mut PageAlloc<'_>) -> Option<Slab> {
        if !needs_bitmap(class) {
            return Slab::make(pages, class, None);
        }
        let bitmap = self.take_bitmap(meta)?;
        let slab = Slab::make(pages, class, Some(bitmap));
        if slab.is_none() {
            self.node.lock().keep_bitmap(bitmap);
        }
        slab
    }

    fn take_bitmap(&self, meta: &Meta) -> Option<NonNull<Bitmap>> {
        let mut node = self.node.lock();
        if let Some(bitmap) = NonNull::new(node.bitmaps) {
            // SAFETY: a kept record starts with the address of the next one, written by `keep_bitmap`.
            node.bitmaps = unsafe { bitmap.cast::<*mut Bitmap>().read() };
            return Some(bitmap);
        }
        drop(node);
        Some(meta.take(size_of::<Bitmap>())?.cast())
    }

    /// Puts objects back into their slabs, which are of this zone; slabs that become empty go back to the page
    /// allocator.
    pub(crate) fn give_objects(
        &self,
        class: usize,
        zone: u16,
        objects: &[Object],
        pages: &mut PageAlloc<'_>,
    ) {
        for chunk in objects.chunks(CHUNK) {
            let mut empty = [None; CHUNK];
            let mut node = self.node.lock();
            node.events.flush += 1;
            let (mut left, mut emptied) = (chunk, 0);
            while !left.is_empty() {
                // Each turn gives at least one object, so there are as many places as turns.
                let given = node.give(class, left, zone, &mut empty[emptied]);
                emptied += usize::from(empty[emptied].is_some());
                left = &left[given..];
            }
            drop(node);
            Slab::unmake_all(&empty[..emptied], pages);
        }
    }

    /// Partial slabs' list, walked under the lock: whether it is sound and holds just the slabs that have
    /// free objects and used ones.
    pub(crate) fn check_partial(node: &Node, class: usize) -> Result<(), &'static str> {
        if !node.partial.is_sound(&MemMap) {
            return Err("a partial list's links are broken");
        }
        let mut free = 0;
        for first in node.partial.iter(&MemMap) {
            let slab = Slab { first: pfn(first), class };
            let here = slab.free_objects();
            if here == 0 || MemMap.page(slab.first).word().class() != class {
                return Err("a partial list with a slab that has nothing free");
            }
            free += here;
        }
        if free != node.free {
            return Err("a cache's count of free objects is not that of its slabs");
        }
        Ok(())
    }
}

impl Node {
    /// Puts the first of some objects back, and those that follow it as far as they are of the same slab. Returns
    /// how many that were. A slab that is empty now is on no list, and the caller's.
    fn give(&mut self, class: usize, objects: &[Object], zone: u16, empty: &mut Option<Slab>) -> usize {
        let first = objects[0];
        let slab = Slab::at(first.addr(), zone, class).unwrap_or_else(|what| misfree(what, first));
        let given = if CLASSES[class].is_large() {
            if !first.addr().is_multiple_of(PAGE_SIZE) {
                misfree(NotAnObject::Interior, first);
            }
            1
        } else {
            match self.give_to_slab(slab, objects) {
                (given, true) => given,
                (given, false) => return given,
            }
        };
        // From here on a second free of one of its objects finds no slab: its bitmap may soon be another's.
        MemMap.page(slab.first).set_word(Word::NOTHING);
        self.slabs -= 1;
        self.events.slab_free += 1;
        *empty = Some(slab);
        given
    }

    /// Puts objects back into a slab of several, and says how many were the slab's and whether all of its objects
    /// are free now; then it is on no list.
    fn give_to_slab(&mut self, slab: Slab, objects: &[Object]) -> (usize, bool) {
        let was_full = slab.is_full();
        let given = slab.give(objects).unwrap_or_else(|(object, what)| misfree(what, object));
        self.free += given;
        if was_full {
            self.partial.push_front(&MemMap, element(slab.first));
        }
        if !slab.is_empty() {
            return (given, false);
        }
        self.partial.remove(&MemMap, element(slab.first));
        self.free -= usize::from(CLASSES[slab.class].objects);
        if let Some(bitmap) = slab.bitmap() {
            self.keep_bitmap(bitmap);
        }
        (given, true)
    }

    fn keep_bitmap(&mut self, bitmap: NonNull<Bitmap>) {
        // SAFETY: a record that no slab uses, large enough for an address, aligned to a cache line.
        unsafe { bitmap.cast::<*mut Bitmap>().write(self.bitmaps) };
        self.bitmaps = bitmap.as_ptr();
    }
}

/// Says what was wrong with an address that was freed as an object, and ends the process.
#[cold]
#[inline(never)]
fn misfree(what: NotAnObject, object: Object) -> ! {
    let what = match what {
        NotAnObject::Foreign | NotAnObject::Free => "double free at ",
        NotAnObject::OtherClass => "free with a wrong size at ",
        NotAnObject::Interior => "free of an interior pointer at ",
    };
    Line::new().text(what).hex(object.addr()).abort()
}

/// Every class of an instance, by its number; the cache of number 0 stays empty.
#[repr(C)]
pub(crate) struct KmemCaches {
    pub(crate) caches: [KmemCache; NR_CLASSES],
}

impl KmemCaches {
    pub(crate) const fn new() -> Self {
        Self { caches: [const { KmemCache::new() }; NR_CLASSES] }
    }

    /// Those of a further node. Written one by one: all together are more than a small stack holds.
    pub(crate) fn for_node(meta: &Meta) -> Option<Record<Self>> {
        let memory: NonNull<Self> = meta.take(size_of::<Self>())?.cast();
        let first: NonNull<KmemCache> = memory.cast();
        for class in 0..NR_CLASSES {
            // SAFETY: a `KmemCaches` is an array of that many caches, and the piece is as large.
            let place = unsafe { first.add(class) };
            // SAFETY: part of a fresh piece, aligned to a cache line as a cache is, that nobody else knows.
            unsafe { place.write(KmemCache::new()) };
        }
        // SAFETY: taken from `meta` above, and every cache was written.
        Some(unsafe { Record::from_raw(memory) })
    }

    pub(crate) fn fork_prepare(&self) {
        for cache in &self.caches {
            cache.barn.fork_prepare();
            cache.node.fork_prepare();
        }
    }

    pub(crate) fn fork_release(&self) {
        for cache in &self.caches {
            cache.node.fork_release();
            cache.barn.fork_release();
        }
    }
}
