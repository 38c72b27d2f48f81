//! Memory that is not ours: the heap that the C library's allocator may have served from before this one did,
//! and the next allocator in the search order, which takes such memory back.

use core::ffi::{CStr, c_void};
use core::ptr::NonNull;

use super::keep_errno;

/// The brk heap as it was at some moment, `[start, end)`.
#[derive(Clone, Copy)]
pub(crate) struct BrkHeap {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl BrkHeap {
    /// The heap as it is now. It starts at or after the end of the executable's data, and nothing else is
    /// mapped between the two; where that end cannot be found the heap counts as empty.
    pub(crate) fn now() -> Self {
        // SAFETY: sbrk(0) only reads the current break.
        let end = keep_errno(|| unsafe { libc::sbrk(0) }).addr();
        let start = executable_end().unwrap_or(end);
        Self { start, end: end.max(start) }
    }

    pub(crate) fn contains(&self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// The address after the last byte of the executable's loaded segments, from its program headers.
fn executable_end() -> Option<usize> {
    // SAFETY: reads a value from the auxiliary vector.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    // SAFETY: as above.
    let count = unsafe { libc::getauxval(libc::AT_PHNUM) } as usize;
    if headers == 0 {
        return None;
    }
    // SAFETY: the kernel gives the address and number of the executable's program headers, which stay mapped
    // and unchanged for the life of the process.
    let headers = unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<libc::Elf64_Phdr>(headers), count)
    };
    let base = headers.as_ptr().addr().wrapping_sub(
        headers.iter().find(|header| header.p_type == libc::PT_PHDR).map(|header| header.p_vaddr as usize)?,
    );
    let end = |header: &libc::Elf64_Phdr| base.wrapping_add((header.p_vaddr + header.p_memsz) as usize);
    headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(end).max()
}

/// The next definition of `name` after the object that holds this code, in the order of symbol search.
fn next(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: a null-terminated name. dlsym may allocate, which is served by this allocator, whose locks are
    // all free here.
    keep_errno(|| NonNull::new(unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }))
}

/// Calls the next allocator's `free`. False where there is none.
///
/// # Safety
/// The pointer must be one that that allocator can free.
pub(crate) unsafe fn next_free(pointer: *mut u8) -> bool {
    let Some(function) = next(c"free") else { return false };
    // SAFETY: every definition of `free` has this type.
    let function: unsafe extern "C" fn(*mut c_void) = unsafe { core::mem::transmute(function) };
    // SAFETY: the caller vouches for the pointer.
    unsafe { function(pointer.cast()) };
    true
}

/// Calls the next allocator's `realloc`. `None` where there is none.
///
/// # Safety
/// The pointer must be one that that allocator can reallocate.
pub(crate) unsafe fn next_realloc(pointer: *mut u8, size: usize) -> Option<*mut u8> {
    let function = next(c"realloc")?;
    // SAFETY: every definition of `realloc` has this type.
    let function: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void =
        unsafe { core::mem::transmute(function) };
    // SAFETY: the caller vouches for the pointer.
    Some(unsafe { function(pointer.cast(), size) }.cast())
}

/// Calls the next allocator's `malloc_usable_size`. `None` where there is none.
///
/// # Safety
/// The pointer must be one of that allocator's.
pub(crate) unsafe fn next_usable_size(pointer: *mut u8) -> Option<usize> {
    let function = next(c"malloc_usable_size")?;
    // SAFETY: every definition of `malloc_usable_size` has this type.
    let function: unsafe extern "C" fn(*mut c_void) -> usize = unsafe { core::mem::transmute(function) };
    // SAFETY: the caller vouches for the pointer.
    Some(unsafe { function(pointer.cast()) })
}
