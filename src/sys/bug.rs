//! The one way out: a line on stderr, made on the stack and written with one `write(2)`, then `abort`. It
//! allocates nothing, takes no lock and unwinds nothing, so it works from any place in the allocator.

/// A line under construction; what does not fit is cut.
pub(crate) struct Line {
    text: [u8; Line::CAPACITY],
    length: usize,
}

impl Line {
    const CAPACITY: usize = 256;

    /// A line that starts with the name of the allocator.
    pub(crate) const fn new() -> Self {
        Self { text: [0; Self::CAPACITY], length: 0 }.text("pcpmalloc: ")
    }

    pub(crate) const fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) const fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        // One byte is kept for the line's end.
        while at < bytes.len() && self.length < Self::CAPACITY - 1 {
            self.text[self.length] = bytes[at];
            self.length += 1;
            at += 1;
        }
        self
    }

    /// A number in hexadecimal.
    pub(crate) fn hex(self, mut value: usize) -> Self {
        let mut digits = [0; 16];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[value % 16];
            value /= 16;
            if value == 0 {
                return self.text("0x").bytes(&digits[at..]);
            }
        }
    }

    /// Writes the line to stderr. A failure is ignored: there is nobody left to tell.
    pub(crate) fn print(mut self) {
        self.text[self.length] = b'\n';
        write_stderr(&self.text[..=self.length]);
    }

    /// Writes the line to stderr and ends the process with SIGABRT.
    #[cold]
    pub(crate) fn abort(self) -> ! {
        self.print();
        // SAFETY: abort takes nothing and does not return.
        unsafe { libc::abort() }
    }
}

/// Writes all of `bytes` to stderr as far as stderr takes them.
pub(crate) fn write_stderr(mut bytes: &[u8]) {
    super::keep_errno(|| {
        while !bytes.is_empty() {
            // SAFETY: the slice is readable for its length for the whole call.
            let written = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
            let interrupted = written < 0 && super::errno() == libc::EINTR;
            match usize::try_from(written) {
                Ok(written) if written > 0 => bytes = &bytes[written.min(bytes.len())..],
                _ if interrupted => {}
                _ => return,
            }
        }
    });
}

/// Says what is wrong and ends the process. A function of its own, so that the line takes room on no stack but
/// this one's.
#[cold]
#[inline(never)]
pub(crate) fn bug(what: &str) -> ! {
    Line::new().text(what).abort()
}

/// A broken invariant of the allocator itself, or memory of its own that somebody overwrote.
macro_rules! bug_on {
    ($condition:expr, $what:literal) => {
        if $condition {
            $crate::sys::bug::bug(concat!("bug: ", $what, " (", file!(), ":", line!(), ")"))
        }
    };
}
pub(crate) use bug_on;

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn a_line_is_cut_not_overrun() {
        let line = Line::new().text(&"x".repeat(400));
        assert_eq!(line.length, Line::CAPACITY - 1);
        let line = Line::new().hex(0xdead_beef).text(" ").hex(0).text(" ").hex(usize::MAX);
        assert_eq!(&line.text[..line.length], b"pcpmalloc: 0xdeadbeef 0x0 0xffffffffffffffff");
    }
}
