//! Threads of a Rust program: many of them, at once and one after another, and what they do while they end.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::heap::{figure, memory};
use crate::{count, handle, on};

unsafe extern "C" {
    fn pthread_key_create(key: *mut c_uint, destructor: Option<unsafe extern "C" fn(*mut c_void)>) -> c_int;
    fn pthread_setspecific(key: c_uint, value: *const c_void) -> c_int;
}

/// Allocates in several classes and as pages, and frees what it made before, on a thread that is ending.
struct Late {
    made: Vec<Vec<u64>>,
}

impl Late {
    fn new() -> Self {
        Self { made: made() }
    }
}

fn made() -> Vec<Vec<u64>> {
    (0..12).map(|shift| vec![7; 1 << shift]).collect()
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Late {
    fn drop(&mut self) {
        let sum: u64 = self.made.iter().flatten().sum();
        assert_eq!(sum, 7 * 4095);
        self.made = made();
        self.made.iter_mut().for_each(|made| made.resize(made.len() * 3, 8));
        self.made.clear();
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    /// The value that the key's destructor gets.
    static ROUND: Cell<usize> = const { Cell::new(0) };
}

static KEY: AtomicUsize = AtomicUsize::new(0);

/// A key's destructor that asks to be run again until the C library has had enough: the last rounds come when the
/// thread's cache is gone.
unsafe extern "C" fn at_exit(value: *mut c_void) {
    // SAFETY: the value is a `Late` that the thread, or the round before, gave up.
    drop(unsafe { Box::from_raw(value.cast::<Late>()) });
    let round = ROUND.get() + 1;
    ROUND.set(round);
    if round < 4 {
        set_specific();
    }
}

fn set_specific() {
    let key = KEY.load(Ordering::Relaxed) as c_uint;
    let value: *const Late = Box::into_raw(Box::new(Late::new()));
    // SAFETY: the key was created; the destructor takes the value over.
    assert_eq!(unsafe { pthread_setspecific(key, value.cast()) }, 0);
}

#[test]
fn destructors_run_before_and_after_the_cache_is_gone() {
    if !on("plain", "threads::destructors_run_before_and_after_the_cache_is_gone") {
        return;
    }
    let mut key = 0;
    // SAFETY: the key is written; the destructor is a function of this program.
    assert_eq!(unsafe { pthread_key_create(&raw mut key, Some(at_exit)) }, 0);
    KEY.store(key as usize, Ordering::Relaxed);
    let live = |threads: usize| {
        for _ in 0..threads {
            let ends = || {
                LATE.with(|late| *late.borrow_mut() = Some(Late::new()));
                set_specific();
            };
            thread::spawn(ends).join().expect("the thread ends");
        }
        count()
    };
    let before = live(20);
    let after = live(500);
    assert_eq!(DROPPED.load(Ordering::Relaxed), 520 * 5);
    assert_eq!(after.live_objects, before.live_objects, "nothing is lost with a thread");
    assert_eq!(after.pages.run, before.pages.run);
}

#[test]
fn twenty_thousand_threads_one_after_another() {
    if !on("plain", "threads::twenty_thousand_threads_one_after_another") {
        return;
    }
    let some = |threads: usize| {
        for number in 0..threads {
            let passed = thread::spawn(move || {
                let made: Vec<_> = (1..30).map(|step| vec![number as u8; step * 37 % 2000]).collect();
                // Half of it is freed by another thread.
                (made.iter().skip(15).cloned().collect::<Vec<_>>(), made.len()).0
            });
            drop(passed.join().expect("the thread ends"));
        }
        (memory(), count())
    };
    let ((mapped, resident), before) = some(500);
    let ((mapped_now, resident_now), after) = some(20_000);
    assert_eq!(after.live_objects, before.live_objects);
    assert!(
        resident_now <= resident + (2 << 20),
        "{resident} resident after 500 threads, {resident_now} now"
    );
    assert!(mapped_now <= mapped + (4 << 20), "{mapped} mapped after 500 threads, {mapped_now} now");
}

#[test]
fn a_thousand_threads_at_once() {
    if !on("plain", "threads::a_thousand_threads_at_once") {
        return;
    }
    let round = || {
        let barrier = Arc::new(Barrier::new(1_000));
        let spawn = |number: usize| {
            let barrier = Arc::clone(&barrier);
            let work = move || {
                let mine: Vec<_> = (0..40).map(|step| vec![number as u8; step * 13]).collect();
                barrier.wait();
                assert!(mine.iter().flatten().all(|byte| *byte == number as u8));
            };
            thread::Builder::new().stack_size(128 << 10).spawn(work).expect("a thread starts")
        };
        let threads: Vec<_> = (0..1_000).map(spawn).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
        handle().trim();
        (memory().1, count())
    };
    let (resident, before) = round();
    for _ in 0..3 {
        round();
    }
    let (resident_now, after) = round();
    assert_eq!(after.live_objects, before.live_objects);
    assert!(resident_now <= resident + (4 << 20), "{resident} resident after one round, {resident_now} now");
    let mut zoneinfo = String::with_capacity(400_000);
    pcpmalloc::zoneinfo(&mut zoneinfo).expect("a string takes all");
    // A cache is some 2.5 KiB, and a thread's sheaves of the few classes that it used some more.
    let meta = figure(&zoneinfo, "meta") << 12;
    assert!(meta <= 16 << 20, "{meta} bytes of records for 1,000 threads");
}

#[test]
fn threads_start_processes() {
    if !on("plain", "threads::threads_start_processes") {
        return;
    }
    let start = |number: usize| {
        thread::spawn(move || {
            for round in 0..15 {
                let word = format!("{number} {round} {}", "x".repeat(round * 100));
                let output = Command::new("echo").arg(&word).output().expect("echo starts");
                assert_eq!(output.stdout.strip_suffix(b"\n"), Some(word.as_bytes()));
            }
        })
    };
    let threads: Vec<_> = (0..4).map(start).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
    count();
}
