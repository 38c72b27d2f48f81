//! Tests of the slab layer, on a zone of their own.

#![allow(clippy::needless_range_loop, reason = "a class is a number, not only an index")]

mod cache;
mod misuse;
mod sheaves;
mod slab;

use super::kmem_cache::{KmemCache, KmemCaches};
use super::sheaf::{Object, SheafPool};
use super::size_class::{ALL_CLASSES, CLASSES, LAST_SMALL, MAX_SIZE, NR_CLASSES, class_of};
use super::slab_page::Slab;
use super::thread_sheaves::{Miss, ThreadSheaves};
use crate::base::budget::Budget;
use crate::base::config::{Config, Hugepages};
use crate::page::meta::Meta;
use crate::page::section::MemMap;
use crate::page::tests::Home;
use crate::page::validate::census;

/// A zone and its kmem caches: an instance without threads.
struct Shop {
    home: Home,
    slabs: Box<KmemCaches>,
    pool: SheafPool,
    meta: Meta,
    budget: Budget,
}

/// What the budget of a shop starts with: as good as none at all.
const PLENTY: isize = 1 << 40;

impl Shop {
    fn new() -> Self {
        Self::with(usize::MAX, PLENTY)
    }

    /// A shop whose zone may use so many bytes, and its threads' sheaves so many.
    fn with(limit: usize, budget: isize) -> Self {
        let home = Home::with(&Config { hugepages: Hugepages::Off, limit, ..Config::new() });
        Self {
            home,
            slabs: Box::new(KmemCaches::new()),
            pool: SheafPool::new(),
            meta: Meta::new(),
            budget: Budget::new(budget),
        }
    }

    fn cache(&self, class: usize) -> &KmemCache {
        &self.slabs.caches[class]
    }

    fn with_miss<R>(&self, class: usize, work: impl FnOnce(&mut Miss<'_, '_>) -> R) -> R {
        let mut pages = self.home.bare();
        work(&mut Miss {
            cache: self.cache(class),
            class,
            nodes: None,
            pool: &self.pool,
            meta: &self.meta,
            budget: &self.budget,
            pages: &mut pages,
        })
    }

    /// Up to `wanted` objects straight from the slabs.
    fn take(&self, class: usize, wanted: usize) -> Vec<Object> {
        let mut slots = vec![core::ptr::null_mut(); wanted];
        let taken = self.cache(class).take_objects(class, &mut slots, &self.meta, &mut self.home.bare());
        assert!(slots[taken..].iter().all(|object| object.is_null()));
        slots.truncate(taken);
        slots
    }

    fn give(&self, class: usize, objects: &[Object]) {
        let zone = self.home.zone.id;
        self.cache(class).give_objects(class, zone, objects, &mut self.home.bare());
    }

    /// Recounts everything; returns the objects of this class that are out of their slabs.
    fn out(&self, class: usize) -> usize {
        let mut slabs = [0; NR_CLASSES];
        let mut free = [0; NR_CLASSES];
        let counted = census(&self.home.zone.buddy.lock(), &mut |first| {
            let class = MemMap.page(first).word().class();
            slabs[class] += 1;
            free[class] += Slab { first, class }.free_objects();
            Ok(())
        });
        let counted = counted.unwrap();
        let pages: usize = ALL_CLASSES.map(|class| slabs[class] * pages_of(class)).sum();
        assert_eq!((counted.slab, counted.run, counted.pcp), (pages, 0, 0));
        for (class, cache) in self.slabs.caches.iter().enumerate() {
            let node = cache.node.lock();
            assert_eq!((node.slabs, node.free), (slabs[class], free[class]));
            KmemCache::check_partial(&node, class).unwrap();
        }
        slabs[class] * usize::from(CLASSES[class].objects) - free[class]
    }

    /// Whether no slab is left, and every page is free.
    fn is_empty(&self) -> bool {
        let free = self.home.census().free;
        ALL_CLASSES.into_iter().all(|class| self.out(class) == 0 && self.cache(class).node.lock().slabs == 0)
            && free == self.home.zone.mapped_pages()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // SAFETY: the test is over, and with it all use of its records.
        unsafe { self.meta.unmap_all() };
    }
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// The classes whose objects share slabs.
const SMALL_CLASSES: core::ops::Range<usize> = 1..LAST_SMALL + 1;

fn pages_of(class: usize) -> usize {
    CLASSES[class].pages.into()
}

fn bytes_of(class: usize) -> usize {
    CLASSES[class].size as usize
}

/// Fills objects with a number that only they have, each to its last byte.
fn write(class: usize, objects: &[Object]) {
    for object in objects {
        // SAFETY: an object of this class that the test took.
        unsafe { object.write_bytes(object.addr().wrapping_mul(0x9e37_79b9) as u8, bytes_of(class)) };
    }
}

/// Whether the objects hold what `write` wrote.
fn is_written(class: usize, objects: &[Object]) -> bool {
    objects.iter().all(|object| {
        // SAFETY: as in `write`.
        let bytes = unsafe { core::slice::from_raw_parts(*object, bytes_of(class)) };
        bytes.iter().all(|byte| *byte == object.addr().wrapping_mul(0x9e37_79b9) as u8)
    })
}
