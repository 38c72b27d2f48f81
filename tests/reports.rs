//! buddyinfo, slabinfo and zoneinfo have the kernel's formats, say what is, and allocate nothing.

#[path = "common/heap.rs"]
mod heap;

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

use heap::{Block, class_bytes, figure, layout, zoneinfo};
use pcpmalloc::{Config, Instance, Migratetype};

fn new_heap() -> Instance {
    Instance::new(Config::new()).expect("an instance")
}

fn buddyinfo(heap: &Instance) -> String {
    let mut text = String::new();
    pcpmalloc::instance_buddyinfo(heap, &mut text).expect("a string takes all");
    text
}

fn slabinfo(heap: &Instance) -> String {
    let mut text = String::new();
    pcpmalloc::instance_slabinfo(heap, &mut text).expect("a string takes all");
    text
}

/// A heap with something of everything in it: objects, runs, blocks of pages, holes, and filled caches.
fn used_heap() -> (Instance, Vec<Block>) {
    let heap = new_heap();
    let sizes = (0..3000_usize).map(|number| if number % 50 == 0 { number * 100 } else { number * 7 % 9000 });
    let mut blocks: Vec<_> =
        sizes.map(|size| Block::new(&heap, layout(size, 8), 1).expect("memory")).collect();
    for (at, order) in [(500, 0), (900, 3), (1300, 9), (1700, 6)] {
        blocks.drain(at..at + 100).for_each(|block| block.free(&heap));
        assert!(!heap.alloc_pages(order, Migratetype::Unmovable).is_null());
    }
    (heap, blocks)
}

/// One line of a buddyinfo as `%6lu ` columns behind `Node %d, zone %8s `: the zone's name and the columns.
fn parse_buddyinfo(line: &str) -> Option<(String, Vec<usize>)> {
    let rest = line.strip_prefix("Node ")?;
    let (node, rest) = rest.split_once(", zone ")?;
    node.parse::<u32>().ok()?;
    let (name, columns) = rest.split_at_checked(8)?;
    let columns = columns.strip_prefix(' ')?.strip_suffix(' ')?;
    let mut numbers = Vec::new();
    let mut rebuilt = String::new();
    for column in columns.split_whitespace() {
        numbers.push(column.parse().ok()?);
        write!(rebuilt, "{column:>6} ").expect("a string takes all");
    }
    (rebuilt.trim_end_matches(' ') == columns.trim_end_matches(' '))
        .then(|| (name.trim_start().to_owned(), numbers))
}

#[test]
fn buddyinfo_is_the_kernels() {
    let (heap, _blocks) = used_heap();
    let text = buddyinfo(&heap);
    let lines: Vec<_> = text.split_terminator('\n').collect();
    // A line a memory node of the machine's.
    assert!(text.ends_with('\n') && !lines.is_empty(), "{text:?}");
    assert!(text.starts_with("Node 0, zone   Normal "), "{text:?}");
    for line in lines {
        let (name, blocks) = parse_buddyinfo(line).unwrap_or_else(|| panic!("{text:?}"));
        assert_eq!((name.as_str(), blocks.len()), ("Normal", 17));
    }
    // The kernel's own lines parse by the same rules.
    let kernels = std::fs::read_to_string("/proc/buddyinfo").unwrap_or_default();
    if kernels.is_empty() {
        println!("skipped: /proc/buddyinfo cannot be read here");
    }
    for line in kernels.lines() {
        let (_, columns) = parse_buddyinfo(line).unwrap_or_else(|| panic!("{line:?}"));
        assert!(columns.len() >= 10, "{line:?}");
    }
}

#[test]
fn buddyinfo_sums_to_the_free_pages() {
    let (heap, blocks) = used_heap();
    let check = |heap: &Instance| {
        let text = buddyinfo(heap);
        let lines = text.lines().map(|line| parse_buddyinfo(line).expect("a line").1);
        let pages = |free: Vec<usize>| -> usize {
            free.iter().enumerate().map(|(order, blocks)| blocks << order).sum()
        };
        let sum: usize = lines.map(pages).sum();
        let usage = heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
        let info = zoneinfo(heap);
        assert_eq!(sum, usage.pages.free);
        // The sum over the memory nodes, each with a block of its own.
        let total = |name: &str| -> u64 {
            let zones = info.split("Node ").filter(|zone| !zone.is_empty());
            zones.map(|zone| figure(zone, name)).sum()
        };
        assert_eq!(total("pages free"), usage.pages.free as u64);
        assert_eq!(total("managed"), usage.pages.managed as u64);
        assert_eq!(total("dedicated") * 4096, usage.dedicated as u64);
        sum
    };
    let before = check(&heap);
    blocks.into_iter().for_each(|block| block.free(&heap));
    assert!(check(&heap) > before);
    heap.trim();
    check(&heap);
    check(&new_heap());
}

