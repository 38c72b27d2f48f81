//! A slab: 2^order pages of objects of one class, and the bitmap that says which of them are free.
//!
//! The bitmap stands in the first struct page where 128 bits are enough (objects of 32 bytes and more), else
//! in a record of its own; never in user memory, so an overflow cannot reach it. The lock of the cache's node
//! guards it from the moment the slab is on a list or has objects out.

use core::ptr::NonNull;

use super::size_class::{CLASSES, SizeClass};
use crate::base::pfn::{Migratetype, Pfn};
use crate::page::mm_types::{FreeBlock, Kind, Page, Word};
use crate::page::page_alloc::PageAlloc;
use crate::page::section::MemMap;
use crate::sys::sync::{AtomicU64, Ordering};

/// Words of the largest bitmap: 512 objects of 8 bytes in a page.
const MAX_WORDS: usize = 8;

/// A record for the bitmap of a slab with more than 128 objects.
pub(crate) type Bitmap = [AtomicU64; MAX_WORDS];

/// Whether slabs of this class need a record for their bitmap.
pub(crate) fn needs_bitmap(class: usize) -> bool {
    CLASSES[class].objects > 128
}

/// One bit an object, set while the object is free in its slab.
fn free_bits(page: &'static Page, class: usize) -> &'static [AtomicU64] {
    if !needs_bitmap(class) {
        return &page.private;
    }
    let address = page.private[0].load(Ordering::Relaxed) as usize;
    let bitmap = core::ptr::with_exposed_provenance::<Bitmap>(address);
    // SAFETY: `make` put the address of a record there that lives as long as the instance, and that no other
    // slab uses until `unmake` gives it back. It is made of atomics.
    unsafe { &*bitmap }
}

// Relaxed throughout: the node's lock orders all use of a bitmap.

/// A slab, by its first page. Copies of the handle are copies of a name.
#[derive(Clone, Copy)]
pub(crate) struct Slab {
    pub(crate) first: Pfn,
    pub(crate) class: usize,
}

impl Slab {
    /// Makes a slab whose objects are all free. `bitmap` is a record for classes that need one.
    pub(crate) fn make(
        pages: &mut PageAlloc<'_>,
        class: usize,
        bitmap: Option<NonNull<Bitmap>>,
    ) -> Option<Self> {
        let order = CLASSES[class].order;
        let first = pages.alloc_pages(order, Migratetype::Unmovable)?.pfn();
        let word = Word::new(Kind::Slab, pages.zone.id).with_class(class as u8).with_order(order);
        let page = MemMap.page(first);
        if let Some(bitmap) = bitmap {
            page.private[0].store(bitmap.as_ptr().expose_provenance() as u64, Ordering::Relaxed);
        }
        let slab = Self { first, class };
        let mut objects = usize::from(CLASSES[class].objects);
        for word in slab.bits() {
            let here = objects.min(64);
            word.store(if here == 64 { u64::MAX } else { (1 << here) - 1 }, Ordering::Relaxed);
            objects -= here;
        }
        for offset in 0..order.pages() {
            MemMap.page(first.add(offset)).set_word(word.with_offset(offset));
        }
        Some(slab)
    }

    /// Gives the pages of a slab back whose objects are all free, and its bitmap to the caller.
    pub(crate) fn unmake(self, pages: &mut PageAlloc<'_>) {
        let order = CLASSES[self.class].order;
        for offset in 0..order.pages() {
            MemMap.page(self.first.add(offset)).set_word(Word::NOTHING);
        }
        pages.free_pages(FreeBlock::from_parts(self.first, order, false));
    }

    /// The record of the bitmap, for classes that need one.
    pub(crate) fn bitmap(self) -> Option<NonNull<Bitmap>> {
        let address = MemMap.page(self.first).private[0].load(Ordering::Relaxed) as usize;
        if needs_bitmap(self.class) {
            NonNull::new(core::ptr::with_exposed_provenance_mut(address))
        } else {
            None
        }
    }

    fn bits(self) -> &'static [AtomicU64] {
        free_bits(MemMap.page(self.first), self.class)
    }

    fn info(self) -> &'static SizeClass {
        &CLASSES[self.class]
    }

    /// Objects that are free in the slab.
    pub(crate) fn free_objects(self) -> usize {
        self.bits().iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Takes free objects, lowest address first, until `slots` is full. Returns how many there were.
    pub(crate) fn take(self, slots: &mut [*mut u8]) -> usize {
        let base = MemMap.address(self.first).as_ptr();
        let size = self.info().size as usize;
        let mut taken = 0;
        for (index, word) in self.bits().iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            if bits == 0 {
                continue;
            }
            while bits != 0
                && let Some(slot) = slots.get_mut(taken)
            {
                let object = index * 64 + bits.trailing_zeros() as usize;
                // SAFETY: the bit says that object number `object` of this slab exists, so it lies within the
                // slab's pages, which are one block of an arena.
                *slot = unsafe { base.add(object * size) };
                bits &= bits - 1;
                taken += 1;
            }
            word.store(bits, Ordering::Relaxed);
        }
        taken
    }

    /// Marks an object as free. False if it is already.
    pub(crate) fn give(self, object: usize) -> bool {
        let bit = 1 << (object % 64);
        let Some(word) = self.bits().get(object / 64) else { return false };
        let bits = word.load(Ordering::Relaxed);
        word.store(bits | bit, Ordering::Relaxed);
        bits & bit == 0
    }

    /// The slab and the number of the object at this address: of this zone and class, or of any class. An
    /// `Err` says what the address is instead.
    pub(crate) fn locate(
        address: usize,
        zone: u16,
        class: Option<usize>,
    ) -> Result<(Self, usize), NotAnObject> {
        let pfn = crate::page::section::pfn_of(address).ok_or(NotAnObject::Foreign)?;
        let word = MemMap.page(pfn).word();
        if word.kind() != Kind::Slab || word.zone() != zone {
            return Err(NotAnObject::Foreign);
        }
        let slab = Self { first: pfn.align_down(word.order()), class: word.class() };
        if class.is_some_and(|class| class != slab.class) {
            return Err(NotAnObject::OtherClass);
        }
        let offset = address - MemMap.address(slab.first).as_ptr().addr();
        let object = slab.info().object_at(offset).ok_or(NotAnObject::Interior)?;
        Ok((slab, object))
    }
}

/// Why an address is not an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnObject {
    /// No slab of this zone is there.
    Foreign,
    /// A slab of another class is there.
    OtherClass,
    /// An object is there, but does not start there.
    Interior,
}
