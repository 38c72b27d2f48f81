//! Several runs of several candidates, in turn, and what they say together.

use std::fmt;
use std::time::Duration;

use super::meter::Figures;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    /// How long a run should take.
    pub run: Duration,
}

/// How much work makes a run long enough: `least`, doubled until it takes half of that, and then what is lacking.
pub fn calibrate(effort: Effort, least: u64, mut run: impl FnMut(u64) -> Figures) -> u64 {
    let mut work = least;
    loop {
        let taken = run(work).wall;
        if taken >= effort.run / 2 {
            return (work as f64 * (effort.run.as_secs_f64() / taken.as_secs_f64())) as u64;
        }
        work *= 2;
    }
}

/// Runs every candidate once a round, every other round in reverse: none always follows the same one, and what slows
/// the machine down for a while meets all of them.
pub fn interleave(
    effort: Effort,
    candidates: usize,
    mut run: impl FnMut(usize) -> Figures,
) -> Vec<Vec<Figures>> {
    let mut figures = vec![Vec::with_capacity(effort.rounds); candidates];
    for round in 0..effort.rounds {
        for place in 0..candidates {
            let candidate = if round % 2 == 0 { place } else { candidates - 1 - place };
            figures[candidate].push(run(candidate));
        }
    }
    figures
}

/// The median of what all runs of a candidate took.
pub fn median(runs: &[Figures], taken: impl Fn(&Figures) -> f64) -> f64 {
    quantile(&sorted(runs.iter().map(taken)), 0.5)
}

/// The mean for rates: that of the times they stand for.
pub fn harmonic_mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let add = |(count, sum): (f64, f64), value: f64| (count + 1.0, sum + value.recip());
    let (count, sum) = values.into_iter().fold((0.0, 0.0), add);
    count / sum
}

/// What comes of a change: how much more is done in the same time. The median of the rounds, each of which ran both
/// within moments, and the quartiles.
pub struct Gain {
    quartiles: [f64; 3],
}

impl Gain {
    /// From what each round took before the change and with it.
    pub fn new(before: &[Figures], with: &[Figures], taken: impl Fn(&Figures) -> f64) -> Self {
        let gains = sorted(before.iter().zip(with).map(|(before, with)| taken(before) / taken(with) - 1.0));
        Self { quartiles: [0.25, 0.5, 0.75].map(|part| quantile(&gains, part)) }
    }

    pub fn median(&self) -> f64 {
        self.quartiles[1]
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let [low, median, high] = self.quartiles.map(|gain| gain * 100.0);
        write!(out, "{median:+.1}% ({low:+.1} to {high:+.1})")
    }
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The value that this part of the sorted ones lies below, between two of them where it falls there.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let position = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    low + (high - low) * position.fract()
}
