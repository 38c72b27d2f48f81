//! What the background thread does with an instance: at each of its ticks free memory decays, and under memory
//! pressure all of it goes.
#![forbid(unsafe_code)]

use super::state::State;
use crate::page::zone::Zone;
use crate::sys::sync::{AtomicBool, AtomicU64, Ordering};

/// What the background thread, which alone uses it, saw of an instance the last time.
#[repr(C)]
pub(crate) struct Seen {
    activity: AtomicU64,
    /// All that can be given back has been.
    settled: AtomicBool,
}

// Relaxed throughout: one thread's notes.

impl Seen {
    pub(crate) const fn new() -> Self {
        Self { activity: AtomicU64::new(0), settled: AtomicBool::new(false) }
    }
}

impl State {
    /// One tick: empties the caches that can be emptied from outside, and gives everything back where nothing happened
    /// since the last tick, and half of what is too much where something did.
    pub(crate) fn decay(&self) {
        if self.activity() != self.seen.activity.load(Ordering::Relaxed) {
            self.seen.settled.store(false, Ordering::Relaxed);
            // One cached object keeps its whole pageblock from being free.
            self.drain_all(None);
            self.zones.iter().for_each(Zone::purge_half);
        } else if !self.seen.settled.load(Ordering::Relaxed) {
            // What happens while this runs counts as seen: so until a tick finds nothing, the next looks again.
            let settled = self.trim(None) == 0;
            self.seen.settled.store(settled, Ordering::Relaxed);
        }
        self.seen.activity.store(self.activity(), Ordering::Relaxed);
    }

    /// Gives everything back, since the kernel says that memory is short.
    pub(crate) fn give_way(&self) {
        self.reclaims.fetch_add(1, Ordering::Relaxed);
        self.trim(None);
    }

    /// A number that changes when memory goes in or out of a zone, or when any thread's sheaf runs full or empty.
    fn activity(&self) -> u64 {
        let misses = self.caches().flat_map(|cache| cache.sheaves.all()).map(|(_, sheaves)| {
            let (alloc, free) = sheaves.misses();
            u64::from(alloc) + u64::from(free)
        });
        let locks = self.zones.iter().map(|zone| zone.events().lock);
        misses.chain(locks).fold(0, u64::wrapping_add)
    }
}
