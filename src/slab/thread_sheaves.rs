//! A thread's sheaves of every class: the fast path of every allocation and free, and what happens on a miss.
//!
//! The owner alone pushes and pops. `top`, `base` and `end` are the main sheaf taken apart; all null, it has
//! no room and no objects, which is how a thread starts. The spare sheaf can be taken by anyone, by an atomic
//! swap on the slow path.
//!
//! Growth: a miss at a small sheaf brings one four times as large, up to the class's full size, as far as the
//! instance's budget goes, which pays for the main and for the spare sheaf. Only full-size sheaves go through the barn.

use core::ptr::NonNull;

use super::kmem_cache::{KmemCache, KmemCaches};
use super::sheaf::{Header, Object, Sheaf, SheafPool};
use super::size_class::{ALL_CLASSES, CLASSES, MAX_LEVEL, NR_CLASSES, SizeClass};
use crate::base::budget::Budget;
use crate::base::topology::{instance_of, node_of, zone_number};
use crate::page::meta::Meta;
use crate::page::page_alloc::PageAlloc;
use crate::page::per_node::PerNode;
use crate::page::section::page_of;
use crate::sys::handoff;
use crate::sys::sync::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

/// A thread gets a sheaf for a class of large objects with so many misses there: those that a program needs once, to
/// grow a buffer, had better become other sizes again.
pub(super) const LARGE_FROM: u32 = 8;

/// A thread's objects of every class. What a hit uses stands in arrays of its own, so that the classes in use
/// share cache lines, and a class's number is all that a hit needs to find it. Number 0 has neither room nor
/// objects: whoever comes with it takes the slow path.
#[repr(C)]
pub(crate) struct ThreadSheaves {
    /// One past the last slot that holds an object.
    top: [AtomicPtr<Object>; NR_CLASSES],
    /// The first slot.
    base: [AtomicPtr<Object>; NR_CLASSES],
    /// One past the last slot.
    end: [AtomicPtr<Object>; NR_CLASSES],
    rest: [Rest; NR_CLASSES],
}

/// What misses use.
#[repr(C)]
struct Rest {
    /// The sheaf that `top`, `base` and `end` are the slots of.
    main: AtomicPtr<Header>,
    /// A second sheaf, or null. Anyone may swap it out.
    spare: AtomicPtr<Header>,
    /// How far the main sheaf has grown: 0 none yet or small, 1, 2 full size.
    level: AtomicU8,
    alloc_misses: AtomicU32,
    free_misses: AtomicU32,
}

impl Rest {
    const fn new() -> Self {
        Self {
            main: AtomicPtr::new(core::ptr::null_mut()),
            spare: AtomicPtr::new(core::ptr::null_mut()),
            level: AtomicU8::new(0),
            alloc_misses: AtomicU32::new(0),
            free_misses: AtomicU32::new(0),
        }
    }
}

/// A thread's objects of one class.
#[derive(Clone, Copy)]
pub(crate) struct Sheaves<'a> {
    of: &'a ThreadSheaves,
    class: usize,
}

/// What a miss needs beside the thread's own sheaves.
pub(crate) struct Miss<'a, 'p> {
    /// The class's cache of the node that `pages` takes from.
    pub(crate) cache: &'a KmemCache,
    pub(crate) class: usize,
    /// The instance's caches, which objects go back to; `None` where `cache` is the class's only one for good.
    pub(crate) nodes: Option<&'a PerNode<KmemCaches>>,
    pub(crate) pool: &'a SheafPool,
    pub(crate) meta: &'a Meta,
    pub(crate) budget: &'a Budget,
    pub(crate) pages: &'a mut PageAlloc<'p>,
}

// Relaxed on top, base, end, main, level and the counts: only the owner writes them, others read them for
// statistics. The spare is another matter and says so.

impl ThreadSheaves {
    pub(crate) const fn new() -> Self {
        Self {
            top: [const { AtomicPtr::new(core::ptr::null_mut()) }; NR_CLASSES],
            base: [const { AtomicPtr::new(core::ptr::null_mut()) }; NR_CLASSES],
            end: [const { AtomicPtr::new(core::ptr::null_mut()) }; NR_CLASSES],
            rest: [const { Rest::new() }; NR_CLASSES],
        }
    }

