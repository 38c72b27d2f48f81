//! A thread's cache, and threads coming and going.
//!
//! The TLS slot leads to the thread's cache of the global instance, which also holds a small table of its
//! caches of other instances, by number and generation. A cache is made on a thread's first miss. When the
//! thread ends it is parked as it is, for the next thread to take over; beyond a few it is emptied first.
//! Before a thread has one and after it is gone, the slot leads to a page of zeroes, and everything is served
//! without a cache.
//!
//! `Threads`, behind the instance's lock, guards the list of caches and the stacks of parked ones. A cache's
//! memory stays a cache for the life of its instance, so others may look at one at any time.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use super::background;
use super::global::{self, GLOBAL};
use super::registry::{self, GLOBAL_ID};
use super::state::State;
use crate::page::page_alloc::PageAlloc;
use crate::page::pcp::Pcp;
use crate::slab::thread_sheaves::ThreadSheaves;
use crate::sys::bracket::Bracket;
use crate::sys::slot::{self, NOTHING_SIZE};
use crate::sys::sync::{AtomicPtr, AtomicU32, Ordering};

/// Other instances that a thread keeps caches of.
const NR_OTHERS: usize = 8;
/// Dead threads' caches that are kept as they are; further ones are emptied.
const MAX_PARKED: usize = 8;

/// A thread's cache of one instance.
#[repr(C, align(64))]
pub(crate) struct ThreadCache {
    pub(crate) sheaves: ThreadSheaves,
    pub(crate) pcp: Bracket<Pcp>,
    /// The next cache of the instance's list of all.
    next: AtomicPtr<ThreadCache>,
    /// The next cache of a stack of parked ones.
    next_parked: AtomicPtr<ThreadCache>,
    /// 1 while a thread has it.
    live: AtomicU32,
    /// The thread's misses when somebody last asked whether it is idle.
    misses_seen: AtomicU32,
    /// The thread's caches of other instances; the owner's alone, and used in the global instance's cache only.
    others: UnsafeCell<[Other; NR_OTHERS]>,
}

/// A thread's cache of another instance.
#[derive(Clone, Copy)]
#[repr(C)]
struct Other {
    id: u16,
    generation: u32,
    cache: *mut ThreadCache,
}

const NO_OTHER: Other = Other { id: 0, generation: 0, cache: core::ptr::null_mut() };

// The slot's page of zeroes must read as a cache that has no room and no objects.
const _: () = assert!(size_of::<ThreadCache>() <= NOTHING_SIZE);

/// The caches of an instance.
#[repr(C)]
pub(crate) struct Threads {
    /// All caches ever made.
    pub(crate) all: *mut ThreadCache,
    /// Caches of dead threads, as they left them.
    parked: *mut ThreadCache,
    parked_count: usize,
    /// Empty caches of dead threads.
    idle: *mut ThreadCache,
    /// Caches made.
    pub(crate) made: usize,
    /// Caches lost with the threads that a fork left behind.
    pub(crate) vanished: usize,
}

// SAFETY: the addresses are only used under the lock that holds this value, or to look at atomics.
unsafe impl Send for Threads {}

impl Threads {
    pub(crate) const fn new() -> Self {
        let none = core::ptr::null_mut();
        Self { all: none, parked: none, parked_count: 0, idle: none, made: 0, vanished: 0 }
    }

    fn pop_parked(&mut self) -> Option<NonNull<ThreadCache>> {
        let cache = pop(&mut self.parked)?;
        self.parked_count -= 1;
        Some(cache)
    }
}

fn pop(stack: &mut *mut ThreadCache) -> Option<NonNull<ThreadCache>> {
    let cache = NonNull::new(*stack)?;
    // SAFETY: a stack holds caches, which exist as long as the instance.
    *stack = unsafe { cache.as_ref() }.next_parked.load(Ordering::Relaxed);
    Some(cache)
}

