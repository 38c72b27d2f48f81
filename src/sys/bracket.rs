//! A value that one thread uses all the time and others very rarely: the owner pays two plain stores and a
//! load, the others pay a `membarrier`.
//!
//! The PCP lists of a thread stand behind one. Owner and remote each raise a flag and look at the other's
//! (Dekker); the owner's store must not sink below its load, which takes a full fence on one of the two
//! sides. The remote side supplies it for both with `membarrier(PRIVATE_EXPEDITED)`; where the kernel refuses
//! that, nobody but the owner ever gets in. Under loom both fences are real.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use super::sync::{AtomicU32, Ordering};

/// How long a remote waits for an owner that is inside, in turns: an owner that was preempted there would
/// hold it up for a time slice.
const REMOTE_TURNS: u32 = if cfg!(loom) { 2 } else { 2000 };

/// A value with one owner and rare remote visitors.
#[repr(C)]
pub struct Bracket<T> {
    /// 1 while the owner is inside.
    busy: AtomicU32,
    /// 1 while a remote is inside, or waits to be.
    remote: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: `owner` and `remote` exclude each other and themselves (proved there), and their Acquire and
// Release order one visit's accesses before the next one's; so sharing the bracket only ever moves `T`.
unsafe impl<T: Send> Sync for Bracket<T> {}

/// The right to the value; leaves on drop.
pub struct Inside<'a, T> {
    flag: &'a AtomicU32,
    value: &'a UnsafeCell<T>,
}

impl<T> Bracket<T> {
    /// With nobody inside.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self { busy: AtomicU32::new(0), remote: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// With nobody inside.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { busy: AtomicU32::new(0), remote: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// The owner goes in; `None` while a remote is inside, or where the owner is inside already (a signal
    /// handler that interrupted it).
    ///
    /// # Safety
    /// Only the owning thread may call this.
    #[inline]
    pub unsafe fn owner(&self) -> Option<Inside<'_, T>> {
        // Relaxed: only the owner writes `busy`.
        if self.busy.load(Ordering::Relaxed) != 0 {
            return None;
        }
        // Relaxed: ordered before the load below by the fence, which pairs with the remote's heavy fence.
        self.busy.store(1, Ordering::Relaxed);
        light_fence();
        let inside = Inside { flag: &self.busy, value: &self.value };
        // Acquire: pairs with the Release with which a remote leaves, so that its writes are seen.
        // Dropping `inside` on the way out takes the flag back.
        (self.remote.load(Ordering::Acquire) == 0).then_some(inside)
    }

    /// Somebody else goes in; `None` where the owner or another remote is inside and stays, or where the
    /// kernel has no `membarrier`.
    pub fn remote(&self) -> Option<Inside<'_, T>> {
        // Acquire: pairs with the Release with which the last remote left.
        self.remote.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let inside = Inside { flag: &self.remote, value: &self.value };
        // After this, either the owner sees our flag when it next looks, or we see the owner's.
        if !heavy_fence() {
            return None;
        }
        for _ in 0..REMOTE_TURNS {
            // Acquire: pairs with the Release with which the owner leaves, so that its writes are seen.
            if self.busy.load(Ordering::Acquire) == 0 {
                return Some(inside);
            }
            turn();
        }
        None
    }
}

#[cfg(not(loom))]
impl<T> Bracket<T> {
    /// In a fork's child, which has no other thread: puts an end to all visits but the forking thread's own. Where
    /// the owner is `gone`, or a remote was inside, the value may be half changed: it is replaced by `fresh`, and
    /// what it was comes back, to be looked at only.
    pub(crate) fn fork_reset(&self, gone: bool, fresh: T) -> Option<T> {
        let remote = self.remote.load(Ordering::Relaxed) != 0;
        // With the owner inside (the fork came from a signal handler), a remote was still waiting.
        let lost = gone || remote && self.busy.load(Ordering::Relaxed) == 0;
        self.remote.store(0, Ordering::Relaxed);
        if !lost {
            return None;
        }
        self.busy.store(0, Ordering::Relaxed);
        // SAFETY: the process has one thread, this one, and it is not inside: nobody else uses the value.
        Some(unsafe { self.value.get().replace(fresh) })
    }
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: an `Inside` is handed out with the other side's flag seen down after its own went up and a
        // fence; the other side looks at this flag before it goes in. So no other `Inside` is in use.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for Inside<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` excludes other borrows through this one.
        unsafe { &mut *self.value.get() }
    }
}

impl<T> Drop for Inside<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire load of this flag by the other side.
        self.flag.store(0, Ordering::Release);
    }
}

/// Keeps the compiler from moving the owner's store below its load; the processor is kept from it by the
/// remote's `membarrier`.
#[cfg(not(loom))]
#[inline]
fn light_fence() {
    core::sync::atomic::compiler_fence(Ordering::SeqCst); // pairs with `heavy_fence`
}

#[cfg(not(loom))]
fn heavy_fence() -> bool {
    super::thread::membarrier()
}

#[cfg(not(loom))]
fn turn() {
    core::hint::spin_loop();
}

#[cfg(loom)]
fn light_fence() {
    loom::sync::atomic::fence(Ordering::SeqCst); // pairs with `heavy_fence`
}

#[cfg(loom)]
fn heavy_fence() -> bool {
    loom::sync::atomic::fence(Ordering::SeqCst); // pairs with `light_fence`
    true
}

#[cfg(loom)]
fn turn() {
    loom::thread::yield_now();
}