    /// Those of one class, or of none (0). A class is a number that size_class.rs gave out, or 0; hits cannot afford
    /// to check that.
    #[inline(always)]
    pub(crate) fn of(&self, class: usize) -> Sheaves<'_> {
        debug_assert!(class < NR_CLASSES);
        Sheaves { of: self, class }
    }

    /// Those of every class.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, Sheaves<'_>)> {
        ALL_CLASSES.map(|class| (class, self.of(class)))
    }
}

/// The element of a class.
#[inline(always)]
fn at<T>(array: &[T; NR_CLASSES], class: usize) -> &T {
    // SAFETY: classes come from the tables of size_class.rs, which hold none above the last, or from the class map
    // or the word of a page, where the slab layer wrote one of those.
    unsafe { array.get_unchecked(class) }
}

impl<'a> Sheaves<'a> {
    #[inline(always)]
    fn top(self) -> &'a AtomicPtr<Object> {
        at(&self.of.top, self.class)
    }

    #[inline(always)]
    fn base(self) -> &'a AtomicPtr<Object> {
        at(&self.of.base, self.class)
    }

    #[inline(always)]
    fn end(self) -> &'a AtomicPtr<Object> {
        at(&self.of.end, self.class)
    }

    fn rest(self) -> &'a Rest {
        at(&self.of.rest, self.class)
    }

    /// Takes an object from the main sheaf.
    #[inline(always)]
    pub(crate) fn pop(self) -> Option<NonNull<u8>> {
        let top = own(self.top());
        if top == own(self.base()) {
            return None;
        }
        // SAFETY: `top` is above `base`, so the slot below it is one of the main sheaf's.
        let slot = unsafe { top.sub(1) };
        // SAFETY: slots from base to top hold objects, put there by this thread or handed over with the sheaf.
        let object = unsafe { slot.read() };
        self.top().store(slot, Ordering::Relaxed);
        // SAFETY: what is pushed is the start of a block, or of class 0, which has no room: nobody pushes null, since
        // the page at address 0 has no class.
        Some(unsafe { NonNull::new_unchecked(object) })
    }

    /// Puts an object into the main sheaf. False where that is full.
    #[inline(always)]
    pub(crate) fn push(self, object: Object) -> bool {
        let top = own(self.top());
        if top == own(self.end()) {
            return false;
        }
        // SAFETY: `top` is below `end`, so this is a slot of the main sheaf, which only the owner uses.
        unsafe { top.write(object) };
        // SAFETY: one slot further is at most `end`.
        self.top().store(unsafe { top.add(1) }, Ordering::Relaxed);
        true
    }

    /// Objects in the main sheaf.
    pub(crate) fn main_count(self) -> usize {
        let (top, base) = (self.top().load(Ordering::Relaxed), self.base().load(Ordering::Relaxed));
        top.addr().saturating_sub(base.addr()) / size_of::<Object>()
    }

    /// Objects for which the main sheaf has room.
    pub(crate) fn room(self) -> usize {
        let (top, end) = (self.top().load(Ordering::Relaxed), self.end().load(Ordering::Relaxed));
        end.addr().saturating_sub(top.addr()) / size_of::<Object>()
    }

    /// Objects in both sheaves. Exact only while nobody uses them.
    pub(crate) fn count(self) -> usize {
        let spare = handoff::published(&self.rest().spare);
        // SAFETY: the spare is null or a sheaf of this cache's instance, which exists as long as the cache.
        self.main_count() + unsafe { Sheaf::peek_count(spare) }
    }

    /// Misses on allocation and on free.
    pub(crate) fn misses(self) -> (u32, u32) {
        (self.rest().alloc_misses.load(Ordering::Relaxed), self.rest().free_misses.load(Ordering::Relaxed))
    }

    /// Misses so far.
    fn missed(self) -> u32 {
        let (alloc, free) = self.misses();
        alloc.saturating_add(free)
    }

    /// Takes the spare sheaf, from any thread.
    fn take_spare(self) -> Option<Sheaf> {
        // SAFETY: `put_spare` gave the handle up with `into_raw`, and of all that take only one thread finds it.
        unsafe { Sheaf::from_raw(handoff::take(&self.rest().spare)) }
    }

    /// Makes a sheaf the spare one. The owner alone does this, after it took the one before.
    fn put_spare(self, sheaf: Sheaf) {
        handoff::put(&self.rest().spare, sheaf.into_raw());
    }

    /// Puts the main sheaf together again, and leaves the thread without one.
    fn detach_main(self) -> Option<Sheaf> {
        let count = self.main_count();
        for part in [self.top(), self.base(), self.end()] {
            part.store(core::ptr::null_mut(), Ordering::Relaxed);
        }
        let header = self.rest().main.swap(core::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: `attach_main` gave the handle up with `into_raw`; only the owner does either.
        let mut main = unsafe { Sheaf::from_raw(header) }?;
        main.set_count(count);
        Some(main)
    }

    /// Takes a sheaf apart for the fast path. There must be none.
    fn attach_main(self, sheaf: Sheaf) {
        let base = sheaf.slots();
        // SAFETY: `count` slots from the first on are within the sheaf, or end where it does.
        let top = unsafe { base.add(sheaf.count()) };
        // SAFETY: `capacity` slots from the first on end where the sheaf does.
        let end = unsafe { base.add(sheaf.capacity()) };
        self.base().store(base, Ordering::Relaxed);
        self.top().store(top, Ordering::Relaxed);
        self.end().store(end, Ordering::Relaxed);
        self.rest().main.store(sheaf.into_raw(), Ordering::Relaxed);
    }

    /// Allocates where the main sheaf is empty. `None` means out of memory, or that the budget refuses a first sheaf.
    #[cold]
    pub(crate) fn alloc_miss(self, miss: &mut Miss<'_, '_>) -> Option<NonNull<u8>> {
        count(&self.rest().alloc_misses);
        let info = &CLASSES[miss.class];
        let (main, spare) = match self.attach_full(miss) {
            Ok(()) => return self.pop(),
            Err(empty) => empty,
        };
        let mut main = self.grown(main, spare, miss)?;
        let filled = miss.cache.take_objects(miss.class, main.all_slots(), miss.meta, miss.pages);
        main.set_count(filled);
        debug_assert!(usize::from(info.sheaf) >= filled);
        self.attach_main(main);
        self.pop()
    }

    /// As `alloc_miss`, but only of what is cached: nothing is taken from the slabs, and nothing grows.
    pub(crate) fn alloc_cached(self, miss: &mut Miss<'_, '_>) -> Option<NonNull<u8>> {
        if let Err((main, spare)) = self.attach_full(miss) {
            if let Some(main) = main {
                self.attach_main(main);
            }
            self.keep_empty(spare, miss);
        }
        self.pop()
    }

    /// Makes a sheaf with objects the main one, where the thread or the barn has one. An `Err` is the main and the
    /// spare one that the thread had, both empty.
    fn attach_full(self, miss: &Miss<'_, '_>) -> Result<(), (Option<Sheaf>, Option<Sheaf>)> {
        let main = self.detach_main();
        let mut spare = self.take_spare();
        let Some(full) = self.full_sheaf(&mut spare, miss) else { return Err((main, spare)) };
        self.attach_main(full);
        // The one that was emptied becomes the spare, to be filled by frees.
        self.keep_empty(main, miss);
        Ok(())
    }

    /// A sheaf with objects: the spare one, or one from the barn, which takes an empty spare one for it.
    fn full_sheaf(self, spare: &mut Option<Sheaf>, miss: &Miss<'_, '_>) -> Option<Sheaf> {
        if spare.as_ref().is_some_and(|spare| !spare.is_empty()) {
            return spare.take();
        }
        if !self.level_is_full() {
            return None;
        }
        match miss.full_for_empty(spare.take()) {
            Ok(full) => Some(full),
            Err(back) => {
                *spare = back;
                None
            }
        }
    }

    /// Gives back what the thread has paid for its sheaves: they are gone, or about to be.
    pub(crate) fn refund(self, budget: &Budget) {
        let info = &CLASSES[self.class];
        if !self.rest().main.load(Ordering::Relaxed).is_null() {
            budget.put(info.cost(self.rest().level.load(Ordering::Relaxed)));
        }
    }

    /// Pays for the next level of growth: the level, and the bytes that it cost. `None` where the budget refuses.
    /// A thread with a main sheaf has paid for its level, whatever the sheaves are that it uses.
    fn pay(self, first: bool, miss: &Miss<'_, '_>) -> Option<(u8, usize)> {
        let info = &CLASSES[miss.class];
        let level = self.rest().level.load(Ordering::Relaxed);
        let (to, paid) = if first { (level, 0) } else { ((level + 1).min(MAX_LEVEL), info.cost(level)) };
        let bytes = info.cost(to) - paid;
        if first && info.is_large() && self.missed() < LARGE_FROM {
            return None;
        }
        let granted = if first && !info.is_large() {
            miss.budget.take_first(bytes)
        } else {
            bytes == 0 || miss.budget.take(bytes)
        };
        granted.then_some((to, bytes))
    }

    /// An empty main sheaf, larger than the one before if growing is due: one of these two, which are empty, or a
    /// new one. Sheaves that are too small now go back to the pool.
    fn grown(self, main: Option<Sheaf>, spare: Option<Sheaf>, miss: &mut Miss<'_, '_>) -> Option<Sheaf> {
        let info = &CLASSES[miss.class];
        let paid = self.pay(main.is_none(), miss);
        let capacity = |sheaf: &Option<Sheaf>| sheaf.as_ref().map_or(0, Sheaf::capacity);
        let (larger, smaller) =
            if capacity(&spare) > capacity(&main) { (spare, main) } else { (main, spare) };
        let Some((level, bytes)) = paid else {
            self.keep_empty(smaller, miss);
            return larger;
        };
        let wanted = info.sheaf_at(level);
        if capacity(&larger) >= wanted {
            self.rest().level.store(level, Ordering::Relaxed);
            self.keep_empty(smaller, miss);
            return larger;
        }
        let Some(new) = miss.pool.take(miss.meta, wanted) else {
            miss.budget.put(bytes);
            self.keep_empty(smaller, miss);
            return larger;
        };
        self.rest().level.store(level, Ordering::Relaxed);
        for small in [larger, smaller].into_iter().flatten() {
            miss.pool.put(small);
        }
        Some(new)
    }

    fn level_is_full(self) -> bool {
        self.rest().level.load(Ordering::Relaxed) == MAX_LEVEL
    }

    /// Keeps an empty sheaf as the spare one if there is none; else it goes to the barn or the pool.
    fn keep_empty(self, sheaf: Option<Sheaf>, miss: &Miss<'_, '_>) {
        let Some(sheaf) = sheaf else { return };
        if self.rest().spare.load(Ordering::Relaxed).is_null() {
            self.put_spare(sheaf);
        } else {
            miss.put_empty(Some(sheaf));
        }
    }

    /// Frees where the main sheaf is full, or where there is none.
    #[cold]
    pub(crate) fn free_miss(self, object: NonNull<u8>, miss: &mut Miss<'_, '_>) {
        count(&self.rest().free_misses);
        let main = self.detach_main();
        let spare = self.take_spare();
        let next = match (main, spare) {
            (None, spare) => self.grown(None, spare, miss),
            (Some(main), Some(spare)) if spare.is_empty() && spare.capacity() >= main.capacity() => {
                self.put_spare(main);
                Some(spare)
            }
            (Some(main), spare) => self.make_room(main, spare, miss),
        };
        match next {
            Some(next) => {
                self.attach_main(next);
                if self.push(object.as_ptr()) {
                    return;
                }
                miss.give(&mut [object.as_ptr()]);
            }
            None => miss.give(&mut [object.as_ptr()]),
        }
    }

    /// An empty sheaf for more frees: `main` is full, and `spare` is full too, small, or missing.
    fn make_room(self, main: Sheaf, spare: Option<Sheaf>, miss: &mut Miss<'_, '_>) -> Option<Sheaf> {
        let info = &CLASSES[miss.class];
        let full_size = main.capacity() == usize::from(info.sheaf);
        if full_size {
            let empty = match spare {
                Some(spare) => miss.exchange(spare, info),
                None => miss.empty_sheaf(info),
            };
            if let Some(empty) = empty {
                self.put_spare(main);
                return Some(empty);
            }
            return Some(miss.emptied(main));
        }
        // Small sheaves: the older one goes to the slabs, and a larger one takes its place.
        if let Some(spare) = spare {
            let spare = miss.emptied(spare);
            miss.pool.put(spare);
        }
        if let Some((level, bytes)) = self.pay(false, miss) {
            let wanted = info.sheaf_at(level).max(main.capacity());
            if let Some(larger) = miss.pool.take(miss.meta, wanted) {
                self.rest().level.store(level, Ordering::Relaxed);
                self.put_spare(main);
                return Some(larger);
            }
            miss.budget.put(bytes);
        }
        Some(miss.emptied(main))
    }

    /// Puts everything back into the slabs and the sheaves into the pool. The owner's, or a dead thread's.
    pub(crate) fn flush(self, miss: &mut Miss<'_, '_>) {
        self.refund(miss.budget);
        let main = self.detach_main();
        self.rest().level.store(0, Ordering::Relaxed);
        for sheaf in [main, self.take_spare()].into_iter().flatten() {
            let sheaf = miss.emptied(sheaf);
            miss.pool.put(sheaf);
        }
    }

    /// Puts the objects of the spare sheaf back into the slabs, from any thread.
    pub(crate) fn flush_spare(self, miss: &mut Miss<'_, '_>) {
        if let Some(spare) = self.take_spare() {
            let spare = miss.emptied(spare);
            miss.pool.put(spare);
        }
    }

    /// Whether the sheaves and their counts make sense: for a thread that does not run.
    pub(crate) fn is_sound(self, info: &SizeClass) -> bool {
        let [top, base, end] =
            [self.top(), self.base(), self.end()].map(|part| part.load(Ordering::Relaxed).addr());
        base <= top && top <= end && end - base <= usize::from(info.sheaf) * size_of::<Object>()
    }
}