fn push(stack: &mut *mut ThreadCache, cache: &ThreadCache) {
    cache.next_parked.store(*stack, Ordering::Relaxed);
    *stack = core::ptr::from_ref(cache).cast_mut();
}

/// The calling thread's cache of the global instance, or the page of zeroes that stands for none.
#[inline(always)]
pub(crate) fn current<'a>() -> &'a ThreadCache {
    let cache = slot::get().cast_const().cast::<ThreadCache>();
    // SAFETY: the slot holds the address of a cache, which exists as long as the process (its instance is the
    // global one), or of a page of zeroes, which is a valid cache that nobody writes: it has no room, so
    // `push` and `pop` leave it alone, and slow paths ask `exists` first.
    unsafe { &*cache }
}

impl ThreadCache {
    fn is_at(&self, address: *mut u8) -> bool {
        core::ptr::from_ref(self).addr() == address.addr()
    }

    /// Whether this is a cache, and not the page of zeroes.
    fn exists(&self) -> bool {
        !slot::is_nothing(core::ptr::from_ref(self).cast()) && !self.is_at(slot::gone())
    }

    /// Whether the thread has missed nothing since this was asked last.
    pub(crate) fn was_idle(&self) -> bool {
        let misses = self.sheaves.all().fold(0_u32, |sum, (_, sheaves)| {
            let (alloc, free) = sheaves.misses();
            sum.wrapping_add(alloc).wrapping_add(free)
        });
        // Relaxed: an estimate.
        self.misses_seen.swap(misses, Ordering::Relaxed) == misses
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed) == 1
    }
}

/// The calling thread's cache of the global instance, made if it has none yet. `None` for a thread that is
/// about to end, and where there is no memory.
pub(crate) fn of_global() -> Option<&'static ThreadCache> {
    let cache = current();
    if cache.exists() {
        return Some(cache);
    }
    if cache.is_at(slot::gone()) { None } else { attach() }
}

/// As `of_global`, for a free: a thread that has never allocated gets a cache only after a number of frees.
pub(crate) fn of_global_to_free() -> Option<&'static ThreadCache> {
    if slot::is_nothing(slot::get()) && slot::count_free() {
        return None;
    }
    of_global()
}

/// The calling thread's cache of this instance; as `of_global`.
pub(crate) fn of(state: &State) -> Option<&ThreadCache> {
    let mine = of_global()?;
    if state.id == GLOBAL_ID {
        return Some(mine);
    }
    // SAFETY: the table is the owner's alone, this is the owner, and the borrow ends before anything that
    // could come back here.
    let others = unsafe { &mut *mine.others.get() };
    let known = |other: &&mut Other| other.id == state.id && other.generation == state.generation;
    if let Some(other) = others.iter_mut().find(known) {
        // SAFETY: number and generation are those of `state`, which the caller borrows; so is its cache.
        return Some(unsafe { &*other.cache });
    }
    let cache = adopt(state)?;
    let entry =
        Other { id: state.id, generation: state.generation, cache: core::ptr::from_ref(cache).cast_mut() };
    let old = core::mem::replace(&mut others[NR_OTHERS - 1], entry);
    others.rotate_right(1);
    leave_other(old);
    Some(cache)
}

/// Gives the thread a cache of the global instance, and asks for word of its exit.
#[cold]
fn attach() -> Option<&'static ThreadCache> {
    let key = global::exit_key()?;
    let cache = adopt(&GLOBAL)?;
    // First the slot, then the key: arming it may allocate.
    let address = core::ptr::from_ref(cache).cast_mut().cast();
    slot::set(address);
    if key.arm(address) {
        return Some(cache);
    }
    slot::set(slot::gone());
    park(&GLOBAL, cache);
    None
}

/// A cache for the calling thread: a dead thread's, or a new one.
fn adopt(state: &State) -> Option<&ThreadCache> {
    match state.take_any() {
        Some(cache) => Some(cache),
        None => make(state),
    }
}

