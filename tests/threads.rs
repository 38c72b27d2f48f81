//! Private heaps under many threads: blocks freed elsewhere, threads that come and go, heaps that go while threads have
//! caches of them, trimming and switching under load. Each test ends with a recount at rest.

#[path = "common/heap.rs"]
mod heap;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, RwLock};
use std::thread;

use heap::{Block, Random, alone, class_bytes, figure, layout, zoneinfo};
use pcpmalloc::{Config, Instance, Migratetype, Usage};

fn new_heap() -> Instance {
    Instance::new(Config::new()).expect("an instance")
}

/// Runs `work` on `count` threads and joins each: the end of a scope alone waits for their work, but not for their exit
/// handlers, which still use the heap.
fn on_threads(count: usize, work: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        let spawn = |number| {
            let work = &work;
            // Small stacks, so that a thousand fit anywhere.
            let thread = thread::Builder::new().stack_size(256 << 10);
            thread.spawn_scoped(scope, move || work(number)).expect("a thread starts")
        };
        let threads: Vec<_> = (0..count).map(spawn).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
    });
}

/// Counts again, of a heap in which nothing is live, and of which other threads' caches can be taken.
fn check_empty(heap: &Instance) -> Usage {
    let usage = heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!((usage.live_objects, usage.pages.run, usage.dedicated), (0, 0, 0));
    usage
}

/// A size such as programs ask for: mostly small, sometimes pages, rarely more than a pageblock.
fn some_size(random: &mut Random) -> usize {
    match random.below(1000) {
        0 => random.below(3 << 20),
        1..=9 => random.below(200_000),
        10..=99 => random.below(9000),
        _ => random.below(400),
    }
}

/// One thread's part of a churn: allocates, resizes, frees its own and others' blocks, and passes some on.
fn churn(heap: &Instance, seed: u64, rounds: usize, inbox: &Receiver<Block>, others: &[Sender<Block>]) {
    let mut random = Random(seed);
    let mut own: Vec<Block> = Vec::new();
    for _ in 0..rounds {
        match random.below(10) {
            0..=3 => {
                let layout = layout(some_size(&mut random), 1 << random.below(7));
                own.push(Block::new(heap, layout, random.below(255) as u8 + 1).expect("memory"));
            }
            4..=6 if !own.is_empty() => own.swap_remove(random.below(own.len())).free(heap),
            7 if !own.is_empty() => {
                let at = random.below(own.len());
                assert!(own[at].resize(heap, some_size(&mut random)));
            }
            8 if !own.is_empty() => {
                let block = own.swap_remove(random.below(own.len()));
                // A thread that has ended lets its blocks be freed here.
                if let Err(back) = others[random.below(others.len())].send(block) {
                    back.0.free(heap);
                }
            }
            _ => inbox.try_iter().take(3).for_each(|block| block.free(heap)),
        }
        while own.len() > 400 {
            own.swap_remove(random.below(own.len())).free(heap);
        }
    }
    own.into_iter().for_each(|block| block.free(heap));
}

/// Runs a churn on `threads` threads, and `meanwhile` on this one until they are done.
fn churn_on_all(heap: &Instance, threads: usize, rounds: usize, mut meanwhile: impl FnMut(usize)) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| channel()).unzip();
    let left = AtomicUsize::new(threads);
    let inboxes: Vec<_> = thread::scope(|scope| {
        let work = |(number, inbox): (usize, Receiver<Block>)| {
            let (senders, left) = (senders.clone(), &left);
            scope.spawn(move || {
                churn(heap, number as u64, rounds, &inbox, &senders);
                left.fetch_sub(1, Ordering::Relaxed);
                inbox
            })
        };
        let workers: Vec<_> = receivers.into_iter().enumerate().map(work).collect();
        let mut turn = 0;
        while left.load(Ordering::Relaxed) > 0 {
            meanwhile(turn);
            turn += 1;
            thread::yield_now();
        }
        workers.into_iter().map(|worker| worker.join().expect("a worker ends")).collect()
    });
    inboxes.iter().flat_map(Receiver::try_iter).for_each(|block| block.free(heap));
}

#[test]
fn churn_with_frees_on_other_threads() {
    let heap = new_heap();
    churn_on_all(&heap, 8, 12_000, |_| ());
    check_empty(&heap);
    heap.trim();
    let usage = check_empty(&heap);
    // All of them have ended, so all that they cached can be taken back.
    assert_eq!((usage.cached_objects, usage.pages.slab, usage.pages.pcp), (0, 0, 0));
}

