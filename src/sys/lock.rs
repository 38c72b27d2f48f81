//! The one lock: a futex word with bounded spinning, an owner, and what fork needs.
//!
//! Everybody below `report/` may use it. It guards the value that it holds. The lock order of the whole crate
//! stands in docs/ARCHITECTURE.md. std's mutex would not do: it cannot be released in a fork child by anyone
//! but its holder's copy, and it is not there without std.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use super::futex::Futex;
use super::sync::{AtomicU32, AtomicUsize, Ordering};

const FREE: u32 = 0;
const LOCKED: u32 = 1;
/// Locked, and somebody may sleep in the kernel.
const CONTENDED: u32 = 2;

/// How often a locker looks again before it sleeps. Holds are some hundred nanoseconds; more spinning than one
/// hold only burns the core that the holder may need.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

/// A value behind a futex lock.
#[repr(C)]
pub struct Lock<T> {
    state: Futex,
    /// 1 while fork's prepare handler holds the lock. Written only by the holder.
    forking: AtomicU32,
    /// The holder's thread pointer, 0 when free. Only ever compared with the reader's own.
    owner: AtomicUsize,
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
        Self {
            state: Futex::new(FREE),
            forking: AtomicU32::new(0),
            owner: AtomicUsize::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self {
            state: Futex::new(FREE),
            forking: AtomicU32::new(0),
            owner: AtomicUsize::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.acquire();
        Guard { lock: self }
    }

    #[inline]
    fn acquire(&self) {
        // Acquire: pairs with the Release in `release`, so that the last holder's writes are seen.
        if self.state.word.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.acquire_contended();
        }
        // Relaxed: only this thread ever finds its own pointer here.
        self.owner.store(this_thread(), Ordering::Relaxed);
    }

    #[cold]
    fn acquire_contended(&self) {
        for _ in 0..SPINS {
            // Acquire: pairs with the Release in `release`.
            if self.state.word.load(Ordering::Relaxed) == FREE
                && self
                    .state
                    .word
                    .compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
            spin();
        }
        // Acquire: pairs with the Release in `release`. CONTENDED also where nobody waits: at worst one
        // needless wake, never a lost one.
        while self.state.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            self.state.wait(CONTENDED);
        }
    }

    #[inline]
    fn release(&self) {
        self.owner.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire of whoever takes the lock next.
        if self.state.word.swap(FREE, Ordering::Release) == CONTENDED {
            self.state.wake();
        }
    }
}

#[cfg(not(loom))]
impl<T> Lock<T> {
    /// Takes the lock before a fork, unless the calling thread holds it already: a signal handler that forks
    /// may have interrupted the holder, which goes on in parent and child alike.
    pub(crate) fn fork_prepare(&self) {
        if self.owner.load(Ordering::Relaxed) == this_thread() {
            return;
        }
        self.acquire();
        self.forking.store(1, Ordering::Relaxed);
    }

    /// Undoes `fork_prepare` in the parent and in the child. The child's forking thread has its parent's
    /// thread pointer, so an owner that prepare skipped is still right there.
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
        self.lock.release();
    }
}

#[cfg(not(loom))]
use super::thread::this_thread;

#[cfg(not(loom))]
fn spin() {
    core::hint::spin_loop();
}

#[cfg(loom)]
fn this_thread() -> usize {
    1
}

#[cfg(loom)]
fn spin() {
    loom::thread::yield_now();
}
