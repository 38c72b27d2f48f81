//! Commands that print figures of their own, their medians, and the table and file of them.
#![forbid(unsafe_code)]

use std::process::Command;

use rivals::figures::Figures;
use rivals::measure::Row;

fn printing(allocator: &str, lines: &str) -> (String, Command) {
    let mut command = Command::new("printf");
    command.arg(lines);
    (allocator.to_owned(), command)
}

fn measured(commands: Vec<(String, Command)>) -> anyhow::Result<Figures> {
    let mut rows = [Row { group: "a group".into(), name: "scenario".into(), commands }];
    Figures::measure(&mut rows, 3)
}

fn three() -> Figures {
    let commands = vec![
        printing("pcpmalloc", "full: RSS MiB\\t30\\nhuge %% of RSS\\t90\\n"),
        printing("jemalloc", "full: RSS MiB\\t20\\nhuge %% of RSS\\t45\\n"),
        printing("system", "full: RSS MiB\\t40\\nhuge %% of RSS\\t0\\n"),
    ];
    measured(commands).expect("printf is measured")
}

#[test]
fn the_best_rival_has_the_least_memory_or_the_most_hugepages() {
    let table = three().to_string();
    let line = |name| -> Vec<&str> {
        let line = table.lines().find(|line| line.contains(name)).expect("a line");
        line.split_whitespace().collect()
    };
    assert_eq!(line("full: RSS MiB")[4..], ["30.00", "20.00", "40.00", "0.75", "1.50", "jemalloc"]);
    assert_eq!(line("huge %")[5..], ["90.00", "45.00", "0.00", "-", "2.00", "jemalloc"]);
}

#[test]
fn a_file_holds_medians_and_ends() {
    let path = std::env::temp_dir().join(format!("rivals-figures-{}.tsv", std::process::id()));
    three().write(&path).expect("the file is written");
    let text = std::fs::read_to_string(&path);
    std::fs::remove_file(&path).expect("the file is there");
    let text = text.expect("the file is text");
    assert_eq!(text.lines().next(), Some("scenario\tfigure\tallocator\tmedian\tmin\tmax"));
    assert_eq!(text.lines().nth(1), Some("scenario\tfull: RSS MiB\tpcpmalloc\t30\t30\t30"));
}

#[test]
fn what_is_no_figure_is_an_error() {
    for wrong in ["no tab\\n", "no number\\tmany\\n", "a ratio to nothing\\tinf\\n", ""] {
        let result = measured(vec![printing("pcpmalloc", wrong)]);
        assert!(result.is_err(), "{wrong}");
    }
}
