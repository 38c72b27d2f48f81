//! One slab, for every class: its objects, its bitmap, and what an address is.
#![forbid(unsafe_code)]

use super::*;
use crate::base::pfn::{Migratetype, PAGE_SIZE};
use crate::page::mm_types::{Kind, Word};
use crate::page::section::pfn_of;
use crate::slab::slab_page::{Bitmap, NotAnObject, needs_bitmap};

fn make(shop: &Shop, class: usize) -> Slab {
    let bitmap = needs_bitmap(class).then(|| shop.meta.take(size_of::<Bitmap>()).unwrap().cast());
    Slab::make(&mut shop.home.bare(), class, bitmap).unwrap()
}

fn all(slab: Slab) -> Vec<Object> {
    let mut slots = vec![core::ptr::null_mut(); usize::from(CLASSES[slab.class].objects) + 1];
    let taken = slab.take(&mut slots);
    slots.truncate(taken);
    slots
}

#[test]
fn only_8_and_16_need_a_record_for_their_bitmap() {
    let classes: Vec<_> = SMALL_CLASSES.filter(|class| needs_bitmap(*class)).map(bytes_of).collect();
    assert_eq!(classes, [8, 16]);
}

#[test]
fn every_object_of_every_class_is_whole_and_apart() {
    let shop = Shop::new();
    for class in SMALL_CLASSES {
        let slab = make(&shop, class);
        let (info, base) = (&CLASSES[class], MemMap.address(slab.first).as_ptr().addr());
        let count = usize::from(info.objects);
        assert_eq!(slab.free_objects(), count);
        let objects = all(slab);
        assert_eq!((objects.len(), slab.free_objects()), (count, 0));
        let align = 1 << bytes_of(class).trailing_zeros();
        for (index, object) in objects.iter().enumerate() {
            assert_eq!(object.addr(), base + index * bytes_of(class));
            assert!(object.addr().is_multiple_of(align));
            let found = Slab::at(object.addr(), shop.home.zone.id, class).unwrap();
            assert_eq!((found.first, found.class), (slab.first, class));
        }
        assert!(objects[count - 1].addr() + bytes_of(class) <= base + pages_of(class) * PAGE_SIZE);
        // Whatever stands in the objects, the bitmap is elsewhere.
        write(class, &objects);
        assert!(is_written(class, &objects) && slab.free_objects() == 0);
        for object in objects.iter().rev() {
            assert_eq!(slab.give(&[*object]), Ok(1));
            assert_eq!(slab.give(&[*object]), Err((*object, NotAnObject::Free)));
        }
        assert_eq!(slab.free_objects(), count);
        Slab::unmake_all(&[Some(slab)], &mut shop.home.bare());
    }
    assert_eq!(shop.home.census().free, shop.home.zone.mapped_pages());
}

#[test]
fn objects_on_lines_of_their_own_are_taken_first_each_by_address() {
    let shop = Shop::new();
    let mut random = Random(7);
    for class in SMALL_CLASSES {
        let slab = make(&shop, class);
        let objects = all(slab);
        let mut back: Vec<usize> = Vec::new();
        for _ in 0..objects.len() / 2 {
            let index = random.below(objects.len());
            assert_eq!(slab.give(&objects[index..=index]).is_ok(), !back.contains(&index));
            back.push(index);
        }
        back.sort_unstable();
        back.dedup();
        assert_eq!(slab.free_objects(), back.len());
        let in_line = (64 / bytes_of(class)).max(1);
        let on_whole_line = |index: &usize| {
            let first = index - index % in_line;
            !in_line.is_power_of_two() || (first..first + in_line).all(|other| back.contains(&other))
        };
        let (whole, shared): (Vec<_>, Vec<_>) = back.iter().copied().partition(on_whole_line);
        let expected: Vec<_> = whole.into_iter().chain(shared).map(|index| objects[index]).collect();
        assert_eq!(all(slab), expected);
    }
}

