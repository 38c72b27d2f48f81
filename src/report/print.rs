//! Reports to stderr, through a buffer on the stack.

use core::fmt::{self, Write};

use super::{buddyinfo, slabinfo, zoneinfo};
use crate::front::global;
use crate::sys::bug::{Line, write_stderr};

/// Collects what is written and passes it on in lines or more.
pub(crate) struct Buffered<F: FnMut(&[u8])> {
    buffer: [u8; 512],
    length: usize,
    pass: F,
}

impl<F: FnMut(&[u8])> Buffered<F> {
    pub(crate) fn new(pass: F) -> Self {
        Self { buffer: [0; 512], length: 0, pass }
    }

    fn flush(&mut self) {
        (self.pass)(&self.buffer[..self.length]);
        self.length = 0;
    }
}

impl<F: FnMut(&[u8])> Write for Buffered<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.length == self.buffer.len() {
                self.flush();
            }
            self.buffer[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

impl<F: FnMut(&[u8])> Drop for Buffered<F> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Prints buddyinfo, slabinfo and zoneinfo to stderr.
pub(crate) fn print_all() {
    let mut out = Buffered::new(write_stderr);
    // The buffer takes everything, so nothing here can fail.
    let _ = buddyinfo(&mut out).and_then(|()| slabinfo(&mut out)).and_then(|()| zoneinfo(&mut out));
}

/// Runs when the process ends, after its exit handlers: prints the heap's state to stderr if the settings ask
/// for it (`PCPMALLOC_VERBOSE=1`).
extern "C" fn print_at_exit() {
    if global::is_verbose() {
        print_all();
    }
}

// SAFETY: the C runtime calls the functions in this section without arguments of interest when the object is
// unloaded or the process ends; `print_at_exit` takes none and is there for as long as the object.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = print_at_exit;

/// Prints what a panic says, on one line, and ends the process: the panic handler of a library without std.
pub fn abort_on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    {
        let mut out = Buffered::new(write_stderr);
        let _ = writeln!(out, "pcpmalloc: bug: {info}");
    }
    Line::new().text("bug: the allocator panicked").abort()
}