/// A row of a slabinfo: active objects, objects, size, objects a slab, pages a slab, active slabs, slabs.
#[derive(Debug)]
struct Row {
    active: usize,
    objects: usize,
    size: usize,
    per_slab: usize,
    pages: usize,
    tunables: [usize; 3],
    slabs: [usize; 3],
}

/// A line as the kernel's `"%-17s %6lu %6lu %6u %4u %4d : tunables %4u %4u %4u : slabdata %6lu %6lu %6lu"`.
fn parse_row(line: &str) -> Option<(String, Row)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [name, numbers @ ..] = words.as_slice() else { return None };
    let number = |at: usize| numbers.get(at)?.parse::<usize>().ok();
    let row = Row {
        active: number(0)?,
        objects: number(1)?,
        size: number(2)?,
        per_slab: number(3)?,
        pages: number(4)?,
        tunables: [number(7)?, number(8)?, number(9)?],
        slabs: [number(12)?, number(13)?, number(14)?],
    };
    let [limit, batch, factor] = row.tunables;
    let [active_slabs, slabs, shared] = row.slabs;
    let rebuilt = format!(
        "{name:<17} {:>6} {:>6} {:>6} {:>4} {:>4} : tunables {limit:>4} {batch:>4} {factor:>4} : slabdata \
         {active_slabs:>6} {slabs:>6} {shared:>6}",
        row.active, row.objects, row.size, row.per_slab, row.pages,
    );
    (rebuilt == line && numbers.len() == 15).then(|| ((*name).to_owned(), row))
}

const HEADER: [&str; 2] = [
    "slabinfo - version: 2.1",
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> \
     <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>",
];

fn parse_slabinfo(text: &str) -> BTreeMap<usize, Row> {
    let mut lines = text.split_terminator('\n');
    assert_eq!([lines.next(), lines.next()], HEADER.map(Some));
    let rows = lines.map(|line| {
        let (name, row) = parse_row(line).unwrap_or_else(|| panic!("{line:?}"));
        let size = name.strip_prefix("kmalloc-").expect("a kernel's name");
        let bytes = size
            .strip_suffix('k')
            .map_or_else(|| size.parse(), |kib| kib.parse().map(|kib: usize| kib * 1024));
        assert_eq!(bytes, Ok(row.size), "{line:?}");
        (row.size, row)
    });
    rows.collect()
}

#[test]
fn slabinfo_is_the_kernels() {
    let (heap, _blocks) = used_heap();
    let rows = parse_slabinfo(&slabinfo(&heap));
    assert_eq!(rows.len(), 51);
    let kernels = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    if kernels.is_empty() {
        println!("skipped: /proc/slabinfo cannot be read here");
        return;
    }
    let mut lines = kernels.lines();
    assert_eq!([lines.next(), lines.next()], HEADER.map(Some));
    // Cache names that have spaces or fill more than their column parse by no rule; these always do.
    let alike: Vec<_> = lines.filter(|line| line.starts_with("kmalloc-")).collect();
    assert!(!alike.is_empty());
    for line in alike {
        parse_row(line).unwrap_or_else(|| panic!("{line:?}"));
    }
}

