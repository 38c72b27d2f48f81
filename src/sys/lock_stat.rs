//! What happens at a lock, counted by whoever holds it (Linux: lock_stat). How often it was taken and how often
//! somebody had to wait is always counted; how long it was held only with the feature `lock-stat`, since it takes
//! two looks at the clock.
#![forbid(unsafe_code)]

use super::sync::{AtomicU64, Ordering};

/// What happened at a lock, or at several of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockStat {
    /// What the lock guards.
    pub name: &'static str,
    /// Times it was taken.
    pub acquisitions: u64,
    /// Times somebody found it taken and waited.
    pub contentions: u64,
    /// Nanoseconds that it was held, all times together; 0 without the feature `lock-stat`.
    pub hold_ns_total: u64,
    /// Nanoseconds of the longest hold; 0 without the feature `lock-stat`.
    pub hold_ns_max: u64,
}

impl LockStat {
    /// The sum of several locks, under a name for all.
    pub(crate) fn sum(name: &'static str, stats: impl Iterator<Item = Self>) -> Self {
        stats.fold(Self { name, ..Self::default() }, |sum, stat| Self {
            name,
            acquisitions: sum.acquisitions + stat.acquisitions,
            contentions: sum.contentions + stat.contentions,
            hold_ns_total: sum.hold_ns_total + stat.hold_ns_total,
            hold_ns_max: sum.hold_ns_max.max(stat.hold_ns_max),
        })
    }
}

/// The counters in a lock. Written by its holder only.
#[repr(C)]
pub(super) struct Meter {
    acquisitions: AtomicU64,
    contentions: AtomicU64,
    hold_ns_total: AtomicU64,
    hold_ns_max: AtomicU64,
    /// When the lock was taken.
    #[cfg(feature = "lock-stat")]
    since: AtomicU64,
}

// Relaxed throughout: the lock orders its holders, and everybody else only looks.

impl Meter {
    pub(super) const fn new() -> Self {
        Self {
            acquisitions: AtomicU64::new(0),
            contentions: AtomicU64::new(0),
            hold_ns_total: AtomicU64::new(0),
            hold_ns_max: AtomicU64::new(0),
            #[cfg(feature = "lock-stat")]
            since: AtomicU64::new(0),
        }
    }

    /// The lock was taken just now.
    #[inline]
    pub(super) fn taken(&self) {
        add(&self.acquisitions, 1);
        #[cfg(feature = "lock-stat")]
        self.since.store(super::clock_ns(), Ordering::Relaxed);
    }

    /// The lock was taken just now, after waiting for it.
    pub(super) fn waited(&self) {
        add(&self.contentions, 1);
    }

    /// The lock is about to be released.
    #[inline]
    pub(super) fn leaving(&self) {
        #[cfg(feature = "lock-stat")]
        {
            let held = super::clock_ns().saturating_sub(self.since.load(Ordering::Relaxed));
            add(&self.hold_ns_total, held);
            self.hold_ns_max.store(self.hold_ns_max.load(Ordering::Relaxed).max(held), Ordering::Relaxed);
        }
    }

    pub(super) fn stat(&self) -> LockStat {
        LockStat {
            name: "",
            acquisitions: self.acquisitions.load(Ordering::Relaxed),
            contentions: self.contentions.load(Ordering::Relaxed),
            hold_ns_total: self.hold_ns_total.load(Ordering::Relaxed),
            hold_ns_max: self.hold_ns_max.load(Ordering::Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}