#[test]
fn churn_while_one_thread_trims() {
    let heap = new_heap();
    churn_on_all(&heap, 4, 8_000, |_| {
        heap.trim();
    });
    check_empty(&heap);
}

#[test]
fn churn_while_high_orders_go_on_and_off() {
    let heap = new_heap();
    churn_on_all(&heap, 4, 8_000, |turn| heap.set_pcp_high_orders(turn % 2 == 1));
    heap.set_pcp_high_orders(false);
    check_empty(&heap);
}

#[test]
fn churn_of_pages_while_high_orders_go_on_and_off() {
    let heap = new_heap();
    let left = AtomicUsize::new(4);
    thread::scope(|scope| {
        let spawn = |seed| {
            let (heap, left) = (&heap, &left);
            scope.spawn(move || {
                churn_pages(heap, seed);
                left.fetch_sub(1, Ordering::Relaxed);
            })
        };
        let threads: Vec<_> = (0..4).map(spawn).collect();
        for turn in 0_usize.. {
            heap.set_pcp_high_orders(turn % 2 == 1);
            if turn % 8 == 0 {
                heap.trim();
            }
            if left.load(Ordering::Relaxed) == 0 {
                break;
            }
            thread::yield_now();
        }
        threads.into_iter().for_each(|thread| thread.join().expect("a thread ends"));
    });
    check_empty(&heap);
    heap.trim();
    assert_eq!(check_empty(&heap).pages.pcp, 0);
}

/// Takes and frees blocks of pages of all orders up to a pageblock's, each marked at both ends.
fn churn_pages(heap: &Instance, seed: u64) {
    const TYPES: [Migratetype; 3] = [Migratetype::Unmovable, Migratetype::Movable, Migratetype::Reclaimable];
    let mut random = Random(seed);
    let mut own = Vec::new();
    let free = |(address, order, mark): (*mut u64, u32, u64)| {
        let last = (512 << order) - 1;
        // SAFETY: the block has 512 << order words, and both were written when it was taken.
        let ends = [address, address.wrapping_add(last)].map(|end| unsafe { end.read() });
        assert_eq!(ends, [mark, mark], "order {order} at {address:p}");
        // SAFETY: the block came with this order and is freed once.
        unsafe { heap.free_pages(address.cast(), order) };
    };
    for round in 0..6_000 {
        let order = [0, 0, 0, 1, 2, 3, 9, 5][random.below(8)];
        let address = heap.alloc_pages(order, TYPES[random.below(3)]).cast::<u64>();
        assert!(!address.is_null());
        let mark = seed << 32 | round;
        let last = (512 << order) - 1;
        // SAFETY: the first word of the block.
        unsafe { address.write(mark) };
        // SAFETY: its last word.
        unsafe { address.wrapping_add(last).write(mark) };
        own.push((address, order, mark));
        while own.len() > random.below(40) {
            free(own.swap_remove(random.below(own.len())));
        }
    }
    own.into_iter().for_each(free);
}

#[test]
fn producers_and_a_consumer() {
    let heap = new_heap();
    let (sender, receiver) = channel::<Block>();
    let waiting = AtomicUsize::new(0);
    thread::scope(|scope| {
        let spawn = |seed| {
            let (heap, sender, waiting) = (&heap, sender.clone(), &waiting);
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..30_000 {
                    while waiting.load(Ordering::Relaxed) > 2_000 {
                        thread::yield_now();
                    }
                    let block =
                        Block::new(heap, layout(random.below(300), 8), seed as u8 + 1).expect("memory");
                    waiting.fetch_add(1, Ordering::Relaxed);
                    sender.send(block).expect("the consumer is there");
                }
            })
        };
        let producers: Vec<_> = (0..3).map(spawn).collect();
        drop(sender);
        for block in receiver {
            waiting.fetch_sub(1, Ordering::Relaxed);
            block.free(&heap);
        }
        producers.into_iter().for_each(|producer| producer.join().expect("a producer ends"));
    });
    let usage = check_empty(&heap);
    // At most some 2,000 blocks were under way at any time: the heap must not hold all that ever passed.
    assert!(usage.pages.managed <= (24 << 20) / 4096, "{usage:?}");
}

