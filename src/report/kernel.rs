//! `/proc/buddyinfo`, `/proc/slabinfo` and `/proc/zoneinfo` of a heap, in the kernel's formats, so that what
//! reads those reads these.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};

use crate::base::pfn::{NR_ORDERS, PAGE_SIZE};
use crate::front::global;
use crate::front::instance::Instance;
use crate::front::state::{ClassUsage, State};
use crate::front::thread::ThreadCache;
use crate::page::zone::Zone;
use crate::slab::size_class::{ALL_CLASSES, CLASSES, SizeClass};
use crate::sys::sync::Ordering;

/// Writes the heap's free blocks by order, 0 to 16, as `/proc/buddyinfo` has them: a line a memory node, one line
/// while the heap is below 8 MiB.
///
/// # Errors
/// What `out` returns.
pub fn buddyinfo(out: &mut impl Write) -> fmt::Result {
    write_buddyinfo(global::ready(), out)
}

/// Writes the heap's caches as `/proc/slabinfo` version 2.1 has them. Objects that wait in sheaves and barns
/// count as free.
///
/// # Errors
/// What `out` returns.
pub fn slabinfo(out: &mut impl Write) -> fmt::Result {
    write_slabinfo(global::ready(), out)
}

/// Writes the heap's zones, one a memory node, and the page lists of the threads that each serves as `/proc/zoneinfo`
/// has them, and after them, under `events`, what happened since the start in all of them. The watermarks are of wholly
/// free pages that are still backed: above `high`, which has `boost` in it, they go back until `low` is reached, and on
/// request until `min`. (The kernel's are the other way round: what must stay free.)
///
/// # Errors
/// What `out` returns.
pub fn zoneinfo(out: &mut impl Write) -> fmt::Result {
    write_zoneinfo(global::ready(), out)
}

/// As [`buddyinfo`], of an instance.
///
/// # Errors
/// What `out` returns.
pub fn instance_buddyinfo(instance: &Instance, out: &mut impl Write) -> fmt::Result {
    write_buddyinfo(instance.state(), out)
}

/// As [`slabinfo`], of an instance.
///
/// # Errors
/// What `out` returns.
pub fn instance_slabinfo(instance: &Instance, out: &mut impl Write) -> fmt::Result {
    write_slabinfo(instance.state(), out)
}

/// As [`zoneinfo`], of an instance.
///
/// # Errors
/// What `out` returns.
pub fn instance_zoneinfo(instance: &Instance, out: &mut impl Write) -> fmt::Result {
    write_zoneinfo(instance.state(), out)
}

fn write_buddyinfo(state: &State, out: &mut impl Write) -> fmt::Result {
    for zone in state.zones.iter() {
        let mut blocks = [0; NR_ORDERS];
        {
            let buddy = zone.buddy.lock();
            for (blocks, area) in blocks.iter_mut().zip(&buddy.areas) {
                *blocks = area.blocks();
            }
        }
        write!(out, "Node {}, zone {:>8} ", zone.node_id(), "Normal")?;
        for blocks in blocks {
            write!(out, "{blocks:>6} ")?;
        }
        out.write_char('\n')?;
    }
    Ok(())
}

/// The name of a class's cache, as the kernel names its own, in a column of 17.
fn write_name(info: &SizeClass, out: &mut impl Write) -> fmt::Result {
    match info.size {
        size if size.is_multiple_of(1024) => {
            let kib = size / 1024;
            write!(out, "kmalloc-{kib}k{:fill$}", "", fill = 7 - kib.ilog10() as usize)
        }
        size => write!(out, "kmalloc-{size:<9}"),
    }
}

fn write_slabinfo(state: &State, out: &mut impl Write) -> fmt::Result {
    out.write_str("slabinfo - version: 2.1\n")?;
    out.write_str("# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>")?;
    out.write_str(" : tunables <limit> <batchcount> <sharedfactor>")?;
    out.write_str(" : slabdata <active_slabs> <num_slabs> <sharedavail>\n")?;
    for class in ALL_CLASSES {
        let info = &CLASSES[class];
        let ClassUsage { slabs, free, in_barns, full_sheaves: shared } = state.class_usage(class);
        let objects = slabs * usize::from(info.objects);
        let waiting: usize = state.caches().map(|thread| thread.sheaves.of(class).count()).sum();
        let active = objects.saturating_sub(free + in_barns + waiting);
        write_name(info, out)?;
        write!(out, " {active:>6} {objects:>6} {:>6} {:>4} {:>4}", info.size, info.objects, info.pages)?;
        write!(out, " : tunables {:>4} {:>4} {:>4}", 2 * info.sheaf, info.sheaf, info.barn)?;
        writeln!(out, " : slabdata {slabs:>6} {slabs:>6} {shared:>6}")?;
    }
    Ok(())
}

fn write_zoneinfo(state: &State, out: &mut impl Write) -> fmt::Result {
    state.zones.iter().try_for_each(|zone| write_zone(state, zone, out))?;
    write_events(state, out)
}

