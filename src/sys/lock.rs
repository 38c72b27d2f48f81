//! The one lock: a futex word that names its owner, with bounded spinning, and what fork needs.
//!
//! Everybody below `report/` may use it. It guards the value that it holds. The lock order of the whole crate
//! stands in docs/ARCHITECTURE.md. std's mutex would not do: it cannot be released in a fork child by anyone
//! but its holder's copy, and it is not there without std.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use super::futex::Futex;
#[cfg(not(loom))]
use super::lock_stat::{LockStat, Meter};
use super::sync::{AtomicU32, Ordering};

/// The word of a lock that nobody holds. Any other is the owner's number, and `WAITERS`.
const FREE: u32 = 0;
/// Somebody may sleep in the kernel.
const WAITERS: u32 = 1;

/// How often a locker looks again before it sleeps. Holds are some hundred nanoseconds; more spinning than one
/// hold only burns the core that the holder may need.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

/// A value behind a futex lock.
#[repr(C)]
pub struct Lock<T> {
    state: Futex,
    /// 1 while fork's prepare handler holds the lock. Written only by the holder.
    forking: AtomicU32,
    #[cfg(not(loom))]
    meter: Meter,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, one guard exists at a time, and the state's Acquire and
// Release order one holder's accesses before the next one's; so sharing the lock only ever moves `T`.
unsafe impl<T: Send> Sync for Lock<T> {}

/// The right to the value; releases on drop.
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Lock<T> {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        let (state, forking) = (Futex::new(FREE), AtomicU32::new(0));
        Self { state, forking, meter: Meter::new(), value: UnsafeCell::new(value) }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { state: Futex::new(FREE), forking: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.acquire();
        self.guard()
    }

    /// The guard for a lock that was taken just now.
    #[inline]
    fn guard(&self) -> Guard<'_, T> {
        #[cfg(not(loom))]
        self.meter.taken();
        Guard { lock: self }
    }

    /// What happened at the lock so far.
    #[cfg(not(loom))]
    pub(crate) fn stat(&self) -> LockStat {
        self.meter.stat()
    }

    /// The lock if it is free now.
    #[cfg(not(loom))]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.take(FREE, owner_number()).then(|| self.guard())
    }

    #[inline]
    fn acquire(&self) {
        if !self.take(FREE, owner_number()) {
            self.acquire_contended();
            #[cfg(not(loom))]
            self.meter.waited();
        }
    }

    /// Changes the word from `from` to `to`, if it is that.
    #[inline]
    fn take(&self, from: u32, to: u32) -> bool {
        // Acquire: pairs with the Release in `release`, so that the last holder's writes are seen.
        self.state.word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn acquire_contended(&self) {
        for _ in 0..SPINS {
            if self.state.word.load(Ordering::Relaxed) == FREE && self.take(FREE, owner_number()) {
                return;
            }
            spin();
        }
        loop {
            let word = self.state.word.load(Ordering::Relaxed);
            if word == FREE {
                // Whoever slept takes it with WAITERS: others may still sleep. At worst one needless wake.
                if self.take(FREE, owner_number() | WAITERS) {
                    return;
                }
            } else if word & WAITERS != 0 || self.take(word, word | WAITERS) {
                self.state.wait(word | WAITERS);
            }
        }
    }

    #[inline]
    fn release(&self) {
        // Release: pairs with the Acquire of whoever takes the lock next.
        if self.state.word.swap(FREE, Ordering::Release) & WAITERS != 0 {
            self.state.wake();
        }
    }
}

#[cfg(not(loom))]
impl<T> Lock<T> {
    /// Takes the lock before a fork, unless the calling thread holds it already: a signal handler that forks
    /// may have interrupted the holder, which goes on in parent and child alike.
    pub(crate) fn fork_prepare(&self) {
        if self.is_mine() {
            return;
        }
        self.acquire();
        self.forking.store(1, Ordering::Relaxed);
    }

    /// Whether the calling thread holds the lock. The word says so from the very step that takes the lock.
    pub(crate) fn is_mine(&self) -> bool {
        // Relaxed: only this thread writes its own number.
        self.state.word.load(Ordering::Relaxed) & !WAITERS == owner_number()
    }

    /// In a fork's child: frees a lock that prepare left alone and that another thread held, which the child
    /// does not have. For locks that guard nothing which that thread could have left half done.
    pub(crate) fn fork_reset(&self) {
        if !self.is_mine() {
            self.state.word.store(FREE, Ordering::Relaxed);
        }
    }

    /// Undoes `fork_prepare` in the parent and in the child. The child's forking thread has its parent's
    /// number, so an owner that prepare skipped is still right there.
    pub(crate) fn fork_release(&self) {
        if self.forking.load(Ordering::Relaxed) == 1 {
            self.forking.store(0, Ordering::Relaxed);
            self.release();
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard exists, so its thread holds the lock and nobody else reaches the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` excludes other borrows through this guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(not(loom))]
        self.lock.meter.leaving();
        self.lock.release();
    }
}

/// The calling thread's number: its thread pointer in units of 64 bytes, which two threads' pointers are apart,
/// without the lowest bit, which is `WAITERS`, and never 0. Two threads 128 GiB apart could share one; then a
/// fork would take one's lock for the other's, and only in that moment.
#[cfg(not(loom))]
#[inline]
fn owner_number() -> u32 {
    match ((super::thread::this_thread() >> 6) as u32) << 1 {
        FREE => 2,
        number => number,
    }
}

#[cfg(not(loom))]
fn spin() {
    core::hint::spin_loop();
}

/// Forks, which alone ask who it is, are not modelled.
#[cfg(loom)]
fn owner_number() -> u32 {
    2
}

#[cfg(loom)]
fn spin() {
    loom::thread::yield_now();
}
