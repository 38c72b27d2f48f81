//! A comparison as a table for the terminal: ratios of medians, and their geometric means.

use std::fmt;

use crate::results::{Figure, PEAK, Results, geometric_mean};
use crate::{BASELINE, OURS};

/// How the table of one figure prints: rows are workloads, columns allocators.
pub struct Table<'a> {
    /// What is compared.
    pub results: &'a Results,
    /// CPU or wall time.
    pub figure: Figure,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let allocators = self.results.allocators();
        writeln!(
            out,
            "{} over that of {BASELINE} (whose own is in ms), and of {OURS} over the best rival\n",
            self.figure.name
        )?;
        write!(out, "{:<20}{:>8}", "", "ms")?;
        for allocator in &allocators {
            write!(out, "{allocator:>12}")?;
        }
        writeln!(out, "  {OURS} / best rival")?;
        for workload in self.results.workloads() {
            self.workload(out, workload, &allocators)?;
        }
        self.means(out, self.figure, &allocators)?;
        self.means(out, PEAK, &allocators)
    }
}

impl Table<'_> {
    fn workload(&self, out: &mut fmt::Formatter, workload: &str, allocators: &[&str]) -> fmt::Result {
        let milliseconds = self
            .results
            .cell(workload, BASELINE)
            .map(|cell| format!("{:.0}", (self.figure.of)(cell).median as f64 / 1e6));
        write!(out, "{workload:<20}{:>8}", milliseconds.unwrap_or_default())?;
        for allocator in allocators {
            write!(
                out,
                "{:>12}",
                two_digits(self.results.ratio(self.figure, workload, allocator, BASELINE))
            )?;
        }
        let rival = self.results.best_rival(self.figure, workload, OURS).unwrap_or_default();
        let against = self.results.ratio(self.figure, workload, OURS, rival);
        // The goal of every row.
        let mark = if against.is_some_and(|ratio| ratio > 1.05) { " !" } else { "" };
        writeln!(out, "{:>8}  {rival}{mark}", two_digits(against))
    }

    /// The line of geometric means over all workloads.
    fn means(&self, out: &mut fmt::Formatter, figure: Figure, allocators: &[&str]) -> fmt::Result {
        let workloads = self.results.workloads();
        write!(out, "{:<20}{:>8}", format!("mean {}", figure.name), "")?;
        for allocator in allocators {
            let ratios = workloads
                .iter()
                .filter_map(|workload| self.results.ratio(figure, workload, allocator, BASELINE));
            write!(out, "{:>12}", two_digits(geometric_mean(ratios)))?;
        }
        let against = workloads.iter().filter_map(|workload| {
            self.results.ratio(figure, workload, OURS, self.results.best_rival(figure, workload, OURS)?)
        });
        writeln!(out, "{:>8}", two_digits(geometric_mean(against)))
    }
}

fn two_digits(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}