/// A node's zone, and the page lists of the threads that it serves.
fn write_zone(state: &State, zone: &Zone, out: &mut impl Write) -> fmt::Result {
    let (free, managed, dirty, backed, dedicated, [boost, min, low, high]) = {
        let mut buddy = zone.buddy.lock();
        let marks = zone.watermarks(&mut buddy);
        let (free, managed, dirty) = (buddy.free_pages, buddy.managed_pages, buddy.dirty_pages());
        (free, managed, dirty, buddy.backed_pages, buddy.dedicated_pages, marks)
    };
    // The records are the instance's; they are said once.
    let meta = if zone.node() == 0 { state.meta.mapped() / PAGE_SIZE } else { 0 };
    writeln!(out, "Node {}, zone {:>8}", zone.node_id(), "Normal")?;
    writeln!(out, "  pages free     {free}")?;
    for (name, pages) in [
        ("boost", boost),
        ("min", min),
        ("low", low),
        ("high", high),
        ("spanned", managed),
        ("present", managed),
        ("managed", managed),
        ("dirty", dirty),
        ("backed", backed),
        ("dedicated", dedicated),
        ("meta", meta),
    ] {
        writeln!(out, "        {name:<8} {pages}")?;
    }
    out.write_str("  pagesets\n")?;
    let batch = zone.batch();
    for (number, thread) in state.caches().enumerate() {
        // A thread that is at its lists this moment is left alone and left out.
        let Some((node, counts)) = thread.pcp.remote().map(|pcp| (pcp.node(), pcp.counts())) else {
            continue;
        };
        if node != zone.node() {
            continue;
        }
        let (count, high, huge) = counts;
        writeln!(out, "    cpu: {number}")?;
        for (name, value) in [("count", count), ("high", high), ("batch", batch), ("huge", huge)] {
            writeln!(out, "              {name}: {value}")?;
        }
    }
    Ok(())
}

fn write_events(state: &State, out: &mut impl Write) -> fmt::Result {
    let mut zone = state.zones.first.events();
    state.zones.iter().skip(1).for_each(|other| zone.add(&other.events()));
    let refused: u32 = state.zones.iter().map(Zone::bind_refused).sum();
    let misses = |(alloc, free): (u64, u64), thread: &ThreadCache| {
        thread
            .sheaves
            .all()
            .map(|(_, sheaves)| sheaves.misses())
            .fold((alloc, free), |(alloc, free), (a, f)| (alloc + u64::from(a), free + u64::from(f)))
    };
    let (alloc_misses, free_misses) = state.caches().fold((0, 0), misses);
    let caches = state.slabs.iter().flat_map(|slabs| &slabs.caches);
    let nodes = caches.map(|cache| cache.node.lock().events);
    let nodes = nodes.fold([0; 4], |sum, events| {
        let events = [events.refill, events.flush, events.slab_new, events.slab_free];
        core::array::from_fn(|index| sum[index] + events[index])
    });
    out.write_str("  events\n")?;
    for (name, value) in [
        ("zone_lock", zone.lock),
        ("split", zone.split),
        ("merge", zone.merge),
        ("claim", zone.claim),
        ("steal", zone.steal),
        ("grow", zone.grow),
        ("purge", zone.purge),
        ("purge_failed", zone.purge_failed),
        ("purge_pages", zone.purge_pages),
        ("refault", zone.refault),
        ("refault_pages", zone.refault_pages),
        ("collapse", zone.collapse),
        ("alloc_miss", alloc_misses),
        ("free_miss", free_misses),
        ("slab_refill", nodes[0]),
        ("slab_flush", nodes[1]),
        ("slab_new", nodes[2]),
        ("slab_free", nodes[3]),
        ("reclaim", state.reclaims.load(Ordering::Relaxed).into()),
        ("relief", state.relief.count.load(Ordering::Relaxed).into()),
        ("numa_miss", state.numa_misses.load(Ordering::Relaxed).into()),
        ("bind_refused", refused.into()),
    ] {
        writeln!(out, "        {name:<12} {value}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::tests::{alloc, config, free, with_nodes};
    use crate::sys::numa::run_on;

    #[test]
    fn reports_have_a_part_for_each_node() {
        let heap = with_nodes(2, config());
        run_on(1);
        let block = alloc(&heap, 64);
        let (mut buddy, mut slab, mut zone) = (String::new(), String::new(), String::new());
        instance_buddyinfo(&heap, &mut buddy).expect("a report");
        instance_slabinfo(&heap, &mut slab).expect("a report");
        instance_zoneinfo(&heap, &mut zone).expect("a report");
        let lines: Vec<_> = buddy.lines().collect();
        assert!(
            lines.len() == 2
                && lines[0].starts_with("Node 0, zone   Normal ")
                && lines[1].starts_with("Node 1, ")
        );
        assert!(zone.contains("Node 0, zone   Normal\n") && zone.contains("Node 1, zone   Normal\n"));
        let (first, second) = zone.split_at(zone.find("Node 1").expect("a block"));
        assert!(
            !first.contains("cpu:") && second.contains("cpu: 0") && second.matches("  events\n").count() == 1
        );
        let line = slab.lines().find(|line| line.starts_with("kmalloc-64 ")).expect("a line of the class");
        assert!(line.split_whitespace().nth(2).is_some_and(|objects| objects == "64"), "{line}");
        assert!(heap.lock_stat()[0].acquisitions > 0);
        free(&heap, block, 64);
    }
}