#[test]
fn slabinfo_counts_what_the_program_has() {
    let (heap, blocks) = used_heap();
    let check = |blocks: &[Block]| {
        let rows = parse_slabinfo(&slabinfo(&heap));
        let mut live: BTreeMap<usize, usize> = BTreeMap::new();
        for size in blocks.iter().filter_map(|block| class_bytes(block.layout)) {
            *live.entry(size).or_default() += 1;
        }
        let mut pages = 0;
        for (size, row) in &rows {
            assert_eq!(row.active, live.remove(size).unwrap_or(0), "objects of {size}");
            assert!(row.active <= row.objects);
            assert_eq!(row.objects, row.slabs[1] * row.per_slab);
            assert!(row.slabs[0] <= row.slabs[1]);
            assert!(
                row.per_slab * row.size <= row.pages * 4096
                    && (row.per_slab + 1) * row.size > row.pages * 4096
            );
            assert!(row.per_slab == 1 || (1..=8).contains(&row.pages) && row.pages.is_power_of_two());
            pages += row.slabs[1] * row.pages;
        }
        assert!(live.is_empty(), "objects in no row: {live:?}");
        let usage = heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(pages, usage.pages.slab);
        assert_eq!(rows.values().map(|row| row.active * row.size).sum::<usize>(), usage.live_objects);
        rows
    };
    check(&blocks);
    let (kept, freed): (Vec<_>, Vec<_>) =
        blocks.into_iter().enumerate().partition(|(number, _)| number % 3 == 0);
    let kept: Vec<_> = kept.into_iter().map(|(_, block)| block).collect();
    freed.into_iter().for_each(|(_, block)| block.free(&heap));
    // Freed objects wait in this thread's sheaves: they count as free all the same.
    check(&kept);
    kept.into_iter().for_each(|block| block.free(&heap));
    check(&[]);
    heap.trim();
    let rows = check(&[]);
    assert!(rows.values().all(|row| row.objects == 0), "{rows:?}");
}

/// The lines of a zoneinfo from `pages free` to the first pageset's end, as their names without figures.
fn skeleton(text: &str) -> Vec<String> {
    let zone = text.lines().skip_while(|line| !line.starts_with("  pages free"));
    zone.map(|line| line.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).collect()
}

#[test]
fn zoneinfo_is_the_kernels() {
    let (heap, blocks) = used_heap();
    let text = zoneinfo(&heap);
    assert!(text.starts_with("Node 0, zone   Normal\n"), "{text}");
    let ours = skeleton(&text);
    let kernels = std::fs::read_to_string("/proc/zoneinfo").unwrap_or_default();
    if kernels.is_empty() {
        println!("skipped: /proc/zoneinfo cannot be read here");
    } else {
        let theirs = skeleton(&kernels);
        let shared = [
            "  pages free",
            "        boost",
            "        min",
            "        low",
            "        high",
            "        spanned",
            "        present",
            "        managed",
            "  pagesets",
            "    cpu:",
        ];
        for name in shared {
            let line = |lines: &[String]| lines.iter().find(|line| line.starts_with(name)).cloned();
            assert!(
                line(&ours).is_some() && line(&ours) == line(&theirs),
                "{name}: {ours:?} beside the kernel's"
            );
        }
        // The figures of a pageset stand in a column, however the kernel at hand spaces them.
        for name in ["count:", "high:", "batch:"] {
            let indented =
                |line: &&String| line.starts_with("              ") && line.trim_start().starts_with(name);
            assert!(
                ours.iter().any(|line| indented(&line)) && theirs.iter().any(|line| indented(&line)),
                "{name}"
            );
        }
    }
    // One pageset a thread: this one's, and another's.
    let count = |text: &str| text.lines().filter(|line| line.starts_with("    cpu: ")).count();
    assert_eq!(count(&text), 1);
    std::thread::scope(|scope| {
        scope
            .spawn(|| Block::new(&heap, layout(10, 8), 1).expect("memory").free(&heap))
            .join()
            .expect("it ends");
    });
    assert_eq!(count(&zoneinfo(&heap)), 2);
    let sum = |text: &str, name: &str| -> usize {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(name));
        lines.map(|number| number.trim().parse::<usize>().expect("a number")).sum()
    };
    blocks.into_iter().for_each(|block| block.free(&heap));
    let (text, usage) = (zoneinfo(&heap), heap.validate().unwrap_or_else(|violation| panic!("{violation}")));
    assert_eq!(sum(&text, "count:") + 512 * sum(&text, "huge:"), usage.pages.pcp, "{text}");
}

#[test]
fn zoneinfo_counts_events() {
    let heap = new_heap();
    let all = [
        "zone_lock",
        "split",
        "grow",
        "purge ",
        "slab_new",
        "slab_free",
        "alloc_miss",
        "free_miss",
        "reclaim",
    ];
    let read = || all.map(|name| figure(&zoneinfo(&heap), name));
    assert_eq!(read()[1..], [0; 8]);
    let blocks: Vec<_> = (0..2000).map(|_| Block::new(&heap, layout(1000, 8), 1).expect("memory")).collect();
    blocks.into_iter().for_each(|block| block.free(&heap));
    Block::new(&heap, layout(5 << 20, 8), 1).expect("memory").free(&heap);
    assert!(heap.trim() >= 5 << 20);
    let after = read();
    assert!(after[..8].iter().all(|count| *count > 0), "{all:?} {after:?}");
    assert_eq!(after[4], after[5], "as many slabs went as came");
}

