//! How many bytes all thread caches of an instance may hold together. Capacity is granted out of it in steps,
//! so a count of grants, not of objects: nothing on a hit touches it.
#![forbid(unsafe_code)]

use crate::sys::sync::{AtomicIsize, AtomicU32, Ordering};

/// Bytes that may still be granted.
#[repr(C)]
pub(crate) struct Budget {
    left: AtomicIsize,
    total: AtomicIsize,
    /// Grants refused since somebody last looked.
    refused: AtomicU32,
}

// Relaxed throughout: the budget is a bound, it publishes nothing.

impl Budget {
    pub(crate) const fn new(bytes: isize) -> Self {
        Self { left: AtomicIsize::new(bytes), total: AtomicIsize::new(bytes), refused: AtomicU32::new(0) }
    }

    /// Makes the budget `bytes` large, whatever of it is granted now.
    pub(crate) fn set_total(&self, bytes: usize) {
        let bytes = bytes as isize;
        let before = self.total.swap(bytes, Ordering::Relaxed);
        self.left.fetch_add(bytes - before, Ordering::Relaxed);
    }

    /// Takes `bytes` for what a cache can do without: out of the first half, so that threads to come find some.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        self.take_down_to(bytes, self.total.load(Ordering::Relaxed) / 2)
    }

    /// Takes `bytes` for the first step of a cache, without which each object meets a lock.
    pub(crate) fn take_first(&self, bytes: usize) -> bool {
        self.take_down_to(bytes, 0)
    }

    fn take_down_to(&self, bytes: usize, least: isize) -> bool {
        let bytes = bytes as isize;
        if self.left.fetch_sub(bytes, Ordering::Relaxed) - bytes >= least {
            return true;
        }
        self.left.fetch_add(bytes, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Whether at least so many grants were refused; then it counts from 0 again.
    #[inline]
    pub(crate) fn was_refused(&self, times: u32) -> bool {
        let refused = self.refused.load(Ordering::Relaxed);
        // Of several threads the one whose exchange succeeds is told.
        refused >= times
            && self.refused.compare_exchange(refused, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn put(&self, bytes: usize) {
        self.left.fetch_add(bytes as isize, Ordering::Relaxed);
    }

    #[cfg(test)]
    /// Bytes left.
    pub(crate) fn left(&self) -> isize {
        self.left.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn it_grants_what_it_has_and_half_of_it_for_growth() {
        let budget = Budget::new(200);
        assert!(budget.take(60) && !budget.take(60) && budget.take(40) && !budget.take(1));
        assert!(budget.take_first(90) && !budget.take_first(20) && budget.take_first(10));
        assert_eq!(budget.left(), 0);
        budget.put(200);
        assert!(!budget.was_refused(4) && budget.was_refused(3) && !budget.was_refused(1));
        // It may be made smaller than what is granted.
        assert!(budget.take(100));
        budget.set_total(50);
        assert!(!budget.take_first(1) && budget.left() == -50);
        budget.put(100);
        assert!(budget.take(25) && !budget.take(1) && budget.take_first(25));
    }
}
