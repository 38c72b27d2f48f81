//! Forks of a Rust program with threads: the child allocates, frees, starts threads and forks again.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use crate::heap::{Random, all_are};
use crate::{count, handle, on};

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn alarm(seconds: u32) -> u32;
    fn pthread_create(
        thread: *mut usize,
        attributes: *const c_void,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_join(thread: usize, value: *mut *mut c_void) -> c_int;
}

/// Allocates on a thread made without the standard library, which takes a mutex of its own when a thread starts: in a
/// child it may be held by a thread that the child does not have.
fn allocate_on_a_thread(seed: u64) {
    extern "C" fn start(seed: *mut c_void) -> *mut c_void {
        allocate(seed.addr() as u64);
        std::ptr::null_mut()
    }
    let mut thread = 0;
    let argument = std::ptr::without_provenance_mut(seed as usize);
    // SAFETY: the thread's number is written; the argument is a number and no address.
    assert_eq!(unsafe { pthread_create(&raw mut thread, std::ptr::null(), start, argument) }, 0);
    // SAFETY: the thread was made just now and is joined once.
    assert_eq!(unsafe { pthread_join(thread, std::ptr::null_mut()) }, 0);
}

/// Forks, runs `work` in the child and returns its status as `waitpid` has it: 0 if `work` came to its end.
fn in_child(work: impl FnOnce()) -> c_int {
    // SAFETY: the child runs on as a copy with this thread alone; it uses what this test shows to work there.
    let child = unsafe { fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // A child that hangs dies by a signal, which its status says.
        // SAFETY: plain calls; `_exit` runs no handler of the harness's.
        unsafe { alarm(60) };
        // A panic must not go up into the harness's copy, which would run the other tests.
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: as above.
        unsafe { _exit(c_int::from(!passed)) };
    }
    let mut status = -1;
    // SAFETY: the status is writable.
    assert_eq!(unsafe { waitpid(child, &raw mut status, 0) }, child);
    status
}

/// Something of everything.
fn allocate(seed: u64) {
    let mut random = Random(seed);
    let mut map = HashMap::new();
    for _ in 0..300 {
        map.insert(random.below(100), vec![seed as u8; random.below(20_000)]);
    }
    assert!(map.values().all(|bytes| all_are(bytes, seed as u8)));
    // A mapping of its own, of which hardly anything is touched.
    let mut long = Vec::<u8>::with_capacity(40 << 20);
    long.push(1);
    long.reserve_exact(50 << 20);
    long.shrink_to_fit();
    assert_eq!(long, [1]);
}

#[test]
fn a_child_of_a_process_at_rest() {
    if !on("plain", "forks::a_child_of_a_process_at_rest") {
        return;
    }
    // Threads that have caches and stand still.
    let barrier = Arc::new(Barrier::new(5));
    let kept: Vec<_> = (0..1000).map(|number| vec![number as u8; number]).collect();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                allocate(seed);
                barrier.wait();
                barrier.wait();
                allocate(seed);
            })
        })
        .collect();
    barrier.wait();
    for seed in 0..5 {
        let status = in_child(|| {
            let before = count();
            allocate(seed);
            assert!(
                kept.iter().enumerate().all(|(number, bytes)| bytes.iter().all(|byte| *byte == number as u8))
            );
            let after = count();
            assert_eq!(after.live_objects, before.live_objects);
            // Frees the parent's blocks, starts threads of its own, and forks.
            drop(kept.iter().map(Vec::clone).collect::<Vec<_>>());
            allocate_on_a_thread(seed);
            handle().trim();
            count();
            assert_eq!(in_child(|| allocate(seed)), 0);
            count();
        });
        assert_eq!(status, 0, "child {seed}");
        count();
    }
    barrier.wait();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
    count();
}

#[test]
fn a_child_frees_what_other_threads_made() {
    if !on("plain", "forks::a_child_frees_what_other_threads_made") {
        return;
    }
    let made = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let spawn = |seed: u8| {
            let made = &made;
            scope.spawn(move || {
                let blocks: Vec<_> = (0..2000).map(|size| vec![seed; size % 700]).collect();
                made.lock().expect("no panic").extend(blocks);
            })
        };
        let threads: Vec<_> = (0..4).map(spawn).collect();
        // To the end of their exit handlers, which the scope alone would not wait for.
        threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
    });
    let status = in_child(|| {
        made.lock().expect("no panic").clear();
        handle().trim();
        count();
    });
    assert_eq!(status, 0);
    count();
}

#[test]
fn children_while_threads_work() {
    if !on("plain", "forks::children_while_threads_work") {
        return;
    }
    static STOP: AtomicBool = AtomicBool::new(false);
    static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    let work = |seed: u64| {
        thread::spawn(move || {
            let mut random = Random(seed);
            let mut own = Vec::new();
            while !STOP.load(Ordering::Relaxed) {
                own.push(vec![1_u8; random.below(30_000)]);
                while own.len() > random.below(200) {
                    own.swap_remove(random.below(own.len()));
                }
                if seed == 0 && random.below(50) == 0 {
                    handle().trim();
                }
                if random.below(100) == 0 {
                    thread::spawn(|| drop(vec![3_u8; 300])).join().expect("a thread ends");
                }
                ROUNDS.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let threads: Vec<_> = (0..3).map(work).collect();
    for seed in 0..40 {
        let status = in_child(|| {
            allocate(seed);
            allocate_on_a_thread(seed);
            handle().trim();
            allocate(seed);
        });
        assert_eq!(status, 0, "child {seed}");
    }
    STOP.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
    assert!(ROUNDS.load(Ordering::Relaxed) > 100, "the threads worked");
    count();
}
