//! Recounting everything: every page, every slab, every list and every cache of an instance against its
//! counters. Exact while no other thread uses the instance; tests call it after every scenario.
#![forbid(unsafe_code)]

use super::state::State;
use crate::base::pfn::PAGE_SIZE;
use crate::base::topology::MAX_NODES;
use crate::page::section::MemMap;
use crate::page::validate::{Census, Violation, census};
use crate::page::zone::Zone;
use crate::slab::kmem_cache::{KmemCache, KmemCaches};
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
        let mut usage = Usage::default();
        let mut out = [0_usize; NR_CLASSES];
        let mut on_lists = [0_usize; MAX_NODES];
        for (zone, slabs) in self.zones.iter().zip(self.slabs.iter()) {
            let pages = self.check_zone(zone, slabs, &mut out, &mut usage)?;
            on_lists[zone.node()] = pages.pcp;
            usage.pages.add(&pages);
        }
        self.check_page_lists(&on_lists)?;
        for class in ALL_CLASSES {
            self.check_class(class, out[class], &mut usage)?;
        }
        Ok(usage)
    }

    /// Recounts a zone and its kmem caches. Adds the objects that are out of the slabs to `out`.
    fn check_zone(
        &self,
        zone: &Zone,
        caches: &KmemCaches,
        out: &mut [usize; NR_CLASSES],
        usage: &mut Usage,
    ) -> Result<Census, Violation> {
        let mut slabs = [0_usize; NR_CLASSES];
        let mut free = [0_usize; NR_CLASSES];
        let buddy = zone.buddy.lock();
        let pages = census(&buddy, &mut |first| {
            let class = MemMap.page(first).word().class();
            if !ALL_CLASSES.contains(&class) || MemMap.page(first).word().zone() != zone.id {
                return Err(Violation::at("a slab of no class, or of another zone", first));
            }
            slabs[class] += 1;
            free[class] += Slab { first, class }.free_objects();
            Ok(())
        })?;
        usage.dedicated += buddy.dedicated_pages * PAGE_SIZE;
        drop(buddy);
        for class in ALL_CLASSES {
            let node = caches.caches[class].node.lock();
            if node.slabs != slabs[class] {
                return Err(Violation::of("a cache's count of slabs is not that of the pages"));
            }
            if node.free != free[class] {
                return Err(Violation::of("a cache's count of free objects is not that of the pages"));
            }
            KmemCache::check_partial(&node, class).map_err(Violation::of)?;
            out[class] += slabs[class] * usize::from(CLASSES[class].objects) - free[class];
        }
        Ok(pages)
    }

    /// `pcp` is the pages that are on threads' lists, by node.
    fn check_page_lists(&self, pcp: &[usize; MAX_NODES]) -> Result<(), Violation> {
        let mut on_lists = [0; MAX_NODES];
        for cache in self.caches() {
            let Some(pcp) = cache.pcp.remote() else {
                return Err(Violation::of("a thread's page lists are in use while they are counted"));
            };
            if !pcp.is_sound() {
                return Err(Violation::of("a thread's page lists and their counts disagree"));
            }
            on_lists[pcp.node()] += pcp.pages();
        }
        // A fork's child has lost what its parent's other threads held.
        let lost = self.threads.lock().vanished > 0;
        if on_lists == *pcp || (lost && on_lists.iter().zip(pcp).all(|(listed, there)| listed <= there)) {
            return Ok(());
        }
        Err(Violation::of("pages on threads' lists are not those that the lists count"))
    }

    /// `out` is the class's objects that are out of their slabs.
    fn check_class(&self, class: usize, out: usize, usage: &mut Usage) -> Result<(), Violation> {
        let info = &CLASSES[class];
        let mut cached: usize =
            self.slabs.iter().map(|slabs| slabs.caches[class].barn.lock().objects()).sum();
        for thread in self.caches() {
            let sheaves = thread.sheaves.of(class);
            if !sheaves.is_sound(info) {
                return Err(Violation::of("a thread's sheaf is out of its bounds"));
            }
            cached += sheaves.count();
        }
        if cached > out {
            return Err(Violation::of("more objects are in caches than are out of their slabs"));
        }
        usage.cached_objects += cached * info.size as usize;
        usage.live_objects += (out - cached) * info.size as usize;
        Ok(())
    }
}
