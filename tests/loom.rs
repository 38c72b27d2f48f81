//! The protocols that threads meet by, under every schedule and memory order that loom can think of. The code is
//! the crate's own: under `--cfg loom` it is compiled on loom's atomics.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom --target-dir target/loom`
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicPtr;
use loom::thread;
use pcpmalloc::loom_exports::{Bracket, Lock, publish, published, put, take};

/// A number that loom watches: two accesses that nothing orders, one of them a write, fail the model.
struct Watched(UnsafeCell<u32>);

impl Watched {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn add(&mut self, number: u32) {
        // SAFETY: the pointer is good for the call; loom reports it if another thread is at the value.
        self.0.with_mut(|value| unsafe { *value += number });
    }

    fn get(&self) -> u32 {
        // SAFETY: as in `add`.
        self.0.with(|value| unsafe { *value })
    }
}

/// Runs a model with a bound on involuntary thread switches, which three threads need to end soon.
fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

/// `threads` threads, this one among them, each take the lock once.
fn add_under_lock(threads: u32) {
    let lock = Arc::new(Lock::new(Watched::new()));
    let others: Vec<_> = (1..threads)
        .map(|number| {
            let lock = lock.clone();
            thread::spawn(move || lock.lock().add(1 << (8 * number)))
        })
        .collect();
    lock.lock().add(1);
    others.into_iter().for_each(|other| other.join().expect("no panic"));
    let each_once = (0..threads).map(|number| 1 << (8 * number)).sum();
    assert_eq!(lock.lock().get(), each_once);
}

// A sleeper that nobody wakes is a deadlock, and loom reports it.

#[test]
fn a_lock_excludes_and_wakes_two() {
    loom::model(|| add_under_lock(2));
}

#[test]
fn a_lock_excludes_and_wakes_three() {
    model(2, || add_under_lock(3));
}

#[test]
fn a_lock_is_taken_again_and_again() {
    model(3, || {
        let lock = Arc::new(Lock::new(Watched::new()));
        let other = {
            let lock = lock.clone();
            thread::spawn(move || (0..2).for_each(|_| lock.lock().add(1)))
        };
        (0..2).for_each(|_| lock.lock().add(16));
        other.join().expect("no panic");
        assert_eq!(lock.lock().get(), 2 + 32);
    });
}

/// A remote visitor of a bracket; says whether it got in.
fn visit(bracket: &Arc<Bracket<Watched>>, number: u32) -> thread::JoinHandle<u32> {
    let bracket = bracket.clone();
    thread::spawn(move || match bracket.remote() {
        Some(mut inside) => {
            inside.add(number);
            number
        }
        None => 0,
    })
}

/// The owner goes in `times` times; says what it added.
fn own(bracket: &Bracket<Watched>, times: u32) -> u32 {
    let mut added = 0;
    for _ in 0..times {
        // SAFETY: called on the model's first thread only, which owns the bracket.
        if let Some(mut inside) = unsafe { bracket.owner() } {
            inside.add(1);
            added += 1;
        }
    }
    added
}

#[test]
fn a_bracket_keeps_owner_and_remote_apart() {
    loom::model(|| {
        let bracket = Arc::new(Bracket::new(Watched::new()));
        let remote = visit(&bracket, 16);
        let mut added = own(&bracket, 2);
        added += remote.join().expect("no panic");
        // With everybody gone both sides are open again.
        added += own(&bracket, 1);
        let inside = bracket.remote().expect("nobody is inside");
        assert!(inside.get() == added && added % 16 > 0);
    });
}

#[test]
fn a_bracket_keeps_two_remotes_apart() {
    model(2, || {
        let bracket = Arc::new(Bracket::new(Watched::new()));
        let remotes = [visit(&bracket, 16), visit(&bracket, 256)];
        let mut added = own(&bracket, 1);
        for remote in remotes {
            added += remote.join().expect("no panic");
        }
        assert_eq!(bracket.remote().expect("nobody is inside").get(), added);
    });
}

#[test]
fn the_owner_is_not_let_in_twice() {
    loom::model(|| {
        let bracket = Bracket::new(Watched::new());
        // SAFETY: this thread owns the bracket.
        let inside = unsafe { bracket.owner() }.expect("nobody is inside");
        // SAFETY: as above: a signal handler that interrupts the owner is the same thread.
        assert!(unsafe { bracket.owner() }.is_none());
        assert!(bracket.remote().is_none());
        drop(inside);
        assert!(bracket.remote().is_some());
    });
}

/// Takes what is there, adds to it as its only holder, and says what it holds now; 0 for nothing.
fn take_and_add(place: &AtomicPtr<Watched>) -> u32 {
    let value = take(place);
    if value.is_null() {
        return 0;
    }
    // SAFETY: the address is of a box that was put, and taking it made this thread its only holder.
    let mut value = unsafe { Box::from_raw(value) };
    value.add(1);
    value.get()
}

#[test]
fn what_is_put_is_taken_once() {
    model(3, || {
        let place = Arc::new(AtomicPtr::new(std::ptr::null_mut()));
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let place = place.clone();
                thread::spawn(move || take_and_add(&place))
            })
            .collect();
        // As a thread with its spare sheaf: it takes what is left of the last one before it puts the next.
        let mut held = 0;
        for number in [16, 256] {
            held += take_and_add(&place);
            let mut value = Box::new(Watched::new());
            value.add(number);
            put(&place, Box::into_raw(value));
        }
        for taker in takers {
            held += taker.join().expect("no panic");
        }
        held += take_and_add(&place);
        // Each value was taken by just one thread, which saw all of it.
        assert_eq!(held, 17 + 257);
    });
}

#[test]
fn what_is_published_is_seen_whole_and_stays() {
    loom::model(|| {
        let place = Arc::new(AtomicPtr::new(std::ptr::null_mut()));
        let make = |place: &AtomicPtr<Watched>, number| {
            let mut value = Box::new(Watched::new());
            value.add(number);
            let value = Box::into_raw(value);
            if !publish(place, value) {
                // SAFETY: it was not published, so nobody else has the address.
                drop(unsafe { Box::from_raw(value) });
            }
            let seen = published(place);
            // SAFETY: published values stay until the model ends, and nobody writes to them.
            unsafe { seen.as_ref() }.expect("somebody published").get()
        };
        let other = {
            let place = place.clone();
            thread::spawn(move || make(&place, 1))
        };
        let mine = make(&place, 2);
        assert_eq!(mine, other.join().expect("no panic"));
        // SAFETY: both threads are done with it, and it came from `Box::into_raw`.
        drop(unsafe { Box::from_raw(take(&place)) });
    });
}
