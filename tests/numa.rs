//! Memory nodes of the machine that the tests run on: a heap has as many zones as the machine has nodes with
//! processors, and what a thread gets and touches is on its node. With one node that is little, and still all of it.

#[path = "common/heap.rs"]
mod heap;

use std::fs::{create_dir_all, read_to_string, remove_dir_all, write};
use std::process::Command;

use heap::{ALONE, Block, Random, layout};
use pcpmalloc::{Config, Hugepages, Instance};

const MIB: usize = 1 << 20;

/// The numbers of a list like `0-3,8`.
fn numbers(list: &str) -> Vec<usize> {
    let parts = list.trim().split(',').filter(|part| !part.is_empty());
    parts
        .flat_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            first.parse().expect("a number")..=last.parse().expect("a number")
        })
        .collect()
}

/// The nodes that have processors; one where the machine does not say.
fn nodes() -> Vec<usize> {
    read_to_string("/sys/devices/system/node/has_cpu").map_or(vec![0], |list| numbers(&list))
}

/// The calling thread's memory policy, `None` where the system does not tell.
fn policy() -> Option<i32> {
    let mut mode = -1_i32;
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: writes the mode to the place given, and nothing else.
    let result =
        unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, none, 0_usize, none, 0_usize) };
    (result == 0).then_some(mode)
}

/// The node that a touched byte is on.
fn node_of(byte: *const u8) -> Option<usize> {
    const NODE_OF_ADDRESS: usize = 3;
    let mut node = -1_i32;
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: writes the node to the place given, and nothing else.
    let result = unsafe {
        libc::syscall(libc::SYS_get_mempolicy, &raw mut node, none, 0_usize, byte, NODE_OF_ADDRESS)
    };
    (result == 0).then_some(node as usize)
}

/// Makes the calling thread run on this processor. False where it may not.
fn run_on(cpu: usize) -> bool {
    // SAFETY: an all-zero set is an empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: sets a bit of it, if it has that one.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the set, which has this size.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0 }
}

#[test]
fn a_large_heap_has_a_zone_a_node_and_memory_is_near() {
    let nodes = nodes();
    if policy().is_some_and(|mode| mode != 0) {
        println!("skipped: the tests run under a memory policy");
        return;
    }
    let heap = Instance::new(Config { hugepages: Hugepages::Off, ..Config::new() }).expect("an instance");
    let report = || {
        let mut text = String::new();
        pcpmalloc::instance_buddyinfo(&heap, &mut text).expect("a report");
        text
    };
    // A small heap does not ask.
    let first = Block::new(&heap, layout(MIB, 8), 1).expect("memory");
    assert_eq!(report().lines().count(), 1);
    let more: Vec<_> = (0..16).map(|_| Block::new(&heap, layout(MIB, 8), 2).expect("memory")).collect();
    let text = report();
    assert_eq!(text.lines().count(), nodes.len().min(8), "{nodes:?}: {text}");
    for (line, node) in text.lines().zip(&nodes) {
        assert!(line.starts_with(&format!("Node {node}, zone   Normal ")), "{nodes:?}: {text}");
    }
    let mut asked = 0;
    for node in nodes.iter().take(8) {
        let list = read_to_string(format!("/sys/devices/system/node/node{node}/cpulist")).unwrap_or_default();
        if !numbers(&list).into_iter().any(run_on) {
            println!("skipped: no processor of node {node} may be used");
            continue;
        }
        // More than what is left of the first arenas, which are bound to none.
        let blocks: Vec<_> = (0..64).map(|_| Block::new(&heap, layout(MIB, 8), 3).expect("memory")).collect();
        let near = |block: &&Block| node_of(block.address) == Some(*node);
        if node_of(blocks[63].address).is_none() {
            println!("skipped: get_mempolicy is forbidden");
        } else {
            let count = blocks.iter().filter(near).count();
            assert!(count >= 48, "{count} of 64 blocks are on node {node}");
            asked += 1;
        }
        blocks.into_iter().for_each(|block| block.free(&heap));
    }
    println!("{asked} of {} nodes looked at", nodes.len());
    more.into_iter().chain([first]).for_each(|block| block.free(&heap));
    heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
}

/// Threads on both processors allocate and pass every other block on; then everything is freed and counted.
fn pass_around(heap: &Instance) {
    let rest: Vec<Vec<Block>> = std::thread::scope(|scope| {
        let (to_other, from_first) = std::sync::mpsc::channel::<Block>();
        let (to_first, from_other) = std::sync::mpsc::channel::<Block>();
        let ends = [(0, to_other, from_other), (1, to_first, from_first)];
        let work = ends.map(|(cpu, to, from)| {
            scope.spawn(move || {
                run_on(cpu);
                let (mut random, mut blocks) = (Random(cpu as u64), Vec::new());
                for round in 0..20_000 {
                    let size = if round % 50 == 0 { random.below(MIB) } else { random.below(3000) } + 1;
                    let block = Block::new(heap, layout(size, 8), cpu as u8).expect("memory");
                    // The other one may have ended: then the block comes back.
                    let kept =
                        if round % 2 == 0 { to.send(block).err().map(|error| error.0) } else { Some(block) };
                    blocks.extend(kept);
                    blocks.extend(from.try_iter());
                    while blocks.len() > 200 {
                        blocks.swap_remove(random.below(200)).free(heap);
                    }
                }
                drop(to);
                blocks.extend(from.iter());
                blocks
            })
        });
        work.map(|thread| thread.join().expect("a thread")).into()
    });
    heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
    rest.into_iter().flatten().for_each(|block| block.free(heap));
    heap.trim();
    let usage = heap.validate().unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!((usage.live_objects, usage.pages.run, usage.pages.slab), (0, 0, 0));
}

/// The files of a machine with a node for each of two processors, mounted over the real ones for one process alone. What
/// reads them, the processors that threads run on, and all zones are real then; only the memory is not.
#[test]
fn a_machine_that_says_it_has_two_nodes() {
    const NAME: &str = "a_machine_that_says_it_has_two_nodes";
    if std::env::var(ALONE).is_ok_and(|test| test == NAME) {
        let heap = Instance::new(Config { hugepages: Hugepages::Off, ..Config::new() }).expect("an instance");
        pass_around(&heap);
        let mut text = String::new();
        pcpmalloc::instance_buddyinfo(&heap, &mut text).expect("a report");
        assert_eq!(
            text.lines().count(),
            if policy().is_some_and(|mode| mode != 0) { 1 } else { 2 },
            "{text}"
        );
        return;
    }
    let folder = std::env::temp_dir().join(format!("pcpmalloc-nodes-{}", std::process::id()));
    for (file, text) in [("has_cpu", "0-1\n"), ("node0/cpulist", "0\n"), ("node1/cpulist", "1\n")] {
        let path = folder.join(file);
        create_dir_all(path.parent().expect("a folder")).expect("a folder");
        write(path, text).expect("a file");
    }
    let mount =
        "mount --bind \"$1\" /sys/devices/system/node || { echo no-mount; exit 0; }; shift; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", mount, "sh"])
        .arg(&folder)
        .arg(std::env::current_exe().expect("a test has a file"))
        .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, NAME)
        .output();
    let removed = remove_dir_all(&folder);
    let text = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    match (&output, text) {
        (Ok(output), Ok(text)) if output.status.success() && text.contains("1 passed") => (),
        (Ok(output), Ok(text)) if text.contains("running 1 test") => {
            panic!("{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
        }
        _ => println!("skipped: no mount of one's own to be had (unshare, mount)"),
    }
    removed.expect("the folder is this test's");
}
