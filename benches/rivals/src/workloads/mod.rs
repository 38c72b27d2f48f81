//! The workloads: each sets up, then does a fixed amount of work under the meter. The amounts are such that mimalloc 2
//! takes some 100 ms of CPU for each.

mod batches;
mod block;
mod churn;
mod collections;
mod crew;
mod growth;
mod lifetimes;
mod meter;
mod pages;
mod pairs;
mod prodcons;
mod random;
mod server;
mod sharing;

use meter::Figures;

/// A name on the command line, the group that the chart sums it up in, and what it does.
pub struct Workload {
    pub name: &'static str,
    pub group: &'static str,
    pub run: fn() -> Figures,
}

/// The workloads of one file.
type Named = &'static [(&'static str, fn() -> Figures)];

const GROUPS: &[(&str, Named)] = &[
    ("pairs", pairs::ALL),
    ("batches", batches::ALL),
    ("lifetimes", lifetimes::ALL),
    ("pages", pages::ALL),
    ("threads", server::ALL),
    ("threads", prodcons::ALL),
    ("threads", churn::ALL),
    ("threads", sharing::ALL),
    ("growth", growth::ALL),
    ("collections", collections::ALL),
];

pub fn all() -> impl Iterator<Item = Workload> {
    GROUPS
        .iter()
        .flat_map(|&(group, named)| named.iter().map(move |&(name, run)| Workload { name, group, run }))
}
