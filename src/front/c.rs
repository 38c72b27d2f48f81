//! What the C allocation functions mean, as plain functions: POSIX.1-2024, C23, the glibc manual, and
//! jemalloc's `nallocx` and `sdallocx`. `examples/preload` exports them under their C names.
//!
//! Every block is aligned to 16. `errno` is set to `ENOMEM` where memory runs out or a size overflows, and to
//! `EINVAL` for alignments that are none; `free` keeps it.

use core::alloc::Layout;
use core::ptr::{NonNull, null_mut};

use super::alloc::{Request, class_size};
use super::global::{self, GLOBAL, in_earlier_heap};
use super::misuse::{self, Address};
use super::registry::{self, GLOBAL_ID};
use super::state::State;
use super::thread::{self, ThreadCache};
use crate::base::pfn::PAGE_SIZE;
use crate::base::topology::instance_of;
use crate::page::class_map::{class_at, class_at_home};
use crate::page::mm_types::Kind;
use crate::page::section::page_of;
use crate::slab::size_class::{MAX_SIZE, MAX_SMALL, class_of_16, large_class_by_last};
use crate::sys::foreign;
use crate::sys::map::os_page_size;
use crate::sys::set_errno;
use crate::sys::sync::Ordering;

/// The largest size that any function serves.
const MAX_REQUEST: usize = isize::MAX as usize;

#[cold]
fn out_of_memory() -> *mut u8 {
    set_errno(libc::ENOMEM);
    null_mut()
}

/// Makes the heap ready before the first allocation asks for it: its fork handlers then come before any of
/// the program's.
pub fn start() {
    global::ready();
}

/// `malloc`.
#[inline(always)]
pub fn malloc(size: usize) -> *mut u8 {
    if size > MAX_SMALL {
        return malloc_large(size);
    }
    match thread::current().sheaves.of(class_of_16(size)).pop() {
        Some(object) => object.as_ptr(),
        None => malloc_slow(size),
    }
}

#[inline(never)]
fn malloc_large(size: usize) -> *mut u8 {
    if size <= MAX_SIZE
        && let Some(object) = thread::current().sheaves.of(large_class_by_last(size - 1)).pop()
    {
        return misuse::whole(object).as_ptr();
    }
    malloc_slow(size)
}

#[cold]
#[inline(never)]
fn malloc_slow(size: usize) -> *mut u8 {
    match allocate(global::ready(), size) {
        Some(block) => block.as_ptr(),
        None => out_of_memory(),
    }
}

/// Every block of C's is for a layout of this alignment or more.
fn layout(align: usize, size: usize) -> Option<Layout> {
    Layout::from_size_align(size.max(1), align.max(16)).ok()
}

fn allocate(state: &State, size: usize) -> Option<NonNull<u8>> {
    state.alloc(thread::of(state), layout(16, size)?)
}

/// `calloc`.
#[inline]
pub fn calloc(count: usize, size: usize) -> *mut u8 {
    let Some(bytes) = count.checked_mul(size) else { return out_of_memory() };
    if bytes <= MAX_SMALL
        && let Some(object) = thread::current().sheaves.of(class_of_16(bytes)).pop()
    {
        // SAFETY: an object of that class holds at least this many bytes.
        unsafe { object.write_bytes(0, bytes) };
        return object.as_ptr();
    }
    calloc_slow(bytes)
}

#[inline(never)]
fn calloc_slow(bytes: usize) -> *mut u8 {
    let state = global::ready();
    let zeroed = layout(16, bytes).and_then(|layout| state.alloc_zeroed(thread::of(state), layout));
    zeroed.map_or_else(out_of_memory, NonNull::as_ptr)
}

/// `free`; also `cfree`, `free_sized` and `free_aligned_sized`, whose sizes tell nothing that the page does not.
///
/// # Safety
/// The pointer is null or a block that is in use, and nobody uses it any more. A pointer that is neither ends
/// the process with one line where that shows.
#[inline(always)]
pub unsafe fn free(block: *mut u8) {
    // SAFETY: the caller vouches that the block is in use, or null, or it is another allocator's.
    match unsafe { class_at_home(block.addr()) } {
        // What is no object is of class 0, which has no room.
        Some(class) if thread::current().sheaves.of(class).push(block) => {}
        Some(_) => free_slow(block),
        None => free_elsewhere(block),
    }
}

