//! Recounting everything: every page, every slab, every list and every cache of an instance against its
//! counters. Exact while no other thread uses the instance; tests call it after every scenario.
#![forbid(unsafe_code)]

use super::state::State;
use crate::base::pfn::PAGE_SIZE;
use crate::page::section::MemMap;
use crate::page::validate::{Census, Violation, census};
use crate::slab::kmem_cache::KmemCache;
use crate::slab::size_class::{ALL_CLASSES, CLASSES, NR_CLASSES};
use crate::slab::slab_page::Slab;

/// What an instance's memory is used for, as `validate` counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By kind of use, in pages of 4 KiB.
    pub pages: Census,
    /// Bytes of mappings of their own.
    pub dedicated: usize,
    /// Bytes of the objects that the program has.
    pub live_objects: usize,
    /// Bytes of the objects in threads' sheaves and in barns.
    pub cached_objects: usize,
}

impl State {
    /// Recounts everything. `Err` names the first invariant that does not hold.
    pub(crate) fn validate(&self) -> Result<Usage, Violation> {
        let mut slabs = [0_usize; NR_CLASSES];
        let mut free = [0_usize; NR_CLASSES];
        let buddy = self.zone.buddy.lock();
        let pages = census(&buddy, &mut |first| {
            let class = MemMap.page(first).word().class();
            if !ALL_CLASSES.contains(&class) {
                return Err(Violation::at("a slab of no class", first));
            }
            slabs[class] += 1;
            free[class] += Slab { first, class }.free_objects();
            Ok(())
        })?;
        let dedicated = buddy.dedicated_pages * PAGE_SIZE;
        drop(buddy);
        let mut usage = Usage { pages, dedicated, ..Usage::default() };
        self.check_page_lists(&pages)?;
        for class in ALL_CLASSES {
            self.check_class(class, slabs[class], free[class], &mut usage)?;
        }
        Ok(usage)
    }

    fn check_page_lists(&self, pages: &Census) -> Result<(), Violation> {
        let mut on_lists = 0;
        for cache in self.caches() {
            let Some(pcp) = cache.pcp.remote() else {
                return Err(Violation::of("a thread's page lists are in use while they are counted"));
            };
            if !pcp.is_sound() {
                return Err(Violation::of("a thread's page lists and their counts disagree"));
            }
            on_lists += pcp.pages();
        }
        // A fork's child has lost what its parent's other threads held.
        let lost = self.threads.lock().vanished > 0;
        if on_lists == pages.pcp || (lost && on_lists < pages.pcp) {
            return Ok(());
        }
        Err(Violation::of("pages on threads' lists are not those that the lists count"))
    }

    fn check_class(
        &self,
        class: usize,
        slabs: usize,
        free: usize,
        usage: &mut Usage,
    ) -> Result<(), Violation> {
        let cache = &self.slabs.caches[class];
        let info = &CLASSES[class];
        let node = cache.node.lock();
        if node.slabs != slabs {
            return Err(Violation::of("a cache's count of slabs is not that of the pages"));
        }
        if node.free != free {
            return Err(Violation::of("a cache's count of free objects is not that of the pages"));
        }
        KmemCache::check_partial(&node, class).map_err(Violation::of)?;
        drop(node);
        let mut cached = cache.barn.lock().objects();
        for thread in self.caches() {
            let sheaves = thread.sheaves.of(class);
            if !sheaves.is_sound(info) {
                return Err(Violation::of("a thread's sheaf is out of its bounds"));
            }
            cached += sheaves.count();
        }
        let out = slabs * usize::from(info.objects) - free;
        if cached > out {
            return Err(Violation::of("more objects are in caches than are out of their slabs"));
        }
        usage.cached_objects += cached * info.size as usize;
        usage.live_objects += (out - cached) * info.size as usize;
        Ok(())
    }
}
