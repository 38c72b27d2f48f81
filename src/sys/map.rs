//! Mapping memory, giving it back, and advice about it. Ranges are whole pages of the machine; every function
//! keeps `errno` and reports failure by its result.
//!
//! `libc` and not memmap2: memmap2 needs std, and std in the preload library brings `__tls_get_addr` with it,
//! which the library must not import (docs/ARCHITECTURE.md, "Decisions overruled").

use core::num::NonZeroUsize;
use core::ptr::NonNull;

use once_cell::race::OnceNonZeroUsize;

use super::fault::{Call, strikes};
use super::keep_errno;
use super::sync::{AtomicBool, Ordering};

/// Bytes of a page of this machine, read once.
pub(crate) fn os_page_size() -> usize {
    static SIZE: OnceNonZeroUsize = OnceNonZeroUsize::new();
    let read = || {
        // SAFETY: sysconf only reads a value of the C library.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size)
            .ok()
            .and_then(NonZeroUsize::new)
            .unwrap_or(NonZeroUsize::MIN.saturating_add(4095))
    };
    SIZE.get_or_init(read).get()
}

/// `length` rounded up to whole pages of the machine; `None` on overflow.
pub(crate) fn round_to_os_page(length: usize) -> Option<usize> {
    length.checked_next_multiple_of(os_page_size())
}

fn mmap(length: usize, flags: libc::c_int) -> Option<NonNull<u8>> {
    if strikes(Call::Map) {
        return None;
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    let address = keep_errno(|| {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that exists.
        unsafe { libc::mmap(core::ptr::null_mut(), length, protection, flags, -1, 0) }
    });
    if address == libc::MAP_FAILED { None } else { NonNull::new(address.cast()) }
}

/// Maps `length` bytes of zeroes, aligned to `align` (a power of two). Tries the plain mapping first, which is
/// aligned whenever the kernel places it below one of ours, then over-reserves and returns the ends.
pub(crate) fn map(length: usize, align: usize) -> Option<NonNull<u8>> {
    let first = mmap(length, 0)?;
    if first.as_ptr().addr().is_multiple_of(align) {
        return Some(first);
    }
    // SAFETY: the mapping was made just now, has this length, and nobody has its address yet.
    unsafe { unmap(first, length) };
    let reserved = length.checked_add(align)?;
    let address = mmap(reserved, 0)?;
    let head = address.as_ptr().addr().next_multiple_of(align) - address.as_ptr().addr();
    // SAFETY: `head < align`, so the sum lies within the `length + align` bytes mapped just now.
    let aligned = unsafe { address.add(head) };
    if head > 0 {
        // SAFETY: the bytes before `aligned` are part of the mapping and nobody has their address. If the
        // call fails they stay mapped, unused.
        unsafe { unmap(address, head) };
    }
    let tail = align - head;
    // SAFETY: `head + length <= length + align`, so this is at most the mapping's end.
    let end = unsafe { aligned.add(length) };
    // SAFETY: the `tail` bytes from `end` are the rest of the mapping; as above.
    unsafe { unmap(end, tail) };
    Some(aligned)
}

/// Maps `length` bytes from the kernel's pool of pages of 2^`shift` bytes and faults all of them in, so that a
/// shortage is a failure here and not a SIGBUS later. Never with MAP_NORESERVE: that succeeds on an empty pool.
pub(crate) fn map_hugetlb(length: usize, shift: u32) -> Option<NonNull<u8>> {
    let size = (shift as libc::c_int) << libc::MAP_HUGE_SHIFT;
    let address = mmap(length, libc::MAP_HUGETLB | size | libc::MAP_POPULATE)?;
    // MADV_POPULATE_WRITE (23, Linux 5.14) says whether every page is there; MAP_POPULATE alone does not.
    // SAFETY: the mapping was made just now with this length; populating does not change its contents.
    let result = keep_errno(|| unsafe { libc::madvise(address.as_ptr().cast(), length, 23) });
    if result == 0 {
        return Some(address);
    }
    // SAFETY: the mapping was made just now and nobody has its address.
    unsafe { unmap(address, length) };
    None
}

/// Unmaps the range. On failure (the kernel may lack room to split a mapping) it stays mapped.
///
/// # Safety
/// The range is mapped memory of ours, in whole pages, that nobody uses any more.
pub(crate) unsafe fn unmap(address: NonNull<u8>, length: usize) -> bool {
    if strikes(Call::Unmap) {
        return false;
    }
    // SAFETY: the caller vouches that the range is ours and unused.
    keep_errno(|| unsafe { libc::munmap(address.as_ptr().cast(), length) }) == 0
}

/// How resizing a mapping where it stands went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resized {
    /// It has the new length.
    Done,
    /// It is as it was; it may be moved.
    NoRoom,
    /// It is as it was, and several mappings to the kernel: its user changed the protection of a part, say.
    Split,
}

