//! Size classes: 8, steps of 16 to 128, then four to a doubling up to 256 KiB, but whole pages above 8 KiB. Waste
//! is at most a fifth, above 8 KiB of what the pages hold.
//!
//! Up to 8 KiB objects share slabs; above, an object is a run of whole pages of its own, so that what has this
//! size goes through sheaves too and meets no lock. Classes are numbered from 1: 0 says "no class".
//!
//! Within the doubling (2^k, 2^(k+1)] all classes are multiples of 2^(k-2), from 8 KiB on of a page. So for any
//! alignment of a power of two up to a page, the class of the size rounded up to the alignment is itself a
//! multiple of it, and no search is needed.
#![forbid(unsafe_code)]

use crate::base::pfn::{Order, PAGE_SIZE};

/// The largest size that shares slabs with others, in bytes.
pub(crate) const MAX_SMALL: usize = 8192;
/// The largest size that a class serves, in bytes.
pub(crate) const MAX_SIZE: usize = 256 << 10;
/// The number of the class of 8 KiB.
pub(crate) const LAST_SMALL: usize = 9 + 4 * 6;
/// One more than the number of the last class.
pub(crate) const NR_CLASSES: usize = LAST_SMALL + 2 + 4 * 4 + 1;
/// The largest order of a slab of small objects.
const MAX_SLAB_ORDER: u32 = 3;
/// Bytes of the objects that a full-size sheaf of small objects holds, at most; the count is cut to 8 to 256.
const SHEAF_BYTES: usize = 32 << 10;
/// The same for larger objects; the count is cut to 2 to 16.
const LARGE_SHEAF_BYTES: usize = 1 << 20;
/// Bytes of the objects that a class's barn holds, at most, where two sheaves (of larger objects one) are not more.
const BARN_BYTES: usize = 256 << 10;

/// What is fixed about a class.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SizeClass {
    /// Bytes of an object.
    pub(crate) size: u32,
    /// Objects of a slab.
    pub(crate) objects: u16,
    /// Slots of a full-size sheaf, a power of two.
    pub(crate) sheaf: u16,
    /// Full sheaves that the barn keeps.
    pub(crate) barn: u16,
    /// Pages of a slab: 2^order for the smallest order whose tail is at most 1/16 of it; above 8 KiB the object's.
    pub(crate) pages: u16,
    /// ceil(2^32 / size): multiplying by it and shifting by 32 divides any offset below 2^15 exactly.
    reciprocal: u32,
}

/// The classes' numbers, smallest class first.
pub(crate) const ALL_CLASSES: core::ops::Range<usize> = 1..NR_CLASSES;

/// Every class by its number. Number 0 has no objects and no room.
pub(crate) static CLASSES: [SizeClass; NR_CLASSES] = {
    let mut classes =
        [SizeClass { size: 0, objects: 0, sheaf: 0, barn: 0, pages: 0, reciprocal: 0 }; NR_CLASSES];
    let mut class = 1;
    while class < NR_CLASSES {
        classes[class] = class_with(size_of_class(class));
        class += 1;
    }
    classes
};

/// The classes of the sizes `first`, `first + unit` and so on, but none below class `least`.
const fn classes_of<const LEN: usize>(first: usize, unit: usize, least: usize) -> [u8; LEN] {
    let mut classes = [0; LEN];
    let (mut index, mut class) = (0, least);
    while index < LEN {
        while first + index * unit > size_of_class(class) {
            class += 1;
        }
        classes[index] = class as u8;
        index += 1;
    }
    classes
}

/// From the offset of the last byte, in units of 8 bytes, for sizes up to 8 KiB.
static BY_LAST: [u8; MAX_SMALL / 8] = classes_of(8, 8, 1);
/// The same in pages, for sizes up to 256 KiB.
static BY_LAST_PAGE: [u8; MAX_SIZE / PAGE_SIZE] = classes_of(PAGE_SIZE, PAGE_SIZE, 1);
/// From a size in units of 16 bytes, rounded up: for C, where every block is aligned to 16 and 0 is a size.
static BY_SIZE_16: [u8; MAX_SMALL / 16 + 1] = classes_of(0, 16, 2);