/// Takes text and counts it, without a buffer that would have to be allocated.
#[derive(Default)]
struct Counter {
    bytes: usize,
    refuses: bool,
}

impl Write for Counter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len();
        if self.refuses { Err(fmt::Error) } else { Ok(()) }
    }
}

#[test]
fn reports_allocate_nothing_and_change_nothing() {
    let (heap, _blocks) = used_heap();
    let state = || (heap.validate().expect("sound"), buddyinfo(&heap), slabinfo(&heap), zoneinfo(&heap));
    let before = state();
    for _ in 0..100 {
        let mut out = Counter::default();
        pcpmalloc::instance_buddyinfo(&heap, &mut out).expect("it takes all");
        pcpmalloc::instance_slabinfo(&heap, &mut out).expect("it takes all");
        pcpmalloc::instance_zoneinfo(&heap, &mut out).expect("it takes all");
        assert!(out.bytes > 3000);
    }
    assert!(before == state());
    // The process's own heap, which nothing in this binary uses otherwise.
    let mut out = Counter::default();
    pcpmalloc::buddyinfo(&mut out).expect("it takes all");
    pcpmalloc::slabinfo(&mut out).expect("it takes all");
    pcpmalloc::zoneinfo(&mut out).expect("it takes all");
    assert!(out.bytes > 3000);
    let usage = pcpmalloc::validate().expect("sound");
    assert_eq!((usage.pages.managed, usage.live_objects, usage.dedicated), (0, 0, 0));
}

#[test]
fn what_the_writer_says_comes_back() {
    let (heap, _blocks) = used_heap();
    let mut out = Counter { refuses: true, ..Counter::default() };
    assert!(pcpmalloc::instance_buddyinfo(&heap, &mut out).is_err());
    assert!(pcpmalloc::instance_slabinfo(&heap, &mut out).is_err());
    assert!(pcpmalloc::instance_zoneinfo(&heap, &mut out).is_err());
}

/// A report may be written into memory of the very heap that it is about.
struct Grows<'a> {
    heap: &'a Instance,
    address: *mut u8,
    length: usize,
}

impl Write for Grows<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let old = Layout::from_size_align(self.length.max(1), 1).expect("a layout");
        // SAFETY: the block is the heap's and of this layout.
        self.address = unsafe { self.heap.realloc(self.address, old, self.length + text.len() + 1) };
        // SAFETY: the block has room for the text behind the `length` bytes before it.
        unsafe { self.address.wrapping_add(self.length).copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        self.length += text.len();
        // One more byte than there is text: the layout above says so next time.
        self.length += 1;
        Ok(())
    }
}

#[test]
fn a_report_into_the_heap_that_it_is_about() {
    let (heap, _blocks) = used_heap();
    let mut out = Grows { heap: &heap, address: heap.alloc(layout(1, 1)), length: 0 };
    pcpmalloc::instance_buddyinfo(&heap, &mut out).expect("no lock is held while it is written");
    pcpmalloc::instance_slabinfo(&heap, &mut out).expect("as above");
    pcpmalloc::instance_zoneinfo(&heap, &mut out).expect("as above");
    assert!(out.length > 3000);
    heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn lock_stat_counts_what_is_taken() {
    let heap = new_heap();
    let taken = |heap: &Instance| {
        heap.lock_stat().map(|lock| {
            assert!(lock.contentions <= lock.acquisitions, "{lock:?}");
            assert!(cfg!(feature = "lock-stat") || lock.hold_ns_total == 0, "{lock:?}");
            assert!(lock.hold_ns_max <= lock.hold_ns_total, "{lock:?}");
            (lock.name, lock.acquisitions)
        })
    };
    let before = taken(&heap);
    assert_eq!(before.map(|(name, _)| name)[..3], ["zone", "growing", "purging"]);
    // Runs above 256 KiB meet the zone's lock each, to come and to go; one thread waits for nobody.
    for _ in 0..10 {
        Block::new(&heap, layout(300 << 10, 8), 1).expect("memory").free(&heap);
    }
    let after = taken(&heap);
    assert!(after[0].1 - before[0].1 >= 20, "{after:?}");
    assert_eq!(heap.lock_stat().map(|lock| lock.contentions), [0; 8]);
}
