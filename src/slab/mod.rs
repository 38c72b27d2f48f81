//! Layer 3, small objects: size classes, slabs, sheaves, barns, kmem caches, and a thread's sheaves.

pub(crate) mod barn;
pub(crate) mod kmem_cache;
pub(crate) mod sheaf;
pub(crate) mod size_class;
pub(crate) mod slab_page;
pub(crate) mod thread_sheaves;

#[cfg(test)]
mod tests;
