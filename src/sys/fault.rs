//! Faults on demand: a test makes the n-th call to the outside world fail. Every wrapper in `sys/` asks here
//! first. A build without debug assertions has nothing of it.
#![forbid(unsafe_code)]

/// What of the outside world can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Call {
    /// Any mapping of memory.
    Map = 1,
    /// Unmapping.
    Unmap = 2,
    /// Moving or resizing a mapping.
    Remap = 4,
    /// Giving pages back, or advice about hugepages.
    Advise = 8,
    /// `membarrier`.
    Membarrier = 16,
    /// Asking to be told of a thread's exit.
    ThreadExit = 32,
    /// Asking to be told of forks.
    Fork = 64,
    /// Starting a thread.
    Spawn = 128,
    /// Asking what memory nodes there are, and binding memory to one.
    Numa = 256,
    /// All of them.
    Any = 511,
}

/// The crate's unit tests run side by side in one process, so there each thread has failures of its own.
#[cfg(all(debug_assertions, test))]
mod armed {
    use super::Call;
    use std::cell::Cell;

    std::thread_local! {
        /// The kinds of calls, how many to let pass, and how many then fail.
        static ARMED: Cell<(u32, u64, u64)> = const { Cell::new((0, 0, 0)) };
    }

    pub(super) fn arm(call: Call, pass: u64, fail: u64) {
        ARMED.set((call as u32, pass, fail));
    }

    pub(super) fn left() -> u64 {
        ARMED.get().2
    }

    pub(super) fn strikes(call: Call) -> bool {
        let (calls, pass, fail) = ARMED.get();
        if calls & call as u32 == 0 || fail == 0 {
            return false;
        }
        ARMED.set(if pass > 0 { (calls, pass - 1, fail) } else { (calls, 0, fail - 1) });
        pass == 0
    }
}

#[cfg(all(debug_assertions, not(test)))]
mod armed {
    use super::Call;
    use crate::sys::sync::{AtomicU32, AtomicU64, Ordering};

    static CALLS: AtomicU32 = AtomicU32::new(0);
    /// Calls to let pass before the first that fails.
    static PASS: AtomicU64 = AtomicU64::new(u64::MAX);
    /// How many then fail.
    static FAIL: AtomicU64 = AtomicU64::new(0);

    // Relaxed throughout: a test arms this before the calls it means, on one thread or with a join between.

    pub(super) fn arm(call: Call, pass: u64, fail: u64) {
        CALLS.store(call as u32, Ordering::Relaxed);
        PASS.store(pass, Ordering::Relaxed);
        FAIL.store(fail, Ordering::Relaxed);
    }

    pub(super) fn left() -> u64 {
        FAIL.load(Ordering::Relaxed)
    }

    pub(super) fn strikes(call: Call) -> bool {
        if CALLS.load(Ordering::Relaxed) & call as u32 == 0 {
            return false;
        }
        let waited = PASS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err();
        waited && FAIL.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

/// Lets the next `pass` calls of this kind through and makes the `fail` after them fail; `fail` 0 disarms.
/// Returns whether this build can do so (one with debug assertions).
pub fn arm(call: Call, pass: u64, fail: u64) -> bool {
    #[cfg(debug_assertions)]
    armed::arm(call, pass, fail);
    #[cfg(not(debug_assertions))]
    let _ = (call, pass, fail);
    cfg!(debug_assertions)
}

/// How many of the armed failures have not struck yet.
pub fn left() -> u64 {
    #[cfg(debug_assertions)]
    return armed::left();
    #[cfg(not(debug_assertions))]
    0
}

/// Whether this call must fail.
#[inline]
pub(crate) fn strikes(call: Call) -> bool {
    #[cfg(debug_assertions)]
    return armed::strikes(call);
    #[cfg(not(debug_assertions))]
    {
        let _ = call;
        false
    }
}