/// Frees what lies in another part of the class map than most.
#[inline(never)]
fn free_elsewhere(block: *mut u8) {
    // SAFETY: as in `free`.
    let class = unsafe { class_at(block.addr()) };
    if !thread::current().sheaves.of(class).push(block) {
        free_slow(block);
    }
}

#[cold]
#[inline(never)]
fn free_slow(block: *mut u8) {
    let Some(block) = NonNull::new(block) else { return };
    match find(block) {
        Found::Object(state, class) => state.free_object(cache_to_free(state), block, class),
        Found::Large(state) => state.free_large(cache_to_free(state), block),
        Found::Nothing => {
            let address = block.as_ptr();
            // SAFETY: the pointer is not ours; whose it is, the caller or the program's settings vouch for.
            let forwarded = forwards(address.addr()) && unsafe { foreign::next_free(address) };
            if !forwarded {
                misuse::report("free", address.addr());
            }
        }
    }
}

/// The calling thread's cache of an instance, for a free.
fn cache_to_free(state: &State) -> Option<&ThreadCache> {
    if state.id == GLOBAL_ID { thread::of_global_to_free() } else { thread::of(state) }
}

/// What a pointer is.
enum Found<'a> {
    Object(&'a State, usize),
    Large(&'a State),
    Nothing,
}

fn find<'a>(block: NonNull<u8>) -> Found<'a> {
    let address = block.as_ptr().addr();
    let Some(word) = page_of(address).map(crate::page::mm_types::Page::word) else { return Found::Nothing };
    let Some(state) = registry::by_id(instance_of(word.zone())) else { return Found::Nothing };
    match word.kind() {
        Kind::Slab => Found::Object(state, word.class()),
        _ if !address.is_multiple_of(PAGE_SIZE) => Found::Nothing,
        Kind::Run if word.class() != 0 => Found::Object(state, word.class()),
        Kind::Run | Kind::Dedicated => Found::Large(state),
        _ => Found::Nothing,
    }
}

/// Whether a pointer that is no block goes to the next allocator: it lies in the brk heap that was there
/// before us, or the program's settings say so.
#[cold]
fn forwards(address: usize) -> bool {
    in_earlier_heap(address)
        || GLOBAL.forward.load(Ordering::Relaxed) && misuse::what_is(address) == Address::Foreign
}

/// `malloc_usable_size`: 0 for null.
///
/// # Safety
/// The pointer is null or a block that is in use.
pub unsafe fn malloc_usable_size(block: *mut u8) -> usize {
    let Some(found) = NonNull::new(block) else { return 0 };
    let size = usable(found);
    if size > 0 {
        return size;
    }
    // SAFETY: as in `free_slow`.
    let next = || unsafe { foreign::next_usable_size(block) };
    match forwards(block.addr()).then(next).flatten() {
        Some(size) => size,
        None => misuse::report("malloc_usable_size", block.addr()),
    }
}

/// `realloc`. Size 0 frees the block and returns null, as glibc has it.
///
/// # Safety
/// The pointer is null or a block that is in use; after success nobody uses it any more.
pub unsafe fn realloc(block: *mut u8, size: usize) -> *mut u8 {
    let Some(old) = NonNull::new(block) else { return malloc(size) };
    if size == 0 {
        // SAFETY: the caller vouches for the block.
        unsafe { free(block) };
        return null_mut();
    }
    let moved = match find(old) {
        _ if size > MAX_REQUEST => None,
        Found::Object(state, class) => {
            let usable = class_size(class);
            // Less than half of the object would be waste; anything in between stays.
            if size <= usable && size >= usable / 2 {
                return block;
            }
            copy_to_new(state, old, usable, size)
        }
        Found::Large(state) => {
            let resize =
                || if size > MAX_SMALL { state.resize_large(thread::of(state), old, size, 16) } else { None };
            // The second time caches are empty: what they held may have been all that it lacked.
            resize().or_else(|| copy_to_new(state, old, state.large_size(old), size)).or_else(resize)
        }
        Found::Nothing => return realloc_foreign(block, size),
    };
    match moved {
        Some(moved) => moved.as_ptr(),
        // Nobody expects that less memory is too much to ask for.
        None if size <= usable(old) => block,
        None => out_of_memory(),
    }
}

/// Bytes that a block of ours holds; 0 of what is none.
fn usable(block: NonNull<u8>) -> usize {
    match find(block) {
        Found::Object(_, class) => class_size(class),
        Found::Large(state) => state.large_size(block),
        Found::Nothing => 0,
    }
}

/// Moves a block of `usable` bytes to a new one of `size`. `None` leaves it.
fn copy_to_new(state: &State, old: NonNull<u8>, usable: usize, size: usize) -> Option<NonNull<u8>> {
    let layout = layout(16, size)?;
    let cache = thread::of(state);
    let new = if size > usable { state.alloc_growing(cache, layout) } else { state.alloc(cache, layout) }?;
    // SAFETY: both blocks hold at least this much, and the new one is nobody else's.
    unsafe { new.copy_from_nonoverlapping(old, usable.min(size)) };
    // SAFETY: the caller of `realloc` gave the block up, and the copy replaces it.
    unsafe { free(old.as_ptr()) };
    Some(new)
}

#[cold]
fn realloc_foreign(block: *mut u8, size: usize) -> *mut u8 {
    // SAFETY: as in `free_slow`.
    let next = || unsafe { foreign::next_realloc(block, size) };
    match forwards(block.addr()).then(next).flatten() {
        Some(moved) => moved,
        None => misuse::report("realloc", block.addr()),
    }
}

/// `reallocarray`: overflow of the product is `ENOMEM`.
///
/// # Safety
/// As for `realloc`.
pub unsafe fn reallocarray(block: *mut u8, count: usize, size: usize) -> *mut u8 {
    match count.checked_mul(size) {
        // SAFETY: the caller vouches for the block.
        Some(bytes) => unsafe { realloc(block, bytes) },
        None => out_of_memory(),
    }
}

/// A block aligned to `align`, a power of two.
fn allocate_aligned(align: usize, size: usize) -> Option<NonNull<u8>> {
    let state = global::ready();
    state.alloc(thread::of(state), layout(align, size)?)
}

/// `memalign` and `aligned_alloc`: `EINVAL` where the alignment is not a power of two. The size need not be a
/// multiple of it.
pub fn aligned_alloc(align: usize, size: usize) -> *mut u8 {
    if !align.is_power_of_two() {
        set_errno(libc::EINVAL);
        return null_mut();
    }
    allocate_aligned(align, size).map_or_else(out_of_memory, NonNull::as_ptr)
}

/// `posix_memalign`: returns 0, `EINVAL` or `ENOMEM`, writes `*target` only on success, and leaves `errno`.
///
/// # Safety
/// `target` can be written.
pub unsafe fn posix_memalign(target: *mut *mut u8, align: usize, size: usize) -> i32 {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) {
        return libc::EINVAL;
    }
    match allocate_aligned(align, size) {
        Some(block) => {
            // SAFETY: the caller vouches for the target.
            unsafe { target.write(block.as_ptr()) };
            0
        }
        None => libc::ENOMEM,
    }
}

