//! Doubly linked lists whose links are 32-bit indices into a table that somebody else owns; 0 is nobody.
//!
//! The links stand in the elements (struct pages), so a list costs nothing but its ends. The list's owner
//! serialises all use; the links are atomics only so that a reader in another process, or a validator, may
//! look at them at any time.
#![forbid(unsafe_code)]

use core::num::NonZeroU32;

use crate::sys::sync::{AtomicU32, Ordering};

/// The links of one element.
#[repr(C)]
pub(crate) struct Link {
    next: AtomicU32,
    prev: AtomicU32,
}

/// Where the links of an element are found.
pub(crate) trait Links {
    fn link(&self, element: NonZeroU32) -> &Link;
}

// Relaxed throughout: a list is guarded by its owner's lock, which orders everything.

impl Link {
    fn next(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.next.load(Ordering::Relaxed))
    }

    fn prev(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.prev.load(Ordering::Relaxed))
    }

    fn set_next(&self, to: Option<NonZeroU32>) {
        self.next.store(to.map_or(0, NonZeroU32::get), Ordering::Relaxed);
    }

    fn set_prev(&self, to: Option<NonZeroU32>) {
        self.prev.store(to.map_or(0, NonZeroU32::get), Ordering::Relaxed);
    }
}

/// A list: its two ends and its length.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct List {
    head: Option<NonZeroU32>,
    tail: Option<NonZeroU32>,
    length: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self { head: None, tail: None, length: 0 };

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length as usize
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn first(&self) -> Option<NonZeroU32> {
        self.head
    }

    #[inline]
    pub(crate) fn push_front(&mut self, links: &impl Links, element: NonZeroU32) {
        let link = links.link(element);
        link.set_prev(None);
        link.set_next(self.head);
        match self.head {
            Some(head) => links.link(head).set_prev(Some(element)),
            None => self.tail = Some(element),
        }
        self.head = Some(element);
        self.length += 1;
    }

    pub(crate) fn push_back(&mut self, links: &impl Links, element: NonZeroU32) {
        let link = links.link(element);
        link.set_next(None);
        link.set_prev(self.tail);
        match self.tail {
            Some(tail) => links.link(tail).set_next(Some(element)),
            None => self.head = Some(element),
        }
        self.tail = Some(element);
        self.length += 1;
    }

    #[inline]
    pub(crate) fn pop_front(&mut self, links: &impl Links) -> Option<NonZeroU32> {
        let element = self.head?;
        self.remove(links, element);
        Some(element)
    }

    pub(crate) fn pop_back(&mut self, links: &impl Links) -> Option<NonZeroU32> {
        let element = self.tail?;
        self.remove(links, element);
        Some(element)
    }

    /// Takes out an element of this list.
    #[inline]
    pub(crate) fn remove(&mut self, links: &impl Links, element: NonZeroU32) {
        let link = links.link(element);
        let (next, prev) = (link.next(), link.prev());
        match prev {
            Some(prev) => links.link(prev).set_next(next),
            None => self.head = next,
        }
        match next {
            Some(next) => links.link(next).set_prev(prev),
            None => self.tail = prev,
        }
        self.length -= 1;
    }

    /// The elements, first to last.
    pub(crate) fn iter<'a, L: Links>(&self, links: &'a L) -> impl Iterator<Item = NonZeroU32> + use<'a, L> {
        let mut next = self.head;
        core::iter::from_fn(move || {
            let element = next?;
            next = links.link(element).next();
            Some(element)
        })
    }

    /// The elements, last to first.
    pub(crate) fn iter_back<'a, L: Links>(
        &self,
        links: &'a L,
    ) -> impl Iterator<Item = NonZeroU32> + use<'a, L> {
        let mut next = self.tail;
        core::iter::from_fn(move || {
            let element = next?;
            next = links.link(element).prev();
            Some(element)
        })
    }

    /// Whether the links and the length agree, walking at most `length` steps.
    pub(crate) fn is_sound(&self, links: &impl Links) -> bool {
        let mut prev = None;
        let mut next = self.head;
        for _ in 0..self.length {
            let Some(element) = next else { return false };
            let link = links.link(element);
            if link.prev() != prev {
                return false;
            }
            prev = next;
            next = link.next();
        }
        next.is_none() && self.tail == prev
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    struct Table(Vec<Link>);

    impl Links for Table {
        fn link(&self, element: NonZeroU32) -> &Link {
            &self.0[element.get() as usize]
        }
    }

    proptest! {
        #[test]
        fn a_list_is_a_deque(steps in prop::collection::vec((0..5_u8, 1..32_u32), 1..200)) {
            let table = Table((0..32).map(|_| Link { next: AtomicU32::new(9), prev: AtomicU32::new(9) }).collect());
            let mut list = List::EMPTY;
            let mut model: VecDeque<u32> = VecDeque::new();
            for (step, element) in steps {
                let number = NonZeroU32::new(element).unwrap();
                match step {
                    0 if !model.contains(&element) => { list.push_front(&table, number); model.push_front(element); }
                    1 if !model.contains(&element) => { list.push_back(&table, number); model.push_back(element); }
                    2 => prop_assert_eq!(list.pop_front(&table).map(NonZeroU32::get), model.pop_front()),
                    3 => prop_assert_eq!(list.pop_back(&table).map(NonZeroU32::get), model.pop_back()),
                    4 if model.contains(&element) => { list.remove(&table, number); model.retain(|e| *e != element); }
                    _ => {}
                }
                prop_assert!(list.is_sound(&table));
                prop_assert_eq!(list.len(), model.len());
                let mut back: Vec<_> = list.iter_back(&table).map(NonZeroU32::get).collect();
                back.reverse();
                prop_assert_eq!(&back, &Vec::from(model.clone()));
                prop_assert_eq!(list.iter(&table).map(NonZeroU32::get).collect::<Vec<_>>(), Vec::from(model.clone()));
            }
        }
    }
}
