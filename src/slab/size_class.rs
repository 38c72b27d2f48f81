//! Size classes: 8, steps of 16 to 128, then four to a doubling up to 8 KiB. Waste is at most a fifth.
//!
//! Within the doubling (2^k, 2^(k+1)] all classes are multiples of 2^(k-2). So for any alignment of a power of
//! two, the class of the size rounded up to the alignment is itself a multiple of it, and no search is needed.
#![forbid(unsafe_code)]

use crate::base::pfn::{Order, PAGE_SIZE};

/// The largest size that a class serves, in bytes.
pub(crate) const MAX_SIZE: usize = 8192;
/// The number of classes.
pub(crate) const NR_CLASSES: usize = 9 + 4 * 6;
/// The largest order of a slab.
const MAX_SLAB_ORDER: u32 = 3;
/// Bytes of the objects that a full-size sheaf holds, at most; the count is cut to 8 to 256.
const SHEAF_BYTES: usize = 32 << 10;
/// Bytes of the objects that a class's barn holds, at most.
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
    /// Order of a slab: the smallest whose tail is at most 1/16 of it.
    pub(crate) order: Order,
    /// ceil(2^32 / size): multiplying by it and shifting by 32 divides any offset below 2^15 exactly.
    reciprocal: u32,
}

/// Every class, smallest first.
pub(crate) static CLASSES: [SizeClass; NR_CLASSES] = {
    let mut classes = [class_with(8); NR_CLASSES];
    let mut class = 0;
    while class < NR_CLASSES {
        classes[class] = class_with(size_of_class(class));
        class += 1;
    }
    classes
};

/// From a size in units of 8 bytes, rounded up, to its class.
static BY_SIZE: [u8; MAX_SIZE / 8 + 1] = {
    let mut by_size = [0; MAX_SIZE / 8 + 1];
    let (mut units, mut class) = (0, 0);
    while units < by_size.len() {
        if units * 8 > size_of_class(class) {
            class += 1;
        }
        by_size[units] = class as u8;
        units += 1;
    }
    by_size
};

const fn size_of_class(class: usize) -> usize {
    match class {
        0 => 8,
        1..=8 => class * 16,
        _ => {
            let (doubling, step) = ((class - 9) / 4, (class - 9) % 4);
            (128 << doubling) + (step + 1) * (32 << doubling)
        }
    }
}

const fn class_with(size: usize) -> SizeClass {
    let order = slab_order(size);
    let sheaf = clamp(SHEAF_BYTES / size, 8, 256);
    let sheaf = 1 << sheaf.ilog2();
    SizeClass {
        size: size as u32,
        objects: (order.bytes() / size) as u16,
        sheaf,
        barn: clamp(BARN_BYTES / (sheaf as usize * size), 2, 64) as u16,
        order,
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

/// The class of a size of at most `MAX_SIZE` bytes.
#[inline(always)]
pub(crate) fn class_of(size: usize) -> usize {
    debug_assert!(size <= MAX_SIZE);
    usize::from(BY_SIZE[((size + 7) >> 3) % BY_SIZE.len()])
}

/// As `BY_SIZE` in units of 16 bytes, with nothing below the class of 16: every C block is 16-aligned.
static BY_SIZE_16: [u8; MAX_SIZE / 16 + 1] = {
    let mut by_size = [1; MAX_SIZE / 16 + 1];
    let mut units = 1;
    while units < by_size.len() {
        by_size[units] = BY_SIZE[units * 2];
        units += 1;
    }
    by_size
};

/// The class of 16 bytes or more for a size of at most `MAX_SIZE` bytes.
#[inline(always)]
pub(crate) fn class_of_16(size: usize) -> usize {
    debug_assert!(size <= MAX_SIZE);
    usize::from(BY_SIZE_16[((size + 15) >> 4) % BY_SIZE_16.len()])
}

impl SizeClass {
    /// The slots of a sheaf at growth level 0, 1 or 2.
    pub(crate) fn sheaf_at(&self, level: u8) -> usize {
        let most = usize::from(self.sheaf);
        (most >> (2 * (MAX_LEVEL - level.min(MAX_LEVEL)))).max(4)
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
        for size in 0..=MAX_SIZE {
            let class = class_of(size);
            assert!(CLASSES[class].size as usize >= size);
            assert!(class == 0 || (CLASSES[class - 1].size as usize) < size);
        }
        assert_eq!(CLASSES[NR_CLASSES - 1].size as usize, MAX_SIZE);
    }

    #[test]
    fn every_c_size_has_a_class_of_16_and_more() {
        for size in 0..=MAX_SIZE {
            assert_eq!(class_of_16(size), class_of(size.max(16)));
        }
    }

    #[test]
    fn waste_is_bounded() {
        let mut wasted = 0.0;
        for size in 129..=MAX_SIZE {
            let waste = 1.0 - size as f64 / f64::from(CLASSES[class_of(size)].size);
            assert!(waste <= 0.2, "{size} wastes {waste}");
            wasted += waste;
        }
        assert!(wasted / ((MAX_SIZE - 128) as f64) < 0.1);
    }

    #[test]
    fn every_alignment_is_honoured() {
        for shift in 0..=13 {
            let align = 1_usize << shift;
            for size in 1..=MAX_SIZE {
                let rounded = size.next_multiple_of(align);
                if rounded <= MAX_SIZE {
                    let class = &CLASSES[class_of(rounded)];
                    assert!((class.size as usize).is_multiple_of(align));
                    assert!(class.order.bytes() >= align, "a slab of {size} is not aligned to {align}");
                }
            }
        }
    }

    #[test]
    fn objects_are_found_by_their_offset() {
        for class in &CLASSES {
            assert!(class.objects > 0 && class.sheaf.is_power_of_two());
            for offset in 0..class.order.bytes() {
                let exact = offset.is_multiple_of(class.size as usize);
                let index = offset / class.size as usize;
                let expected = (exact && index < usize::from(class.objects)).then_some(index);
                assert_eq!(class.object_at(offset), expected);
            }
        }
    }
}
