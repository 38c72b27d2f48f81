//! What the process was started with and what the machine has: environment variables, memory, limits.

use core::ffi::CStr;
use core::num::NonZeroUsize;

use once_cell::race::OnceNonZeroUsize;

use super::keep_errno;

/// The value of an environment variable. Copies nothing and takes no lock: the bytes are the environment's
/// own, read at once and not kept.
pub(crate) fn with_variable<R>(name: &CStr, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
    // SAFETY: a null-terminated name; `getenv` only reads the environment.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: `getenv` returned a null-terminated string. It stays while the environment is not changed; this
    // runs when the heap is made, before the program has had a reason to.
    let value = unsafe { CStr::from_ptr(value) };
    Some(read(value.to_bytes()))
}

/// Whether the program runs with more rights than its caller (set-uid and the like), so that the caller's
/// environment must not steer it.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: reads a value from the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Bytes of memory of this machine, 0 where it does not say.
pub(crate) fn total_memory() -> usize {
    // SAFETY: an all-zero sysinfo is a valid value of that plain C struct.
    let mut info: libc::sysinfo = unsafe { core::mem::zeroed() };
    // SAFETY: `info` is writable and of the right type.
    if keep_errno(|| unsafe { libc::sysinfo(&raw mut info) }) != 0 {
        return 0;
    }
    (info.totalram as usize).saturating_mul(info.mem_unit as usize)
}

/// Bytes of memory that this process may have: its cgroup's limit, or the machine's memory where that is less.
/// `None` where neither is known. Opens files, closes them, keeps none.
pub(crate) fn usable_memory() -> Option<usize> {
    let total = Some(total_memory()).filter(|total| *total > 0);
    total.into_iter().chain(cgroup_limit()).min()
}

/// Whether the system has transparent hugepages of this size for those who ask. Read once: two small files.
pub(crate) fn has_hugepages_of(bytes: usize) -> bool {
    /// 1 for no, 2 for yes.
    static ANSWER: OnceNonZeroUsize = OnceNonZeroUsize::new();
    let ask = || {
        let mut text = [0; 64];
        let enabled = read_file(c"/sys/kernel/mm/transparent_hugepage/enabled", &mut text)
            .is_some_and(|text| !text.windows(7).any(|word| word == b"[never]"));
        let mut text = [0; 32];
        let size = read_file(c"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", &mut text)
            .and_then(|text| core::str::from_utf8(text).ok()?.trim().parse().ok());
        NonZeroUsize::MIN.saturating_add(usize::from(enabled && size == Some(bytes)))
    };
    ANSWER.get_or_init(ask).get() > 1
}

/// A cgroup that this process is in: where its hierarchy is mounted, and its path there.
pub(crate) enum Group<'a> {
    /// Of version 2.
    Unified(&'static [u8], &'a [u8]),
    /// Of version 1's memory controller.
    Memory(&'static [u8], &'a [u8]),
}

/// Runs `work` on the groups of this process that have to do with memory. Where a container sees its own group as the
/// root, its path leads nowhere: then the root is the group, and comes after it.
pub(crate) fn with_memory_groups(work: &mut dyn FnMut(Group<'_>)) {
    let mut membership = [0; 1024];
    let Some(membership) = read_file(c"/proc/self/cgroup", &mut membership) else { return };
    for line in membership.split(|byte| *byte == b'\n') {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        for path in [path, b""] {
            if controllers.is_empty() {
                work(Group::Unified(b"/sys/fs/cgroup", path));
                work(Group::Unified(b"/sys/fs/cgroup/unified", path));
            } else if controllers.split(|byte| *byte == b',').any(|name| name == b"memory") {
                work(Group::Memory(b"/sys/fs/cgroup/memory", path));
            }
        }
    }
}

/// The memory limit of this process's cgroup in bytes (v2's memory.max or v1's), the smallest of it and of all groups
/// above it; `None` where there is none or it cannot be read. Opens files, closes them, keeps none.
fn cgroup_limit() -> Option<usize> {
    let mut limit: Option<usize> = None;
    with_memory_groups(&mut |group| {
        let (root, path, file): (_, _, &[u8]) = match group {
            Group::Unified(root, path) => (root, path, b"/memory.max"),
            Group::Memory(root, path) => (root, path, b"/memory.limit_in_bytes"),
        };
        let mut end = path.len();
        loop {
            let found = below(root, &path[..end], file, read_number);
            limit = limit.into_iter().chain(found).min();
            match path[..end].iter().rposition(|byte| *byte == b'/') {
                Some(above) => end = above,
                None => return,
            }
        }
    });
    limit
}

/// Runs `work` on the name of a group's file; `None` where that is too long. Not inlined: the name takes room on the
/// stack of whoever allocates.
#[inline(never)]
pub(crate) fn below<R>(
    root: &[u8],
    path: &[u8],
    file: &[u8],
    work: impl FnOnce(&CStr) -> Option<R>,
) -> Option<R> {
    let mut name = [0_u8; 512];
    let mut length = 0;
    for part in [root, path, file] {
        name.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    work(CStr::from_bytes_until_nul(&name).ok()?)
}

/// The number in a file; `None` where there is none, which "max" says too.
fn read_number(name: &CStr) -> Option<usize> {
    let mut text = [0; 32];
    let text = read_file(name, &mut text)?;
    core::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The start of a file, as much as fits.
pub(super) fn read_file<'a>(name: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = keep_errno(|| {
        // SAFETY: a null-terminated name.
        let file = unsafe { libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if file < 0 {
            return -1;
        }
        // SAFETY: `file` was opened just now, and the buffer is writable for its length.
        let length = unsafe { libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()) };
        // SAFETY: opened above and used by nobody else.
        unsafe { libc::close(file) };
        length
    });
    buffer.get(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        assert!(total_memory() > 64 << 20);
        assert!(usable_memory().is_some_and(|memory| 0 < memory && memory <= total_memory()));
        assert!(cgroup_limit().is_none_or(|limit| limit > 0));
    }

    #[test]
    fn variables_are_read_as_they_are() {
        assert_eq!(with_variable(c"PCPMALLOC_NO_SUCH_THING", <[u8]>::len), None);
        assert!(with_variable(c"PATH", <[u8]>::len).is_some_and(|length| length > 0));
    }
}
