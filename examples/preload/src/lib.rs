//! `libpcpmalloc.so`: the C allocation functions, forwarded to pcpmalloc. Put it under any program with
//! `LD_PRELOAD`. No semantics here: what each function means stands in `pcpmalloc::c`.
//!
//! The C++ operators are not exported: libstdc++'s own call `malloc` and `free`, hence these, and stay right
//! where a program replaces some of them.
//!
//! No std: with it the library would import `__tls_get_addr` (docs/ARCHITECTURE.md, "Decisions overruled").
#![cfg_attr(not(test), no_std)]
#![allow(clippy::missing_safety_doc, reason = "the C standard and the glibc manual document these")]

use core::ffi::{c_int, c_void};

use heap::c;

/// A panic would be a bug of the allocator: one line, and the end. Nothing may unwind into C.
#[cfg(not(test))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    heap::abort_on_panic(info)
}

/// Runs when the library is loaded: the fork handlers come before any of the program's.
#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = {
    extern "C" fn on_load() {
        c::start();
    }
    on_load
};

/// Exports functions of C under their names, and under other names for the same.
macro_rules! export {
    ($($(#[doc = $doc:literal])* fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            $(#[doc = $doc])*
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? $body
        )*
    };
}

export! {
    /// C23 7.24.3.6
    fn malloc(size: usize) -> *mut c_void { c::malloc(size).cast() }
    /// C23 7.24.3.2
    fn calloc(count: usize, size: usize) -> *mut c_void { c::calloc(count, size).cast() }
    /// C23 7.24.3.7
    fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: the C caller's promise is the function's own.
        unsafe { c::realloc(block.cast(), size) }.cast()
    }
    /// POSIX.1-2024
    fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
        // SAFETY: as above.
        unsafe { c::reallocarray(block.cast(), count, size) }.cast()
    }
    /// C23 7.24.3.3
    fn free(block: *mut c_void) {
        // SAFETY: as above.
        unsafe { c::free(block.cast()) }
    }
    /// Old name of `free`.
    fn cfree(block: *mut c_void) {
        // SAFETY: as above.
        unsafe { c::free(block.cast()) }
    }
    /// C23 7.24.3.4
    fn free_sized(block: *mut c_void, _size: usize) {
        // SAFETY: as above.
        unsafe { c::free(block.cast()) }
    }
    /// C23 7.24.3.5
    fn free_aligned_sized(block: *mut c_void, _align: usize, _size: usize) {
        // SAFETY: as above.
        unsafe { c::free(block.cast()) }
    }
    /// POSIX.1-2024
    fn posix_memalign(target: *mut *mut c_void, align: usize, size: usize) -> c_int {
        // SAFETY: as above.
        unsafe { c::posix_memalign(target.cast(), align, size) }
    }
    /// C23 7.24.3.1
    fn aligned_alloc(align: usize, size: usize) -> *mut c_void { c::aligned_alloc(align, size).cast() }
    /// glibc manual, Aligned Memory Blocks
    fn memalign(align: usize, size: usize) -> *mut c_void { c::aligned_alloc(align, size).cast() }
    /// glibc manual, Aligned Memory Blocks
    fn valloc(size: usize) -> *mut c_void { c::valloc(size).cast() }
    /// glibc manual, Replacing malloc
    fn pvalloc(size: usize) -> *mut c_void { c::pvalloc(size).cast() }
    /// malloc_usable_size(3)
    fn malloc_usable_size(block: *mut c_void) -> usize {
        // SAFETY: as above.
        unsafe { c::malloc_usable_size(block.cast()) }
    }
    /// malloc_trim(3)
    fn malloc_trim(pad: usize) -> c_int { c::malloc_trim(pad) }
    /// mallopt(3)
    fn mallopt(parameter: c_int, value: c_int) -> c_int { c::mallopt(parameter, value) }
    /// mallinfo(3)
    fn mallinfo() -> c::Mallinfo { c::mallinfo() }
    /// mallinfo(3)
    fn mallinfo2() -> c::Mallinfo2 { c::mallinfo2() }
    /// malloc_stats(3)
    fn malloc_stats() { c::malloc_stats() }
    /// malloc_info(3)
    fn malloc_info(options: c_int, stream: *mut c_void) -> c_int {
        // SAFETY: as above.
        unsafe { c::malloc_info(options, stream) }
    }
    /// jemalloc(3)
    fn nallocx(size: usize, flags: c_int) -> usize { c::nallocx(size, flags) }
    /// jemalloc(3)
    fn sdallocx(block: *mut c_void, _size: usize, _flags: c_int) {
        // SAFETY: as above.
        unsafe { c::free(block.cast()) }
    }
    /// glibc's internal name of `malloc`
    fn __libc_malloc(size: usize) -> *mut c_void { c::malloc(size).cast() }
    /// glibc's internal name of `calloc`
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void { c::calloc(count, size).cast() }
    /// glibc's internal name of `realloc`
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: as above.
        unsafe { c::realloc(block.cast(), size) }.cast()
    }
    /// glibc's internal name of `free`
    fn __libc_free(block: *mut c_void) {
        // SAFETY: as above.
        unsafe { c::free(block.cast()) }
    }
    /// glibc's internal name of `memalign`
    fn __libc_memalign(align: usize, size: usize) -> *mut c_void { c::aligned_alloc(align, size).cast() }
    /// glibc's internal name of `valloc`
    fn __libc_valloc(size: usize) -> *mut c_void { c::valloc(size).cast() }
    /// glibc's internal name of `pvalloc`
    fn __libc_pvalloc(size: usize) -> *mut c_void { c::pvalloc(size).cast() }
    /// glibc's internal name of `posix_memalign`
    fn __posix_memalign(target: *mut *mut c_void, align: usize, size: usize) -> c_int {
        // SAFETY: as above.
        unsafe { c::posix_memalign(target.cast(), align, size) }
    }
}
