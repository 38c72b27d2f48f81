//! Layer 0, the outside world: mapping and advice, the TLS slot and thread exit, fork handlers, locks, the
//! environment, and the one way to report a fault. Every system call that the allocator makes starts here and
//! keeps `errno`, so that a face alone decides what `errno` a program sees.

pub(crate) mod bracket;
pub(crate) mod futex;
pub(crate) mod handoff;
pub(crate) mod lock;
pub(crate) mod sync;

#[cfg(not(loom))]
pub(crate) mod bug;
#[cfg(not(loom))]
pub(crate) mod env;
#[cfg(not(loom))]
pub(crate) mod fault;
#[cfg(not(loom))]
pub(crate) mod foreign;
#[cfg(not(loom))]
pub(crate) mod lock_stat;
#[cfg(not(loom))]
pub(crate) mod map;
#[cfg(not(loom))]
pub(crate) mod numa;
#[cfg(not(loom))]
pub(crate) mod slot;
#[cfg(not(loom))]
pub(crate) mod stream;
#[cfg(not(loom))]
pub(crate) mod thread;
#[cfg(not(loom))]
pub(crate) mod watch;

/// Nanoseconds since some moment in the past.
#[cfg(all(not(loom), feature = "lock-stat"))]
pub(crate) fn clock_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to the place given, which is large enough; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Milliseconds since some moment in the past, to a few milliseconds. No system call where there is a vDSO.
#[cfg(not(loom))]
pub(crate) fn clock_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to the place given, which is large enough; without this clock it leaves the zeroes.
    keep_errno(|| unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) });
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Wrong argument, as `errno` has it.
#[cfg(not(loom))]
pub(crate) use libc::EINVAL;

/// Runs `call` and puts `errno` back to what it was before.
#[cfg(not(loom))]
pub(crate) fn keep_errno<R>(call: impl FnOnce() -> R) -> R {
    let before = errno();
    let result = call();
    set_errno(before);
    result
}

/// The calling thread's `errno`.
#[cfg(not(loom))]
pub(crate) fn errno() -> i32 {
    // SAFETY: __errno_location takes nothing and returns the address of the calling thread's errno.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: that address is valid and aligned for as long as the thread runs, and only this thread uses it.
    unsafe { location.read() }
}

/// Sets the calling thread's `errno`.
#[cfg(not(loom))]
pub(crate) fn set_errno(value: i32) {
    // SAFETY: as in `errno`.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: as in `errno`.
    unsafe { location.write(value) };
}
