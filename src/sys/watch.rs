//! Word of memory pressure from the kernel: PSI triggers (`memory.pressure` of the cgroup, or of the machine), the
//! cgroup's `memory.events` (version 2), and `memory.pressure_level` (version 1).
//!
//! The only descriptors that the library ever keeps, and only where somebody asked for them. They close on exec, a
//! fork's child closes them, and since a program may close what it does not know and get the number again, a
//! descriptor is looked at before it is believed, written to or closed. Eventfds look all the same, so the one of
//! version 1 has a number that programs do not get unasked.

use core::ffi::CStr;

use super::env::{self, Group};
use super::keep_errno;
use super::sync::{AtomicI32, AtomicU64, Ordering};

/// Descriptors kept at most: both ends of the pipe that ends a wait, and three sources.
const KEPT: usize = 5;

/// 100 ms of stalls within a second; the same part of a window that needs no privilege.
const TRIGGERS: [&CStr; 2] = [c"some 100000 1000000", c"some 200000 2000000"];

/// A descriptor, and how to know it again. -1 is none.
struct Kept {
    descriptor: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

/// The places of the ends of the pipe that ends a wait.
const WAKE: usize = 0;
const WAKE_WRITE: usize = 1;
const STALL: usize = 2;
const EVENTS: usize = 3;
const LEVEL: usize = 4;
/// The least number of an eventfd of ours.
const LEAST_EVENTFD: libc::c_int = 500;
static DESCRIPTORS: [Kept; KEPT] = [const { Kept::new() }; KEPT];

// Relaxed throughout: one thread opens, and others only use what they find after they looked at it.

impl Kept {
    const fn new() -> Self {
        Self { descriptor: AtomicI32::new(-1), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    fn set(&self, descriptor: i32) {
        if let Some((device, inode)) = identity(descriptor) {
            self.device.store(device, Ordering::Relaxed);
            self.inode.store(inode, Ordering::Relaxed);
            self.descriptor.store(descriptor, Ordering::Relaxed);
        }
    }

    /// The descriptor, if it still is what was opened.
    fn get(&self) -> Option<i32> {
        let descriptor = self.descriptor.load(Ordering::Relaxed);
        let known = (self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed));
        (descriptor >= 0 && identity(descriptor) == Some(known)).then_some(descriptor)
    }

    fn close(&self) {
        if let Some(descriptor) = self.get() {
            close(descriptor);
        }
        self.descriptor.store(-1, Ordering::Relaxed);
    }
}

fn identity(descriptor: i32) -> Option<(u64, u64)> {
    // SAFETY: an all-zero stat is a valid value of that plain C struct.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is writable and of the right type.
    let result = keep_errno(|| unsafe { libc::fstat(descriptor, &raw mut stat) });
    (result == 0).then_some((stat.st_dev, stat.st_ino))
}

fn open(name: &CStr, flags: libc::c_int) -> Option<i32> {
    // SAFETY: a null-terminated name.
    let descriptor = keep_errno(|| unsafe { libc::open(name.as_ptr(), flags | libc::O_CLOEXEC) });
    (descriptor >= 0).then_some(descriptor)
}

fn close(descriptor: i32) {
    // SAFETY: the callers opened it, or know that it is what they opened.
    keep_errno(|| unsafe { libc::close(descriptor) });
}

fn write(descriptor: i32, bytes: &[u8]) -> bool {
    // SAFETY: the bytes are readable for their length.
    let written = keep_errno(|| unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) });
    written == bytes.len() as isize
}

