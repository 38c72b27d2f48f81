//! What several benches share: the heap and its blocks, threads that start at once, random numbers, and how long to
//! measure. What measures runs on the system's allocator; what is measured calls pcpmalloc by its handle.
#![allow(dead_code, reason = "each bench uses its own part of this module")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::Criterion;
use pcpmalloc::PcpMalloc;

pub static HEAP: PcpMalloc = PcpMalloc::new();

/// Short measurements: there are many, and what a machine does besides is noise that more time does not average out.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

/// A block of the heap, with its first word written; freed when dropped.
pub struct Block {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: nothing but this value reaches the memory.
unsafe impl Send for Block {}

impl Block {
    #[inline]
    pub fn new(size: usize) -> Self {
        assert!(size >= size_of::<u64>(), "a block holds a word");
        let layout = Layout::from_size_align(size, align_of::<u64>()).expect("a layout");
        // SAFETY: the layout is not empty.
        let start = black_box(unsafe { HEAP.alloc(layout) });
        assert!(!start.is_null(), "out of memory");
        let block = Self { start, layout };
        block.write(size as u64);
        block
    }

    #[inline]
    pub fn write(&self, value: u64) {
        // SAFETY: the block holds a word, is aligned to words, and is this value's alone.
        unsafe { self.start.cast::<u64>().write_volatile(value) };
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout, and dropped once.
        unsafe { HEAP.dealloc(self.start, self.layout) };
    }
}

/// How long `work` takes on so many threads at once, from the moment when all are ready until all are done. Each has
/// what `prepare` makes for its number.
pub fn race<T>(
    threads: usize,
    prepare: impl Fn(usize) -> T + Sync,
    work: impl Fn(&mut T) + Sync,
) -> Duration {
    let gate = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (gate, prepare, work) = (&gate, &prepare, &work);
            scope.spawn(move || {
                let mut own = prepare(thread);
                gate.wait();
                gate.wait();
                work(&mut own);
                gate.wait();
            });
        }
        gate.wait();
        let start = Instant::now();
        gate.wait();
        gate.wait();
        start.elapsed()
    })
}

/// Random numbers that are the same every time, and cost next to nothing beside an allocation: a linear congruence with
/// Knuth's constants, whose upper half is good enough here.
pub struct Random(u64);

impl Random {
    pub fn new(seed: usize) -> Self {
        Self((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * end as u64) >> 32) as usize
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Puts the values in random order.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}
