//! The global instance and its Rust face: `PcpMalloc` as a `#[global_allocator]`.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use super::alloc::{Request, free_class, small_class};
use super::registry::GLOBAL_ID;
use super::state::State;
use super::{background, fork, misuse, settings, thread};
use crate::base::config::{Config, Dump, Foreign, Hugepages};
use crate::sys::foreign::BrkHeap;
use crate::sys::map;
use crate::sys::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::sys::thread::ExitKey;

/// The instance behind `PcpMalloc` and behind the C functions.
pub(crate) static GLOBAL: State = State::new(GLOBAL_ID, 0);

const NEW: u32 = 0;
const STARTING: u32 = 1;
const READY: u32 = 2;
static PHASE: AtomicU32 = AtomicU32::new(NEW);
/// The exit key's number and 1; 0 while there is none.
static EXIT_KEY: AtomicU32 = AtomicU32::new(0);
/// The brk heap as it was before we served anything: memory there may be another allocator's.
static BRK_START: AtomicUsize = AtomicUsize::new(0);
static BRK_END: AtomicUsize = AtomicUsize::new(0);

/// The global instance, made ready with the default settings if nobody has used it yet.
#[inline]
pub(crate) fn ready() -> &'static State {
    // Acquire: pairs with the Release in `start`, so that the settings are seen.
    if PHASE.load(Ordering::Acquire) != READY {
        start(&Config::new());
    }
    &GLOBAL
}

/// Makes the global instance ready. The first caller's settings hold.
#[cold]
fn start(config: &Config) {
    // Acquire: pairs with the Release below.
    if PHASE.compare_exchange(NEW, STARTING, Ordering::Acquire, Ordering::Acquire).is_err() {
        // Acquire: as above, pairs with the Release below. Starting takes a few microseconds and nothing in it
        // allocates, so it is another thread that is at it.
        while PHASE.load(Ordering::Acquire) != READY {
            core::hint::spin_loop();
        }
        return;
    }
    let brk = BrkHeap::now();
    BRK_START.store(brk.start, Ordering::Relaxed);
    BRK_END.store(brk.end, Ordering::Relaxed);
    let config = settings::from_environment(*config);
    if config.dump == Dump::Used {
        map::dump_only_used();
    }
    GLOBAL.configure(&config);
    background::configure(&config);
    if let Some(key) = ExitKey::new(thread::on_exit) {
        EXIT_KEY.store(key.number() + 1, Ordering::Relaxed);
    }
    // Release: pairs with the Acquire in `ready` and above.
    PHASE.store(READY, Ordering::Release);
    // May allocate, which works from here on.
    fork::register();
}

/// Whether the heap is in use and its settings ask for a report at the end.
pub(crate) fn is_verbose() -> bool {
    // Acquire: pairs with the Release in `start`.
    PHASE.load(Ordering::Acquire) == READY && GLOBAL.verbose.load(Ordering::Relaxed)
}

/// The key that tells of threads' exits; `None` where there was none to be had.
pub(crate) fn exit_key() -> Option<ExitKey> {
    EXIT_KEY.load(Ordering::Relaxed).checked_sub(1).map(ExitKey::from_number)
}

/// Whether the address lies in the brk heap that was there before us.
pub(crate) fn in_earlier_heap(address: usize) -> bool {
    BrkHeap { start: BRK_START.load(Ordering::Relaxed), end: BRK_END.load(Ordering::Relaxed) }
        .contains(address)
}

/// Pages as a Rust global allocator.
///
/// ```no_run
/// use pcpmalloc::PcpMalloc;
///
/// #[global_allocator]
/// static GLOBAL: PcpMalloc = PcpMalloc::new();
/// # fn main() {}
/// ```
///
/// The value is a handle with settings; the heap behind it is one for the process. The settings of the handle
/// that is used first hold, and `PCPMALLOC_*` variables go before them.
#[derive(Debug)]
pub struct PcpMalloc {
    config: Config,
}

impl PcpMalloc {
    /// A handle with the default settings.
    pub const fn new() -> Self {
        Self { config: Config::new() }
    }

    /// What backs the heap; [`Hugepages::Thp`] by default. Variable: `PCPMALLOC_HUGEPAGES`.
    #[must_use]
    pub const fn hugepages(mut self, hugepages: Hugepages) -> Self {
        self.config.hugepages = hugepages;
        self
    }

