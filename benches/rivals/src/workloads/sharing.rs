//! Two threads that write to small objects of their own, as in the cache-thrash and cache-scratch programs of the Hoard
//! paper: slow, where the allocator gives both of them objects on one cache line.

use std::hint::black_box;
use std::sync::Barrier;

use super::Named;
use super::crew::{Member, measure_crew};
use super::meter::Figures;

pub const ALL: Named = &[("sharing-active", active), ("sharing-passive", passive), ("sharing-warm", warm)];

const THREADS: usize = 2;
/// The threads wait for each other this often, lest one has ended before a busy machine lets the other begin.
const ROUNDS: u64 = 50;
/// Objects of each thread in a round.
const OBJECTS: u64 = 40_000;
/// How often each object is written: enough that sharing shows, few enough that the allocator does.
const WRITES: u64 = 8;

/// The allocator itself puts objects of two threads on one line.
fn active() -> Figures {
    each_thread([None, None], 0)
}

/// Objects that one thread has allocated side by side go to both threads, which free them and go on with their own.
fn passive() -> Figures {
    each_thread(neighbours().map(Some), 0)
}

/// The same, once the threads have objects of their own in their caches.
fn warm() -> Figures {
    each_thread(neighbours().map(Some), 1000)
}

/// Each thread frees the object it is given, after `before` of its own.
fn each_thread(given: [Option<Box<u64>>; THREADS], before: u64) -> Figures {
    let meet = &Barrier::new(THREADS);
    let member = |object: Option<Box<u64>>| -> Member {
        Box::new(move || {
            (0..before).for_each(|number| write(Box::new(number)));
            object.into_iter().for_each(write);
            for _ in 0..ROUNDS {
                meet.wait();
                (0..OBJECTS).for_each(|number| write(Box::new(number)));
            }
        })
    };
    measure_crew(THREADS as u64 * ROUNDS * OBJECTS, given.into_iter().map(member).collect())
}

/// Two objects on one cache line, where any two of a few allocated in a row are.
fn neighbours() -> [Box<u64>; THREADS] {
    let mut objects: Vec<Box<u64>> = (0..16).map(Box::new).collect();
    objects.sort_by_key(address);
    let on_one_line = |place: &usize| line(&objects[place - 1]) == line(&objects[*place]);
    let place = (1..objects.len()).find(on_one_line).unwrap_or(1);
    [objects.remove(place), objects.remove(place - 1)]
}

/// Writes the object as often as it is to be, and frees it.
fn write(mut object: Box<u64>) {
    for value in 0..WRITES {
        *object = value;
        black_box(&mut object);
    }
}

#[expect(clippy::borrowed_box, reason = "where the box points is what is asked")]
fn address(object: &Box<u64>) -> usize {
    (&raw const **object).addr()
}

#[expect(clippy::borrowed_box, reason = "as above")]
fn line(object: &Box<u64>) -> usize {
    address(object) / 64
}