/// A pipe: where to read, and where to write.
fn new_pipe() -> Option<[i32; 2]> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` is writable and of the right length.
    let result = keep_errno(|| unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) });
    (result == 0).then_some(ends)
}

fn new_eventfd() -> Option<i32> {
    // SAFETY: takes two numbers.
    let descriptor = keep_errno(|| unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) });
    if descriptor < 0 {
        return None;
    }
    // SAFETY: takes three numbers.
    let high = keep_errno(|| unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, LEAST_EVENTFD) });
    if high < 0 {
        return Some(descriptor);
    }
    close(descriptor);
    Some(high)
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The time is over, or somebody called `wake`.
    Time,
    /// Memory is short.
    Pressure,
    /// Nothing to wait on is left, or the kernel cannot wait.
    Lost,
}

/// A descriptor to wait on.
#[derive(Clone, Copy)]
struct Source {
    descriptor: i32,
    /// What `poll` is asked for.
    events: i16,
    /// The place in `DESCRIPTORS`, by which it is known again.
    kept: Option<usize>,
}

/// What the background thread waits on.
pub(crate) struct Watch {
    sources: [Option<Source>; KEPT],
}

impl Watch {
    /// Opens what there is to be opened. `None` where nothing tells of pressure.
    pub(crate) fn open() -> Option<Self> {
        let mut watch = Self { sources: [None; KEPT] };
        let (mut stall, mut events, mut level) = (None, None, None);
        env::with_memory_groups(&mut |group| match group {
            Group::Unified(root, path) => {
                stall = stall.or_else(|| env::below(root, path, b"/memory.pressure", trigger));
                events = events.or_else(|| env::below(root, path, b"/memory.events", memory_events));
            }
            Group::Memory(root, path) => {
                level = level.or_else(|| {
                    env::below(root, path, b"/memory.pressure_level", |pressure| {
                        env::below(root, path, b"/cgroup.event_control", |control| {
                            level_of(pressure, control)
                        })
                    })
                });
            }
        });
        watch.keep(STALL, stall.or_else(|| trigger(c"/proc/pressure/memory")), libc::POLLPRI);
        watch.keep(EVENTS, events, libc::POLLPRI);
        watch.keep(LEVEL, level, libc::POLLIN);
        if !watch.has_source() {
            return None;
        }
        if let Some([read, write]) = new_pipe() {
            watch.keep(WAKE, Some(read), libc::POLLIN);
            DESCRIPTORS[WAKE_WRITE].set(write);
        }
        Some(watch)
    }

    fn keep(&mut self, place: usize, descriptor: Option<i32>, events: i16) {
        if let Some(descriptor) = descriptor {
            DESCRIPTORS[place].set(descriptor);
            self.sources[place] = Some(Source { descriptor, events, kept: Some(place) });
        }
    }

    fn has_source(&self) -> bool {
        self.sources[STALL..].iter().any(Option::is_some)
    }

    /// Waits for pressure, for so many milliseconds at most; 0 for without end.
    pub(crate) fn wait(&mut self, ms: u32) -> Waited {
        if !self.has_source() {
            return Waited::Lost;
        }
        let mut polled = self.sources.map(|source| match source {
            Some(source) => libc::pollfd { fd: source.descriptor, events: source.events, revents: 0 },
            None => libc::pollfd { fd: -1, events: 0, revents: 0 },
        });
        let timeout = if ms == 0 { -1 } else { ms as libc::c_int };
        let (ready, error) = keep_errno(|| {
            // SAFETY: `polled` is an array of that many entries, writable for the call.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
            (ready, super::errno())
        });
        if ready < 0 {
            return if error == libc::EINTR { Waited::Time } else { Waited::Lost };
        }
        let mut waited = Waited::Time;
        for (place, polled) in polled.iter().enumerate().filter(|(_, polled)| polled.revents != 0) {
            let real = polled.revents & polled.events != 0 && self.acknowledge(place);
            if !real {
                // Closed by the program, or its group is gone.
                self.sources[place] = None;
            } else if place != WAKE {
                waited = Waited::Pressure;
            }
        }
        waited
    }

    /// Makes a source that spoke silent until the next time. False where it is not what was opened.
    fn acknowledge(&self, place: usize) -> bool {
        let Some(source) = self.sources[place] else { return false };
        if source.kept.is_some_and(|kept| DESCRIPTORS[kept].get() != Some(source.descriptor)) {
            return false;
        }
        // A trigger is silenced by having been polled, `memory.events` by being read from its start, an eventfd
        // or a pipe by being read. Of a group that is gone nothing can be read.
        if source.events == libc::POLLPRI {
            reread(source.descriptor)
        } else {
            let mut count = [0_u8; 8];
            let (buffer, length) = (count.as_mut_ptr().cast(), count.len());
            // SAFETY: the buffer is writable for its length.
            keep_errno(|| unsafe { libc::read(source.descriptor, buffer, length) });
            true
        }
    }
}

/// Reads a file's start: it says no more that it has changed.
fn reread(descriptor: i32) -> bool {
    let mut text = [0_u8; 256];
    // SAFETY: the buffer is writable for its length.
    keep_errno(|| unsafe { libc::pread(descriptor, text.as_mut_ptr().cast(), text.len(), 0) }) >= 0
}

/// Ends the wait of another thread.
pub(crate) fn wake() {
    if let Some(descriptor) = DESCRIPTORS[WAKE_WRITE].get() {
        write(descriptor, &[1]);
    }
}

/// Closes what is kept: at the end of the thread that waits, and in a fork's child.
pub(crate) fn close_all() {
    DESCRIPTORS.iter().for_each(Kept::close);
}

/// A PSI file with a trigger.
fn trigger(name: &CStr) -> Option<i32> {
    let descriptor = open(name, libc::O_RDWR | libc::O_NONBLOCK)?;
    if TRIGGERS.iter().any(|trigger| write(descriptor, trigger.to_bytes_with_nul())) {
        return Some(descriptor);
    }
    close(descriptor);
    None
}

/// A group's count of what happened to it; the kernel tells when one changes.
fn memory_events(name: &CStr) -> Option<i32> {
    let descriptor = open(name, libc::O_RDONLY | libc::O_NONBLOCK)?;
    reread(descriptor);
    Some(descriptor)
}

/// An eventfd that speaks when a group of version 1 has to look for memory with little success.
fn level_of(pressure: &CStr, control: &CStr) -> Option<i32> {
    let pressure = open(pressure, libc::O_RDONLY)?;
    let control = open(control, libc::O_WRONLY);
    let event = new_eventfd();
    let mut done = false;
    if let (Some(control), Some(event)) = (control, event) {
        let mut line = [0; 64];
        let length = registration(&mut line, event, pressure);
        done = write(control, &line[..length]);
    }
    // The kernel knows the eventfd from here on; the other two have done their part.
    for descriptor in [Some(pressure), control, event.filter(|_| !done)].into_iter().flatten() {
        close(descriptor);
    }
    event.filter(|_| done)
}

/// "EVENT FILE medium".
fn registration(line: &mut [u8; 64], event: i32, file: i32) -> usize {
    let mut length = 0;
    let mut put = |byte| {
        line[length] = byte;
        length += 1;
    };
    for number in [event, file] {
        let mut divisor = 1_000_000_000;
        while divisor > 1 && number < divisor {
            divisor /= 10;
        }
        while divisor > 0 {
            put(b'0' + (number / divisor % 10) as u8);
            divisor /= 10;
        }
        put(b' ');
    }
    b"medium".iter().for_each(|byte| put(*byte));
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watch on a pipe, which stands for the kernel's word, and where to write.
    fn simulated() -> (Watch, [i32; 2]) {
        let ends = new_pipe().expect("a pipe");
        let mut sources = [None; KEPT];
        sources[EVENTS] = Some(Source { descriptor: ends[0], events: libc::POLLIN, kept: None });
        (Watch { sources }, ends)
    }

    #[test]
    fn a_wait_ends_with_time_or_with_an_event() {
        let (mut watch, ends) = simulated();
        assert_eq!(watch.wait(1), Waited::Time);
        for _ in 0..3 {
            assert!(write(ends[1], &[7]));
            assert_eq!(watch.wait(0), Waited::Pressure);
            // It was told, and is silent.
            assert_eq!(watch.wait(1), Waited::Time);
        }
        ends.into_iter().for_each(close);
    }

    #[test]
    fn a_source_that_somebody_closed_is_given_up() {
        let mut sources = [None; KEPT];
        // A number that nobody has.
        sources[EVENTS] = Some(Source { descriptor: i32::MAX, events: libc::POLLPRI, kept: None });
        let mut watch = Watch { sources };
        assert_eq!(watch.wait(0), Waited::Time);
        assert_eq!(watch.wait(0), Waited::Lost);
    }

    #[test]
    fn a_descriptor_is_known_again() {
        let kept = Kept::new();
        assert_eq!(kept.get(), None);
        let descriptor = open(c"/proc/self/stat", libc::O_RDONLY).expect("a file");
        kept.set(descriptor);
        assert_eq!(kept.get(), Some(descriptor));
        // Another file takes its number.
        let other = open(c"/dev/null", libc::O_RDONLY).expect("a file");
        // SAFETY: replaces a descriptor of this test by another of this test.
        assert_eq!(unsafe { libc::dup2(other, descriptor) }, descriptor);
        assert_eq!(kept.get(), None);
        kept.close();
        assert!(identity(descriptor).is_some(), "what is not ours is not closed");
        close(other);
        close(descriptor);
    }

    #[test]
    fn a_pipe_is_known_from_another() {
        let kept = Kept::new();
        let ours = new_pipe().expect("a pipe");
        kept.set(ours[1]);
        // The program closes what it does not know, and a pipe of its own gets the number.
        let theirs = new_pipe().expect("a pipe");
        // SAFETY: replaces a descriptor of this test by another of this test.
        assert_eq!(unsafe { libc::dup2(theirs[1], ours[1]) }, ours[1]);
        assert_eq!(kept.get(), None);
        [ours, theirs].into_iter().flatten().for_each(close);
    }

    #[test]
    fn a_registration_names_both_descriptors() {
        let mut line = [0; 64];
        for (event, file, expected) in [(3, 0, "3 0 medium"), (1023, 65_536, "1023 65536 medium")] {
            let length = registration(&mut line, event, file);
            assert_eq!(&line[..length], expected.as_bytes());
        }
    }

    #[test]
    fn the_machine_tells_of_pressure_or_not() {
        if let Some(mut watch) = Watch::open() {
            assert_ne!(watch.wait(1), Waited::Lost);
        }
        close_all();
        assert!(DESCRIPTORS.iter().all(|kept| kept.get().is_none()));
    }
}
