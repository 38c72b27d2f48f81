//! The result of a comparison: a cell for each workload and allocator, as a file of tab-separated values and back, and
//! the ratios in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What the runs of one workload with one allocator cost.
pub struct Cell {
    /// What the chart sums the workload up in.
    pub group: String,
    /// The name of the work.
    pub workload: String,
    /// The name of the allocator.
    pub allocator: String,
    /// User and system time of all threads.
    pub cpu_ns: Spread,
    /// The time that passed.
    pub wall_ns: Spread,
    /// The most resident memory at any time.
    pub peak_kib: Spread,
}

/// The middle and the ends of several measurements.
#[derive(Clone, Copy)]
pub struct Spread<T = u64> {
    /// The middle; the upper of two.
    pub median: T,
    /// The least.
    pub min: T,
    /// The most.
    pub max: T,
}

impl<T: Copy + PartialOrd> Spread<T> {
    /// The spread of these values, of which there is at least one, and all of which compare.
    pub fn of(values: impl Iterator<Item = T>) -> Self {
        let mut values: Vec<T> = values.collect();
        values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("measurements compare"));
        Self { median: values[values.len() / 2], min: values[0], max: values[values.len() - 1] }
    }
}

/// All cells of a comparison.
pub struct Results {
    /// One for each workload and allocator.
    pub cells: Vec<Cell>,
}

impl Results {
    /// The allocators, in the order in which they first stand.
    pub fn allocators(&self) -> Vec<&str> {
        distinct(self.cells.iter().map(|cell| cell.allocator.as_str()))
    }

    /// The workloads, in the order in which they first stand.
    pub fn workloads(&self) -> Vec<&str> {
        distinct(self.cells.iter().map(|cell| cell.workload.as_str()))
    }

    /// The groups of workloads, in the order in which they first stand.
    pub fn groups(&self) -> Vec<&str> {
        distinct(self.cells.iter().map(|cell| cell.group.as_str()))
    }

    /// The workloads of one group.
    pub fn workloads_of(&self, group: &str) -> Vec<&str> {
        let cells = self.cells.iter().filter(|cell| cell.group == group);
        distinct(cells.map(|cell| cell.workload.as_str()))
    }

    /// What this allocator took for this workload.
    pub fn cell(&self, workload: &str, allocator: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.workload == workload && cell.allocator == allocator)
    }

    /// The median of one figure of one allocator over another's.
    pub fn ratio(&self, figure: Figure, workload: &str, allocator: &str, other: &str) -> Option<f64> {
        let ours = self.cell(workload, allocator)?;
        let theirs = self.cell(workload, other)?;
        Some((figure.of)(ours).median as f64 / (figure.of)(theirs).median as f64)
    }

    /// The allocator that is not `ours` and whose figure is the least.
    pub fn best_rival(&self, figure: Figure, workload: &str, ours: &str) -> Option<&str> {
        let rivals = self.cells.iter().filter(|cell| cell.workload == workload && cell.allocator != ours);
        rivals.min_by_key(|cell| (figure.of)(cell).median).map(|cell| cell.allocator.as_str())
    }
}

/// One of the figures of a cell, and what it is called.
#[derive(Clone, Copy)]
pub struct Figure {
    /// As a table calls it.
    pub name: &'static str,
    /// The figure of this cell.
    pub of: fn(&Cell) -> Spread,
}

/// See [`Cell::cpu_ns`].
pub const CPU: Figure = Figure { name: "CPU time", of: |cell| cell.cpu_ns };
/// See [`Cell::wall_ns`].
pub const WALL: Figure = Figure { name: "wall time", of: |cell| cell.wall_ns };
/// See [`Cell::peak_kib`].
pub const PEAK: Figure = Figure { name: "peak memory", of: |cell| cell.peak_kib };

/// The geometric mean, or nothing of nothing.
pub fn geometric_mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = ratios.fold((0, 0.0), |(count, sum), ratio| (count + 1, sum + ratio.ln()));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

const HEADER: &str = "group\tworkload\tallocator\tcpu_ns\tcpu_ns_min\tcpu_ns_max\
                      \twall_ns\twall_ns_min\twall_ns_max\tpeak_kib\tpeak_kib_min\tpeak_kib_max";

impl Results {
    /// Writes all cells, one a line.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = format!("{HEADER}\n");
        for cell in &self.cells {
            text.push_str(&format!("{}\t{}\t{}", cell.group, cell.workload, cell.allocator));
            for Spread { median, min, max } in [cell.cpu_ns, cell.wall_ns, cell.peak_kib] {
                text.push_str(&format!("\t{median}\t{min}\t{max}"));
            }
            text.push('\n');
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`Results::write`] has written.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let mut lines = text.lines();
        ensure!(
            lines.next() == Some(HEADER),
            "{name} is no file of `compare --out`: its first line is another"
        );
        let parse = |line| parse(line).with_context(|| format!("{name}: not a line of figures: {line}"));
        Ok(Self { cells: lines.map(parse).collect::<Result<_>>()? })
    }
}

fn parse(line: &str) -> Option<Cell> {
    let mut fields = line.split('\t');
    let mut name = || fields.next().map(str::to_owned);
    let (group, workload, allocator) = (name()?, name()?, name()?);
    let mut spread = || {
        let mut number = || fields.next()?.parse().ok();
        Some(Spread { median: number()?, min: number()?, max: number()? })
    };
    Some(Cell { group, workload, allocator, cpu_ns: spread()?, wall_ns: spread()?, peak_kib: spread()? })
}