    /// The most pages (4 KiB) that a thread's page lists hold, order 9 not counted; 0, the default, lets it
    /// follow demand. Variable: `PCPMALLOC_PCP_HIGH`.
    #[must_use]
    pub const fn pcp_high(mut self, pages: u32) -> Self {
        self.config.pcp_high = pages;
        self
    }

    /// Pages moved between a thread's lists and the zone under one hold of its lock; 0, the default, is 63,
    /// and 15 while the heap is below 16 MiB. Variable: `PCPMALLOC_PCP_BATCH`.
    #[must_use]
    pub const fn pcp_batch(mut self, pages: u32) -> Self {
        self.config.pcp_batch = pages;
        self
    }

    /// Whether blocks of orders 1-3 and 9 stay on threads' page lists, as by default, or only single pages.
    /// Variable: `PCPMALLOC_PCP_HIGH_ORDERS`.
    #[must_use]
    pub const fn pcp_high_orders(mut self, on: bool) -> Self {
        self.config.pcp_high_orders = on;
        self
    }

    /// Whether pageblocks are grouped by how long their memory is likely to stay, as by default: slabs in some, runs of
    /// pages in others (Linux: `page_group_by_mobility_disabled`). Off, less memory becomes whole pageblocks again; it is
    /// there to be compared. Variable: `PCPMALLOC_GROUP_BY_MOBILITY`.
    #[must_use]
    pub const fn group_by_mobility(mut self, on: bool) -> Self {
        self.config.group_by_mobility = on;
        self
    }

    /// Bytes of free memory that are not given back whatever the heap's size, or an eighth of what is in use where that
    /// is more: so much in whole pageblocks, and so much within others. Eight times as much at most, for a while,
    /// where memory that was given back is wanted again; 0 keeps none. 8 MiB by default. Variable: `PCPMALLOC_SLACK`.
    #[must_use]
    pub const fn slack(mut self, bytes: usize) -> Self {
        self.config.slack = bytes;
        self
    }

    /// Bytes that the heap may have in use, caches of threads included, or free and still backed. When they are reached
    /// free memory goes back, then caches are emptied, then allocations fail. The allocator's own records, about 1%,
    /// come on top. No limit by default. Variable: `PCPMALLOC_LIMIT`.
    #[must_use]
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.config.limit = bytes;
        self
    }

    /// As `limit`, in per cent, 1 to 100, of the memory that the process may have when it starts: the limit of its
    /// cgroup or of one above it, or else the machine's memory. Of two limits the smaller one holds. Leave room for
    /// the allocator's records and the program's own code and data. Variable: `PCPMALLOC_LIMIT`.
    #[must_use]
    pub const fn limit_percent(mut self, percent: u8) -> Self {
        self.config.limit_percent = percent;
        self
    }

    /// Milliseconds between two looks of a background thread at the heap, and at every [`Instance`](crate::Instance):
    /// where nothing has happened since the last one, all free memory goes back to the system, else half of what is
    /// above half of the slack. The thread starts once the heap has grown past 8 MiB, and again in a fork's child; it
    /// ends with the main thread. 0, the default, is no thread. Variable: `PCPMALLOC_BACKGROUND`.
    #[must_use]
    pub const fn background(mut self, ms: u32) -> Self {
        self.config.background = ms;
        self
    }

    /// Whether a background thread (as for [`background`](Self::background), with or without its ticks) waits for the
    /// kernel's word that memory is short, in the cgroup or on the machine, and gives all free memory back then, at
    /// most once a second. It keeps up to five file descriptors, which close on exec. Variable: `PCPMALLOC_WATCH`.
    #[must_use]
    pub const fn watch(mut self, on: bool) -> Self {
        self.config.watch = on;
        self
    }

    /// What core dumps hold; [`Dump::All`] by default. Variable: `PCPMALLOC_DUMP`.
    #[must_use]
    pub const fn dump(mut self, dump: Dump) -> Self {
        self.config.dump = dump;
        self
    }

    /// Whether buddyinfo, slabinfo and zoneinfo are printed to stderr when the process ends.
    /// Variable: `PCPMALLOC_VERBOSE`.
    #[must_use]
    pub const fn verbose(mut self, on: bool) -> Self {
        self.config.verbose = on;
        self
    }

    /// What the C functions do with pointers that are not ours. Variable: `PCPMALLOC_FOREIGN`.
    #[must_use]
    pub const fn foreign(mut self, foreign: Foreign) -> Self {
        self.config.foreign = foreign;
        self
    }

    /// Switches blocks of orders 1-3 and 9 on threads' page lists on or off while the program runs, and empties
    /// the lists that can be emptied from here.
    pub fn set_pcp_high_orders(&self, on: bool) {
        let state = self.state();
        state.set_pcp_high_orders(thread::of_global(), on);
    }

    /// Gives all free memory back to the system that can be given back, the calling thread's caches first; but for what is
    /// free in hugepages of which more than half is in use. Returns the bytes given back, in whole pages of 4 KiB.
    pub fn trim(&self) -> usize {
        self.state().trim(thread::of_global())
    }

    /// The instance, made ready with this handle's settings.
    #[inline]
    fn state(&self) -> &'static State {
        // Acquire: pairs with the Release in `start`.
        if PHASE.load(Ordering::Acquire) != READY {
            start(&self.config);
        }
        &GLOBAL
    }

    /// What is in no slab with others.
    #[inline(never)]
    fn alloc_large(&self, layout: Layout) -> *mut u8 {
        if let Request::Object(class) = Request::of(layout)
            && let Some(object) = thread::current().sheaves.of(class).pop()
        {
            return misuse::whole(object).as_ptr();
        }
        self.alloc_slow(layout)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout) -> *mut u8 {
        let state = self.state();
        pointer(state.alloc(thread::of_global(), layout))
    }
}

