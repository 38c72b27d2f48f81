//! The one facade for atomics: `core`'s in every build, loom's where `--cfg loom` checks a protocol.
//!
//! Nothing else in the crate names `core::sync::atomic`, so what loom models is what runs.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicIsize, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    Ordering,
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
