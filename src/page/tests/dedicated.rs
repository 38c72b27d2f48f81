//! Mappings of their own: resized in place, moved, refused, and always accounted for.

use super::*;
use crate::page::dedicated::length_of;
use crate::sys::fault::{Call, arm, left};
use crate::sys::map;

const MIB: usize = 1 << 20;

/// A zone, and the mapping of its own that the test is about.
struct Case {
    home: Home,
    at: NonNull<u8>,
}

impl Case {
    fn new(bytes: usize) -> Self {
        Self::with(bytes, usize::MAX)
    }

    fn with(bytes: usize, limit: usize) -> Self {
        let home = Home::with(&Config { hugepages: Hugepages::Off, limit, ..Config::new() });
        let at = home.zone.map_dedicated(bytes, PAGE_SIZE).unwrap();
        Self { home, at }
    }

    fn pfn(&self) -> Pfn {
        pfn_of(self.at.as_ptr().addr()).unwrap()
    }

    fn resize(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the mapping is the test's, which goes on with the new address and length.
        let moved = unsafe { self.home.zone.resize_dedicated(self.pfn(), bytes) };
        self.at = moved.unwrap_or(self.at);
        moved
    }

    /// Writes to the page at `offset`.
    fn write(&self, offset: usize, value: u8) {
        // SAFETY: the callers pass offsets within the mapping.
        let byte = unsafe { self.at.add(offset) };
        // SAFETY: as above.
        unsafe { byte.write(value) };
    }

    fn read(&self, offset: usize) -> u8 {
        // SAFETY: the callers pass offsets within the mapping.
        let byte = unsafe { self.at.add(offset) };
        // SAFETY: as above.
        unsafe { byte.read() }
    }

    /// Whether lists, words and counts say that there is this one mapping of so many bytes.
    fn check(&self, bytes: usize) {
        self.home.census();
        let buddy = self.home.zone.buddy.lock();
        assert_eq!((buddy.dedicated.len(), buddy.dedicated_pages), (1, bytes / PAGE_SIZE));
        assert_eq!(buddy.dedicated.first(), Some(super::super::buddy::element(self.pfn())));
        assert_eq!(length_of(self.pfn()), bytes);
        let word = MemMap.page(self.pfn()).word();
        assert_eq!((word.kind(), word.zone()), (Kind::Dedicated, self.home.zone.id));
    }
}

fn is_forgotten(zone: &Zone, pfn: Pfn) -> bool {
    let buddy = zone.buddy.lock();
    buddy.dedicated.is_empty() && buddy.dedicated_pages == 0 && MemMap.page(pfn).word() == Word::NOTHING
}

#[test]
fn a_mapping_is_aligned_zero_and_counted() {
    for (bytes, align) in [(32 * MIB, 16), (33 * MIB + 1, PAGE_SIZE), (1, 64 * MIB), (5 * MIB, 4 * MIB)] {
        let home = Home::new();
        let at = home.zone.map_dedicated(bytes, align).unwrap();
        let case = Case { home, at };
        assert!(case.at.as_ptr().addr().is_multiple_of(align.max(PAGEBLOCK_SIZE)));
        case.check(map::round_to_os_page(bytes).unwrap());
        assert_eq!((case.read(0), case.read(bytes - 1)), (0, 0));
        let pfn = case.pfn();
        // SAFETY: the test is done with it.
        unsafe { case.home.zone.unmap_dedicated(pfn) };
        assert!(is_forgotten(&case.home.zone, pfn));
    }
}

#[test]
fn it_shrinks_where_it_is() {
    let mut case = Case::new(40 * MIB);
    let before = case.at;
    case.write(0, 1);
    case.write(33 * MIB - 1, 2);
    assert_eq!(case.resize(33 * MIB), Some(before));
    case.check(33 * MIB);
    assert_eq!((case.read(0), case.read(33 * MIB - 1)), (1, 2));
    assert_eq!(case.resize(33 * MIB - 100), Some(before));
    case.check(33 * MIB);
}

#[test]
fn it_grows_here_or_elsewhere_and_keeps_its_contents() {
    let mut case = Case::new(32 * MIB);
    case.write(0, 1);
    case.write(32 * MIB - 1, 2);
    for bytes in [33 * MIB, 64 * MIB + 1, 200 * MIB] {
        let before = case.pfn();
        assert!(case.resize(bytes).is_some());
        case.check(map::round_to_os_page(bytes).unwrap());
        assert!(case.at.as_ptr().addr().is_multiple_of(PAGEBLOCK_SIZE));
        assert_eq!((case.read(0), case.read(32 * MIB - 1), case.read(bytes - 1)), (1, 2, 0));
        assert!(before == case.pfn() || MemMap.page(before).word() == Word::NOTHING);
    }
}

