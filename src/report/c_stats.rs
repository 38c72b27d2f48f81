//! The statistics functions of C, as plain functions: `mallinfo`, `mallinfo2`, `malloc_info`, `malloc_stats`.

use core::ffi::{c_int, c_void};
use core::fmt::{self, Write};

use super::print::{Buffered, print_all};
use crate::base::pfn::PAGE_SIZE;
use crate::front::global;
use crate::slab::size_class::{ALL_CLASSES, CLASSES};
use crate::sys::{EINVAL, set_errno, stream};

/// `struct mallinfo2` of glibc, in bytes unless it says otherwise.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Mallinfo2 {
    /// Arena memory.
    pub arena: usize,
    /// Free blocks of the page allocator, in number.
    pub ordblks: usize,
    /// Objects in caches of threads and barns, in number.
    pub smblks: usize,
    /// Mappings of their own, in number.
    pub hblks: usize,
    /// Mappings of their own.
    pub hblkhd: usize,
    /// Always 0, as in glibc.
    pub usmblks: usize,
    /// Objects in caches of threads and barns.
    pub fsmblks: usize,
    /// What the program has, mappings of their own not counted.
    pub uordblks: usize,
    /// Free memory of arenas, backed or not.
    pub fordblks: usize,
    /// Free memory that could be given back now.
    pub keepcost: usize,
}

/// `struct mallinfo`: the same with `int`, which wraps.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Mallinfo {
    fields: [c_int; 10],
}

/// `mallinfo2`.
pub fn mallinfo2() -> Mallinfo2 {
    let state = global::ready();
    let mut info = Mallinfo2::default();
    for zone in state.zones.iter() {
        let buddy = zone.buddy.lock();
        info.arena += buddy.managed_pages * PAGE_SIZE;
        info.ordblks += buddy.areas.iter().map(|area| area.blocks()).sum::<usize>();
        info.hblks += buddy.dedicated.len();
        info.hblkhd += buddy.dedicated_pages * PAGE_SIZE;
        info.fordblks += buddy.free_pages * PAGE_SIZE;
        info.keepcost += buddy.dirty_pageblocks * crate::base::pfn::PAGEBLOCK_SIZE;
    }
    for class in ALL_CLASSES {
        let (cache, size) = (state.class_usage(class), CLASSES[class].size as usize);
        info.fordblks += cache.free * size;
        let barn = cache.in_barns;
        let waiting: usize = state.caches().map(|thread| thread.sheaves.of(class).count()).sum();
        info.smblks += barn + waiting;
        info.fsmblks += (barn + waiting) * size;
    }
    let pages: usize = state.caches().filter_map(|thread| Some(thread.pcp.remote()?.pages())).sum();
    info.fordblks = (info.fordblks + info.fsmblks + pages * PAGE_SIZE).min(info.arena);
    info.uordblks = info.arena - info.fordblks;
    info
}

/// `mallinfo`.
pub fn mallinfo() -> Mallinfo {
    let wide = mallinfo2();
    let fields = [
        wide.arena,
        wide.ordblks,
        wide.smblks,
        wide.hblks,
        wide.hblkhd,
        wide.usmblks,
        wide.fsmblks,
        wide.uordblks,
        wide.fordblks,
        wide.keepcost,
    ];
    Mallinfo { fields: fields.map(|field| field as c_int) }
}

/// `malloc_stats`: buddyinfo, slabinfo and zoneinfo on stderr.
pub fn malloc_stats() {
    print_all();
}

/// `malloc_info`: the heap's state as XML on `stream`. Returns 0, or -1 with `EINVAL` where `options` is not 0,
/// or -1 where the stream did not take it.
///
/// # Safety
/// `stream` is an open `FILE *`.
pub unsafe fn malloc_info(options: c_int, stream: *mut c_void) -> c_int {
    if options != 0 {
        set_errno(EINVAL);
        return -1;
    }
    let mut taken = true;
    let mut out = Buffered::new(|bytes: &[u8]| {
        // SAFETY: the caller vouches for the stream.
        taken &= unsafe { stream::write(stream, bytes) };
    });
    let _ = write_xml(&mut out);
    drop(out);
    if taken { 0 } else { -1 }
}

fn write_xml(out: &mut impl Write) -> fmt::Result {
    let info = mallinfo2();
    out.write_str("<malloc version=\"1\" allocator=\"pcpmalloc\">\n<heap nr=\"0\">\n<sizes>\n")?;
    for (number, class) in CLASSES.iter().enumerate().skip(1) {
        let (slabs, free) = {
            let usage = global::ready().class_usage(number);
            (usage.slabs, usage.free)
        };
        if slabs > 0 {
            let total = slabs * usize::from(class.objects);
            writeln!(
                out,
                "<size size=\"{}\" slabs=\"{slabs}\" total=\"{total}\" free=\"{free}\"/>",
                class.size
            )?;
        }
    }
    out.write_str("</sizes>\n")?;
    writeln!(out, "<total type=\"fast\" count=\"{}\" size=\"{}\"/>", info.smblks, info.fsmblks)?;
    writeln!(out, "<total type=\"rest\" count=\"{}\" size=\"{}\"/>", info.ordblks, info.fordblks)?;
    writeln!(out, "<total type=\"mmap\" count=\"{}\" size=\"{}\"/>", info.hblks, info.hblkhd)?;
    writeln!(out, "<system type=\"current\" size=\"{}\"/>", info.arena)?;
    out.write_str("</heap>\n</malloc>\n")
}