/// Reads a pointer that only the reader's thread writes. Not by an atomic load, which the compiler would not fold
/// into a comparison with memory.
#[inline(always)]
fn own(pointer: &AtomicPtr<Object>) -> *mut Object {
    // SAFETY: only the owner of the sheaves writes the pointer, and only it calls this: no write is concurrent.
    // Others at most load it.
    unsafe { pointer.as_ptr().read() }
}

/// Counts an event of the owner's: no other thread writes the counter, so a load and a store are enough.
fn count(counter: &AtomicU32) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The node of the zone that the page of an object names; of what is no object, any.
fn node_of_object(object: Object) -> usize {
    page_of(object.addr()).map_or(0, |page| node_of(page.word().zone()))
}

impl<'a> Miss<'a, '_> {
    /// Puts objects back into their slabs.
    pub(crate) fn give(&mut self, objects: &mut [Object]) {
        match self.nodes {
            // Asked only now: the objects may be another thread's, which has seen further nodes come.
            Some(nodes) if !nodes.is_one() => self.give_home(nodes, objects),
            _ => self.cache.give_objects(self.class, self.pages.zone.id, objects, self.pages),
        }
    }

    /// Puts objects of several nodes back into their slabs, those of one node after those of another.
    #[cold]
    fn give_home(&mut self, nodes: &PerNode<KmemCaches>, objects: &mut [Object]) {
        let mut left = objects;
        while let Some(first) = left.first() {
            let node = node_of_object(*first);
            let mut here = 0;
            for index in 0..left.len() {
                if node_of_object(left[index]) == node {
                    left.swap(here, index);
                    here += 1;
                }
            }
            let (objects, rest) = left.split_at_mut(here);
            let zone = zone_number(instance_of(self.pages.zone.id), node);
            nodes.of(node).caches[self.class].give_objects(self.class, zone, objects, self.pages);
            left = rest;
        }
    }

    /// The cache of the node that all objects of a sheaf are of: a barn holds objects of its own node only. `None`
    /// where they are of several.
    fn home_of(&self, sheaf: &mut Sheaf) -> Option<&'a KmemCache> {
        let Some(nodes) = self.nodes.filter(|nodes| !nodes.is_one()) else { return Some(self.cache) };
        let objects = sheaf.objects();
        let node = node_of_object(*objects.first()?);
        let alike = objects.iter().all(|object| node_of_object(*object) == node);
        alike.then(|| &nodes.of(node).caches[self.class])
    }

    /// The same sheaf with its objects put back into their slabs.
    fn emptied(&mut self, mut sheaf: Sheaf) -> Sheaf {
        self.give(sheaf.objects());
        sheaf.set_count(0);
        sheaf
    }

    /// Gives the barn of the objects' node a full sheaf for an empty one; where that is full, or the objects are of
    /// several nodes, empties this one.
    fn exchange(&mut self, mut full: Sheaf, info: &SizeClass) -> Option<Sheaf> {
        if full.capacity() != usize::from(info.sheaf) {
            let small = self.emptied(full);
            self.pool.put(small);
            return self.empty_sheaf(info);
        }
        let Some(home) = self.home_of(&mut full) else { return Some(self.emptied(full)) };
        let mut barn = home.barn.lock();
        match barn.put_full(full, info.barn.into()) {
            Ok(()) => {
                let empty = barn.take_empty();
                drop(barn);
                empty.or_else(|| self.pool.take(self.meta, info.sheaf.into()))
            }
            Err(full) => {
                drop(barn);
                Some(self.emptied(full))
            }
        }
    }

    /// Takes a full sheaf from the barn and leaves an empty one there, under one hold of its lock. Without a full
    /// one there, the empty one comes back.
    fn full_for_empty(&self, empty: Option<Sheaf>) -> Result<Sheaf, Option<Sheaf>> {
        let info = &CLASSES[self.class];
        let mut barn = self.cache.barn.lock();
        let Some(full) = barn.take_full() else { return Err(empty) };
        let left = match empty {
            Some(empty) if empty.capacity() == usize::from(info.sheaf) => {
                barn.put_empty(empty, info.barn.into()).err()
            }
            small => small,
        };
        drop(barn);
        if let Some(left) = left {
            self.pool.put(left);
        }
        Ok(full)
    }

    /// An empty full-size sheaf, from the barn or the pool.
    fn empty_sheaf(&mut self, info: &SizeClass) -> Option<Sheaf> {
        let empty = self.cache.barn.lock().take_empty();
        empty.or_else(|| self.pool.take(self.meta, info.sheaf.into()))
    }

    /// Lets go of an empty sheaf: to the barn if it is of full size and there is room, else to the pool.
    fn put_empty(&self, sheaf: Option<Sheaf>) {
        let Some(sheaf) = sheaf else { return };
        let info = &CLASSES[self.class];
        let left = if sheaf.capacity() == usize::from(info.sheaf) {
            self.cache.barn.lock().put_empty(sheaf, info.barn.into())
        } else {
            Err(sheaf)
        };
        if let Err(sheaf) = left {
            self.pool.put(sheaf);
        }
    }
}

/// Empties a class's barn into the slabs.
pub(crate) fn flush_barn(miss: &mut Miss<'_, '_>) {
    loop {
        let full = miss.cache.barn.lock().take_full();
        let Some(full) = full else { break };
        let empty = miss.emptied(full);
        miss.pool.put(empty);
    }
    loop {
        let empty = miss.cache.barn.lock().take_empty();
        let Some(empty) = empty else { return };
        miss.pool.put(empty);
    }
}
