//! Commands run again and again, in turn, and what each run cost.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use wait4::Wait4;

use crate::results::{Cell, Spread};

/// One line of a comparison: the same work, as a command for each allocator.
pub struct Row {
    /// What the chart sums it up in.
    pub group: String,
    /// The name of the work.
    pub name: String,
    /// A command for each allocator, after its name.
    pub commands: Vec<(String, Command)>,
}

/// What one run cost.
struct Sample {
    cpu_ns: u64,
    wall_ns: u64,
    peak_kib: u64,
}

/// The cost of every row under every allocator.
pub fn interleaved(rows: &mut [Row], rounds: usize) -> Result<Vec<Cell>> {
    let samples = in_turn(rows, rounds, run)?;
    let cells = rows.iter().zip(&samples).flat_map(|(row, samples)| {
        row.commands.iter().zip(samples).map(|((allocator, _), samples)| cell(row, allocator, samples))
    });
    Ok(cells.collect())
}

/// Runs all commands of all rows once a round, so that a slow minute of the machine is slow for everybody. Each round
/// begins with another allocator, so that none always follows the same one. What comes out are the samples of each
/// command of each row.
pub fn in_turn<S>(
    rows: &mut [Row],
    rounds: usize,
    run: impl Fn(&mut Command) -> Result<S>,
) -> Result<Vec<Vec<Vec<S>>>> {
    let mut samples: Vec<Vec<Vec<S>>> =
        rows.iter().map(|row| row.commands.iter().map(|_| Vec::new()).collect()).collect();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (row, samples) in rows.iter_mut().zip(&mut samples) {
            let count = row.commands.len();
            for turn in 0..count {
                let place = (turn + round) % count;
                let (allocator, command) = &mut row.commands[place];
                let sample = run(command).with_context(|| format!("{} with {allocator}", row.name))?;
                samples[place].push(sample);
            }
        }
    }
    Ok(samples)
}

fn cell(row: &Row, allocator: &str, samples: &[Sample]) -> Cell {
    Cell {
        group: row.group.clone(),
        workload: row.name.clone(),
        allocator: allocator.to_owned(),
        cpu_ns: Spread::of(samples.iter().map(|sample| sample.cpu_ns)),
        wall_ns: Spread::of(samples.iter().map(|sample| sample.wall_ns)),
        peak_kib: Spread::of(samples.iter().map(|sample| sample.peak_kib)),
    }
}

/// Runs the command once. One that measures itself says so on its standard output; of any other the kernel says what it
/// cost, start and end included.
fn run(command: &mut Command) -> Result<Sample> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("does not start")?;
    let mut output = Vec::new();
    child.stdout.take().context("standard output is a pipe")?.read_to_end(&mut output)?;
    let ended = child.wait4().context("cannot be waited for")?;
    let wall_ns = start.elapsed().as_nanos() as u64;
    if !ended.status.success() {
        bail!("{}", ended.status);
    }
    let output = String::from_utf8_lossy(&output);
    Ok(output.lines().find_map(own_figures).unwrap_or_else(|| Sample {
        cpu_ns: (ended.rusage.utime + ended.rusage.stime).as_nanos() as u64,
        wall_ns,
        // The crate gives bytes on every system.
        peak_kib: ended.rusage.maxrss / 1024,
    }))
}

/// The figures of a line like `cpu_ns=1 wall_ns=2 peak_kib=3 work=4`.
fn own_figures(line: &str) -> Option<Sample> {
    let figure = |name: &str| {
        let mut pairs = line.split_ascii_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name)?.1.parse().ok()
    };
    Some(Sample { cpu_ns: figure("cpu_ns")?, wall_ns: figure("wall_ns")?, peak_kib: figure("peak_kib")? })
}
