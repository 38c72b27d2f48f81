//! A thread's sheaves and the barn: growth within the budget, exchange, and nothing left behind.
#![forbid(unsafe_code)]

use super::*;
use crate::slab::size_class::SizeClass;
use crate::slab::thread_sheaves::{LARGE_FROM, Sheaves, flush_barn};
use crate::sys::fault::{Call, arm};
use core::ptr::NonNull;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// A thread that allocates and frees objects of one class.
struct Thread<'a> {
    shop: &'a Shop,
    class: usize,
    sheaves: ThreadSheaves,
}

impl<'a> Thread<'a> {
    fn new(shop: &'a Shop, class: usize) -> Self {
        Self { shop, class, sheaves: ThreadSheaves::new() }
    }

    fn sheaves(&self) -> Sheaves<'_> {
        self.sheaves.of(self.class)
    }

    fn info(&self) -> &'static SizeClass {
        &CLASSES[self.class]
    }

    fn alloc(&self) -> Option<Object> {
        let missed = || self.shop.with_miss(self.class, |miss| self.sheaves().alloc_miss(miss));
        let object = self.sheaves().pop().or_else(missed);
        assert!(self.sheaves().is_sound(self.info()));
        object.map(NonNull::as_ptr)
    }

    fn free(&self, object: Object) {
        let object = NonNull::new(object).unwrap();
        if !self.sheaves().push(object.as_ptr()) {
            self.shop.with_miss(self.class, |miss| self.sheaves().free_miss(object, miss));
        }
        assert!(self.sheaves().is_sound(self.info()));
    }

    /// As many objects; straight from the slabs where the thread gets no sheaf.
    fn many(&self, count: usize) -> Vec<Object> {
        let one = || self.alloc().or_else(|| self.shop.take(self.class, 1).pop());
        (0..count).map(|_| one().unwrap()).collect()
    }

    fn free_all(&self, objects: Vec<Object>) {
        objects.into_iter().for_each(|object| self.free(object));
    }

    fn misses(&self) -> u32 {
        self.sheaves().misses().0 + self.sheaves().misses().1
    }

    /// Ends the thread.
    fn flush(&self) {
        self.shop.with_miss(self.class, |miss| self.sheaves().flush(miss));
        assert_eq!(self.sheaves().count(), 0);
    }
}

impl Shop {
    fn flush_barn(&self, class: usize) {
        self.with_miss(class, flush_barn);
        assert_eq!(self.cache(class).barn.lock().counts(), (0, 0));
    }

