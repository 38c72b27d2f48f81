//! How many bytes all thread caches of an instance may hold together. Capacity is granted out of it in steps,
//! so a count of grants, not of objects: nothing on a hit touches it.
#![forbid(unsafe_code)]

use crate::sys::sync::{AtomicIsize, AtomicU32, Ordering};

/// Bytes that may still be granted. Can fall below zero where a grant must not fail.
#[repr(C)]
pub(crate) struct Budget {
    left: AtomicIsize,
    /// Grants refused since somebody last looked.
    refused: AtomicU32,
}

// Relaxed throughout: the budget is a bound, it publishes nothing.

impl Budget {
    pub(crate) const fn new(bytes: isize) -> Self {
        Self { left: AtomicIsize::new(bytes), refused: AtomicU32::new(0) }
    }

    /// Takes `bytes` if they are left.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let bytes = bytes as isize;
        if self.left.fetch_sub(bytes, Ordering::Relaxed) >= bytes {
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

    /// Takes `bytes` whether they are left or not: the first step of a cache, without which it would not work.
    pub(crate) fn take_always(&self, bytes: usize) {
        self.left.fetch_sub(bytes as isize, Ordering::Relaxed);
    }

    pub(crate) fn put(&self, bytes: usize) {
        self.left.fetch_add(bytes as isize, Ordering::Relaxed);
    }

    #[cfg(test)]
    /// Bytes left; below zero when more was taken than there was.
    pub(crate) fn left(&self) -> isize {
        self.left.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn it_grants_what_it_has() {
        let budget = Budget::new(100);
        assert!(budget.take(60) && !budget.take(60) && budget.take(40) && !budget.take(1));
        budget.take_always(10);
        assert_eq!(budget.left(), -10);
        budget.put(110);
        assert_eq!(budget.left(), 100);
        assert!(!budget.was_refused(3) && budget.was_refused(2) && !budget.was_refused(1));
    }
}
