//! Medians, ratios and means of a small comparison, and its way through a file and a table.
#![forbid(unsafe_code)]

use rivals::results::{CPU, Cell, Results, Spread, geometric_mean};
use rivals::table::Table;

fn cell(workload: &str, allocator: &str, cpu_ns: &[u64]) -> Cell {
    let spread = |values: &[u64]| Spread::of(values.iter().copied());
    Cell {
        group: "a group".into(),
        workload: workload.into(),
        allocator: allocator.into(),
        cpu_ns: spread(cpu_ns),
        wall_ns: spread(&[7]),
        peak_kib: spread(&[1024]),
    }
}

fn small() -> Results {
    Results {
        cells: vec![
            cell("first", "pcpmalloc", &[90, 50, 10]),
            cell("first", "mimalloc2", &[100]),
            cell("first", "other", &[40]),
            cell("second", "pcpmalloc", &[200]),
            cell("second", "mimalloc2", &[100]),
        ],
    }
}

#[test]
fn medians_make_ratios_and_ratios_make_means() {
    let results = small();
    assert_eq!(results.ratio(CPU, "first", "pcpmalloc", "mimalloc2"), Some(0.5));
    assert_eq!(results.ratio(CPU, "second", "pcpmalloc", "mimalloc2"), Some(2.0));
    assert_eq!(results.ratio(CPU, "second", "other", "mimalloc2"), None);
    assert_eq!(results.best_rival(CPU, "first", "pcpmalloc"), Some("other"));
    assert_eq!(geometric_mean([0.5, 2.0].into_iter()), Some(1.0));
    assert_eq!(geometric_mean([].into_iter()), None);
}

#[test]
fn a_file_holds_all_figures() {
    let path = std::env::temp_dir().join(format!("rivals-{}.tsv", std::process::id()));
    small().write(&path).expect("the file is written");
    let read = Results::read(&path);
    std::fs::remove_file(&path).expect("the file is there");
    let read = read.expect("the file is read");
    assert_eq!(read.workloads(), ["first", "second"]);
    assert_eq!(read.allocators(), ["pcpmalloc", "mimalloc2", "other"]);
    assert_eq!(read.groups(), ["a group"]);
    let Spread { median, min, max } = read.cell("first", "pcpmalloc").expect("it was written").cpu_ns;
    assert_eq!((median, min, max), (50, 10, 90));
}

#[test]
fn a_row_that_misses_the_goal_is_marked() {
    let table = Table { results: &small(), figure: CPU }.to_string();
    let row = |name| table.lines().find(|line| line.starts_with(name)).expect("a row");
    assert!(row("first").ends_with("1.25  other !"), "{table}");
    assert!(row("second").ends_with("2.00  mimalloc2 !"), "{table}");
    assert!(row("mean CPU").ends_with("1.58"), "{table}");
}
