//! A heap as a value: its own memory, its own limit, and all of it gone with one drop. The program itself stays
//! on the system's allocator.
//!
//! ```sh
//! cargo run --release --example instance
//! ```

use std::alloc::Layout;

use pcpmalloc::{Config, Instance, Migratetype, instance_buddyinfo};

fn main() {
    let config = Config { limit: 64 << 20, ..Config::new() };
    let heap = Instance::new(config).expect("there is memory for a heap");

    // Small objects, from several threads at once.
    let layout = Layout::new::<[u64; 6]>();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let blocks: Vec<*mut u8> = (0..10_000).map(|_| heap.alloc(layout)).collect();
                for block in blocks {
                    // SAFETY: allocated above with this layout, and freed once.
                    unsafe { heap.dealloc(block, layout) };
                }
            });
        }
    });

    // A hugepage's worth of pages, aligned to its size.
    let pages = heap.alloc_pages(9, Migratetype::Movable);
    println!("2 MiB of pages at {pages:p}");

    // The limit fails softly: null, and what was there stays.
    let too_much = Layout::from_size_align(100 << 20, 4096).expect("a layout");
    assert!(heap.alloc(too_much).is_null());
    println!("100 MiB of a heap limited to 64 MiB: null");

    let usage = heap.validate().expect("every page is where it belongs");
    println!("in use: {} pages in runs, {} bytes of objects", usage.pages.run, usage.live_objects);
    let mut report = String::new();
    instance_buddyinfo(&heap, &mut report).expect("a string takes all");
    print!("{report}");
    // Dropping the heap returns everything, the pages too.
}
