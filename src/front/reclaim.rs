//! Emptying caches: when memory ran out, when asked, and when too much stays backed because of them. The thread's own
//! sheaves, the barns, other threads' spare sheaves and the caches of dead ones go to their slabs; page lists go to
//! the buddy lists, so that blocks merge; then wholly free pageblocks go back to the system, and last what is free
//! within others.
#![forbid(unsafe_code)]

use super::state::State;
use super::thread::ThreadCache;
use crate::page::purge::Within;
use crate::page::zone::Zone;
use crate::slab::size_class::ALL_CLASSES;
use crate::slab::thread_sheaves::flush_barn;
use crate::sys::sync::{AtomicU32, AtomicUsize, Ordering};

/// Caches are emptied under pressure when so many objects went into them as are this part of the pages in use: each of
/// them may keep a page, and its pageblock.
const OBJECTS_PART: usize = 8;
/// But not for fewer objects than are worth it.
const LEAST_OBJECTS: usize = 64;
/// What is in use shrinks where it fell by this part since caches were last emptied.
const SHRUNK_PART: usize = 16;
/// How often the number of objects doubles while emptying caches brings nothing.
const MOST_PATIENCE: u32 = 12;

/// The caches of idle threads are emptied for others when the budget has refused so many grants.
const REFUSALS: u32 = 16;

/// When caches were last emptied under pressure.
#[repr(C)]
pub(crate) struct Relief {
    /// Objects that threads have room for in sheaves that they got since.
    cached: AtomicUsize,
    /// Pages in use after that.
    used: AtomicUsize,
    /// How many times it brought nothing.
    patience: AtomicU32,
    /// How often it was done.
    pub(crate) count: AtomicU32,
    /// How many times emptying the caches of idle threads brought nothing.
    idle_patience: AtomicU32,
}

impl Relief {
    pub(crate) const fn new() -> Self {
        Self {
            cached: AtomicUsize::new(0),
            used: AtomicUsize::new(usize::MAX),
            patience: AtomicU32::new(0),
            count: AtomicU32::new(0),
            idle_patience: AtomicU32::new(0),
        }
    }

