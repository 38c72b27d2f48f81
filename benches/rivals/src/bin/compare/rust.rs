//! The rows of `compare rust`: each workload, under each allocator that builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rivals::measure::Row;
use rivals::{BASELINE, OURS};

use super::build;

/// The features of the workload program; `system` is none of them.
pub const ALLOCATORS: &[&str] = &[
    OURS,
    BASELINE,
    "mimalloc3",
    "rusty_alloc",
    "snmalloc",
    "rpmalloc",
    "tcmalloc",
    "jemalloc",
    build::SYSTEM,
];

/// A row for each workload under these allocators.
pub fn rows(allocators: &[&'static str]) -> Result<Vec<Row>> {
    let mut programs = Vec::new();
    for &name in allocators {
        match build::workload_program(name) {
            Ok(program) => programs.push((name, program)),
            Err(error) => eprintln!("{name} is left out: {error:#}"),
        }
    }
    let (_, any) = programs.first().context("no allocator builds")?;
    let workloads = listed(any)?;
    Ok(workloads.into_iter().map(|(name, group)| row(name, group, &programs)).collect())
}

fn row(name: String, group: String, programs: &[(&str, PathBuf)]) -> Row {
    let command = |&(allocator, ref program): &(&str, PathBuf)| {
        let mut command = Command::new(program);
        command.arg(&name);
        if allocator == "tcmalloc" {
            // Restartable sequences have one user, and its caches for each CPU need them more than glibc does.
            command.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
        }
        (allocator.to_owned(), command)
    };
    let commands = programs.iter().map(command).collect();
    Row { group, name, commands }
}

/// What `list` prints: a workload a line, and its group.
pub fn listed(program: &Path) -> Result<Vec<(String, String)>> {
    let output = Command::new(program).arg("list").output()?;
    let text = String::from_utf8(output.stdout).context("the list of workloads is no text")?;
    let split = |line: &str| {
        let (name, group) = line.split_once(' ').with_context(|| format!("no workload and group: {line}"))?;
        Ok((name.to_owned(), group.to_owned()))
    };
    text.lines().map(split).collect()
}
