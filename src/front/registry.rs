//! Every instance of the process by its number, which is what pages name.
//!
//! `REGISTRY` is the outermost lock: it guards the coming and going of instances, so whoever holds it may use
//! any instance that the table names. Looking one up without it is for those who know that it exists: the
//! owners of its memory.

use core::ptr::NonNull;

use super::global::GLOBAL;
use super::state::State;
use crate::base::config::Config;
use crate::base::pfn::PAGE_SIZE;
use crate::base::topology::NODE_SHIFT;
use crate::page::arena;
use crate::page::zone::GLOBAL_ZONE;
use crate::sys::lock::{Guard, Lock};
use crate::sys::map;
use crate::sys::sync::{AtomicPtr, Ordering};

/// The number of the global instance.
pub(crate) const GLOBAL_ID: u16 = GLOBAL_ZONE;
/// Instances that can exist at once, and 1: number 0 is none.
pub(crate) const NR_INSTANCES: usize = 1024;

const _: () = assert!(NR_INSTANCES <= 1 << NODE_SHIFT);

/// How many instances there were; guards the table.
static REGISTRY: Lock<u32> = Lock::new(0);
pub(crate) static INSTANCES: [AtomicPtr<State>; NR_INSTANCES] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; NR_INSTANCES];

/// Takes the registry's lock.
pub(crate) fn lock() -> Guard<'static, u32> {
    REGISTRY.lock()
}

/// The lock itself, for fork.
pub(crate) fn registry() -> &'static Lock<u32> {
    &REGISTRY
}

/// The instance with this number. It exists for as long as the caller has memory of it, or holds the lock.
pub(crate) fn by_id<'a>(id: u16) -> Option<&'a State> {
    if id == GLOBAL_ID {
        return Some(&GLOBAL);
    }
    // Acquire: pairs with the Release in `create`, so that the instance's fields are seen.
    let state = INSTANCES.get(usize::from(id))?.load(Ordering::Acquire);
    // SAFETY: an entry is null or an instance that `destroy` has not been called for; by the rule above it is
    // not called while the caller uses the reference. A State is shared by design.
    unsafe { state.as_ref() }
}

/// Whether there is an instance with this number, which without the lock may have changed a moment later.
pub(crate) fn has(id: u16) -> bool {
    INSTANCES.get(usize::from(id)).is_some_and(|entry| !entry.load(Ordering::Relaxed).is_null())
}

/// The other instances than the global one. The caller holds the lock.
pub(crate) fn others(_: &Guard<'_, u32>) -> impl Iterator<Item = &'static State> {
    (0..NR_INSTANCES as u16).filter(|id| *id != GLOBAL_ID).filter_map(by_id)
}

/// Makes an instance. `None` where there are too many, or no memory.
pub(crate) fn create(config: &Config) -> Option<NonNull<State>> {
    let mut count = lock();
    let free = |id: &usize| INSTANCES[*id].load(Ordering::Relaxed).is_null();
    let id = (usize::from(GLOBAL_ID) + 1..NR_INSTANCES).find(free)?;
    let length = map::round_to_os_page(size_of::<State>())?;
    let state: NonNull<State> = map::map(length, PAGE_SIZE)?.cast();
    *count = count.wrapping_add(1);
    // SAFETY: the mapping is large enough, aligned to a page, and nobody else's.
    unsafe { state.write(State::new(id as u16, *count)) };
    // SAFETY: written just now.
    unsafe { state.as_ref() }.configure(config);
    // Release: pairs with the Acquire in `by_id`.
    INSTANCES[id].store(state.as_ptr(), Ordering::Release);
    Some(state)
}

/// Ends an instance: all its memory goes back to the system.
///
/// # Safety
/// `create` made it, and nobody uses it or any of its memory any more.
pub(crate) unsafe fn destroy(state: NonNull<State>) {
    let _registry = lock();
    // SAFETY: the caller vouches that it exists.
    let instance = unsafe { state.as_ref() };
    let id = instance.id;
    INSTANCES[usize::from(id)].store(core::ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: the caller vouches that its memory is unused.
    unsafe { instance.zones.first.unmap_all_dedicated() };
    for zone in instance.zones.iter() {
        // SAFETY: as above.
        unsafe { arena::unmap_all(zone.id) };
    }
    // SAFETY: as above: its thread caches and sheaves too, which threads find only with its generation.
    unsafe { instance.meta.unmap_all() };
    if let Some(length) = map::round_to_os_page(size_of::<State>()) {
        // SAFETY: the mapping that `create` made; `instance` is not used after this.
        unsafe { map::unmap(state.cast(), length) };
    }
}
