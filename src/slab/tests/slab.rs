//! One slab, for every class: its objects, its bitmap, and what an address is.
#![forbid(unsafe_code)]

use super::*;
use crate::base::pfn::{Migratetype, Order, PAGE_SIZE};
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
    let classes: Vec<_> = (0..NR_CLASSES).filter(|class| needs_bitmap(*class)).map(bytes_of).collect();
    assert_eq!(classes, [8, 16]);
}

#[test]
fn every_object_of_every_class_is_whole_and_apart() {
    let shop = Shop::new();
    for class in 0..NR_CLASSES {
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
            let (found, number) = Slab::locate(object.addr(), shop.home.zone.id, Some(class)).unwrap();
            assert_eq!((found.first, found.class, number), (slab.first, class, index));
        }
        assert!(objects[count - 1].addr() + bytes_of(class) <= base + info.order.bytes());
        // Whatever stands in the objects, the bitmap is elsewhere.
        write(class, &objects);
        assert!(is_written(class, &objects) && slab.free_objects() == 0);
        for (index, _) in objects.iter().enumerate().rev() {
            assert!(slab.give(index) && !slab.give(index));
        }
        assert_eq!(slab.free_objects(), count);
        slab.unmake(&mut shop.home.bare());
    }
    assert_eq!(shop.home.census().free, shop.home.zone.mapped_pages());
}

#[test]
fn objects_are_taken_by_address_whatever_the_order_they_came_back_in() {
    let shop = Shop::new();
    let mut random = Random(7);
    for class in 0..NR_CLASSES {
        let slab = make(&shop, class);
        let objects = all(slab);
        let mut back: Vec<usize> = Vec::new();
        for _ in 0..objects.len() / 2 {
            let index = random.below(objects.len());
            assert_eq!(slab.give(index), !back.contains(&index));
            back.push(index);
        }
        back.sort_unstable();
        back.dedup();
        assert_eq!(slab.free_objects(), back.len());
        let again: Vec<_> = all(slab);
        assert_eq!(again, back.iter().map(|index| objects[*index]).collect::<Vec<_>>());
        assert!(!slab.give(objects.len().next_multiple_of(64) * 8));
    }
}

#[test]
fn what_is_not_an_object_is_told_why() {
    let shop = Shop::new();
    let zone = shop.home.zone.id;
    for class in 0..NR_CLASSES {
        let slab = make(&shop, class);
        let (base, info) = (MemMap.address(slab.first).as_ptr().addr(), &CLASSES[class]);
        let end = base + info.order.bytes();
        let locate = |at, zone, class| Slab::locate(at, zone, class).map(|(_, index)| index);
        for at in base..end {
            let offset = at - base;
            let index = offset / bytes_of(class);
            let whole = offset.is_multiple_of(bytes_of(class)) && index < usize::from(info.objects);
            assert_eq!(locate(at, zone, None), if whole { Ok(index) } else { Err(NotAnObject::Interior) });
        }
        let other = (class + 1) % NR_CLASSES;
        assert_eq!(locate(base, zone, Some(other)), Err(NotAnObject::OtherClass));
        assert_eq!(locate(base, zone + 1, Some(class)), Err(NotAnObject::Foreign));
        slab.unmake(&mut shop.home.bare());
        for at in [base, end - 1] {
            assert_eq!(locate(at, zone, Some(class)), Err(NotAnObject::Foreign));
        }
    }
    assert_eq!(Slab::locate(0, zone, None).err(), Some(NotAnObject::Foreign));
    assert_eq!(Slab::locate(usize::MAX, zone, None).err(), Some(NotAnObject::Foreign));
    assert_eq!(Slab::locate((&raw const shop).addr(), zone, None).err(), Some(NotAnObject::Foreign));
}

#[test]
fn pages_of_a_slab_say_so_and_free_ones_do_not() {
    let shop = Shop::new();
    let class = (0..NR_CLASSES).find(|class| CLASSES[*class].order == Order::new(3)).unwrap();
    let slab = make(&shop, class);
    for offset in 0..8 {
        let word = MemMap.page(slab.first.add(offset)).word();
        assert_eq!((word.kind(), word.class(), word.offset()), (Kind::Slab, class, offset));
        let at = MemMap.address(slab.first).as_ptr().addr() + offset * PAGE_SIZE;
        assert_eq!(pfn_of(at).unwrap().align_down(word.order()), slab.first);
    }
    assert_eq!(MemMap.pageblock(slab.first).migratetype(), Migratetype::Unmovable);
    slab.unmake(&mut shop.home.bare());
    assert!((1..8).all(|offset| MemMap.page(slab.first.add(offset)).word() == Word::NOTHING));
}
