//! The one word of thread-local storage: a pointer to the calling thread's cache.
//!
//! On x86_64 and aarch64 it is a hand-made initial-exec slot, one load away in an executable and two in a
//! preloaded library, because stable Rust's `thread_local!` calls `__tls_get_addr` on each access in a cdylib.
//! It starts out pointing at `NOTHING`, a page of zeroes that reads as a cache with no room and no objects, so
//! that even a thread's first allocation needs no null test. Elsewhere, and under Miri, `thread_local!`.

/// Bytes of `NOTHING`; a thread's cache must fit (asserted in `front/thread.rs`).
pub(crate) const NOTHING_SIZE: usize = 4096;

/// Frees that a thread without a cache does before it gets one. A thread that never allocates must not: the C
/// library frees memory of its own at the very end of a thread, when no exit handler runs any more, and the
/// cache would be lost.
pub(crate) const FREES_WITHOUT_CACHE: usize = 32;
/// Bytes by which the slot moves within `NOTHING` for each of them.
const STEP: usize = 64;

/// What a slot points at before its thread has a cache. Never written: it stands in read-only memory.
#[repr(C, align(4096))]
pub(crate) struct Nothing([u8; NOTHING_SIZE + FREES_WITHOUT_CACHE * STEP]);

/// For threads that have no cache yet.
pub(crate) static NOTHING: Nothing = Nothing([0; NOTHING_SIZE + FREES_WITHOUT_CACHE * STEP]);

/// For threads whose cache is gone: their exit handlers have run.
pub(crate) static GONE: Nothing = Nothing([0; NOTHING_SIZE + FREES_WITHOUT_CACHE * STEP]);

/// The address that says "no cache yet".
#[inline]
pub(crate) fn nothing() -> *mut u8 {
    (&raw const NOTHING).cast_mut().cast()
}

/// Whether an address says "no cache yet": that of `nothing`, or one that `count_free` moved on to.
#[inline]
pub(crate) fn is_nothing(address: *const u8) -> bool {
    address.addr().wrapping_sub(nothing().addr()) <= FREES_WITHOUT_CACHE * STEP
}

/// Counts a free of a thread without a cache, by moving its slot a step on within the zeroes. False when there
/// were enough of them.
pub(crate) fn count_free() -> bool {
    let next = get().wrapping_add(STEP);
    let more = is_nothing(next);
    if more {
        set(next);
    }
    more
}

/// The address that says "no cache any more".
#[inline]
pub(crate) fn gone() -> *mut u8 {
    (&raw const GONE).cast_mut().cast()
}

#[cfg(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
mod made {
    use core::arch::{asm, global_asm};

    // The symbol's name carries the crate's major and minor version, so that two versions can live in one
    // process; it is hidden, so that two copies of one version can.
    global_asm!(
        ".pushsection .tdata.pcpmalloc_slot_0_1,\"awT\",@progbits",
        ".balign 8",
        ".globl pcpmalloc_slot_0_1",
        ".hidden pcpmalloc_slot_0_1",
        ".type pcpmalloc_slot_0_1, @object",
        ".size pcpmalloc_slot_0_1, 8",
        "pcpmalloc_slot_0_1:",
        ".quad {nothing}",
        ".popsection",
        nothing = sym super::NOTHING,
    );

    /// The slot's offset from the thread pointer.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn offset() -> usize {
        let offset: usize;
        // SAFETY: loads the link-time constant of the slot's GOT entry; it has no other effect, and the value
        // never changes while the program runs, which is what `pure, nomem` promise.
        unsafe {
            asm!("mov {0}, qword ptr [rip + pcpmalloc_slot_0_1@gottpoff]", out(reg) offset,
                options(pure, nomem, nostack, preserves_flags));
        }
        offset
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn get() -> *mut u8 {
        let value: *mut u8;
        // SAFETY: fs:[offset] is this thread's copy of the slot, 8 bytes, aligned, there for the thread's
        // life. `readonly` and not `nomem`: `set` changes it.
        unsafe {
            asm!("mov {0}, qword ptr fs:[{1}]", out(reg) value, in(reg) offset(),
                options(pure, readonly, nostack, preserves_flags));
        }
        value
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn set(value: *mut u8) {
        // SAFETY: as in `get`; only this thread reads or writes its copy.
        unsafe {
            asm!("mov qword ptr fs:[{1}], {0}", in(reg) value, in(reg) offset(),
                options(nostack, preserves_flags));
        }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    fn address() -> *mut *mut u8 {
        let address: *mut *mut u8;
        // SAFETY: adds the slot's link-time offset to the thread pointer; no memory but the GOT is read, and
        // the result is the same for the thread's whole life, which is what `pure, nomem` promise.
        unsafe {
            asm!("mrs {0}, tpidr_el0",
                "adrp {1}, :gottprel:pcpmalloc_slot_0_1",
                "ldr {1}, [{1}, :gottprel_lo12:pcpmalloc_slot_0_1]",
                "add {0}, {0}, {1}",
                out(reg) address, out(reg) _, options(pure, nomem, nostack, preserves_flags));
        }
        address
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    pub(crate) fn get() -> *mut u8 {
        // SAFETY: this thread's copy of the slot, aligned, there for the thread's life, used by it alone.
        unsafe { address().read() }
    }

    #[cfg(target_arch = "aarch64")]
    pub(crate) fn set(value: *mut u8) {
        // SAFETY: as in `get`.
        unsafe { address().write(value) }
    }
}

#[cfg(not(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod made {
    extern crate std;
    use core::cell::Cell;

    std::thread_local! {
        // A const initialiser and no destructor: an access allocates nothing and works to the thread's end.
        static SLOT: Cell<*mut u8> = const { Cell::new((&raw const super::NOTHING).cast_mut().cast()) };
    }

    pub(crate) fn get() -> *mut u8 {
        SLOT.with(Cell::get)
    }

    pub(crate) fn set(value: *mut u8) {
        SLOT.with(|slot| slot.set(value));
    }
}

pub(crate) use made::{get, set};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own() {
        // The crate's unit tests run on the system's allocator, so nothing else uses the slot of this thread.
        let here = get();
        let there = std::thread::spawn(|| {
            assert_eq!(get(), nothing());
            set(gone());
            get() == gone()
        });
        assert!(there.join().expect("no panic"));
        assert_eq!(get(), here);
    }
}
