//! Layer 4, the faces: the instance, threads coming and going, forks, `GlobalAlloc`, and what the C functions
//! mean.

pub(crate) mod alloc;
pub(crate) mod background;
pub mod c;
pub(crate) mod decay;
pub(crate) mod fork;
pub(crate) mod global;
pub(crate) mod instance;
pub(crate) mod misuse;
pub(crate) mod nodes;
pub(crate) mod reclaim;
pub(crate) mod registry;
pub(crate) mod root;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod thread;
pub(crate) mod validate;

#[cfg(test)]
pub(crate) mod tests;
