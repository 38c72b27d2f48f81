//! One of something for each memory node of an instance: node 0's in place, those of further nodes in the instance's
//! records, made when it turns out that there are further nodes. So a machine with one node pays with a null pointer
//! a node, and with a look at the first of them where it matters.

use core::ptr::NonNull;

use super::meta::Meta;
use crate::base::topology::MAX_NODES;
use crate::sys::handoff;
use crate::sys::sync::{AtomicPtr, Ordering};

/// Bytes that a record is aligned to.
const ALIGN: usize = 64;

/// A value that stands in the records of an instance, for as long as that lives.
pub(crate) struct Record<T>(NonNull<T>);

impl<T> Record<T> {
    /// Puts a value into the records. It is never dropped. `None` means out of memory.
    pub(crate) fn new(value: T, meta: &Meta) -> Option<Self> {
        const { assert!(align_of::<T>() <= ALIGN && !core::mem::needs_drop::<T>()) };
        let memory: NonNull<T> = meta.take(size_of::<T>())?.cast();
        // SAFETY: a fresh piece of at least this size, aligned to a cache line, that nobody else knows.
        unsafe { memory.write(value) };
        Some(Self(memory))
    }

    /// The value.
    pub(crate) fn get(&mut self) -> &mut T {
        // SAFETY: a value was written there, it exists as long as the instance, and nobody else knows it yet.
        unsafe { self.0.as_mut() }
    }

    /// The record at this address.
    ///
    /// # Safety
    /// The address came from the `Meta` of the instance that the record is for, and a `T` was written there.
    pub(crate) unsafe fn from_raw(memory: NonNull<T>) -> Self {
        Self(memory)
    }
}

/// A place for a record, empty until one is published there, for good. It belongs to the instance whose records these
/// are, and ends with them.
#[repr(transparent)]
pub(crate) struct Place<T>(AtomicPtr<T>);

impl<T: Sync> Place<T> {
    pub(crate) const fn empty() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// Whether there is nothing yet. Relaxed: a hint for those who then ask `get`.
    #[inline]
    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: null, or a record that was published, which exists as long as the instance and with it this place;
        // it is shared by `T: Sync`, and never written but through what `T` allows.
        unsafe { handoff::published(&self.0).as_ref() }
    }

    /// Shows a record to everybody. Where there is one already, that one stays.
    pub(crate) fn publish(&self, record: Record<T>) {
        handoff::publish(&self.0, record.0.as_ptr());
    }
}

/// One `T` a node.
#[repr(C)]
pub(crate) struct PerNode<T> {
    /// Node 0's, which there always is.
    pub(crate) first: T,
    others: [Place<T>; MAX_NODES - 1],
}

impl<T: Sync> PerNode<T> {
    pub(crate) const fn new(first: T) -> Self {
        Self { first, others: [const { Place::empty() }; MAX_NODES - 1] }
    }

    /// Whether there is but node 0. Whoever has memory of another node has synchronised with somebody who has seen
    /// it, and sees it too.
    #[inline]
    pub(crate) fn is_one(&self) -> bool {
        self.others[0].is_empty()
    }

    /// A node's, or node 0's where that node has none.
    pub(crate) fn of(&self, node: usize) -> &T {
        let place = node.checked_sub(1).and_then(|index| self.others.get(index));
        place.and_then(Place::get).unwrap_or(&self.first)
    }

    /// Those of all nodes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        core::iter::once(&self.first).chain(self.others.iter().map_while(Place::get))
    }

    /// Gives a node its own, if it has none yet. Nodes come in the order of their numbers.
    pub(crate) fn publish(&self, node: usize, record: Record<T>) {
        if let Some(place) = node.checked_sub(1).and_then(|index| self.others.get(index)) {
            place.publish(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_without_their_own_have_the_first() {
        let (meta, numbers) = (Meta::new(), PerNode::new(10));
        assert!(numbers.is_one());
        for node in 1..3 {
            numbers.publish(node, Record::new(10 + node, &meta).expect("memory"));
        }
        // One that came late, and a node that cannot be.
        numbers.publish(2, Record::new(99, &meta).expect("memory"));
        numbers.publish(MAX_NODES, Record::new(99, &meta).expect("memory"));
        assert!(!numbers.is_one());
        assert_eq!(numbers.iter().copied().collect::<Vec<_>>(), [10, 11, 12]);
        assert_eq!([0, 1, 2, 3, 7, 8, 63].map(|node| *numbers.of(node)), [10, 11, 12, 10, 10, 10, 10]);
        // SAFETY: nothing of them is used any more.
        unsafe { meta.unmap_all() };
    }
}
