//! A slab: 2^order pages of objects of one class, and the bitmap that says which of them are free. Above 8 KiB
//! a slab is a run with one object, has no bitmap, and is never without its object.
//!
//! The bitmap stands in the first struct page where 128 bits are enough (objects of 32 bytes and more), else
//! in a record of its own; never in user memory, so an overflow cannot reach it. The lock of the cache's node
//! guards it from the moment the slab is on a list or has objects out.

use core::ptr::NonNull;

use super::size_class::{CLASSES, SizeClass};
use crate::base::pfn::{Migratetype, Order, PAGE_SIZE, Pfn};
use crate::page::class_map;
use crate::page::mm_types::{FreeBlock, Kind, Page, Word};
use crate::page::node::is_global;
use crate::page::page_alloc::PageAlloc;
use crate::page::section::MemMap;
use crate::page::zone::Zone;
use crate::sys::sync::{AtomicU64, Ordering};

/// Bytes that processors pass between them at once.
const CACHE_LINE: u32 = 64;
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
        let order = Order::covering(CLASSES[class].pages.into());
        let first = pages.alloc_pages(order, Migratetype::Unmovable)?.pfn();
        let word = Word::new(Kind::Slab, pages.zone.id).with_class(class as u8).with_order(order);
        let page = MemMap.page(first);
        if let Some(bitmap) = bitmap {
            page.private[0].store(bitmap.as_ptr().expose_provenance() as u64, Ordering::Relaxed);
        }
        let slab = Self { first, class };
        for (index, word) in slab.bits().iter().enumerate() {
            word.store(slab.all_free(index), Ordering::Relaxed);
        }
        for offset in 0..order.pages() {
            MemMap.page(first.add(offset)).set_word(word.with_offset(offset));
        }
        slab.map_class(pages.zone, class);
        Some(slab)
    }

    /// Makes a large object, and says whether it reads as zero.
    pub(crate) fn make_large(pages: &mut PageAlloc<'_>, class: usize) -> Option<(NonNull<u8>, bool)> {
        let run = pages.alloc_run(CLASSES[class].pages.into(), Order::ZERO, class)?;
        Self { first: run.start, class }.map_class(pages.zone, class);
        Some((MemMap.address(run.start), run.zeroed))
    }

    /// Makes large objects until `slots` is full, as far as there is memory. Returns how many there were.
    pub(crate) fn make_many_large(pages: &mut PageAlloc<'_>, class: usize, slots: &mut [*mut u8]) -> usize {
        let (zone, wanted) = (pages.zone, slots.len());
        let mut slots = slots.iter_mut();
        pages.alloc_runs(CLASSES[class].pages.into(), class, wanted, &mut |first| {
            Self { first, class }.map_class(zone, class);
            if let Some(slot) = slots.next() {
                *slot = MemMap.address(first).as_ptr();
            }
        })
    }

    /// Gives the pages of slabs of one class back whose objects are all free, or of large objects.
    pub(crate) fn unmake_all(slabs: &[Option<Self>], pages: &mut PageAlloc<'_>) {
        let zone = pages.zone;
        let mut slabs = slabs.iter().flatten().inspect(|slab| slab.map_class(zone, 0)).peekable();
        if let Some(info) = slabs.peek().map(|slab| slab.info()).filter(|info| info.is_large()) {
            return pages.free_runs(info.pages.into(), &mut slabs.map(|slab| slab.first));
        }
        slabs.for_each(|slab| slab.unmake(pages));
    }

    fn unmake(self, pages: &mut PageAlloc<'_>) {
        let order = Order::covering(self.info().pages.into());
        for offset in 0..order.pages() {
            MemMap.page(self.first.add(offset)).set_word(Word::NOTHING);
        }
        pages.free_pages(FreeBlock::from_parts(self.first, order, false));
    }

    /// Tells the C face's `free` which class the objects of these pages have, of a large object at its start.
    fn map_class(self, zone: &Zone, class: usize) {
        if is_global(zone.id) {
            let pages = if self.info().is_large() { 1 } else { self.info().pages.into() };
            class_map::set(MemMap.address(self.first).as_ptr().addr(), pages, class);
        }
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
        if self.info().is_large() {
            return &[];
        }
        free_bits(MemMap.page(self.first), self.class)
    }

    fn info(self) -> &'static SizeClass {
        &CLASSES[self.class]
    }

    /// Objects that are free in the slab.
    pub(crate) fn free_objects(self) -> usize {
        self.bits().iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// Word `index` of the bitmap while all objects are free.
    fn all_free(self, index: usize) -> u64 {
        match usize::from(self.info().objects).saturating_sub(index * 64) {
            64.. => u64::MAX,
            here => (1 << here) - 1,
        }
    }

    /// Whether no object is free.
    pub(crate) fn is_full(self) -> bool {
        self.bits().iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    /// Whether all objects are free.
    pub(crate) fn is_empty(self) -> bool {
        let mut words = self.bits().iter().enumerate();
        words.all(|(index, word)| word.load(Ordering::Relaxed) == self.all_free(index))
    }

    /// Takes free objects until `slots` is full, those on cache lines of their own first, so that threads that
    /// take a few each do not share lines; lowest address first. Returns how many there were.
    pub(crate) fn take(self, slots: &mut [*mut u8]) -> usize {
        let in_line = CACHE_LINE / self.info().size;
        let whole = if in_line > 1 { self.take_where(slots, |bits| whole_lines(bits, in_line)) } else { 0 };
        whole + self.take_where(&mut slots[whole..], |bits| bits)
    }

    fn take_where(self, slots: &mut [*mut u8], wanted: impl Fn(u64) -> u64) -> usize {
        let base = MemMap.address(self.first).as_ptr();
        let size = self.info().size as usize;
        let mut slots = slots.iter_mut();
        let room = slots.len();
        for (index, word) in self.bits().iter().enumerate() {
            let bits = word.load(Ordering::Relaxed);
            let mut left = wanted(bits);
            let first = left;
            while left != 0
                && let Some(slot) = slots.next()
            {
                let object = index * 64 + left.trailing_zeros() as usize;
                // SAFETY: the bit says that object number `object` of this slab exists, so it lies within the
                // slab's pages, which are one block of an arena.
                *slot = unsafe { base.add(object * size) };
                left &= left - 1;
            }
            word.store(bits & !first | left, Ordering::Relaxed);
        }
        room - slots.len()
    }

    /// Marks objects as free, from the first on as far as they are of this slab, and returns how many that were.
    /// An `Err` names one that is none, or that is free already, and what it is instead.
    pub(crate) fn give(self, objects: &[*mut u8]) -> Result<usize, (*mut u8, NotAnObject)> {
        // Copies, and one word of the bitmap at a time: what the loop uses stays in registers.
        let (info, bits) = (*self.info(), self.bits());
        let base = MemMap.address(self.first).as_ptr().addr();
        let bytes = usize::from(info.pages) * PAGE_SIZE;
        let Some(mut word) = bits.first() else { return Ok(0) };
        let (mut number, mut free, mut given) = (0, word.load(Ordering::Relaxed), 0);
        for object in objects {
            let offset = object.addr().wrapping_sub(base);
            if offset >= bytes {
                break;
            }
            let index = info.object_at(offset).ok_or((*object, NotAnObject::Interior))?;
            if index / 64 != number {
                word.store(free, Ordering::Relaxed);
                number = index / 64;
                word = bits.get(number).ok_or((*object, NotAnObject::Interior))?;
                free = word.load(Ordering::Relaxed);
            }
            let bit = 1 << (index % 64);
            if free & bit != 0 {
                return Err((*object, NotAnObject::Free));
            }
            free |= bit;
            given += 1;
        }
        word.store(free, Ordering::Relaxed);
        Ok(given)
    }

    /// The slab at this address, of this zone and class. An `Err` says what the address is instead.
    pub(crate) fn at(address: usize, zone: u16, class: usize) -> Result<Self, NotAnObject> {
        let pfn = crate::page::section::pfn_of(address).ok_or(NotAnObject::Foreign)?;
        let word = MemMap.page(pfn).word();
        let is_slab = word.kind() == Kind::Slab || word.kind() == Kind::Run && word.class() != 0;
        if !is_slab || word.zone() != zone {
            return Err(if inside_large(pfn, zone) { NotAnObject::Interior } else { NotAnObject::Foreign });
        }
        if word.class() != class {
            return Err(NotAnObject::OtherClass);
        }
        Ok(Self { first: pfn.align_down(word.order()), class })
    }
}

/// Whether the page is a further one of a large object: only the first says what it is.
#[cold]
fn inside_large(pfn: Pfn, zone: u16) -> bool {
    let first = (0..pfn.index()).rev().filter_map(|index| Pfn::new(pfn.section(), index)).find(|before| {
        // Up to the next page that says anything.
        MemMap.page(*before).word().kind() != Kind::Nothing
    });
    MemMap.page(pfn).word().kind() == Kind::Nothing
        && first.is_some_and(|first| {
            let page = MemMap.page(first);
            let is_run = page.word().kind() == Kind::Run && page.word().zone() == zone;
            is_run && page.word().class() != 0 && pfn.index() - first.index() < page.run_pages()
        })
}

/// Of the free objects those that have a cache line with no other: a line holds `in_line` of them, 2, 4 or 8.
fn whole_lines(bits: u64, in_line: u32) -> u64 {
    match in_line {
        2 => (bits & bits >> 1 & 0x5555_5555_5555_5555) * 0b11,
        4 => {
            let pairs = bits & bits >> 1;
            (pairs & pairs >> 2 & 0x1111_1111_1111_1111) * 0b1111
        }
        _ => {
            let pairs = bits & bits >> 1;
            let fours = pairs & pairs >> 2;
            (fours & fours >> 4 & 0x0101_0101_0101_0101) * 0xff
        }
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
    /// An object is there that is free.
    Free,
}
