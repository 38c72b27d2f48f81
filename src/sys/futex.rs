//! A word to sleep on.

use super::sync::AtomicU32;

/// The word; its user decides what the values mean.
#[repr(C)]
pub(crate) struct Futex {
    pub(crate) word: AtomicU32,
    /// What the kernel keeps beside the word.
    #[cfg(loom)]
    sleepers: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl Futex {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: u32) -> Self {
        Self { word: AtomicU32::new(value) }
    }

    #[cfg(loom)]
    pub(crate) fn new(value: u32) -> Self {
        Self {
            word: AtomicU32::new(value),
            sleepers: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }
}

#[cfg(not(loom))]
impl Futex {
    /// Sleeps while the word holds `expected`; may return early.
    pub(crate) fn wait(&self, expected: u32) {
        super::keep_errno(|| {
            // SAFETY: FUTEX_WAIT only reads the aligned word, which outlives the call through the borrow; a null
            // timeout waits without end.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.word.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    expected,
                    core::ptr::null::<libc::timespec>(),
                )
            }
        });
    }

    /// As `wait`, for so many milliseconds at most. False where the kernel cannot wait.
    pub(crate) fn wait_for(&self, expected: u32, ms: u32) -> bool {
        let time = libc::timespec { tv_sec: (ms / 1000).into(), tv_nsec: (ms % 1000 * 1_000_000).into() };
        super::keep_errno(|| {
            // SAFETY: as in `wait`; the time, from now on, is a valid one and outlives the call.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.word.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    expected,
                    &raw const time,
                )
            };
            result == 0 || matches!(super::errno(), libc::ETIMEDOUT | libc::EINTR | libc::EAGAIN)
        })
    }

    /// Wakes one sleeper.
    #[cold]
    pub(crate) fn wake(&self) {
        super::keep_errno(|| {
            // SAFETY: FUTEX_WAKE uses the word's address as a key and does not access it.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.word.as_ptr(),
                    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                    1,
                )
            }
        });
    }
}

/// The kernel's part under loom: it compares the word and goes to sleep as one step, which a mutex stands for.
/// A sleeper that nobody wakes is a deadlock, which loom reports.
#[cfg(loom)]
impl Futex {
    pub(crate) fn wait(&self, expected: u32) {
        let (mutex, condvar) = &self.sleepers;
        // A mutex that is poisoned is one of a model that failed already.
        let Ok(guard) = mutex.lock() else { return };
        if self.word.load(super::sync::Ordering::Relaxed) == expected {
            drop(condvar.wait(guard));
        }
    }

    pub(crate) fn wake(&self) {
        let (mutex, condvar) = &self.sleepers;
        let guard = mutex.lock();
        condvar.notify_one();
        drop(guard);
    }
}