#[test]
fn it_moves_where_it_cannot_be_resized() {
    for (bytes, end) in [(48 * MIB, 32 * MIB), (16 * MIB, 16 * MIB)] {
        let mut case = Case::new(32 * MIB);
        let before = case.pfn();
        case.write(0, 1);
        case.write(end - 1, 2);
        assert!(arm(Call::Remap, 0, 1));
        assert!(case.resize(bytes).is_some());
        assert!(left() == 0 && case.pfn() != before);
        assert_eq!(MemMap.page(before).word(), Word::NOTHING);
        assert_eq!((case.read(0), case.read(end - 1)), (1, 2));
        case.check(bytes);
    }
}

#[test]
fn it_stays_as_it_was_where_it_cannot_move_either() {
    for bytes in [48 * MIB, 16 * MIB] {
        // mremap fails twice; or the first mremap and the mapping to move to.
        for call in [Call::Remap, Call::Any] {
            let mut case = Case::new(32 * MIB);
            case.write(32 * MIB - 1, 2);
            assert!(arm(call, 0, 2));
            assert_eq!((case.resize(bytes), left()), (None, 0));
            case.check(32 * MIB);
            assert_eq!(case.read(32 * MIB - 1), 2);
        }
    }
}

#[test]
fn a_mapping_that_its_user_split_stays_as_it_was() {
    let mut case = Case::new(32 * MIB);
    case.write(0, 1);
    case.write(32 * MIB - 1, 2);
    // As a program may that keeps its own guard pages: now the kernel has three mappings.
    let middle = case.at.as_ptr().wrapping_add(16 * MIB).cast();
    // SAFETY: a page in the middle of the test's mapping, which nobody reads or writes.
    assert_eq!(unsafe { libc::mprotect(middle, PAGE_SIZE, libc::PROT_NONE) }, 0);
    // It is not even tried to move it: the kernel may unmap the target before it sees that it cannot.
    assert!(arm(Call::Map, 0, 1));
    assert_eq!((case.resize(64 * MIB), left()), (None, 1));
    arm(Call::Map, 0, 0);
    case.check(32 * MIB);
    assert_eq!((case.read(0), case.read(32 * MIB - 1)), (1, 2));
    // Cutting the end off is possible all the same.
    assert!(case.resize(8 * MIB).is_some());
    case.check(8 * MIB);
}

#[test]
fn a_refused_munmap_loses_addresses_but_no_memory() {
    let case = Case::new(32 * MIB);
    let (at, pfn) = (case.at, case.pfn());
    case.write(0, 1);
    assert!(arm(Call::Unmap, 0, 1));
    // SAFETY: the test only looks whether the memory is still backed.
    unsafe { case.home.zone.unmap_dedicated(pfn) };
    assert!(left() == 0 && is_forgotten(&case.home.zone, pfn));
    // Discarded: what was written is gone.
    assert_eq!(case.read(0), 0);
    // SAFETY: still mapped, and nobody else knows.
    assert!(unsafe { map::unmap(at, 32 * MIB) });
}

#[test]
fn the_limit_holds_for_what_grows() {
    let mut case = Case::with(32 * MIB, 40 * MIB);
    assert_eq!(case.resize(40 * MIB + 1), None);
    case.check(32 * MIB);
    assert!(case.resize(40 * MIB).is_some());
    assert!(case.home.zone.take(Order::ZERO, MOVABLE).is_none());
    assert!(case.resize(39 * MIB).is_some());
    let run = case.home.take(256);
    assert!(case.home.zone.take(Order::ZERO, MOVABLE).is_none());
    assert_eq!(case.resize(40 * MIB), None);
    case.check(39 * MIB);
    case.home.free(run);
    assert_eq!(case.home.zone.map_dedicated(usize::MAX - 5000, PAGE_SIZE), None);
    case.check(39 * MIB);
}

#[test]
fn many_are_told_apart_and_unmapped_together() {
    let home = Home::new();
    let all: Vec<_> = (1..20).map(|n| home.zone.map_dedicated(n * MIB, PAGE_SIZE).unwrap()).collect();
    for (number, at) in all.iter().enumerate() {
        assert_eq!(length_of(pfn_of(at.as_ptr().addr()).unwrap()), (number + 1) * MIB);
    }
    assert_eq!(home.zone.buddy.lock().dedicated_pages, 190 * MIB / PAGE_SIZE);
    let first = pfn_of(all[0].as_ptr().addr()).unwrap();
    // SAFETY: the test is done with all of them.
    unsafe { home.zone.unmap_all_dedicated() };
    assert!(is_forgotten(&home.zone, first));
}
