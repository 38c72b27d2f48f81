//! Memory for the allocator's own records: thread caches, sheaves, bitmaps. It is mapped apart, never taken
//! from the allocator that it describes, and handed out piece by piece; the users keep lists of what they
//! have for reuse. `chunks` guards everything here, and no other lock is taken under it.

use core::ptr::NonNull;

use crate::base::pfn::PAGE_SIZE;
use crate::sys::lock::Lock;
use crate::sys::lock_stat::LockStat;
use crate::sys::map;

/// Bytes mapped at once. Only what is handed out is ever touched.
const CHUNK: usize = 256 << 10;
/// Bytes at a chunk's start for the link to the chunk before it; a cache line, so that pieces stay aligned.
const HEADER: usize = 64;

/// Where records come from.
#[repr(C)]
pub(crate) struct Meta {
    chunks: Lock<Chunks>,
}

#[repr(C)]
struct Chunks {
    /// The newest chunk, which starts with the address of the one before it.
    newest: *mut u8,
    /// Bytes of the newest chunk that were handed out.
    used: usize,
    /// Bytes of all chunks.
    mapped: usize,
}

// SAFETY: the chunk's address is only used under the lock that holds this value.
unsafe impl Send for Chunks {}

impl Meta {
    pub(crate) const fn new() -> Self {
        Self { chunks: Lock::new(Chunks { newest: core::ptr::null_mut(), used: CHUNK, mapped: 0 }) }
    }

    /// What happened at the lock.
    pub(crate) fn lock_stat(&self) -> LockStat {
        self.chunks.stat()
    }

    /// Memory for a record of `size` bytes (at most a chunk less its header), zeroed, on a cache line of its
    /// own, for the life of the instance. `None` means out of memory.
    pub(crate) fn take(&self, size: usize) -> Option<NonNull<u8>> {
        let size = size.next_multiple_of(64);
        debug_assert!(size <= CHUNK - HEADER);
        let mut chunks = self.chunks.lock();
        if chunks.used + size > CHUNK {
            let memory = map::map(CHUNK, PAGE_SIZE)?;
            map::advise_hugepages(memory, CHUNK, false);
            map::leave_out_of_dumps(memory, CHUNK);
            // SAFETY: the first bytes of a chunk of our own, aligned to a page.
            unsafe { memory.cast::<*mut u8>().write(chunks.newest) };
            chunks.newest = memory.as_ptr();
            chunks.used = HEADER;
            chunks.mapped += CHUNK;
        }
        // SAFETY: `used + size <= CHUNK`, so the piece lies within the newest chunk.
        let piece = unsafe { chunks.newest.add(chunks.used) };
        chunks.used += size;
        NonNull::new(piece)
    }

    /// Bytes mapped.
    pub(crate) fn mapped(&self) -> usize {
        self.chunks.lock().mapped
    }

    /// Unmaps everything.
    ///
    /// # Safety
    /// Nobody uses any record any more.
    pub(crate) unsafe fn unmap_all(&self) {
        let mut chunks = self.chunks.lock();
        while let Some(chunk) = NonNull::new(chunks.newest) {
            // SAFETY: each chunk starts with the address of the one before it, or null.
            chunks.newest = unsafe { chunk.cast::<*mut u8>().read() };
            // SAFETY: a chunk of ours, which the caller vouches is unused.
            unsafe { map::unmap(chunk, CHUNK) };
        }
        chunks.used = CHUNK;
        chunks.mapped = 0;
    }

    pub(crate) fn fork_prepare(&self) {
        self.chunks.fork_prepare();
    }

    pub(crate) fn fork_release(&self) {
        self.chunks.fork_release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_zero() {
        let meta = Meta::new();
        let pieces: Vec<_> = (0..1000).map(|_| meta.take(1000).expect("memory")).collect();
        for pair in pieces.windows(2) {
            assert!(pair[0].as_ptr().addr().is_multiple_of(64));
            assert!(pair[0].as_ptr().addr().abs_diff(pair[1].as_ptr().addr()) >= 1024);
        }
        assert_eq!(meta.mapped() / CHUNK, 4);
        // SAFETY: the pieces are not used any more.
        unsafe { meta.unmap_all() };
        assert_eq!(meta.mapped(), 0);
    }
}
