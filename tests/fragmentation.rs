//! Grouping by mobility, shown to work: after churn of mixed lifetimes more pageblocks are wholly free with it than
//! without it.

use std::alloc::Layout;

use pcpmalloc::{Config, Hugepages, Instance, instance_buddyinfo};

/// A run of pseudorandom numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

/// Blocks of one layout range, of which one at random is replaced at each step.
struct Population<'a> {
    heap: &'a Instance,
    blocks: Vec<(*mut u8, Layout)>,
}

impl Population<'_> {
    fn allocate(heap: &Instance, bytes: usize) -> (*mut u8, Layout) {
        let layout = Layout::from_size_align(bytes, 16).expect("a layout");
        let block = heap.alloc(layout);
        assert!(!block.is_null());
        (block, layout)
    }

    fn add(&mut self, bytes: usize) {
        self.blocks.push(Self::allocate(self.heap, bytes));
    }

    fn remove(&mut self, index: usize) {
        let (block, layout) = self.blocks.swap_remove(index);
        // SAFETY: allocated by `add` with this layout, and on the list no more.
        unsafe { self.heap.dealloc(block, layout) };
    }

    fn clear(&mut self) {
        while !self.blocks.is_empty() {
            self.remove(self.blocks.len() - 1);
        }
    }
}

/// Wholly free pageblocks, in per cent of all, after churn of small objects and of pages, when the pages are freed and
/// one in eight small objects stays.
fn free_pageblocks(group_by_mobility: bool) -> f64 {
    let config = Config { hugepages: Hugepages::Off, group_by_mobility, slack: 1 << 30, ..Config::new() };
    let heap = Instance::new(config).expect("an instance");
    let (mut objects, mut pages) =
        (Population { heap: &heap, blocks: Vec::new() }, Population { heap: &heap, blocks: Vec::new() });
    let mut random = Random(42);
    // Rising and falling numbers of both, so that each takes memory that the other has left.
    for round in 0..24 {
        let (more_objects, more_pages) = if round % 2 == 0 { (60_000, 120) } else { (20_000, 360) };
        for _ in 0..more_objects {
            objects.add(16 + random.below(1000));
        }
        for _ in 0..more_pages {
            pages.add((16 << 10) + random.below(240 << 10));
        }
        for _ in 0..more_objects - objects.blocks.len() / 40 {
            objects.remove(random.below(objects.blocks.len()));
        }
        for _ in 0..more_pages * 9 / 10 {
            pages.remove(random.below(pages.blocks.len()));
        }
    }
    pages.clear();
    for _ in 0..objects.blocks.len() / 8 * 7 {
        objects.remove(random.below(objects.blocks.len()));
    }
    heap.trim();
    heap.validate().expect("sound");
    let share = share_of_free_pageblocks(&heap);
    objects.clear();
    share
}

fn share_of_free_pageblocks(heap: &Instance) -> f64 {
    let managed = heap.validate().expect("sound").pages.managed / 512;
    let mut text = String::new();
    instance_buddyinfo(heap, &mut text).expect("a String takes it");
    // A line a memory node.
    let free_of = |line: &str| -> usize {
        let blocks = line.split_whitespace().skip(4).map(|number| number.parse::<usize>().expect("a number"));
        blocks.enumerate().skip(9).map(|(order, blocks)| blocks << (order - 9)).sum()
    };
    let free: usize = text.lines().map(free_of).sum();
    free as f64 / managed as f64 * 100.0
}

#[test]
fn grouping_by_mobility_leaves_more_pageblocks_free() {
    let (grouped, mixed) = (free_pageblocks(true), free_pageblocks(false));
    println!("wholly free pageblocks: {grouped:.1}% with grouping, {mixed:.1}% without");
    assert!(grouped > mixed + 5.0, "{grouped}% with grouping, {mixed}% without");
}
