//! `PcpMalloc` as the global allocator of Rust programs: layouts, collections, threads, forks, settings.
//!
//! This binary's global allocator is the system's, so that the harness does not stand on what it tests, unless the
//! variable `PCPMALLOC_TEST_FACE` names a handle: so each test starts this binary again, for itself alone, and there
//! every allocation from the first on is the handle's.

#[path = "rust_face/collections.rs"]
mod collections;
#[path = "rust_face/forks.rs"]
mod forks;
#[path = "common/heap.rs"]
mod heap;
#[path = "rust_face/settings.rs"]
mod settings;
#[path = "rust_face/threads.rs"]
mod threads;

use std::alloc::{GlobalAlloc, Layout, System, alloc, alloc_zeroed, dealloc, realloc};
use std::ffi::{CStr, c_char};
use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering};

use heap::{all_are, layout};
use pcpmalloc::{Dump, Hugepages, PcpMalloc, Usage};

/// The handles that a test can run on, by name.
static HANDLES: [(&CStr, PcpMalloc); 5] = [
    (c"plain", PcpMalloc::new()),
    (c"limited", PcpMalloc::new().limit(LIMIT).slack(1 << 20)),
    (
        c"small",
        PcpMalloc::new().hugepages(Hugepages::Off).pcp_high(8).pcp_batch(3).pcp_high_orders(false).slack(0),
    ),
    (c"wide", PcpMalloc::new().pcp_high(4000).pcp_batch(200).slack(1 << 30).hugepages(Hugepages::Thp)),
    (
        c"aging",
        PcpMalloc::new().limit_percent(100).slack(1 << 30).background(20).watch(true).dump(Dump::Used),
    ),
];
/// The limit of the handle `limited`.
const LIMIT: usize = 64 << 20;

/// The allocator that the environment names.
struct Chosen;

#[global_allocator]
static CHOSEN: Chosen = Chosen;

unsafe extern "C" {
    fn getenv(name: *const c_char) -> *const c_char;
}

impl Chosen {
    /// The handle of this process; `None` for the system's allocator. Asked before anything was allocated, so it
    /// must not allocate.
    fn handle() -> Option<&'static PcpMalloc> {
        const UNKNOWN: u8 = 255;
        static NUMBER: AtomicU8 = AtomicU8::new(UNKNOWN);
        let number = match NUMBER.load(Ordering::Relaxed) {
            UNKNOWN => {
                let number = Self::ask();
                NUMBER.store(number, Ordering::Relaxed);
                number
            }
            number => number,
        };
        HANDLES.get(usize::from(number)).map(|(_, handle)| handle)
    }

    fn ask() -> u8 {
        // SAFETY: a null-terminated name; the environment is not changed by any test.
        let value = unsafe { getenv(c"PCPMALLOC_TEST_FACE".as_ptr()) };
        if value.is_null() {
            return HANDLES.len() as u8;
        }
        // SAFETY: the environment's values are null-terminated and stay.
        let value = unsafe { CStr::from_ptr(value) };
        HANDLES.iter().position(|(name, _)| *name == value).unwrap_or(HANDLES.len()) as u8
    }
}

