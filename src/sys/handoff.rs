//! Handing a value from thread to thread by its address, in one word: put and taken as an owner, or published
//! once for all to see.
//!
//! An address is all that changes hands here; what it is worth is said where it comes from. Plain words and not
//! a type of their own: readers in other processes find them in tables.
#![forbid(unsafe_code)]

use super::sync::{AtomicPtr, Ordering};

// loom does not know that nothing comes between the two halves of a swap, and orders a word's stores by their
// releases only. It would let a plain store slip into a swap; so there `put` is a swap, which also shows that it
// overwrites nothing, and every swap acquires and releases.

/// Acquire: pairs with the Release in `put`.
const TAKE: Ordering = if cfg!(loom) { Ordering::AcqRel } else { Ordering::Acquire };

/// Leaves a value for whoever takes it. Only one thread puts, and only where it has taken (or seen taken) what
/// was there before: anything else would be lost.
#[inline]
pub fn put<T>(place: &AtomicPtr<T>, value: *mut T) {
    // Release: pairs with the Acquire in `take`, so that whoever takes the value sees what was written to it.
    #[cfg(not(loom))]
    place.store(value, Ordering::Release);
    #[cfg(loom)]
    assert!(place.swap(value, TAKE).is_null(), "a value was lost");
}

/// Takes what was put, from any thread; null where there is nothing. Of several that try only one gets it.
#[inline]
pub fn take<T>(place: &AtomicPtr<T>) -> *mut T {
    place.swap(core::ptr::null_mut(), TAKE)
}

/// Shows a value to everybody, for good. False where another thread was first: its value stays.
pub fn publish<T>(place: &AtomicPtr<T>, value: *mut T) -> bool {
    // Release: pairs with the Acquire in `published`, so that whoever finds the value sees what was written to it.
    place.compare_exchange(core::ptr::null_mut(), value, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// Looks at what was published, or put; null where nothing was. Only published values are there to stay.
#[inline(always)]
pub fn published<T>(place: &AtomicPtr<T>) -> *mut T {
    // Acquire: pairs with the Release in `publish` and in `put`. A plain load on x86_64.
    place.load(Ordering::Acquire)
}
