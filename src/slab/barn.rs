//! A barn: full-size sheaves of one class, some full and some empty, exchanged whole. It is how a thread that
//! frees passes objects to one that allocates, a sheaf at a time. A value; `kmem_cache.rs` holds it behind a
//! lock of its own.
#![forbid(unsafe_code)]

use super::sheaf::{Sheaf, SheafStack};

/// Sheaves of one class.
#[repr(C)]
pub(crate) struct Barn {
    full: SheafStack,
    empty: SheafStack,
    /// Sheaves handed out full.
    pub(crate) given: u64,
}

impl Barn {
    pub(crate) const fn new() -> Self {
        Self { full: SheafStack::EMPTY, empty: SheafStack::EMPTY, given: 0 }
    }

    /// A full sheaf, if there is one.
    pub(crate) fn take_full(&mut self) -> Option<Sheaf> {
        let sheaf = self.full.pop()?;
        self.given += 1;
        Some(sheaf)
    }

    pub(crate) fn take_empty(&mut self) -> Option<Sheaf> {
        self.empty.pop()
    }

    /// Takes in a sheaf with objects, unless `limit` of them are here: then it comes back.
    pub(crate) fn put_full(&mut self, sheaf: Sheaf, limit: usize) -> Result<(), Sheaf> {
        if self.full.len() >= limit {
            return Err(sheaf);
        }
        self.full.push(sheaf);
        Ok(())
    }

    /// Takes in an empty sheaf, unless `limit` of them are here: then it comes back.
    pub(crate) fn put_empty(&mut self, sheaf: Sheaf, limit: usize) -> Result<(), Sheaf> {
        if self.empty.len() >= limit {
            return Err(sheaf);
        }
        self.empty.push(sheaf);
        Ok(())
    }

    /// Objects in its sheaves.
    pub(crate) fn objects(&self) -> usize {
        self.full.objects()
    }

    /// Full and empty sheaves.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.full.len(), self.empty.len())
    }
}