#[test]
fn caches_of_dead_threads_are_used_again() {
    let heap = new_heap();
    let round = |heap: &Instance, number: usize| {
        let size = 16 << (number % 9);
        let blocks: Vec<_> = (0..50).map(|_| Block::new(heap, layout(size, 8), 1).expect("memory")).collect();
        blocks.into_iter().for_each(|block| block.free(heap));
    };
    let meta_after = |threads: usize| {
        for number in 0..threads {
            on_threads(1, |_| round(&heap, number));
        }
        (figure(&zoneinfo(&heap), "meta"), zoneinfo(&heap).matches("cpu:").count())
    };
    let before = meta_after(50);
    let after = meta_after(1_500);
    assert_eq!(after, before, "pages of records, and caches: more threads one after another need no more");
    assert!(before.1 <= 2, "one for the threads one after another, and one for this one: {before:?}");
    // Sixty at once need sixty, once.
    for _ in 0..5 {
        let barrier = Barrier::new(60);
        on_threads(60, |number| {
            round(&heap, number);
            barrier.wait();
        });
    }
    let caches = zoneinfo(&heap).matches("cpu:").count();
    assert!((60..=62).contains(&caches), "{caches} caches for 60 threads at once");
    check_empty(&heap);
}

#[test]
fn heaps_end_while_threads_have_caches_of_them() {
    const ROUNDS: usize = 40;
    let slots: RwLock<Option<Instance>> = RwLock::new(None);
    let (started, done) = (Barrier::new(4), Barrier::new(4));
    thread::scope(|scope| {
        for seed in 0..3 {
            let (slots, started, done) = (&slots, &started, &done);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    started.wait();
                    let heap = slots.read().expect("no panic");
                    let heap = heap.as_ref().expect("a heap");
                    let mut random = Random(seed << 32 | round as u64);
                    for _ in 0..200 {
                        let size = some_size(&mut random);
                        Block::new(heap, layout(size, 8), 5).expect("memory").free(heap);
                        // Some stay live when the heap goes.
                        Block::new(heap, layout(size % 4000, 8), 6).expect("memory");
                    }
                    done.wait();
                }
                // The last recount is over before this thread begins to end.
                started.wait();
            });
        }
        for _ in 0..ROUNDS {
            // Each has the number that the one before had, and another generation.
            *slots.write().expect("no panic") = Some(new_heap());
            started.wait();
            done.wait();
            let heap = slots.write().expect("no panic").take().expect("a heap");
            heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
        }
        started.wait();
    });
}

#[test]
fn a_thread_uses_more_heaps_than_its_table_holds() {
    let heaps: Vec<_> = (0..21).map(|_| new_heap()).collect();
    on_threads(2, |seed| {
        let mut random = Random(seed as u64);
        let mut live: Vec<Vec<Block>> = heaps.iter().map(|_| Vec::new()).collect();
        for _ in 0..20_000 {
            let at = random.below(heaps.len());
            if random.below(2) == 0 || live[at].is_empty() {
                let layout = layout(random.below(600), 8);
                live[at].push(Block::new(&heaps[at], layout, at as u8 + 1).expect("memory"));
            } else {
                let block = random.below(live[at].len());
                live[at].swap_remove(block).free(&heaps[at]);
            }
        }
        for (heap, blocks) in heaps.iter().zip(live) {
            blocks.into_iter().for_each(|block| block.free(heap));
        }
    });
    for heap in &heaps {
        check_empty(heap);
        // Two threads, coming back to it again and again.
        assert!(zoneinfo(heap).matches("cpu:").count() <= 3);
    }
}

thread_local! {
    static AT_EXIT: std::cell::RefCell<Option<AtExit>> = const { std::cell::RefCell::new(None) };
}

/// Uses its heap when its thread ends.
struct AtExit {
    heap: &'static Instance,
    blocks: Vec<Block>,
    ended: &'static AtomicUsize,
}

