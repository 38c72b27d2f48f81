//! Sheaves: arrays of object pointers, last in, first out. They change hands by pointer, never by copying.
//!
//! A `Sheaf` is the owned handle of one that no thread's fast path uses; while one does, `ThreadSheaves` has
//! taken it apart into `top`, `base` and `end`. The pool keeps those that nobody needs; its lock is taken
//! under no other.

use core::ptr::NonNull;

use crate::page::meta::Meta;
use crate::sys::lock::Lock;
use crate::sys::lock_stat::LockStat;
use crate::sys::sync::{AtomicU32, Ordering};

/// An object's address, as a slot holds it.
pub(crate) type Object = *mut u8;

/// What stands before the slots.
#[repr(C)]
pub(crate) struct Header {
    /// The next sheaf of a stack.
    next: *mut Header,
    capacity: u32,
    /// Objects in the slots, from the first on. An atomic only so that others may look at it.
    count: AtomicU32,
}

/// A sheaf that nobody else uses.
#[derive(Debug)]
#[must_use = "a dropped sheaf is lost, and its objects with it"]
pub(crate) struct Sheaf(NonNull<Header>);

// SAFETY: a `Sheaf` is the only handle of its memory, so sending it sends the memory.
unsafe impl Send for Sheaf {}

impl Sheaf {
    /// Takes the handle back from the address that `into_raw` gave; `None` for null.
    ///
    /// # Safety
    /// The address came from `into_raw`, and no other handle was made of it since.
    pub(crate) unsafe fn from_raw(header: *mut Header) -> Option<Self> {
        NonNull::new(header).map(Self)
    }

    /// Gives the handle up as an address.
    pub(crate) fn into_raw(self) -> *mut Header {
        self.0.as_ptr()
    }

    /// Looks at the count of a sheaf that somebody else may be using; 0 for null. For statistics.
    ///
    /// # Safety
    /// The address came from `into_raw` of a sheaf of an instance that still exists.
    pub(crate) unsafe fn peek_count(header: *mut Header) -> usize {
        if header.is_null() {
            return 0;
        }
        // SAFETY: the memory of a sheaf stays a sheaf for the life of its instance. Only the count is read,
        // which is an atomic; no reference to the rest is made.
        let count = unsafe { &(*header).count };
        count.load(Ordering::Relaxed) as usize
    }

    fn header(&self) -> &Header {
        // SAFETY: the handle's memory is a header followed by its slots, alive as long as its instance, and
        // this handle is the only way to it.
        unsafe { self.0.as_ref() }
    }

    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as in `header`; `&mut self` excludes other borrows.
        unsafe { self.0.as_mut() }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.header().capacity as usize
    }

    pub(crate) fn count(&self) -> usize {
        self.header().count.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Sets how many of the slots, from the first on, hold objects.
    pub(crate) fn set_count(&mut self, count: usize) {
        debug_assert!(count <= self.capacity());
        self.header().count.store(count as u32, Ordering::Relaxed);
    }

    /// The first slot.
    pub(crate) fn slots(&self) -> *mut Object {
        // SAFETY: the slots follow the header in the same piece of memory, so one header further is in it.
        unsafe { self.0.as_ptr().add(1) }.cast()
    }

    /// All slots; those from `count` on hold nothing of meaning.
    pub(crate) fn all_slots(&mut self) -> &mut [Object] {
        // SAFETY: `capacity` initialised slots (zeroed when made) follow the header; `&mut self` excludes others.
        unsafe { core::slice::from_raw_parts_mut(self.slots(), self.capacity()) }
    }

    /// The slots that hold objects.
    pub(crate) fn objects(&mut self) -> &mut [Object] {
        let count = self.count();
        &mut self.all_slots()[..count]
    }
}

/// Sheaves one upon another.
#[repr(C)]
pub(crate) struct SheafStack {
    top: *mut Header,
    length: u32,
}

// SAFETY: the stack owns its sheaves, and those may be sent.
unsafe impl Send for SheafStack {}

impl SheafStack {
    pub(crate) const EMPTY: Self = Self { top: core::ptr::null_mut(), length: 0 };

    pub(crate) fn len(&self) -> usize {
        self.length as usize
    }

    pub(crate) fn push(&mut self, mut sheaf: Sheaf) {
        sheaf.header_mut().next = self.top;
        self.top = sheaf.into_raw();
        self.length += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Sheaf> {
        // SAFETY: `top` is null or came from `into_raw` in `push`, and is forgotten right here.
        let sheaf = unsafe { Sheaf::from_raw(self.top) }?;
        self.top = sheaf.header().next;
        self.length -= 1;
        Some(sheaf)
    }

    /// Objects in all sheaves.
    pub(crate) fn objects(&self) -> usize {
        let mut sum = 0;
        let mut next = self.top;
        // SAFETY: `next` is null or a sheaf of this stack, which the borrow keeps as it is.
        while let Some(header) = unsafe { next.as_ref() } {
            sum += header.count.load(Ordering::Relaxed) as usize;
            next = header.next;
        }
        sum
    }
}

/// log2 of the smallest and of the largest capacity.
const MIN_SHIFT: u32 = 0;
const MAX_SHIFT: u32 = 8;

/// Empty sheaves of every capacity (powers of two, 1 to 256 slots).
#[repr(C)]
pub(crate) struct SheafPool {
    stacks: Lock<[SheafStack; (MAX_SHIFT - MIN_SHIFT + 1) as usize]>,
}

impl SheafPool {
    pub(crate) const fn new() -> Self {
        Self { stacks: Lock::new([const { SheafStack::EMPTY }; (MAX_SHIFT - MIN_SHIFT + 1) as usize]) }
    }

    fn index(capacity: usize) -> usize {
        debug_assert!(capacity.is_power_of_two());
        (capacity.trailing_zeros().clamp(MIN_SHIFT, MAX_SHIFT) - MIN_SHIFT) as usize
    }

    /// An empty sheaf with this many slots. `None` means out of memory.
    pub(crate) fn take(&self, meta: &Meta, capacity: usize) -> Option<Sheaf> {
        let capacity = capacity.clamp(1 << MIN_SHIFT, 1 << MAX_SHIFT);
        if let Some(sheaf) = self.stacks.lock()[Self::index(capacity)].pop() {
            return Some(sheaf);
        }
        let memory = meta.take(size_of::<Header>() + capacity * size_of::<Object>())?;
        let header =
            Header { next: core::ptr::null_mut(), capacity: capacity as u32, count: AtomicU32::new(0) };
        let memory: NonNull<Header> = memory.cast();
        // SAFETY: a fresh piece of at least this size, aligned to a cache line; the slots after it are zeroed.
        unsafe { memory.write(header) };
        Some(Sheaf(memory))
    }

    /// Keeps an empty sheaf for later.
    pub(crate) fn put(&self, sheaf: Sheaf) {
        debug_assert!(sheaf.is_empty());
        self.stacks.lock()[Self::index(sheaf.capacity())].push(sheaf);
    }

    /// What happened at the lock.
    pub(crate) fn lock_stat(&self) -> LockStat {
        self.stacks.stat()
    }

    pub(crate) fn fork_prepare(&self) {
        self.stacks.fork_prepare();
    }

    pub(crate) fn fork_release(&self) {
        self.stacks.fork_release();
    }
}