    /// Objects in the class's caches, where these are all threads.
    fn cached(&self, threads: &[Thread<'_>]) -> usize {
        let cached: usize = threads.iter().map(|thread| thread.sheaves().count()).sum();
        cached + self.cache(threads[0].class).barn.lock().objects()
    }
}

#[test]
fn sheaves_grow_with_their_misses_and_pay_for_it() {
    for class in ALL_CLASSES {
        let shop = Shop::new();
        let thread = Thread::new(&shop, class);
        let info = thread.info();
        // For a main and a spare sheaf.
        let paid = |shop: &Shop| (PLENTY - shop.budget.left()) as usize / bytes_of(class) / 2;
        // Large objects have a sheaf only where they are wanted again and again.
        for _ in (1..LARGE_FROM).filter(|_| info.is_large()) {
            assert!(thread.alloc().is_none() && shop.budget.left() == PLENTY);
        }
        let mut held = Vec::new();
        for level in [0, 1, 2, 2, 2] {
            let misses = thread.misses();
            held.push(thread.alloc().unwrap());
            assert_eq!((thread.misses(), thread.sheaves().count()), (misses + 1, info.sheaf_at(level) - 1));
            assert_eq!(paid(&shop), info.sheaf_at(level));
            held.extend(thread.many(info.sheaf_at(level) - 1));
            assert_eq!(thread.misses(), misses + 1);
        }
        assert_eq!(shop.out(class), held.len());
        thread.free_all(held);
        thread.flush();
        shop.flush_barn(class);
        assert_eq!(shop.budget.left(), PLENTY);
        assert!(shop.is_empty());
    }
}

#[test]
fn a_thread_that_only_frees_grows_as_well() {
    for class in [1, class_of(64), class_of(1000), class_of(8192), class_of(20_000), class_of(MAX_SIZE)] {
        let shop = Shop::new();
        let full = usize::from(CLASSES[class].sheaf);
        let objects = shop.take(class, 6 * full);
        let thread = Thread::new(&shop, class);
        thread.free_all(objects);
        assert_eq!(shop.budget.left(), PLENTY - (2 * full * bytes_of(class)) as isize);
        assert!(
            thread.sheaves().count() <= 2 * full
                && shop.cached(std::slice::from_ref(&thread)) == shop.out(class)
        );
        thread.flush();
        shop.flush_barn(class);
        assert!(shop.is_empty() && shop.budget.left() == PLENTY);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the pattern, objects are handed out once, all are accounted for, and the budget comes back whole.
    #[test]
    fn nothing_is_lost_whatever_the_pattern(
        class in ALL_CLASSES,
        budget in prop_oneof![Just(PLENTY), 0..200_000_isize],
        steps in prop::collection::vec((0..8_u8, 0..2_usize, prop_oneof![1..40_usize, 1..700_usize]), 1..60),
    ) {
        let shop = Shop::with(64 << 20, budget);
        let threads = [Thread::new(&shop, class), Thread::new(&shop, class)];
        let (mut held, mut random) = (Vec::new(), Random(steps.len() as u64));
        let most = 2000.min((16 << 20) / bytes_of(class));
        for (step, which, count) in steps {
            let thread = &threads[which];
            match step {
                0..3 if held.len() < most => {
                    let objects = thread.many(count.min(most - held.len()));
                    write(class, &objects);
                    held.extend(objects);
                }
                3..6 => {
                    for _ in 0..count.min(held.len()) {
                        let object = held.swap_remove(random.below(held.len()));
                        assert!(is_written(class, &[object]));
                        thread.free(object);
                    }
                }
                6 if count % 4 > 0 => thread.flush(),
                7 if count % 4 == 0 => shop.flush_barn(class),
                _ => shop.with_miss(class, |miss| thread.sheaves().flush_spare(miss)),
            }
            let (full, empty) = shop.cache(class).barn.lock().counts();
            prop_assert!(full.max(empty) <= usize::from(CLASSES[class].barn));
            prop_assert_eq!(shop.out(class), held.len() + shop.cached(&threads));
        }
        prop_assert!(is_written(class, &held));
        held.sort_unstable();
        prop_assert!(held.windows(2).all(|pair| pair[0] != pair[1]));
        threads[0].free_all(held);
        threads.iter().for_each(Thread::flush);
        shop.flush_barn(class);
        prop_assert!(shop.is_empty());
        prop_assert_eq!(shop.budget.left(), budget);
    }
}

#[test]
fn producer_and_consumer_pass_whole_sheaves() {
    for class in [1, class_of(64), class_of(1024)] {
        let shop = Shop::new();
        let (producer, consumer) = (Thread::new(&shop, class), Thread::new(&shop, class));
        let full = usize::from(CLASSES[class].sheaf);
        for _ in 0..4 {
            consumer.free_all(producer.many(8 * full));
        }
        let (refills, given) =
            (shop.cache(class).node.lock().events.refill, shop.cache(class).barn.lock().given);
        let misses = producer.sheaves().misses().0;
        for _ in 0..10 {
            consumer.free_all(producer.many(2 * full));
        }
        // Every miss of the producer was met by a full sheaf of the consumer's; no slab was touched.
        let barn = || shop.cache(class).barn.lock().given - given;
        assert_eq!((shop.cache(class).node.lock().events.refill, barn()), (refills, 20));
        assert_eq!(producer.sheaves().misses().0 - misses, 20);
        for thread in [&producer, &consumer] {
            thread.flush();
        }
        shop.flush_barn(class);
        assert!(shop.is_empty());
    }
}

#[test]
fn a_barn_keeps_no_more_than_its_limit() {
    for class in ALL_CLASSES {
        let shop = Shop::new();
        let info = &CLASSES[class];
        let (full, limit) = (usize::from(info.sheaf), usize::from(info.barn));
        let thread = Thread::new(&shop, class);
        let objects = thread.many((limit + 6) * full);
        thread.free_all(objects);
        let (stored, _) = shop.cache(class).barn.lock().counts();
        assert_eq!(stored, limit);
        assert_eq!(shop.out(class), shop.cached(std::slice::from_ref(&thread)));
        assert!(shop.out(class) <= (limit + 2) * full);
        // And as many empty ones, when all are used up again.
        let objects = thread.many((limit + 6) * full);
        assert!(shop.cache(class).barn.lock().counts().1 <= limit);
        thread.free_all(objects);
        thread.flush();
        shop.flush_barn(class);
        assert!(shop.is_empty() && shop.budget.left() == PLENTY);
    }
}

#[test]
fn a_pair_at_the_edge_of_a_sheaf_does_not_miss_each_time() {
    let shop = Shop::new();
    let thread = Thread::new(&shop, class_of(64));
    let held = thread.many(2000);
    for object in &held[..600] {
        thread.free(*object);
        let misses = thread.misses();
        for _ in 0..50 {
            let object = thread.alloc().unwrap();
            thread.free(object);
        }
        assert!(thread.misses() - misses <= 2);
    }
}

#[test]
fn of_half_a_budget_a_thread_gets_its_first_sheaf_and_no_other() {
    for class in [1, class_of(100), class_of(4000)] {
        let first = CLASSES[class].sheaf_at(0);
        let shop = Shop::with(usize::MAX, (2 * first * bytes_of(class)) as isize);
        let thread = Thread::new(&shop, class);
        for _ in 0..3 {
            let held = thread.many(3000);
            assert!(thread.sheaves().count() < first);
            thread.free_all(held);
            assert!(thread.sheaves().count() <= 2 * first);
            assert_eq!(shop.budget.left(), 0);
            // A thread that comes late has no sheaf: its objects come from the slabs, and go back there.
            let late = Thread::new(&shop, class);
            assert!(late.alloc().is_none());
            let objects = shop.take(class, 10);
            late.free_all(objects);
            assert_eq!(late.sheaves().count(), 0);
        }
        thread.flush();
        assert!(shop.is_empty() && shop.budget.left() == (2 * first * bytes_of(class)) as isize);
    }
}

#[test]
fn without_budget_a_thread_has_no_sheaf_of_large_objects() {
    for class in [class_of(10_000), class_of(MAX_SIZE)] {
        let shop = Shop::with(usize::MAX, bytes_of(class) as isize - 1);
        let thread = Thread::new(&shop, class);
        assert!(thread.alloc().is_none());
        let objects = shop.take(class, 3);
        thread.free_all(objects);
        assert_eq!((thread.sheaves().count(), shop.budget.left()), (0, bytes_of(class) as isize - 1));
        assert!(shop.is_empty());
    }
}

#[test]
fn what_is_cached_is_found_and_nothing_else() {
    for class in [class_of(64), class_of(20_000)] {
        let shop = Shop::new();
        let (thread, other) = (Thread::new(&shop, class), Thread::new(&shop, class));
        let cached = || shop.with_miss(class, |miss| thread.sheaves().alloc_cached(miss));
        assert!(cached().is_none());
        let full = usize::from(CLASSES[class].sheaf);
        let objects = thread.many(4 * full);
        let out = shop.out(class);
        while thread.sheaves().pop().is_some() {}
        assert!(cached().is_none());
        assert_eq!(shop.out(class), out);
        // From another thread by way of the barn.
        other.free_all(objects);
        let out = shop.out(class);
        assert!(cached().is_some());
        assert_eq!(shop.out(class), out);
    }
}

#[test]
fn memory_that_runs_out_is_none_and_comes_back() {
    for class in [1, class_of(64), class_of(3000)] {
        let shop = Shop::with(2 << 20, PLENTY);
        let thread = Thread::new(&shop, class);
        let mut held = Vec::new();
        while let Some(object) = thread.alloc() {
            held.push(object);
        }
        assert_eq!((shop.out(class), thread.sheaves().count()), (held.len(), 0));
        assert_eq!(held.len(), 512 / pages_of(class) * usize::from(CLASSES[class].objects));
        assert!(thread.alloc().is_none());
        thread.free(held.pop().unwrap());
        held.push(thread.alloc().unwrap());
        thread.free_all(held);
        thread.flush();
        shop.flush_barn(class);
        assert!(shop.is_empty() && shop.budget.left() == PLENTY);
    }
}

#[test]
fn without_memory_for_sheaves_frees_go_to_the_slabs() {
    let (shop, class) = (Shop::new(), class_of(64));
    let objects = shop.take(class, 100);
    let thread = Thread::new(&shop, class);
    assert!(arm(Call::Map, 0, u64::MAX));
    thread.free_all(objects);
    assert!(thread.alloc().is_none());
    arm(Call::Map, 0, 0);
    assert_eq!((thread.sheaves().count(), shop.budget.left()), (0, PLENTY));
    assert!(shop.is_empty());
}

#[test]
fn others_take_spares_while_the_owners_work() {
    let class = class_of(48);
    let shop = Shop::new();
    let threads: Vec<_> = (0..3).map(|_| Thread::new(&shop, class)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let owners: Vec<_> = threads
            .iter()
            .enumerate()
            .map(|(seed, thread)| {
                scope.spawn(move || {
                    let (mut random, mut held) = (Random(seed as u64), Vec::new());
                    for _ in 0..300 {
                        let objects = thread.many(random.below(900));
                        write(class, &objects);
                        held.extend(objects);
                        assert!(is_written(class, &held));
                        let keep = random.below(held.len());
                        thread.free_all(held.split_off(keep));
                    }
                    thread.free_all(held);
                })
            })
            .collect();
        let (threads, done, shop) = (&threads, &done, &shop);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                for thread in threads {
                    shop.with_miss(class, |miss| thread.sheaves().flush_spare(miss));
                }
                shop.with_miss(class, flush_barn);
                std::thread::yield_now();
            }
        });
        owners.into_iter().for_each(|owner| owner.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(shop.out(class), shop.cached(&threads));
    threads.iter().for_each(Thread::flush);
    shop.flush_barn(class);
    assert!(shop.is_empty());
    assert_eq!(shop.budget.left(), PLENTY);
}

#[test]
fn sheaves_that_nobody_needs_are_used_again() {
    for class in [1, class_of(64), class_of(8192)] {
        let shop = Shop::new();
        let full = usize::from(CLASSES[class].sheaf);
        let mut mapped = 0;
        for round in 0..800 {
            // Growing on allocations and growing on frees, in turn.
            let thread = Thread::new(&shop, class);
            if round % 2 == 0 {
                thread.free_all(shop.take(class, 2 * full));
            }
            let objects = thread.many(3 * full);
            shop.with_miss(class, |miss| thread.sheaves().flush_spare(miss));
            thread.free_all(objects);
            thread.flush();
            shop.flush_barn(class);
            mapped = if round < 2 { shop.meta.mapped() } else { mapped };
        }
        assert_eq!(shop.meta.mapped(), mapped);
        assert!(shop.is_empty() && shop.budget.left() == PLENTY);
    }
}