fn make(state: &State) -> Option<&ThreadCache> {
    let memory: NonNull<ThreadCache> = state.meta.take(size_of::<ThreadCache>())?.cast();
    let cache = ThreadCache {
        sheaves: ThreadSheaves::new(),
        pcp: Bracket::new(Pcp::new()),
        next: AtomicPtr::new(core::ptr::null_mut()),
        next_parked: AtomicPtr::new(core::ptr::null_mut()),
        live: AtomicU32::new(1),
        misses_seen: AtomicU32::new(0),
        others: UnsafeCell::new([NO_OTHER; NR_OTHERS]),
    };
    // SAFETY: a fresh record of this size, aligned to a cache line, that nobody else knows.
    unsafe { memory.write(cache) };
    let mut threads = state.threads.lock();
    // SAFETY: written just now, and never unmade as long as the instance exists.
    let cache = unsafe { memory.as_ref() };
    cache.next.store(threads.all, Ordering::Relaxed);
    threads.all = memory.as_ptr();
    threads.made += 1;
    Some(cache)
}

/// Takes a cache whose thread is done with it.
fn park(state: &State, cache: &ThreadCache) {
    state.with_pages(Some(cache), |pages| {
        if let Some(pcp) = &mut pages.pcp {
            pcp.drain_huge(pages.zone, pages.budget);
        }
    });
    let objects = cache.sheaves.all().map(|(_, sheaves)| sheaves.count()).sum();
    let mut threads = state.threads.lock();
    if threads.parked_count < MAX_PARKED {
        cache.live.store(0, Ordering::Relaxed);
        push(&mut threads.parked, cache);
        threads.parked_count += 1;
        drop(threads);
    } else {
        drop(threads);
        state.flush_cache(cache);
        state.keep_idle(cache);
    }
    // What the thread leaves in its sheaves may be all that keeps much else from going back.
    state.relieve(None, objects);
}

/// Gives a cache of another instance back, if that instance still exists.
fn leave_other(other: Other) {
    if other.cache.is_null() {
        return;
    }
    let _registry = registry::lock();
    if let Some(state) = registry::by_id(other.id).filter(|state| state.generation == other.generation) {
        // SAFETY: the instance is the one that made the cache, and the registry's lock keeps it.
        park(state, unsafe { &*other.cache });
    }
}

/// The exit handler. It runs among the thread's key destructors; those that come later are served without a
/// cache.
///
/// # Safety
/// The C library calls this, at a thread's exit, with the value that `attach` armed the key with.
pub(crate) unsafe extern "C" fn on_exit(value: *mut libc::c_void) {
    // SAFETY: the value is what `attach` armed the key with: a cache of the global instance.
    let cache = unsafe { &*value.cast_const().cast::<ThreadCache>() };
    if !cache.is_at(slot::get()) {
        return;
    }
    slot::set(slot::gone());
    background::on_thread_exit();
    // SAFETY: the table is the owner's alone, and this thread still is the owner.
    let others = unsafe { core::mem::replace(&mut *cache.others.get(), [NO_OTHER; NR_OTHERS]) };
    for other in others {
        leave_other(other);
    }
    park(&GLOBAL, cache);
}

impl State {
    /// Every cache of the instance, of threads that live and of those that are gone.
    pub(crate) fn caches(&self) -> impl Iterator<Item = &ThreadCache> {
        let mut next = self.threads.lock().all.cast_const();
        core::iter::from_fn(move || {
            // SAFETY: null, or a cache of this instance, which exists as long as the borrow of `self`; caches
            // are only ever added before the first one.
            let cache = unsafe { next.as_ref() }?;
            next = cache.next.load(Ordering::Relaxed);
            Some(cache)
        })
    }

    /// Runs `work` on every parked cache: they are nobody's for as long as it takes.
    pub(crate) fn with_parked(&self, mut work: impl FnMut(&ThreadCache)) {
        while let Some(cache) = self.take_parked() {
            work(cache);
            self.keep_idle(cache);
        }
    }