#[test]
fn what_is_not_an_object_is_told_why() {
    let shop = Shop::new();
    let zone = shop.home.zone.id;
    for class in SMALL_CLASSES {
        let slab = make(&shop, class);
        let (base, info) = (MemMap.address(slab.first).as_ptr().addr(), &CLASSES[class]);
        let end = base + pages_of(class) * PAGE_SIZE;
        let at = |address, zone, class| Slab::at(address, zone, class).map(|slab| slab.first);
        for address in base..end {
            let offset = address - base;
            assert_eq!(at(address, zone, class), Ok(slab.first));
            let whole = offset.is_multiple_of(bytes_of(class))
                && offset / bytes_of(class) < usize::from(info.objects);
            let object = core::ptr::without_provenance_mut(address);
            let what = if whole { NotAnObject::Free } else { NotAnObject::Interior };
            assert_eq!(slab.give(&[object]), Err((object, what)));
        }
        // Addresses elsewhere are not this slab's to judge.
        for address in [base - 1, end, 0, usize::MAX] {
            assert_eq!(slab.give(&[core::ptr::without_provenance_mut(address)]), Ok(0));
        }
        let other = class + 1;
        assert_eq!(at(base, zone, other), Err(NotAnObject::OtherClass));
        assert_eq!(at(base, zone + 1, class), Err(NotAnObject::Foreign));
        Slab::unmake_all(&[Some(slab)], &mut shop.home.bare());
        for address in [base, end - 1] {
            assert_eq!(at(address, zone, class), Err(NotAnObject::Foreign));
        }
    }
    assert_eq!(Slab::at(0, zone, 1).err(), Some(NotAnObject::Foreign));
    assert_eq!(Slab::at(usize::MAX, zone, 1).err(), Some(NotAnObject::Foreign));
    assert_eq!(Slab::at((&raw const shop).addr(), zone, 1).err(), Some(NotAnObject::Foreign));
}

#[test]
fn pages_of_a_slab_say_so_and_free_ones_do_not() {
    let shop = Shop::new();
    let class = SMALL_CLASSES.clone().find(|class| pages_of(*class) == 8).unwrap();
    let slab = make(&shop, class);
    for offset in 0..8 {
        let word = MemMap.page(slab.first.add(offset)).word();
        assert_eq!((word.kind(), word.class(), word.offset()), (Kind::Slab, class, offset));
        let at = MemMap.address(slab.first).as_ptr().addr() + offset * PAGE_SIZE;
        assert_eq!(pfn_of(at).unwrap().align_down(word.order()), slab.first);
    }
    assert_eq!(MemMap.pageblock(slab.first).migratetype(), Migratetype::Unmovable);
    Slab::unmake_all(&[Some(slab)], &mut shop.home.bare());
    assert!((1..8).all(|offset| MemMap.page(slab.first.add(offset)).word() == Word::NOTHING));
}

#[test]
fn a_large_object_is_a_run_of_its_class() {
    let shop = Shop::new();
    let zone = shop.home.zone.id;
    for class in SMALL_CLASSES.end..NR_CLASSES {
        let (object, _) = Slab::make_large(&mut shop.home.bare(), class).unwrap();
        let at = object.as_ptr().addr();
        let slab = Slab::at(at, zone, class).unwrap();
        assert_eq!(slab.free_objects(), 0);
        let page = MemMap.page(slab.first);
        assert_eq!((page.word().kind(), page.run_pages()), (Kind::Run, pages_of(class)));
        assert_eq!(Slab::at(at + PAGE_SIZE, zone, class).err(), Some(NotAnObject::Interior));
        assert_eq!(Slab::at(at, zone, class - 1).err(), Some(NotAnObject::OtherClass));
        Slab::unmake_all(&[Some(slab)], &mut shop.home.bare());
        assert_eq!(Slab::at(at, zone, class).err(), Some(NotAnObject::Foreign));
    }
    assert!(shop.is_empty());
}
