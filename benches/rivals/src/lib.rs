//! Measuring commands, summing up what they cost, and printing it: what `compare` and `chart` share. The workloads are a
//! program of their own, in main.rs.
#![forbid(unsafe_code)]

pub mod figures;
pub mod measure;
pub mod results;
pub mod table;

/// What everything is compared with.
pub const BASELINE: &str = "mimalloc2";

/// What is compared with the best of all others.
pub const OURS: &str = "pcpmalloc";
