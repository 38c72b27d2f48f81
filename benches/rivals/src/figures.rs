//! Figures that a command names itself, one a line: a scenario has several, and their medians make a file of
//! tab-separated values and a table.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::OURS;
use crate::measure::{Row, in_turn};
use crate::results::{Spread, distinct};

/// The allocator of most programs, whose memory is what people compare with.
const USUAL: &str = "system";

/// Of all figures that scenarios print, those of which more is better.
const MORE_IS_BETTER: &[&str] = &["huge % of RSS"];

/// A figure of one scenario under one allocator.
pub struct Value {
    /// The name of the scenario.
    pub scenario: String,
    /// The name of the figure.
    pub figure: String,
    /// The name of the allocator.
    pub allocator: String,
    /// What the runs gave.
    pub spread: Spread<f64>,
}

/// All figures of a comparison.
pub struct Figures {
    /// One for each scenario, allocator and figure.
    pub values: Vec<Value>,
}

/// A figure's name and value.
type Line = (String, f64);

impl Figures {
    /// Runs the scenarios in turn, and takes the figures that they print.
    pub fn measure(rows: &mut [Row], rounds: usize) -> Result<Self> {
        let samples = in_turn(rows, rounds, run)?;
        let mut values = Vec::new();
        for (row, samples) in rows.iter().zip(&samples) {
            for ((allocator, _), runs) in row.commands.iter().zip(samples) {
                values.extend(spreads(&row.name, allocator, runs)?);
            }
        }
        Ok(Self { values })
    }

    /// Writes all figures, one a line.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = "scenario\tfigure\tallocator\tmedian\tmin\tmax\n".to_owned();
        for Value { scenario, figure, allocator, spread: Spread { median, min, max } } in &self.values {
            text.push_str(&format!("{scenario}\t{figure}\t{allocator}\t{median}\t{min}\t{max}\n"));
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn median(&self, scenario: &str, figure: &str, allocator: &str) -> Option<f64> {
        let is = |value: &&Value| {
            value.scenario == scenario && value.figure == figure && value.allocator == allocator
        };
        self.values.iter().find(is).map(|value| value.spread.median)
    }

    /// The allocator that is not `OURS` and whose figure is the best.
    fn best_rival(&self, scenario: &str, figure: &str) -> Option<(&str, f64)> {
        let rivals = self
            .values
            .iter()
            .filter(|value| value.scenario == scenario && value.figure == figure && value.allocator != OURS);
        let sign = if MORE_IS_BETTER.contains(&figure) { -1.0 } else { 1.0 };
        let best = rivals.min_by(|a, b| f64::total_cmp(&(sign * a.spread.median), &(sign * b.spread.median)));
        best.map(|value| (value.allocator.as_str(), value.spread.median))
    }
}

/// The spread of each figure over the runs, in the order in which a run prints them.
fn spreads(scenario: &str, allocator: &str, runs: &[Vec<Line>]) -> Result<Vec<Value>> {
    let names = |run: &[Line]| run.iter().map(|(figure, _)| figure.clone()).collect::<Vec<_>>();
    let figures = runs.first().map(|run| names(run)).unwrap_or_default();
    let same = runs.iter().all(|run| names(run) == figures);
    ensure!(same, "{scenario} with {allocator}: one run prints other figures than the next");
    let value = |(place, figure): (usize, String)| Value {
        scenario: scenario.to_owned(),
        figure,
        allocator: allocator.to_owned(),
        spread: Spread::of(runs.iter().map(|run| run[place].1)),
    };
    Ok(figures.into_iter().enumerate().map(value).collect())
}

/// Runs the command once, for the figures on its standard output.
fn run(command: &mut Command) -> Result<Vec<Line>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("does not start")?;
    if !output.status.success() {
        bail!("{}", output.status);
    }
    let lines: Option<Vec<Line>> = String::from_utf8_lossy(&output.stdout).lines().map(parse).collect();
    let lines = lines.context("a line of its output is no name and value")?;
    ensure!(!lines.is_empty(), "prints no figures");
    Ok(lines)
}

/// A line like `full: RSS MiB`, a tab, and `12.5`.
fn parse(line: &str) -> Option<Line> {
    let (figure, value) = line.split_once('\t')?;
    let value = value.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some((figure.to_owned(), value))
}

/// Rows are figures of scenarios, columns allocators; then ours over the usual one's and over the best rival's.
impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let allocators = distinct(self.values.iter().map(|value| value.allocator.as_str()));
        write!(out, "{:<22}{:<26}", "", "")?;
        for allocator in &allocators {
            write!(out, "{allocator:>11}")?;
        }
        writeln!(out, "{:>12}  / best rival", format!("/ {USUAL}"))?;
        for scenario in distinct(self.values.iter().map(|value| value.scenario.as_str())) {
            let own = self.values.iter().filter(|value| value.scenario == scenario);
            for figure in distinct(own.map(|value| value.figure.as_str())) {
                self.line(out, scenario, figure, &allocators)?;
            }
        }
        Ok(())
    }
}

impl Figures {
    fn line(
        &self,
        out: &mut fmt::Formatter,
        scenario: &str,
        figure: &str,
        allocators: &[&str],
    ) -> fmt::Result {
        write!(out, "{scenario:<22}{figure:<26}")?;
        for allocator in allocators {
            let value = self.median(scenario, figure, allocator);
            write!(out, "{:>11}", value.map_or_else(|| "-".to_owned(), four_digits))?;
        }
        let ours = self.median(scenario, figure, OURS);
        let over_usual = ratio(ours, self.median(scenario, figure, USUAL));
        let (name, best) = self.best_rival(scenario, figure).unzip();
        writeln!(out, "{over_usual:>12}{:>6}  {}", ratio(ours, best), name.unwrap_or_default())
    }
}

/// Of nothing, and of what is not more than it was at the start, there is no ratio.
fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
        _ => "-".to_owned(),
    }
}

/// As many decimals as make some four digits.
fn four_digits(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 1000.0 => 0,
        medium if medium >= 100.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}