const fn size_of_class(class: usize) -> usize {
    match class {
        1 => 8,
        2..=9 => (class - 1) * 16,
        _ => {
            let (doubling, step) = ((class - 10) / 4, (class - 10) % 4);
            let size = (128 << doubling) + (step + 1) * (32 << doubling);
            // A quarter of 8 KiB is half a page, so that doubling has but two steps.
            if class <= LAST_SMALL { size } else { large_size(class - LAST_SMALL) }
        }
    }
}

/// The size of the class that is `number` (1 or more) above that of 8 KiB: 12, 16, then four to a doubling.
const fn large_size(number: usize) -> usize {
    if number <= 2 {
        return MAX_SMALL + number * PAGE_SIZE;
    }
    let (doubling, step) = ((number - 3) / 4, (number - 3) % 4);
    (4 + step + 1) * (PAGE_SIZE << doubling)
}

const fn class_with(size: usize) -> SizeClass {
    let (sheaf, barn, pages) = if size <= MAX_SMALL {
        (clamp(SHEAF_BYTES / size, 8, 256), 2, slab_order(size).pages())
    } else {
        (clamp(LARGE_SHEAF_BYTES / size, 2, 16), 1, size / PAGE_SIZE)
    };
    let sheaf = 1 << sheaf.ilog2();
    SizeClass {
        size: size as u32,
        objects: (pages * PAGE_SIZE / size) as u16,
        sheaf,
        barn: clamp(BARN_BYTES / (sheaf as usize * size), barn, 64) as u16,
        pages: pages as u16,
        reciprocal: (1_u64 << 32).div_ceil(size as u64) as u32,
    }
}

/// The smallest order with a tail of at most 1/16; where there is none, the smallest with the least tail.
const fn slab_order(size: usize) -> Order {
    let (mut best, mut least) = (MAX_SLAB_ORDER, usize::MAX);
    let mut order = 0;
    while order <= MAX_SLAB_ORDER {
        let bytes = PAGE_SIZE << order;
        if bytes >= size {
            if bytes % size <= bytes / 16 {
                return Order::new(order);
            }
            // Tails of different orders, both as parts of the largest.
            let tail = (bytes % size) << (MAX_SLAB_ORDER - order);
            if tail < least {
                (best, least) = (order, tail);
            }
        }
        order += 1;
    }
    Order::new(best)
}

const fn clamp(value: usize, least: usize, most: usize) -> usize {
    if value < least {
        least
    } else if value > most {
        most
    } else {
        value
    }
}

/// The class of a size of 1 to `MAX_SMALL` bytes, by the offset of its last byte.
#[inline(always)]
pub(crate) fn class_by_last(last: usize) -> usize {
    debug_assert!(last < MAX_SMALL);
    usize::from(BY_LAST[(last >> 3) % BY_LAST.len()])
}

/// The class of 16 bytes or more for a size of at most `MAX_SMALL` bytes.
#[inline(always)]
pub(crate) fn class_of_16(size: usize) -> usize {
    debug_assert!(size <= MAX_SMALL);
    usize::from(BY_SIZE_16[((size + 15) >> 4) % BY_SIZE_16.len()])
}

/// The class of a size of more than `MAX_SMALL` and at most `MAX_SIZE` bytes, by the offset of its last byte.
#[inline(always)]
pub(crate) fn large_class_by_last(last: usize) -> usize {
    debug_assert!((MAX_SMALL..MAX_SIZE).contains(&last));
    usize::from(BY_LAST_PAGE[(last / PAGE_SIZE) % BY_LAST_PAGE.len()])
}

/// The class of a size of 1 to `MAX_SIZE` bytes.
#[cfg(test)]
pub(crate) fn class_of(size: usize) -> usize {
    if size <= MAX_SMALL { class_by_last(size - 1) } else { large_class_by_last(size - 1) }
}

