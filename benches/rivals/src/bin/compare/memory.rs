//! `compare memory`: scenarios in C that say what is resident, in hugepages and faulted in when, and small programs
//! measured from outside; each under each preloaded allocator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use rivals::figures::Figures;
use rivals::measure::Row;

use super::libraries::{Library, preloading};
use super::{Options, build, programs};

/// A row's name and the program's arguments, at full size and with `--quick`.
const SCENARIOS: &[(&str, &str, &str)] = &[
    ("burst", "burst 2048", "burst 256"),
    ("survivors-mixed", "survivors 16 2048", "survivors 16 2048"),
    ("survivors-64", "survivors 64 64", "survivors 64 64"),
    ("sparse", "sparse", "sparse"),
    ("cover", "cover 4096", "cover 512"),
    ("cycles-1", "cycles 1 10000", "cycles 1 1000"),
    ("cycles-2", "cycles 2 10000", "cycles 2 1000"),
    ("cycles-8", "cycles 8 10000", "cycles 8 1000"),
    ("idle-threads", "idle-threads 4000", "idle-threads 400"),
];

/// A row's name, the program, and its arguments.
const SMALL: &[(&str, &str, &[&str])] = &[
    ("small-true", "true", &[]),
    ("small-ls", "ls", &["/"]),
    ("small-python", "python3", &["-c", "pass"]),
    ("small-python-malloc", "python3", &["-c", "pass"]),
    ("small-python-json", "python3", &["-c", JSON]),
];

/// Of these, the rows in which python leaves every object to malloc, instead of keeping most small ones to itself.
const ALL_BY_MALLOC: &[&str] = &["small-python-malloc", "small-python-json"];

const JSON: &str = "import json; d = [{'a': i, 'b': [str(j) for j in range(10)]} for i in range(20000)]; \
                    json.loads(json.dumps(d))";

/// What takes a millisecond needs more runs than what takes seconds.
const ROUNDS_OF_SMALL: u16 = 21;

/// Measures what is asked for and prints what comes out.
pub fn compare(libraries: &[Library], options: &Options, quick: bool) -> Result<()> {
    let program = build::memory_program()?;
    let asked_for = |row: &Row| options.only.as_ref().is_none_or(|text| row.name.contains(text));
    let mut large: Vec<Row> = scenarios(libraries, &program, quick).into_iter().filter(asked_for).collect();
    let mut small: Vec<Row> = small_programs(libraries, &program).into_iter().filter(asked_for).collect();
    ensure!(!large.is_empty() || !small.is_empty(), "nothing to run");

    let mut figures = Figures { values: Vec::new() };
    for (rows, rounds) in [(&mut large, options.rounds), (&mut small, options.rounds.max(ROUNDS_OF_SMALL))] {
        if !rows.is_empty() {
            figures.values.extend(Figures::measure(rows, rounds.into())?.values);
        }
    }
    println!("{figures}");
    if let Some(path) = &options.out {
        figures.write(path)?;
    }
    Ok(())
}

fn scenarios(libraries: &[Library], program: &Path, quick: bool) -> Vec<Row> {
    let row = |&(name, full, less): &(&str, &str, &str)| {
        let command = |(allocator, library): &Library| {
            let mut command = preloading(library, program);
            if *allocator == build::SYSTEM {
                // Nothing else is linked here: the C library is used without being preloaded.
                command.env_remove("LD_PRELOAD");
            }
            command.args(if quick { less } else { full }.split(' '));
            ((*allocator).to_owned(), command)
        };
        row(name, libraries.iter().map(command).collect())
    };
    SCENARIOS.iter().map(row).collect()
}

fn small_programs(libraries: &[Library], launcher: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, program, arguments) in SMALL {
        let Some(path) = programs::executable(program) else {
            eprintln!("{name} is left out: {program} is not installed");
            continue;
        };
        let command = |(allocator, library): &Library| {
            let library = if *allocator == build::SYSTEM { PathBuf::from("-") } else { library.clone() };
            let mut command = Command::new(launcher);
            command.arg("program").arg(library).arg(&path).args(*arguments);
            command.env_remove("LD_PRELOAD").env_remove("PYTHONMALLOC");
            if ALL_BY_MALLOC.contains(name) {
                command.env("PYTHONMALLOC", "malloc");
            }
            ((*allocator).to_owned(), command)
        };
        rows.push(row(name, libraries.iter().map(command).collect()));
    }
    rows
}

fn row(name: &str, commands: Vec<(String, Command)>) -> Row {
    Row { group: "memory".to_owned(), name: name.to_owned(), commands }
}
