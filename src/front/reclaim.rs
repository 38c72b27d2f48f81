//! Emptying caches, when memory ran out and when asked: the thread's own sheaves, the barns, other threads'
//! spare sheaves and the caches of dead ones go to their slabs; page lists go to the buddy lists, so that
//! blocks merge; then wholly free pageblocks go back to the system.
#![forbid(unsafe_code)]

use super::state::State;
use super::thread::ThreadCache;
use crate::slab::size_class::ALL_CLASSES;
use crate::slab::thread_sheaves::flush_barn;
use crate::sys::sync::Ordering;

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
        self.zone.purge_all()
    }

    /// Empties every cache that can be emptied from here into the buddy lists.
    pub(crate) fn drain_all(&self, cache: Option<&ThreadCache>) {
        if let Some(cache) = cache {
            self.flush_cache(cache);
        }
        for class in ALL_CLASSES {
            self.with_miss(None, class, flush_barn);
        }
        self.with_parked(|parked| self.flush_cache(parked));
        for other in self.caches() {
            for (class, sheaves) in other.sheaves.all() {
                self.with_miss(None, class, |miss| sheaves.flush_spare(miss));
            }
            // The owner is inside, or the kernel has no membarrier: then its lists stay.
            if let Some(mut pcp) = other.pcp.remote() {
                pcp.drain(&self.zone, &self.budget);
            }
        }
    }

    /// Empties a cache that is the calling thread's, or nobody's, into the buddy lists.
    pub(crate) fn flush_cache(&self, cache: &ThreadCache) {
        for (class, sheaves) in cache.sheaves.all() {
            self.with_miss(Some(cache), class, |miss| sheaves.flush(miss));
        }
        self.with_pages(Some(cache), |pages| {
            if let Some(pcp) = &mut pages.pcp {
                pcp.drain(&self.zone, &self.budget);
            }
        });
    }
}
