//! Blocks of pages that each thread allocates and frees for itself, all threads from one zone.

use std::ptr;
use std::sync::Barrier;
use std::thread;

use pcpmalloc::{Instance, Migratetype};

use super::cpus::Pinned;
use super::meter::Figures;

/// Blocks that a thread holds; the oldest goes when a new one comes.
const HELD: usize = 16;

/// Each of `threads` threads replaces so many blocks. Starting and ending the threads is not measured.
pub fn run(instance: &Instance, order: u32, threads: usize, replacements: u64) -> Figures {
    let gate = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for thread in 0..threads {
            let gate = &gate;
            scope.spawn(move || {
                let _pinned = Pinned::to(thread);
                let mut ring = Ring::new(instance, order);
                gate.wait();
                gate.wait();
                (0..replacements).for_each(|_| ring.replace());
                gate.wait();
                // The ring is given back when all is read.
                gate.wait();
            });
        }
        gate.wait();
        let figures = Figures::of(instance, threads as u64 * replacements, || {
            gate.wait();
            gate.wait();
        });
        gate.wait();
        figures
    })
}

struct Ring<'a> {
    instance: &'a Instance,
    order: u32,
    blocks: [*mut u8; HELD],
    next: usize,
}

impl<'a> Ring<'a> {
    fn new(instance: &'a Instance, order: u32) -> Self {
        let mut ring = Self { instance, order, blocks: [ptr::null_mut(); HELD], next: 0 };
        (0..HELD).for_each(|_| ring.replace());
        ring
    }

    fn replace(&mut self) {
        let place = self.next % HELD;
        self.free(place);
        self.blocks[place] = self.instance.alloc_pages(self.order, Migratetype::Movable);
        assert!(!self.blocks[place].is_null(), "out of memory");
        self.next += 1;
    }

    fn free(&mut self, place: usize) {
        let block = std::mem::replace(&mut self.blocks[place], ptr::null_mut());
        if !block.is_null() {
            // SAFETY: allocated by `replace` with this instance and order, and forgotten just now.
            unsafe { self.instance.free_pages(block, self.order) };
        }
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        (0..HELD).for_each(|place| self.free(place));
    }
}