/// Resizes a mapping where it stands.
///
/// # Safety
/// The range is one mapping of ours; when it shrinks, nobody uses what is cut off.
pub(crate) unsafe fn resize(address: NonNull<u8>, length: usize, new_length: usize) -> Resized {
    if strikes(Call::Remap) {
        return Resized::NoRoom;
    }
    let at = address.as_ptr().cast();
    keep_errno(|| {
        // SAFETY: without MREMAP_MAYMOVE the kernel grows into free address space, cuts the end off, or refuses.
        if unsafe { libc::mremap(at, length, new_length, 0) } != libc::MAP_FAILED {
            Resized::Done
        } else if super::errno() == libc::EFAULT {
            Resized::Split
        } else {
            Resized::NoRoom
        }
    })
}

/// Moves a mapping onto another one of `new_length` bytes by its page tables: hugepages stay hugepages. On
/// failure both stay; so it must be one mapping to the kernel too (not `Split`), which otherwise unmaps the target
/// before it sees that it cannot.
///
/// # Safety
/// Both ranges are whole mappings of ours; nobody uses the target, nor the old address after success.
pub(crate) unsafe fn move_onto(
    address: NonNull<u8>,
    length: usize,
    target: NonNull<u8>,
    new_length: usize,
) -> bool {
    if strikes(Call::Remap) {
        return false;
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let (from, to) = (address.as_ptr().cast(), target.as_ptr());
    // SAFETY: the caller vouches for both ranges; the kernel replaces the target by the moved pages.
    keep_errno(|| unsafe { libc::mremap(from, length, new_length, flags, to) }) != libc::MAP_FAILED
}

fn advise(address: NonNull<u8>, length: usize, advice: libc::c_int) -> bool {
    if strikes(Call::Advise) {
        return false;
    }
    // SAFETY: the callers below pass ranges of ours, and advice that either keeps the contents or, for
    // `discard`, whose caller vouches for it, drops contents that nobody uses.
    keep_errno(|| unsafe { libc::madvise(address.as_ptr().cast(), length, advice) }) == 0
}

/// Gives the pages of the range back; true means that it reads as zero now.
///
/// # Safety
/// The range is private anonymous memory of ours in whole pages, and nobody needs its contents.
pub(crate) unsafe fn discard(address: NonNull<u8>, length: usize) -> bool {
    advise(address, length, libc::MADV_DONTNEED)
}

/// A range of memory, as the system's calls for many ranges take it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Range(libc::iovec);

impl Range {
    pub(crate) const EMPTY: Self = Self(libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 });

    pub(crate) fn new(address: NonNull<u8>, length: usize) -> Self {
        Self(libc::iovec { iov_base: address.as_ptr().cast(), iov_len: length })
    }

    /// Leaves the range out of core dumps, if that is wanted.
    pub(crate) fn leave_out_of_dumps(&self) {
        if let Some(address) = NonNull::new(self.0.iov_base.cast()) {
            leave_out_of_dumps(address, self.0.iov_len);
        }
    }

    /// Makes this range longer by one that follows it; false where it does not.
    pub(crate) fn extend(&mut self, next: &Self) -> bool {
        let follows = self.0.iov_base.addr() + self.0.iov_len == next.0.iov_base.addr();
        self.0.iov_len += if follows { next.0.iov_len } else { 0 };
        follows
    }
}

/// Gives the pages of many ranges back; true means that all of them read as zero now. By one system call where the
/// kernel lets a process advise itself so (`process_madvise` with any advice, Linux 6.13; `PIDFD_SELF_THREAD_GROUP`,
/// 6.15), which takes about half of the time of one call each.
///
/// # Safety
/// As for `discard`, of each range.
pub(crate) unsafe fn discard_all(ranges: &[Range]) -> bool {
    const PIDFD_SELF_THREAD_GROUP: libc::c_int = -10001;
    if strikes(Call::Advise) {
        return false;
    }
    let bytes: usize = ranges.iter().map(|range| range.0.iov_len).sum();
    keep_errno(|| {
        let together = ranges.len() > 1 && {
            // SAFETY: a slice of iovecs and its length; the caller vouches for the ranges.
            let advised = unsafe {
                libc::syscall(
                    libc::SYS_process_madvise,
                    PIDFD_SELF_THREAD_GROUP,
                    ranges.as_ptr(),
                    ranges.len(),
                    libc::MADV_DONTNEED,
                    0,
                )
            };
            usize::try_from(advised) == Ok(bytes)
        };
        together
            || ranges.iter().all(|range| {
                // SAFETY: the caller vouches for the range.
                unsafe { libc::madvise(range.0.iov_base, range.0.iov_len, libc::MADV_DONTNEED) == 0 }
            })
    })
}

