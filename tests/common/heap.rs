//! What the tests of private heaps share: running a test in a process of its own, blocks that carry a pattern, the size
//! of a class, and what the system says of this process's memory.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::alloc::Layout;
use std::process::Command;

use pcpmalloc::Instance;

/// Names the test that runs alone in this process.
pub const ALONE: &str = "PCPMALLOC_TEST_ALONE";

/// Runs the test `name` in a process of its own, on this very test binary, and panics unless it passes there. True in
/// that process, where the test then does its work; false in the one that started it. For tests that look at the
/// whole process, change what is the process's, or may abort.
pub fn alone(name: &str) -> bool {
    alone_with(name, &[])
}

/// As `alone`, with variables in the environment.
pub fn alone_with(name: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var(ALONE).is_ok_and(|test| test == name) {
        return true;
    }
    let output = Command::new(std::env::current_exe().expect("a test has a file"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .envs(variables.iter().copied())
        .output()
        .expect("a test binary starts again");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that fits no test would pass with none run.
    let passed = output.status.success() && out.contains("1 passed");
    assert!(passed, "{name}, in a process of its own: {}\n{out}\n{err}", output.status);
    false
}

/// A block with the layout that it has now, filled with a byte that says whose it is.
#[derive(Debug)]
pub struct Block {
    pub address: *mut u8,
    pub layout: Layout,
    pub seed: u8,
}

// SAFETY: a block is owned memory; whoever has the value is its only user.
unsafe impl Send for Block {}

impl Block {
    /// Allocates and fills. `None` where the instance returns null.
    pub fn new(heap: &Instance, layout: Layout, seed: u8) -> Option<Self> {
        Self::filled(heap.alloc(layout), layout, seed)
    }

    /// Takes a block that was just allocated, and fills it.
    pub fn filled(address: *mut u8, layout: Layout, seed: u8) -> Option<Self> {
        if address.is_null() {
            return None;
        }
        assert!(address.addr().is_multiple_of(layout.align()), "{address:p} for {layout:?}");
        let mut block = Self { address, layout, seed };
        block.fill();
        Some(block)
    }

    /// Writes the seed everywhere, and the number of each whole 4 KiB at its start.
    fn fill(&mut self) {
        // SAFETY: the heap says that the block has this many bytes; this value is its only user.
        unsafe { self.address.write_bytes(self.seed, self.layout.size()) };
        // SAFETY: as above, and written just now.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.address, self.layout.size()) };
        for (number, page) in bytes.chunks_exact_mut(4096).enumerate() {
            page[..8].copy_from_slice(&number.to_ne_bytes());
        }
    }

    /// Checks that nobody else wrote to the block.
    pub fn check(&self) {
        // SAFETY: as in `fill`, which wrote all of it.
        let bytes = unsafe { std::slice::from_raw_parts(self.address, self.layout.size()) };
        let mut pages = bytes.chunks_exact(4096);
        for (number, page) in pages.by_ref().enumerate() {
            let kept = page[..8] == number.to_ne_bytes() && all_are(&page[8..], self.seed);
            assert!(kept, "{self:?} was overwritten in its page {number}");
        }
        // After a realloc the last part may be the beginning of what was a whole page.
        let rest = pages.remainder();
        let start = rest.len().min(8);
        let numbered = rest[..start] == (bytes.len() / 4096).to_ne_bytes()[..start];
        assert!(
            all_are(&rest[if numbered { start } else { 0 }..], self.seed),
            "{self:?} was overwritten in its last part"
        );
    }

    /// Reallocates, checks that what both sizes share was kept, and fills the block anew. False where the instance
    /// returns null: then the block is what it was.
    pub fn resize(&mut self, heap: &Instance, size: usize) -> bool {
        // SAFETY: the block is this heap's and has this layout.
        let address = unsafe { heap.realloc(self.address, self.layout, size) };
        if address.is_null() {
            self.check();
            return false;
        }
        assert!(address.addr().is_multiple_of(self.layout.align()), "{address:p} for {:?}", self.layout);
        let kept = self.layout.size().min(size);
        self.address = address;
        self.layout = Layout::from_size_align(kept, self.layout.align()).expect("smaller than before");
        self.check();
        self.layout = Layout::from_size_align(size, self.layout.align()).expect("the heap took this size");
        self.fill();
        true
    }

    /// Checks the block and gives it back.
    pub fn free(self, heap: &Instance) {
        self.check();
        // SAFETY: the block is this heap's, of this layout, and its only user ends here.
        unsafe { heap.dealloc(self.address, self.layout) };
    }
}

/// Whether all bytes are `value`: the first is, and each equals the one before it. One comparison of memory, so that
/// tests without optimisation can check many megabytes.
pub fn all_are(bytes: &[u8], value: u8) -> bool {
    bytes.first().is_none_or(|first| *first == value && bytes[1..] == bytes[..bytes.len() - 1])
}

/// The bytes of the class that serves a layout, if one does: 8, steps of 16 to 128, four to a doubling up to 256 KiB,
/// whole pages above 8 KiB. Said again here in its own words, so that the crate's table is checked.
pub fn class_bytes(layout: Layout) -> Option<usize> {
    let size = layout.size().max(1).next_multiple_of(layout.align());
    match size {
        0..=8 => Some(8),
        9..=128 => Some(size.next_multiple_of(16)),
        129..=8192 => Some(size.next_multiple_of((1 << (size - 1).ilog2()) / 4)),
        8193..=262_144 if layout.align() <= 4096 => {
            Some(size.next_multiple_of(4096.max((1 << (size - 1).ilog2()) / 4)))
        }
        _ => None,
    }
}

/// Bytes of this process that are mapped, and that are backed by memory.
pub fn memory() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
    let mut pages = text.split(' ').map(|number| number.parse::<usize>().expect("a number") * 4096);
    let (mapped, resident) = (pages.next(), pages.next());
    (mapped.expect("two numbers at least"), resident.expect("two numbers at least"))
}

/// A layout of a test, whose size and alignment go together.
pub fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout")
}

/// The number in a zoneinfo's line that starts with this name.
pub fn figure(zoneinfo: &str, name: &str) -> u64 {
    let line = zoneinfo.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let number = line.unwrap_or_else(|| panic!("zoneinfo has no {name}:\n{zoneinfo}"));
    number.trim().parse().unwrap_or_else(|_| panic!("zoneinfo's {name} is no number:\n{zoneinfo}"))
}

/// What zoneinfo says of an instance.
pub fn zoneinfo(heap: &Instance) -> String {
    let mut text = String::new();
    pcpmalloc::instance_zoneinfo(heap, &mut text).expect("a string takes all");
    text
}

/// SplitMix64: numbers that look random and are the same on every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0 and below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