impl SizeClass {
    /// Slots of a sheaf at growth level 0, 1 or 2.
    pub(crate) fn sheaf_at(&self, level: u8) -> usize {
        let least = if self.is_large() { 1 } else { 4 };
        (usize::from(self.sheaf) >> (2 * (MAX_LEVEL - level.min(MAX_LEVEL)))).max(least)
    }

    /// Bytes that a main and a spare sheaf hold at this growth level.
    pub(crate) fn cost(&self, level: u8) -> usize {
        2 * self.sheaf_at(level) * self.size as usize
    }

    /// Whether an object is a run of pages of its own.
    pub(crate) fn is_large(&self) -> bool {
        self.size as usize > MAX_SMALL
    }

    /// The object that starts at `offset` bytes of its slab, `None` if none starts there.
    #[inline]
    pub(crate) fn object_at(&self, offset: usize) -> Option<usize> {
        let index = (offset as u64 * u64::from(self.reciprocal)) >> 32;
        let exact = index as usize * self.size as usize == offset && index < u64::from(self.objects);
        exact.then_some(index as usize)
    }
}

/// The growth level of full-size sheaves.
pub(crate) const MAX_LEVEL: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_that_holds_it() {
        for size in 1..=MAX_SIZE {
            let class = class_of(size);
            assert!(CLASSES[class].size as usize >= size);
            assert!(class == 1 || (CLASSES[class - 1].size as usize) < size);
        }
        assert_eq!(CLASSES[LAST_SMALL].size as usize, MAX_SMALL);
        assert_eq!(CLASSES[NR_CLASSES - 1].size as usize, MAX_SIZE);
    }

    #[test]
    fn every_c_size_has_a_class_of_16_and_more() {
        for size in 0..=MAX_SMALL {
            assert_eq!(class_of_16(size), class_of(size.max(16)));
        }
    }

    #[test]
    fn waste_is_bounded() {
        let mut wasted = 0.0;
        for size in 129..=MAX_SIZE {
            let needed = if size <= MAX_SMALL { size } else { size.next_multiple_of(PAGE_SIZE) };
            let waste = 1.0 - needed as f64 / f64::from(CLASSES[class_of(size)].size);
            assert!(waste <= 0.2, "{size} wastes {waste}");
            wasted += waste;
        }
        assert!(wasted / ((MAX_SIZE - 128) as f64) < 0.1);
    }

    #[test]
    fn every_alignment_up_to_a_page_is_honoured() {
        for shift in 0..=12 {
            let align = 1_usize << shift;
            for size in 1..=MAX_SIZE {
                let rounded = size.next_multiple_of(align);
                if rounded <= MAX_SIZE {
                    let class = &CLASSES[class_of(rounded)];
                    assert!((class.size as usize).is_multiple_of(align));
                }
            }
        }
    }

    #[test]
    fn slabs_of_small_objects_are_blocks_and_others_are_their_object() {
        for class in &CLASSES[ALL_CLASSES] {
            let bytes = usize::from(class.pages) * PAGE_SIZE;
            if class.is_large() {
                assert!(class.objects == 1 && class.size as usize == bytes);
            } else {
                assert!(class.pages.is_power_of_two() && bytes.is_multiple_of(PAGE_SIZE));
            }
        }
    }

    #[test]
    fn objects_are_found_by_their_offset() {
        for class in &CLASSES[ALL_CLASSES] {
            assert!(class.objects > 0 && class.sheaf.is_power_of_two());
            // Only the first page of a large object says what it is.
            let bytes = if class.is_large() { PAGE_SIZE } else { usize::from(class.pages) * PAGE_SIZE };
            for offset in 0..bytes {
                let exact = offset.is_multiple_of(class.size as usize);
                let index = offset / class.size as usize;
                let expected = (exact && index < usize::from(class.objects)).then_some(index);
                assert_eq!(class.object_at(offset), expected);
            }
        }
    }
}