/// `valloc`: aligned to a page of the machine.
pub fn valloc(size: usize) -> *mut u8 {
    aligned_alloc(os_page_size(), size)
}

/// `pvalloc`: whole pages of the machine, at least one.
pub fn pvalloc(size: usize) -> *mut u8 {
    let page = os_page_size();
    match size.max(1).checked_next_multiple_of(page) {
        Some(rounded) => aligned_alloc(page, rounded),
        None => out_of_memory(),
    }
}

/// `nallocx`: the bytes that a block of this size would have; 0 where there can be none. The low six bits of
/// `flags` are log2 of the alignment, the rest says nothing here.
pub fn nallocx(size: usize, flags: i32) -> usize {
    let align = 1_usize << (flags & 63);
    let Some(layout) = layout(align, size) else { return 0 };
    match Request::of(layout) {
        Request::Object(class) => class_size(class),
        Request::Pages(size, _) => size.next_multiple_of(PAGE_SIZE),
    }
}

/// `malloc_trim`: gives free memory back; 1 if there was some, 0 if not. `pad` bytes are not kept: what stays
/// for later use is the business of `PCPMALLOC_SLACK`.
pub fn malloc_trim(_pad: usize) -> i32 {
    i32::from(global::ready().trim(thread::of_global()) > 0)
}

/// `mallopt`: 1 for the parameters of glibc's that tune, which have no counterpart here and are ignored, 0 for
/// all others.
pub fn mallopt(parameter: i32, _value: i32) -> i32 {
    // M_MXFAST 1; M_TRIM_THRESHOLD -1, M_TOP_PAD -2, M_MMAP_THRESHOLD -3, M_MMAP_MAX -4; M_ARENA_TEST -7,
    // M_ARENA_MAX -8. Not those that ask for checks (-5) or patterns (-6), which would be promised in vain.
    i32::from(matches!(parameter, 1 | -4..=-1 | -8..=-7))
}
