//! Compares pcpmalloc with its rivals. `compare rust`, the default: each as the `#[global_allocator]` of a program built
//! from the same source. `compare preload` and `compare programs`: each under `LD_PRELOAD`, with workloads in C and with
//! real programs. `compare memory`: the same libraries, in scenarios that print figures of their own. Another kind of comparison is another subcommand that makes rows of commands.
#![forbid(unsafe_code)]

mod build;
mod libraries;
mod memory;
mod preload;
mod programs;
mod rust;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use rivals::measure::{self, Row};
use rivals::results::{CPU, Figure, Results, WALL};
use rivals::table::Table;
use rivals::{BASELINE, OURS};

#[derive(Parser)]
#[command(
    about = "Compares pcpmalloc with its rivals, in interleaved runs",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    kind: Option<Kind>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Kind {
    /// Each allocator as the global allocator of a Rust program (the default)
    Rust(Options),
    /// Each allocator preloaded, on workloads in C
    Preload(Options),
    /// Each allocator preloaded under real programs
    Programs(Options),
    /// Each allocator preloaded: memory that stays, hugepages, page faults, small programs
    Memory {
        #[command(flatten)]
        options: Options,
        /// An eighth of the large heaps, a tenth of the cycles and threads
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Args)]
struct Options {
    /// How often each command runs; the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Only workloads with this text in their name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only these allocators, beside pcpmalloc and mimalloc2
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    rivals: Option<Vec<String>>,
    /// Write all figures to this file, tab-separated; `chart` draws it
    #[arg(long, value_name = "FILE.tsv")]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.kind.unwrap_or(Kind::Rust(cli.options)) {
        Kind::Rust(options) => compare(rust::rows(&options.choose(rust::ALLOCATORS)?)?, &options, &[CPU]),
        Kind::Preload(options) => {
            let libraries = libraries::find(&options.choose(libraries::ALLOCATORS)?);
            compare(preload::rows(&libraries)?, &options, &[CPU])
        }
        Kind::Programs(options) => {
            let libraries = libraries::find(&options.choose(libraries::ALLOCATORS)?);
            compare(programs::rows(&libraries), &options, &[WALL, CPU])
        }
        Kind::Memory { options, quick } => {
            let libraries = libraries::find(&options.choose(libraries::ALLOCATORS)?);
            memory::compare(&libraries, &options, quick)
        }
    }
}

impl Options {
    /// Those of `all` that take part.
    fn choose(&self, all: &[&'static str]) -> Result<Vec<&'static str>> {
        let wanted = self.rivals.as_deref();
        for name in wanted.unwrap_or_default() {
            ensure!(all.contains(&name.as_str()), "no allocator `{name}`; there are {}", all.join(", "));
        }
        let takes_part = |name: &&str| {
            [OURS, BASELINE].contains(name)
                || wanted.is_none_or(|names| names.iter().any(|wanted| wanted == name))
        };
        Ok(all.iter().copied().filter(takes_part).collect())
    }
}

/// Measures the rows that are asked for and prints what comes out, a table for each of `figures`.
fn compare(mut rows: Vec<Row>, options: &Options, figures: &[Figure]) -> Result<()> {
    if let Some(pattern) = &options.only {
        rows.retain(|row| row.name.contains(pattern));
    }
    ensure!(!rows.is_empty(), "nothing to run");
    let results = Results { cells: measure::interleaved(&mut rows, options.rounds.into())? };
    for &figure in figures {
        println!("{}", Table { results: &results, figure });
    }
    if let Some(path) = &options.out {
        results.write(path)?;
    }
    Ok(())
}