impl Default for PcpMalloc {
    fn default() -> Self {
        Self::new()
    }
}

/// Frees what is in no slab with others.
#[inline(never)]
fn dealloc_large(block: NonNull<u8>, layout: Layout) {
    match Request::of(layout) {
        Request::Object(class) => free_class(block, class),
        Request::Pages(..) => GLOBAL.free_large(thread::of_global_to_free(), block),
    }
}

/// Reallocates a block of the global instance.
///
/// # Safety
/// The block is of layout `old`.
#[inline(never)]
unsafe fn realloc(block: NonNull<u8>, old: Layout, new: Layout) -> *mut u8 {
    if let (Request::Object(before), Request::Object(after)) = (Request::of(old), Request::of(new)) {
        if before == after {
            return block.as_ptr();
        }
        if let Some(moved) = thread::current().sheaves.of(after).pop() {
            // SAFETY: both objects hold at least the smaller layout, and the new one is nobody else's.
            unsafe { moved.copy_from_nonoverlapping(block, old.size().min(new.size())) };
            free_class(block, before);
            return moved.as_ptr();
        }
    }
    // SAFETY: the caller vouches for the block.
    pointer(unsafe { GLOBAL.realloc(thread::of_global(), block, old, new) })
}

/// As `GlobalAlloc` has it: null for none.
#[inline(always)]
pub(crate) fn pointer(block: Option<NonNull<u8>>) -> *mut u8 {
    block.map_or(null_mut(), NonNull::as_ptr)
}

// SAFETY: blocks are exclusive and stay where they are until freed (the page layer's and the slab layer's
// ownership, recounted by `validate`); sizes and alignments are honoured (`Request`, tests in size_class.rs);
// nothing unwinds: faults abort.
unsafe impl GlobalAlloc for PcpMalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = small_class(layout) else { return self.alloc_large(layout) };
        match thread::current().sheaves.of(class).pop() {
            Some(object) => object.as_ptr(),
            None => self.alloc_slow(layout),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's block is not null.
        let block = unsafe { NonNull::new_unchecked(block) };
        match small_class(layout) {
            Some(class) => free_class(block, class),
            None => dealloc_large(block, layout),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if let Some(class) = small_class(layout)
            && let Some(object) = thread::current().sheaves.of(class).pop()
        {
            // SAFETY: an object of this class holds at least the layout's size.
            unsafe { object.write_bytes(0, layout.size()) };
            return object.as_ptr();
        }
        pointer(self.state().alloc_zeroed(thread::of_global(), layout))
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, old: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches that `size`, rounded up to the alignment, does not overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, old.align()) };
        // SAFETY: the caller's block is not null.
        let block = unsafe { NonNull::new_unchecked(block) };
        // SAFETY: the caller vouches that the block is ours and of layout `old`.
        unsafe { realloc(block, old, new) }
    }
}