impl Drop for AtExit {
    fn drop(&mut self) {
        for block in self.blocks.drain(..) {
            block.free(self.heap);
        }
        let mut block = Block::new(self.heap, layout(100, 8), 4).expect("memory");
        assert!(block.resize(self.heap, 20_000));
        block.free(self.heap);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn thread_local_destructors_use_a_heap() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let heap: &'static Instance = Box::leak(Box::new(new_heap()));
    for number in 0..200 {
        thread::spawn(move || {
            // Registered before the heap's first use on this thread in half of the cases, after it in the others.
            let blocks = || (0..30).map(|_| Block::new(heap, layout(64, 8), 3).expect("memory")).collect();
            let early: Vec<Block> = if number % 2 == 0 { blocks() } else { Vec::new() };
            AT_EXIT.with(|at_exit| {
                *at_exit.borrow_mut() = Some(AtExit { heap, blocks: early, ended: &ENDED });
                at_exit.borrow_mut().as_mut().expect("set").blocks.extend(blocks());
            });
        })
        .join()
        .expect("the thread ends");
    }
    assert_eq!(ENDED.load(Ordering::Relaxed), 200);
    check_empty(heap);
}

#[test]
fn heaps_come_and_go_on_many_threads() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3 {
            let stop = &stop;
            scope.spawn(move || {
                for round in 0..150 {
                    let heap = new_heap();
                    let mut random = Random(seed << 32 | round);
                    for _ in 0..30 {
                        Block::new(&heap, layout(some_size(&mut random), 8), 1).expect("memory");
                    }
                    heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
                    // Dropped by its maker, or by a thread that never used it.
                    if round % 2 == 0 {
                        thread::spawn(move || drop(heap)).join().expect("it ends");
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
        // Threads that start and end meanwhile take and leave caches of a heap that stays.
        let heap = new_heap();
        while !stop.load(Ordering::Relaxed) {
            on_threads(1, |_| Block::new(&heap, layout(90, 8), 1).expect("memory").free(&heap));
        }
        check_empty(&heap);
    });
}

#[test]
fn a_limit_is_shared_by_all_threads() {
    const LIMIT: usize = 48 << 20;
    let heap = Instance::new(Config { limit: LIMIT, ..Config::new() }).expect("an instance");
    for size in [200, 3000, 20_000, 1 << 20] {
        let taken = AtomicUsize::new(0);
        let full = Barrier::new(4);
        on_threads(4, |number| {
            let fill = || Block::new(&heap, layout(size, 8), number as u8 + 1);
            let mut blocks: Vec<_> = std::iter::from_fn(fill).collect();
            taken.fetch_add(blocks.len() * size, Ordering::Relaxed);
            full.wait();
            // What one frees the others may have.
            while blocks.len() > 2 {
                blocks.swap_remove(blocks.len() / 2).free(&heap);
                blocks.pop().expect("more than two").free(&heap);
                blocks.extend(fill());
            }
            blocks.into_iter().for_each(|block| block.free(&heap));
        });
        let taken = taken.into_inner();
        // A few hundred objects of the class may wait in the sheaves of threads that then found nothing more.
        assert!((LIMIT / 2..=LIMIT).contains(&taken), "{taken} bytes in blocks of {size}");
        check_empty(&heap);
        heap.trim();
    }
}

#[test]
fn idle_threads_do_not_use_a_limit_up() {
    const LIMIT: usize = 16 << 20;
    const THREADS: usize = 4;
    let heap = Instance::new(Config { limit: LIMIT, ..Config::new() }).expect("an instance");
    let (idle, done) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let heap = &heap;
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (idle, done) = (&idle, &done);
            scope.spawn(move || {
                // Every size of large objects, often enough for its sheaf to grow as far as it may.
                for pages in (3..=64).cycle().take(6 * 62) {
                    let blocks: Vec<_> = (0..3)
                        .filter_map(|_| Block::new(heap, layout(pages << 12, 8), number as u8))
                        .collect();
                    blocks.into_iter().for_each(|block| block.free(heap));
                }
                idle.wait();
                done.wait();
            });
        }
        idle.wait();
        let blocks: Vec<_> =
            std::iter::from_fn(|| Block::new(heap, layout(1 << 20, 8), 9)).take(LIMIT >> 20).collect();
        let got = blocks.len();
        blocks.into_iter().for_each(|block| block.free(heap));
        done.wait();
        assert!(got >= (LIMIT >> 20) - 2, "{got} MiB beside idle threads");
    });
    check_empty(heap);
}

#[test]
fn a_thousand_threads_at_once() {
    if !alone("a_thousand_threads_at_once") {
        return;
    }
    let heap = new_heap();
    let barrier = Barrier::new(1_000);
    on_threads(1_000, |number| {
        let blocks: Vec<_> = (1..20)
            .map(|step| Block::new(&heap, layout(step * 40, 8), number as u8).expect("memory"))
            .collect();
        barrier.wait();
        blocks.into_iter().for_each(|block| block.free(&heap));
    });
    let usage = check_empty(&heap);
    let live: usize =
        (1..20).map(|step| class_bytes(layout(step * 40, 8)).expect("small")).sum::<usize>() * 1_000;
    // Twenty classes of a thousand threads: each thread's caches hold a few objects more of each.
    assert!(usage.pages.managed * 4096 <= 8 * live, "{usage:?} for {live} live bytes");
    heap.trim();
    assert_eq!(check_empty(&heap).pages.slab, 0);
}
