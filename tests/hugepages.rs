//! What backs the heap: small pages while it is small, transparent hugepages when it has grown, the system's
//! pool on request, and neither when switched off.

mod common;

use std::fs;
use std::process::Command;
use std::sync::Mutex;

use common::native::{Face, Program, compile, skipped};

/// KiB resident, in transparent hugepages, and from the pool, after a program touched `mib` MiB of blocks.
fn backing(program: &Program, mib: &str, hugepages: &str) -> Option<[u64; 3]> {
    let mut command: Command = program.command(Face::Ours, &[mib]);
    let stdout = program.passes_as(Face::Ours, command.env("PCPMALLOC_HUGEPAGES", hugepages))?;
    let numbers: Vec<u64> = stdout.split_whitespace().map(|number| number.parse().expect("KiB")).collect();
    Some(numbers.try_into().expect("three numbers"))
}

/// Whether the system hands out transparent hugepages to those who ask.
fn has_transparent_hugepages() -> bool {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let has = setting.contains("[madvise]") || setting.contains("[always]");
    if !has {
        skipped("transparent hugepages", &format!("the system's setting is '{}'", setting.trim()));
    }
    has
}

#[test]
fn small_heaps_stay_on_small_pages_and_large_ones_do_not() {
    if !has_transparent_hugepages() {
        return;
    }
    let Some(program) = compile("hugepages.c", &[]) else { return };
    let Some([_, huge, _]) = backing(&program, "6", "thp") else { return };
    assert_eq!(huge, 0, "KiB of hugepages under a heap of 6 MiB");
    let Some([resident, huge, _]) = backing(&program, "400", "thp") else { return };
    assert!(huge > resident / 2, "{huge} KiB of hugepages in {resident} KiB, under a heap of 400 MiB");
}

#[test]
fn off_means_none() {
    let Some(program) = compile("hugepages.c", &[]) else { return };
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let Some([resident, huge, pool]) = backing(&program, "400", "off") else { return };
    assert!(resident >= 400 << 10);
    assert_eq!((huge, pool), (0, 0), "the system's setting is '{}'", setting.trim());
}

/// The system's pool of pages of one size with another number of them, and back when dropped.
struct Pool {
    file: String,
    before: String,
}

impl Pool {
    fn of(kib: u64, pages: u64) -> Option<Self> {
        let file = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages");
        let before = fs::read_to_string(&file).ok()?;
        let pool = Self { file, before };
        fs::write(&pool.file, pages.to_string()).ok()?;
        let there: u64 = fs::read_to_string(&pool.file).ok()?.trim().parse().ok()?;
        (there >= pages).then_some(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        fs::write(&self.file, &self.before).expect("the pool was writable before");
    }
}

/// The pools are the machine's: one test at a time.
static POOLS: Mutex<()> = Mutex::new(());

#[test]
fn the_pool_serves_whoever_asks_for_it() {
    let Some(program) = compile("hugepages.c", &[]) else { return };
    let _pools = POOLS.lock().expect("no test panicked with it");
    let Some(_pool) = Pool::of(2048, 44) else {
        return skipped("the hugepage pool", "vm.nr_hugepages cannot be set to 44 here");
    };
    let Some([_, _, pool]) = backing(&program, "40", "hugetlb") else { return };
    assert!(pool >= 40 << 10, "{pool} KiB of the pool under a heap of 40 MiB");
}

#[test]
fn pages_of_1_gib_serve_where_there_are_no_others() {
    let Some(program) = compile("hugepages.c", &[]) else { return };
    let _pools = POOLS.lock().expect("no test panicked with it");
    let (Some(_small), Some(_large)) = (Pool::of(2048, 8), Pool::of(1 << 20, 1)) else {
        return skipped("hugepages of 1 GiB", "the kernel has no room for one here");
    };
    let Some([_, _, pool]) = backing(&program, "200", "hugetlb") else { return };
    assert!(pool >= 1 << 20, "{pool} KiB of the pools under a heap of 200 MiB");
}
