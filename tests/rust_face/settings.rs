//! The builder methods of `PcpMalloc`, the variables that go before them, and the switch at run time.

use std::alloc::{alloc, dealloc};
use std::hint::black_box;
use std::process::Command;

use crate::heap::{figure, layout, memory};
use crate::{LIMIT, count, handle, on};

fn zoneinfo() -> String {
    let mut text = String::with_capacity(100_000);
    pcpmalloc::zoneinfo(&mut text).expect("a string takes all");
    text
}

/// Touches 100 MiB in blocks that keep no address. Returns how much the process grew.
fn grow(block: usize) -> usize {
    let before = memory().1;
    let blocks: Vec<_> = (0..(100 << 20) / block).map(|_| vec![1_u8; block]).collect();
    let after = memory().1;
    drop(blocks);
    after - before
}

/// Bytes of hugepages that this process has.
fn hugepages() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux says what backs a process");
    let line = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

#[test]
fn a_limit() {
    if !on("limited", "settings::a_limit") {
        return;
    }
    for size in [100, 5_000, 70_000, 3 << 20] {
        let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(LIMIT / size);
        let mut bytes = 0;
        loop {
            let mut block = Vec::new();
            if block.try_reserve_exact(size).is_err() {
                break;
            }
            block.resize(size, 1);
            bytes += size;
            blocks.push(block);
        }
        assert!((LIMIT / 2..=LIMIT).contains(&bytes), "{bytes} in blocks of {size}");
        assert!(Vec::<u8>::new().try_reserve_exact(LIMIT).is_err());
        blocks.truncate(blocks.len() / 2);
        drop(vec![1_u8; 10 << 20]);
    }
    let usage = count();
    assert!((usage.pages.managed - usage.pages.free) * 4096 + usage.dedicated <= LIMIT);
}

#[test]
fn small_pages_and_short_lists() {
    if !on("small", "settings::small_pages_and_short_lists") {
        return;
    }
    assert!(grow(5_000) > 95 << 20 && grow(3 << 20) > 95 << 20 && grow(50 << 20) > 95 << 20);
    assert_eq!(hugepages(), 0);
    let info = zoneinfo();
    let values = |name: &str| {
        let lines = info.lines().filter_map(|line| line.trim().strip_prefix(name));
        lines.map(|value| value.trim().parse::<u32>().expect("a number")).collect::<Vec<_>>()
    };
    assert!(values("high:").iter().all(|high| *high <= 8), "{info}");
    assert!(values("batch:").iter().all(|batch| *batch == 3), "{info}");
    assert!(values("count:").iter().all(|count| *count <= 8), "{info}");
    assert_eq!(values("huge:").iter().sum::<u32>(), 0, "{info}");
}

#[test]
fn hugepages_once_the_heap_is_large() {
    if !on("wide", "settings::hugepages_once_the_heap_is_large") {
        return;
    }
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    assert_eq!(hugepages(), 0, "a small program stays on small pages");
    let blocks: Vec<_> = (0..100).map(|_| vec![1_u8; 1 << 20]).collect();
    if setting.contains("[never]") || setting.is_empty() {
        println!("skipped: this machine has no transparent hugepages");
        return;
    }
    // The first 16 MiB are small pages, and the kernel may be short of hugepages for some of the others.
    let huge = hugepages();
    assert!((20 << 20..=100 << 20).contains(&huge), "{huge} bytes of hugepages for {} MiB", blocks.len());
}

#[test]
fn slack_keeps_memory() {
    if !on("wide", "settings::slack_keeps_memory") {
        return;
    }
    assert!(grow(1 << 20) > 90 << 20);
    assert!(memory().1 > 90 << 20, "a slack of 1 GiB keeps all of it");
    assert!(handle().trim() > 90 << 20);
    assert!(memory().1 < 20 << 20);
}

#[test]
fn memory_goes_with_time() {
    if !on("aging", "settings::memory_goes_with_time") {
        return;
    }
    let (_, before) = memory();
    assert!(grow(1_000) > 90 << 20);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while memory().1 > before + (10 << 20) {
        assert!(std::time::Instant::now() < end, "{before} bytes before, {} after", memory().1);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux lists mappings");
    let left_out = |line: &&str| line.starts_with("VmFlags:") && line.contains(" dd");
    assert!(maps.lines().filter(left_out).count() > 2, "records and free memory are left out of dumps");
}

#[test]
fn high_orders_on_and_off_at_run_time() {
    if !on("plain", "settings::high_orders_on_and_off_at_run_time") {
        return;
    }
    let hugepage = layout(2 << 20, 4096);
    let pair = || {
        // SAFETY: the layout is not empty.
        let block = black_box(unsafe { alloc(hugepage) });
        assert!(!block.is_null());
        // SAFETY: allocated just now with this layout.
        unsafe { dealloc(block, hugepage) };
    };
    let locks = || {
        let before = figure(&zoneinfo(), "zone_lock");
        (0..1000).for_each(|_| pair());
        figure(&zoneinfo(), "zone_lock") - before
    };
    pair();
    assert!(locks() < 100, "hugepages come from the thread's list");
    handle().set_pcp_high_orders(false);
    assert!(locks() >= 2000, "hugepages come from the zone");
    assert_eq!(figure(&zoneinfo(), "huge:"), 0);
    handle().set_pcp_high_orders(true);
    pair();
    assert!(locks() < 100, "hugepages come from the thread's list again");
    count();
}

/// Runs on a handle with a limit of 64 MiB, in an environment that says 16 MiB, and something wrong.
#[test]
fn variables_go_before_the_handle() {
    let name = "settings::variables_go_before_the_handle";
    if std::env::var_os("PCPMALLOC_TEST_FACE").is_some() {
        let mut block: Vec<u8> = Vec::new();
        assert!(block.try_reserve_exact(20 << 20).is_err());
        assert!(block.try_reserve_exact(10 << 20).is_ok());
        return;
    }
    let output = Command::new(std::env::current_exe().expect("a test has a file"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("PCPMALLOC_TEST_FACE", "limited")
        .env("PCPMALLOC_LIMIT", "16M")
        .env("PCPMALLOC_PCP_BATCH", "many")
        .output()
        .expect("the test binary starts");
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{output:?}"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    let warnings: Vec<_> = said.lines().filter(|line| line.starts_with("pcpmalloc:")).collect();
    let expected = "pcpmalloc: PCPMALLOC_PCP_BATCH: 'many' is not a number of pages up to 4096, or 0 for automatic; using";
    assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{said}");
}