    /// Notes that `objects` more may be in caches, with `used` pages in use. Whether caches are to be emptied now.
    ///
    /// A program that frees most of what it had must not keep all of it because of a few cached objects; one whose
    /// memory is merely fragmented must not lose its caches again and again. So it is done whenever as many objects as an
    /// eighth of the pages in use may be in caches and what is in use has shrunk by a sixteenth, and else ever more
    /// rarely.
    fn is_due(&self, objects: usize, used: usize) -> bool {
        // Relaxed throughout: estimates. Of several threads that come at once the swap picks one.
        let cached = self.cached.fetch_add(objects, Ordering::Relaxed) + objects;
        let step = (used / OBJECTS_PART).max(LEAST_OBJECTS);
        let last = self.used.load(Ordering::Relaxed);
        let shrunk = used <= last - last / SHRUNK_PART;
        let patience = self.patience.load(Ordering::Relaxed);
        let due = cached >= step && (shrunk || cached >= step << patience);
        if !due || self.cached.swap(0, Ordering::Relaxed) < cached {
            return false;
        }
        self.patience.store(if shrunk { 0 } else { (patience + 1).min(MOST_PATIENCE) }, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Notes that caches are empty, and `used` pages are in use.
    fn done(&self, used: usize) {
        self.used.store(used, Ordering::Relaxed);
    }
}

impl State {
    /// Makes room after a failed allocation. What is merely free stays mapped: it is about to be used.
    #[cold]
    pub(crate) fn reclaim(&self, cache: Option<&ThreadCache>) {
        self.reclaims.fetch_add(1, Ordering::Relaxed);
        self.drain_all(cache);
    }

    /// Gives back all that can be given back. Returns its bytes.
    pub(crate) fn trim(&self, cache: Option<&ThreadCache>) -> usize {
        self.drain_all(cache);
        self.zones.iter().map(|zone| zone.purge_all() + zone.purge_within(Within::All)).sum()
    }

    /// After a free that went past the thread's sheaves, which have room for `objects` more: where much is free and
    /// backed among what caches keep in use, empties them, and gives it back.
    #[inline]
    pub(crate) fn relieve(&self, cache: Option<&ThreadCache>, objects: usize) {
        let first = &self.zones.first;
        if self.zones.is_one() {
            if first.is_pressed() && self.relief.is_due(objects, first.used_when_pressed()) {
                self.empty_caches(cache);
            }
        } else if self.zones.iter().any(Zone::is_pressed)
            && self.relief.is_due(objects, self.used_when_pressed())
        {
            self.empty_caches(cache);
        }
    }

    /// Pages in use when each zone was last found to be pressed: of zones that are not, an old figure that stays.
    fn used_when_pressed(&self) -> usize {
        self.zones.iter().map(Zone::used_when_pressed).sum()
    }

    /// On a thread's way to the slabs: where the budget refuses larger caches, empties those of threads that have not
    /// missed anything since this was done last, and of dead ones. It is tried ever more rarely while that brings
    /// nothing.
    #[inline]
    pub(crate) fn drain_idle(&self) {
        // Relaxed: an estimate.
        if self.budget.was_refused(REFUSALS << self.relief.idle_patience.load(Ordering::Relaxed)) {
            self.drain_idle_now();
        }
    }

    #[cold]
    fn drain_idle_now(&self) {
        let mut drained = 0;
        self.with_parked(|parked| {
            drained += 1;
            self.flush_cache(parked);
        });
        for cache in self.caches().filter(|cache| cache.is_live() && cache.was_idle()) {
            drained += usize::from(self.drain_remote(cache));
        }
        let patience = &self.relief.idle_patience;
        let next = if drained > 0 { 0 } else { (patience.load(Ordering::Relaxed) + 1).min(MOST_PATIENCE) };
        patience.store(next, Ordering::Relaxed);
    }

    /// Empties what can be emptied of a thread's cache from outside; whether its page lists held some.
    fn drain_remote(&self, cache: &ThreadCache) -> bool {
        for (class, sheaves) in cache.sheaves.all() {
            self.with_miss(None, class, |miss| sheaves.flush_spare(miss));
        }
        // The owner is inside, or the kernel has no membarrier: then its lists stay.
        let Some(mut pcp) = cache.pcp.remote() else { return false };
        let (_, high, huge) = pcp.counts();
        if high > 0 || huge > 0 {
            let zone = self.zones.of(pcp.node());
            pcp.drain(zone, &self.budget);
        }
        high > 0 || huge > 0
    }

    #[cold]
    fn empty_caches(&self, cache: Option<&ThreadCache>) {
        self.drain_all(cache);
        self.zones.iter().for_each(Zone::purge_excess);
        let one = self.zones.is_one();
        self.relief.done(if one { self.zones.first.used_pages() } else { self.used_when_pressed() });
        for zone in self.zones.iter().filter(|zone| zone.is_pressed()) {
            zone.purge_within(Within::Worth);
        }
    }

    /// Switches blocks of orders 1-3 and 9 on threads' page lists on or off, and empties the lists.
    pub(crate) fn set_pcp_high_orders(&self, cache: Option<&ThreadCache>, on: bool) {
        self.zones.iter().for_each(|zone| zone.high_orders.store(on, Ordering::Relaxed));
        self.drain_all(cache);
    }

    /// Empties every cache that can be emptied from here into the buddy lists.
    pub(crate) fn drain_all(&self, cache: Option<&ThreadCache>) {
        if let Some(cache) = cache {
            self.flush_cache(cache);
        }
        for class in ALL_CLASSES {
            for zone in self.zones.iter() {
                self.with_pages_of(zone, |pages| flush_barn(&mut self.miss(class, pages)));
            }
        }
        self.with_parked(|parked| self.flush_cache(parked));
        for other in self.caches() {
            self.drain_remote(other);
        }
    }

    /// Empties a cache that is the calling thread's, or nobody's, into the buddy lists.
    pub(crate) fn flush_cache(&self, cache: &ThreadCache) {
        for (class, sheaves) in cache.sheaves.all() {
            self.with_miss(Some(cache), class, |miss| sheaves.flush(miss));
        }
        self.with_pages(Some(cache), |pages| {
            if let Some(pcp) = &mut pages.pcp {
                pcp.drain(pages.zone, &self.budget);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::instance::Instance;
    use super::super::thread;
    use super::State;
    use crate::base::config::{Config, Hugepages};
    use crate::base::pfn::{HUGEPAGE_ORDER, Migratetype, Order};
    use crate::slab::size_class::ALL_CLASSES;
    use crate::sys::sync::Ordering;
    use std::sync::Barrier;
    use std::vec::Vec;

    /// Uses objects of small and, where `large` says so, of large classes, and blocks of order 0 and 9, and leaves nothing
    /// but what caches keep.
    fn work(state: &State, large: bool) {
        for class in ALL_CLASSES.step_by(5).take(if large { usize::MAX } else { 5 }) {
            let objects: Vec<_> =
                (0..150).map_while(|_| state.alloc_object(thread::of(state), class)).collect();
            assert_eq!(objects.len(), 150);
            objects.into_iter().for_each(|object| state.free_object(thread::of(state), object, class));
        }
        for order in [Order::ZERO, Order::new(HUGEPAGE_ORDER)] {
            let take = |_| {
                state.with_pages(thread::of(state), |pages| pages.alloc_pages(order, Migratetype::Movable))
            };
            let blocks: Vec<_> = (0..3).map_while(take).collect();
            assert_eq!(blocks.len(), 3);
            blocks
                .into_iter()
                .for_each(|block| state.with_pages(thread::of(state), |pages| pages.free_pages(block)));
        }
    }

    #[test]
    fn the_budget_is_what_it_was_when_all_threads_have_ended() {
        let config = Config { hugepages: Hugepages::Off, limit: 400 << 20, ..Config::new() };
        let heap = Instance::new(config).expect("an instance");
        let state = heap.state();
        let before = state.budget.left();
        assert_eq!(before, (400 << 20) / 16);
        let huge = || state.zones.first.huge_on_lists.load(Ordering::Relaxed);
        for threads in [1, 4, 12] {
            let barrier = Barrier::new(threads);
            std::thread::scope(|scope| {
                let spawn = |_| {
                    scope.spawn(|| {
                        work(state, threads > 1);
                        // Large objects leave nothing of the budget for blocks of order 9.
                        assert!(threads > 1 || huge() > 0);
                        barrier.wait();
                    })
                };
                let workers: Vec<_> = (0..threads).map(spawn).collect();
                workers.into_iter().for_each(|worker| worker.join().expect("a worker ends"));
            });
            assert!(state.budget.left() < before);
            state.trim(thread::of(state));
            assert_eq!((threads, state.budget.left()), (threads, before));
            assert_eq!(huge(), 0);
            state.validate().expect("sound");
        }
    }
}
