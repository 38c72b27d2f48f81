//! The allocator under test, one a build: the cargo feature names it, and none is the system's. Each stands here as its
//! authors' first example has it.

#[cfg(feature = "pcpmalloc")]
#[global_allocator]
static GLOBAL: pcpmalloc::PcpMalloc = pcpmalloc::PcpMalloc::new();

#[cfg(any(feature = "mimalloc2", feature = "mimalloc3"))]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "snmalloc")]
#[global_allocator]
static GLOBAL: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

#[cfg(feature = "rpmalloc")]
#[global_allocator]
static GLOBAL: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

#[cfg(feature = "tcmalloc")]
#[global_allocator]
static GLOBAL: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

#[cfg(feature = "rusty_alloc")]
#[global_allocator]
static GLOBAL: rusty_alloc_api::RustyAlloc = rusty_alloc_api::RustyAlloc;

#[cfg(feature = "tcmalloc")]
unsafe extern "C" {
    /// TCMalloc's own. Its caches for each CPU, the fast ones, are not even linked where nothing names it.
    safe fn TCMalloc_Internal_ForceCpuCacheActivation();
}

/// What an allocator wants done at the start of `main`.
pub fn start() {
    #[cfg(feature = "tcmalloc")]
    {
        TCMalloc_Internal_ForceCpuCacheActivation();
        tcmalloc_better::TCMalloc::process_background_actions_thread();
    }
}