    /// Takes a parked cache. It counts as live until it is kept again, so that a fork's child does not take it
    /// for whole while somebody works on it.
    fn take_parked(&self) -> Option<&ThreadCache> {
        self.take_cache(Threads::pop_parked)
    }

    /// Takes a dead thread's cache, preferring one with objects.
    fn take_any(&self) -> Option<&ThreadCache> {
        self.take_cache(|threads| threads.pop_parked().or_else(|| pop(&mut threads.idle)))
    }

    fn take_cache(
        &self,
        take: impl FnOnce(&mut Threads) -> Option<NonNull<ThreadCache>>,
    ) -> Option<&ThreadCache> {
        let mut threads = self.threads.lock();
        let cache = take(&mut threads)?;
        // SAFETY: a cache of this instance, which exists as long as it does.
        let cache = unsafe { cache.as_ref() };
        cache.live.store(1, Ordering::Relaxed);
        Some(cache)
    }

    /// Keeps an empty cache for a thread to come.
    fn keep_idle(&self, cache: &ThreadCache) {
        let mut threads = self.threads.lock();
        cache.live.store(0, Ordering::Relaxed);
        push(&mut threads.idle, cache);
    }

    /// The page allocator for the calling thread, which owns `cache` if there is one.
    #[inline]
    pub(crate) fn with_pages<R>(
        &self,
        cache: Option<&ThreadCache>,
        work: impl FnOnce(&mut PageAlloc<'_>) -> R,
    ) -> R {
        // SAFETY: the callers pass their own thread's cache, or one that they took off the parked ones.
        let mut pcp = cache.and_then(|cache| unsafe { cache.pcp.owner() });
        let one = self.zones.is_one();
        let zone = if one { &self.zones.first } else { self.zone_here(pcp.as_deref_mut()) };
        let (zones, budget) = (Some(&self.zones), &self.budget);
        work(&mut PageAlloc { zone, zones, budget, pcp: pcp.as_deref_mut() })
    }

    /// In a fork's child: forgets the caches of the threads that the child does not have. They may be half
    /// changed, so their contents are lost.
    pub(crate) fn forget_other_threads(&self, mine: *const ThreadCache) {
        // The fork came from a signal handler that interrupted this very thread at the list: it stays as it is.
        if self.threads.is_mine() {
            return;
        }
        let mut threads = self.threads.lock();
        let mut next = threads.all;
        threads.all = core::ptr::null_mut();
        while let Some(cache) = NonNull::new(next) {
            // SAFETY: a cache of this instance.
            let cache = unsafe { cache.as_ref() };
            next = cache.next.load(Ordering::Relaxed);
            let gone = cache.is_live() && !core::ptr::eq(cache, mine);
            // Lost also where another thread was draining the lists of a cache that stays.
            if let Some(lost) = cache.pcp.fork_reset(gone, Pcp::new()) {
                threads.vanished += 1;
                let zone = self.zones.of(lost.node());
                lost.write_off(zone, &self.budget);
            }
            if gone {
                cache.sheaves.all().for_each(|(_, sheaves)| sheaves.refund(&self.budget));
                continue;
            }
            cache.next.store(threads.all, Ordering::Relaxed);
            threads.all = core::ptr::from_ref(cache).cast_mut();
        }
    }
}

/// The calling thread's cache of an instance, if it has one: nothing is made.
pub(crate) fn existing(state: &State) -> *const ThreadCache {
    let mine = current();
    if !mine.exists() {
        return core::ptr::null();
    }
    if state.id == GLOBAL_ID {
        return mine;
    }
    // SAFETY: the table is the owner's alone, and this is the owner.
    let others = unsafe { &*mine.others.get() };
    let known = |other: &&Other| other.id == state.id && other.generation == state.generation;
    others.iter().find(known).map_or(core::ptr::null(), |other| other.cache)
}