// SAFETY: all calls of a process go to the same allocator, which keeps the contract.
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is not empty.
        Self::handle()
            .map_or_else(|| unsafe { System.alloc(layout) }, |handle| unsafe { handle.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Self::handle() {
            // SAFETY: the caller's block came from the same allocator with this layout.
            None => unsafe { System.dealloc(block, layout) },
            // SAFETY: as above.
            Some(handle) => unsafe { handle.dealloc(block, layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Self::handle() {
            // SAFETY: the caller's layout is not empty.
            None => unsafe { System.alloc_zeroed(layout) },
            // SAFETY: as above.
            Some(handle) => unsafe { handle.alloc_zeroed(layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match Self::handle() {
            // SAFETY: the caller's block came from the same allocator with this layout, and the size is one.
            None => unsafe { System.realloc(block, layout, size) },
            // SAFETY: as above.
            Some(handle) => unsafe { handle.realloc(block, layout, size) },
        }
    }
}

/// Runs the test `name` in a process of its own whose global allocator is this handle, as `heap::alone`.
fn on(handle: &str, name: &str) -> bool {
    let here = heap::alone_with(name, &[("PCPMALLOC_TEST_FACE", handle)]);
    // What a test of the wrong allocator would say is worth nothing.
    assert!(!here || count().live_objects > 0, "{name} does not run on {handle}");
    here
}

/// The handle of a test that runs on one.
fn handle() -> &'static PcpMalloc {
    Chosen::handle().expect("the test runs on a handle")
}

/// Recounts the process's heap.
fn count() -> Usage {
    pcpmalloc::validate().unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn every_alignment() {
    if !on("plain", "every_alignment") {
        return;
    }
    for shift in 0..=62 {
        let align = 1_usize << shift;
        for size in [1, 8, 100, align / 2 + 1, align - 1, align, align + 1, 2 * (align - 1)] {
            let Ok(layout) = Layout::from_size_align(size, align) else { continue };
            if size > 0 {
                check_layout(layout);
            }
        }
    }
    count();
}

/// Blocks of this layout are aligned, apart, writable from end to end and zeroed where asked, or cannot be had.
fn check_layout(layout: Layout) {
    let size = layout.size();
    // SAFETY: the layout is not empty, here and in the two lines below.
    let first = unsafe { alloc(layout) };
    // SAFETY: as above.
    let zeroed = unsafe { alloc_zeroed(layout) };
    // SAFETY: as above.
    let last = unsafe { alloc(layout) };
    let blocks = black_box([first, zeroed, last]);
    for (number, block) in blocks.into_iter().enumerate() {
        assert!(!block.is_null() || layout.align() > 1 << 30 || size > 1 << 30, "{layout:?}");
        assert!(block.addr().is_multiple_of(layout.align()), "{layout:?} at {block:p}");
        for other in &blocks[..number] {
            let apart = block.addr().abs_diff(other.addr()) >= size;
            assert!(apart || block.is_null() || other.is_null(), "{layout:?} at {block:p} and {other:p}");
        }
    }
    // Beyond that, nothing of it is touched: a GiB of zeroes costs address space, a GiB of ones memory.
    if size <= 4 << 20 && !blocks[1].is_null() {
        // SAFETY: a zeroed block of `size` bytes.
        assert!(all_are(unsafe { std::slice::from_raw_parts(blocks[1], size) }, 0), "{layout:?}");
        // SAFETY: as above, and nobody else uses it.
        unsafe { blocks[1].write_bytes(0xa5, size) };
    }
    for block in blocks.into_iter().filter(|block| !block.is_null()) {
        // SAFETY: a block of this layout, freed once.
        unsafe { dealloc(block, layout) };
    }
}

#[test]
fn sizes_around_all_borders() {
    for handle in ["plain", "small", "wide"] {
        if !on(handle, "sizes_around_all_borders") {
            continue;
        }
        let mut sizes: Vec<usize> = (1..=130).chain((1..=40).map(|pages| pages << 12)).collect();
        sizes.extend((7..13).flat_map(|doubling| (4..8).map(move |quarter| quarter << (doubling - 2))));
        sizes.extend([1 << 20, 2 << 20, 4 << 20, 32 << 20]);
        let around = |size: &usize| [size.saturating_sub(1).max(1), *size, size + 1];
        for size in sizes.iter().flat_map(around) {
            for align in [1, 16, 64, 4096] {
                check_layout(layout(size, align));
            }
        }
        let live = count().live_objects;
        for pair in sizes.windows(2) {
            for (from, to) in [(pair[0], pair[1]), (pair[1], pair[0]), (pair[0], 3 * pair[0])] {
                check_realloc(from, to);
            }
        }
        assert_eq!(count().live_objects, live);
        return;
    }
}

fn check_realloc(from: usize, to: usize) {
    // SAFETY: not empty.
    let block = unsafe { alloc(layout(from, 8)) };
    assert!(!block.is_null());
    // SAFETY: `from` bytes that are nobody else's.
    unsafe { block.write_bytes(0x5a, from) };
    // SAFETY: the block of this layout, and a size that is one.
    let block = unsafe { realloc(block, layout(from, 8), to) };
    assert!(!block.is_null());
    // SAFETY: the lesser of the two sizes was written, the new block has it.
    assert!(all_are(unsafe { std::slice::from_raw_parts(block, from.min(to)) }, 0x5a), "{from} to {to}");
    // SAFETY: the block's layout since the realloc.
    unsafe { dealloc(block, layout(to, 8)) };
}

#[test]
fn sizes_that_cannot_be_had() {
    if !on("plain", "sizes_that_cannot_be_had") {
        return;
    }
    let most = isize::MAX as usize;
    // Through a black box: a compiler may take an allocation that nothing uses for one that succeeds.
    for (size, align) in [(most, 1), (most - 4095, 4096), (1 << 62, 1 << 62), (1 << 47, 8), (1, 1 << 62)] {
        // SAFETY: not empty.
        assert!(black_box(unsafe { alloc(layout(size, align)) }).is_null(), "{size} aligned to {align}");
        // SAFETY: not empty.
        let zeroed = black_box(unsafe { alloc_zeroed(layout(size, align)) });
        assert!(zeroed.is_null(), "{size} aligned to {align}");
    }
    for from in [16, 20_000, 33 << 20] {
        let mut kept = vec![7_u8; from];
        assert!(kept.try_reserve_exact(most - from).is_err());
        assert!(kept.try_reserve_exact((1 << 47) - from).is_err());
        assert!(all_are(&kept, 7));
    }
    count();
}
