//! A kmem cache: filled and emptied for every class, the order of its partial list, and running out of memory.
#![forbid(unsafe_code)]

use super::*;
use crate::base::pfn::{PAGEBLOCK_SIZE, Pfn};
use crate::page::section::pfn_of;
use crate::sys::fault::{Call, arm};

fn objects_of(class: usize) -> usize {
    usize::from(CLASSES[class].objects)
}

/// The first page of the slab that an object is of.
fn slab_of(object: Object) -> Pfn {
    let pfn = pfn_of(object.addr()).unwrap();
    pfn.align_down(MemMap.page(pfn).word().order())
}

#[test]
fn every_class_is_filled_and_emptied() {
    for class in SMALL_CLASSES {
        let shop = Shop::new();
        let wanted = 3 * objects_of(class) + 1;
        let mut objects = Vec::new();
        while objects.len() < wanted {
            let batch = shop.take(class, usize::from(CLASSES[class].sheaf).min(wanted - objects.len()));
            // The last one, which is popped first, has the lowest address of its slab.
            assert!(batch.windows(2).all(|pair| slab_of(pair[0]) != slab_of(pair[1]) || pair[0] > pair[1]));
            objects.extend(batch);
        }
        write(class, &objects);
        assert_eq!((shop.out(class), shop.cache(class).node.lock().slabs), (wanted, 4));
        let mut sorted = objects.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1].addr() - pair[0].addr() >= bytes_of(class)));
        let mut random = Random(class as u64);
        while !objects.is_empty() {
            assert!(is_written(class, &objects));
            let count = 1 + random.below(objects.len());
            let batch: Vec<_> =
                (0..count).map(|_| objects.swap_remove(random.below(objects.len()))).collect();
            shop.give(class, &batch);
            assert_eq!(shop.out(class), objects.len());
        }
        let events = shop.cache(class).node.lock().events;
        assert_eq!((events.slab_new, events.slab_free), (4, 4));
        assert!(shop.is_empty());
    }
}

#[test]
fn records_of_bitmaps_are_used_again() {
    for class in [1, 2] {
        let shop = Shop::new();
        let mapped = |shop: &Shop| {
            let objects = shop.take(class, 1);
            shop.give(class, &objects);
            shop.meta.mapped()
        };
        let first = mapped(&shop);
        // A record of 64 bytes each time would fill the chunk of 256 KiB.
        assert!((0..5000).all(|_| mapped(&shop) == first) && shop.is_empty());
    }
}

#[test]
fn the_fullest_slab_serves_first_and_an_empty_one_goes_back() {
    for class in [1, class_of(64), class_of(1024)] {
        let shop = Shop::new();
        let count = objects_of(class);
        let objects = shop.take(class, 3 * count);
        let mut slabs: Vec<Vec<Object>> = Vec::new();
        for object in objects {
            match slabs.iter_mut().find(|slab| slab_of(slab[0]) == slab_of(object)) {
                Some(slab) => slab.push(object),
                None => slabs.push(vec![object]),
            }
        }
        let [a, b, c] = [0, 1, 2].map(|index| slabs[index].clone());
        // They get room in the order a, b, c; a and b then get more of it.
        for slab in [&a, &b, &c] {
            shop.give(class, &slab[..1]);
        }
        shop.give(class, &a[1..count - 1]);
        shop.give(class, &b[1..3]);
        let took: Vec<_> = shop.take(class, 5).into_iter().rev().map(slab_of).collect();
        assert_eq!(took, [slab_of(c[0]), slab_of(b[0]), slab_of(b[0]), slab_of(b[0]), slab_of(a[0])]);
        // One of a's objects is in use, and the one that was taken just now: with both back it is empty.
        let counts = || {
            let node = shop.cache(class).node.lock();
            (node.slabs, node.free, node.events.slab_free)
        };
        assert_eq!((counts(), shop.out(class)), ((3, count - 2, 0), 2 * count + 2));
        let pages = shop.home.census().free;
        let first = slab_of(a[0]);
        let left = [a[count - 1], all_used(first, class).into_iter().find(|o| *o != a[count - 1]).unwrap()];
        shop.give(class, &left);
        assert_eq!(counts(), (2, 0, 1));
        assert_eq!(shop.home.census().free, pages + pages_of(class));
    }
}

/// The objects of a slab that are not free in it.
fn all_used(first: Pfn, class: usize) -> Vec<Object> {
    let slab = Slab { first, class };
    let mut free = vec![core::ptr::null_mut(); slab.free_objects()];
    assert_eq!(slab.take(&mut free), free.len());
    let base = MemMap.address(first).as_ptr();
    let used = (0..objects_of(class)).map(|index| base.wrapping_add(index * bytes_of(class)));
    let used = used.filter(|object| !free.contains(object)).collect();
    for object in free {
        assert_eq!(slab.give(&[object]), Ok(1));
    }
    used
}

#[test]
fn memory_that_runs_out_is_a_short_batch() {
    for class in [1, 2, class_of(48), class_of(512), class_of(8192)] {
        let shop = Shop::with(PAGEBLOCK_SIZE, PLENTY);
        let slabs = 512 / pages_of(class);
        let mut objects = shop.take(class, slabs * objects_of(class) - 3);
        assert_eq!(objects.len(), slabs * objects_of(class) - 3);
        let last = shop.take(class, 100);
        assert_eq!((last.len(), shop.take(class, 100).len()), (3, 0));
        objects.extend(last);
        assert_eq!(shop.out(class), objects.len());
        // A record for a bitmap that found no slab is kept for the next one.
        let mapped = shop.meta.mapped();
        assert!((0..5000).all(|_| shop.take(class, 1).is_empty()));
        assert_eq!(shop.meta.mapped(), mapped);
        shop.give(class, &objects);
        assert!(shop.is_empty());
    }
}

#[test]
fn refused_mappings_leave_all_sound() {
    for class in [1, class_of(100), class_of(6000), class_of(40_000)] {
        for pass in 0..6 {
            let shop = Shop::new();
            assert!(arm(Call::Map, pass, 4));
            let mut objects = Vec::new();
            for _ in 0..8 {
                objects.extend(shop.take(class, 300));
                assert_eq!(shop.out(class), objects.len());
            }
            arm(Call::Map, 0, 0);
            write(class, &objects);
            objects.extend(shop.take(class, 300));
            assert!(objects.len() >= 300);
            shop.give(class, &objects);
            assert!(shop.is_empty());
        }
    }
}

#[test]
fn threads_that_share_a_class_keep_their_objects_apart() {
    for class in [1, class_of(64), class_of(2048), class_of(12_288)] {
        let shop = Shop::new();
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let shop = &shop;
                scope.spawn(move || {
                    let (mut random, mut held) = (Random(seed), Vec::new());
                    for _ in 0..300 {
                        if held.len() < 500 && random.below(2) == 0 {
                            let objects = shop.take(class, 1 + random.below(100));
                            write(class, &objects);
                            held.extend(objects);
                        } else {
                            let count = random.below(held.len());
                            let objects: Vec<_> =
                                (0..count).map(|_| held.swap_remove(random.below(held.len()))).collect();
                            assert!(is_written(class, &objects));
                            shop.give(class, &objects);
                        }
                    }
                    shop.give(class, &held);
                });
            }
        });
        assert!(shop.is_empty());
    }
}