/// Bytes of the range (whole pages of the machine, at most `RESIDENT_MOST`) that are in memory now.
pub(crate) fn resident(address: NonNull<u8>, length: usize) -> Option<usize> {
    let page = os_page_size();
    let mut there = [0_u8; RESIDENT_MOST / 4096];
    if length > RESIDENT_MOST || strikes(Call::Advise) {
        return None;
    }
    // SAFETY: the kernel writes one byte a page of the range, of which there are at most as many as `there` has.
    let result = keep_errno(|| unsafe { libc::mincore(address.as_ptr().cast(), length, there.as_mut_ptr()) });
    let pages = there[..length / page].iter().filter(|byte| **byte & 1 == 1).count();
    (result == 0).then_some(pages * page)
}

/// The longest range that `resident` looks at, in bytes.
pub(crate) const RESIDENT_MOST: usize = 2 << 20;

/// Makes one transparent hugepage of what backs 2 MiB, which keep their contents. Takes the kernel some milliseconds
/// at most; false where it does not.
pub(crate) fn collapse(address: NonNull<u8>, length: usize) -> bool {
    const MADV_COLLAPSE: libc::c_int = 25;
    advise(address, length, libc::MADV_HUGEPAGE) && advise(address, length, MADV_COLLAPSE)
}

/// Asks for transparent hugepages in the range, or for none. Only advice: a refusal changes nothing.
pub(crate) fn advise_hugepages(address: NonNull<u8>, length: usize, wanted: bool) {
    advise(address, length, if wanted { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE });
}

/// Whether core dumps leave out what is not in use. Set before anything is mapped, if at all.
static DUMP_ONLY_USED: AtomicBool = AtomicBool::new(false);

// Relaxed: whoever maps came after the settings were read.

/// Lets `leave_out_of_dumps` work from here on; without this no such advice is given.
pub(crate) fn dump_only_used() {
    DUMP_ONLY_USED.store(true, Ordering::Relaxed);
}

/// Whether core dumps leave out what is not in use.
#[inline]
pub(crate) fn dumps_only_used() -> bool {
    DUMP_ONLY_USED.load(Ordering::Relaxed)
}

/// Leaves the range out of core dumps, if that is wanted; false where it is not, or where the system refuses.
pub(crate) fn leave_out_of_dumps(address: NonNull<u8>, length: usize) -> bool {
    dumps_only_used() && advise(address, length, libc::MADV_DONTDUMP)
}

/// Lets core dumps have a range that they were to leave out.
#[cold]
pub(crate) fn put_into_dumps(address: NonNull<u8>, length: usize) -> bool {
    advise(address, length, libc::MADV_DODUMP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_aligned_and_zero() {
        for (length, align) in [(4096, 4096), (2 << 20, 2 << 20), (12 << 20, 2 << 20), (4096, 64 << 20)] {
            let address = map(length, align).expect("memory");
            assert!(address.as_ptr().addr().is_multiple_of(align));
            // SAFETY: the mapping has `length` bytes and belongs to this test.
            let bytes = unsafe { core::slice::from_raw_parts(address.as_ptr(), length) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            // SAFETY: made above, and the slice is not used any more.
            assert!(unsafe { unmap(address, length) });
        }
    }

    #[test]
    fn impossible_mappings_are_none() {
        assert!(map(1 << 62, 4096).is_none());
        assert!(map(usize::MAX & !4095, 1 << 62).is_none());
    }

    #[test]
    fn a_relocated_mapping_keeps_its_contents() {
        let old = map(4 << 20, 2 << 20).expect("memory");
        // SAFETY: the first byte of a mapping of this test.
        unsafe { old.write(42) };
        let new = map(8 << 20, 2 << 20).expect("memory");
        // SAFETY: two mappings of this test; `old` is not used after this.
        assert!(unsafe { move_onto(old, 4 << 20, new, 8 << 20) });
        // SAFETY: as above.
        assert_eq!(unsafe { new.read() }, 42);
        // SAFETY: the mapping's new place and length.
        assert!(unsafe { unmap(new, 8 << 20) });
    }
}
