//! Memory nodes (NUMA): which the machine has, which processor the thread runs on, and where the system takes a
//! range's memory from. Keeps no file open, and needs neither /sys nor the calls: a machine that says nothing has
//! one node.

use core::ffi::CStr;
use core::ptr::NonNull;

use super::env::read_file;
use super::fault::{Call, strikes};
use super::keep_errno;

/// Words of a set of nodes: the system knows at most 1024.
const MASK_WORDS: usize = 16;

/// `MPOL_DEFAULT`: memory comes from the node of the thread that touches it first.
const DEFAULT: libc::c_int = 0;
/// `MPOL_PREFERRED`: memory comes from the node named, and from others where that has none.
const PREFERRED: libc::c_int = 1;

/// Calls `found` with the number of each node that has processors, since only there threads can ask for memory; not
/// at all where the machine does not say.
pub(crate) fn nodes(found: impl FnMut(usize)) {
    let mut buffer = [0; 256];
    if strikes(Call::Numa) {
        return;
    }
    if let Some(text) = read_file(c"/sys/devices/system/node/has_cpu", &mut buffer) {
        each_of_list(text, found);
    }
}

/// Calls `found` with the number of each processor at a node.
pub(crate) fn cpus_of(node: usize, found: impl FnMut(usize)) {
    let mut buffer = [0; 1024];
    let mut name = [0; 64];
    if strikes(Call::Numa) {
        return;
    }
    if let Some(text) = cpulist(node, &mut name).and_then(|name| read_file(name, &mut buffer)) {
        each_of_list(text, found);
    }
}

/// The name of the file that lists the processors of a node.
fn cpulist(node: usize, name: &mut [u8; 64]) -> Option<&CStr> {
    let mut digits = [0; 20];
    let (mut rest, mut first) = (node, digits.len());
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut length = 0;
    for part in [&b"/sys/devices/system/node/node"[..], &digits[first..], b"/cpulist"] {
        name.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    CStr::from_bytes_until_nul(name).ok()
}

/// Calls `found` with each number of a list like `0-3,8`. What makes no sense is left out.
fn each_of_list(text: &[u8], mut found: impl FnMut(usize)) {
    // Without an end of line the buffer did not hold all, and the last number may lack digits.
    let end = text.iter().position(|byte| *byte == b'\n');
    let end = end.or_else(|| text.iter().rposition(|byte| *byte == b',')).unwrap_or(0);
    let number = |text: &[u8]| core::str::from_utf8(text).ok()?.parse::<u16>().ok();
    for part in text[..end].split(|byte| *byte == b',') {
        let mut ends = part.splitn(2, |byte| *byte == b'-').map(number);
        let Some(Some(first)) = ends.next() else { continue };
        let last = ends.next().unwrap_or(Some(first)).unwrap_or(first);
        (first..=last).for_each(|number| found(number.into()));
    }
}

#[cfg(test)]
std::thread_local! {
    /// The processor that a test wants its thread to run on.
    static CPU: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
    /// Calls of `bind` by this thread.
    static BINDS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Makes the calling thread run on this processor, as far as `current_cpu` says.
#[cfg(test)]
pub(crate) fn run_on(cpu: usize) {
    CPU.set(Some(cpu));
}

/// How often the calling thread called `bind`.
#[cfg(test)]
pub(crate) fn binds() -> usize {
    BINDS.get()
}

/// The processor that the thread runs on; 0 where the system does not say. It may run on another one right after.
pub(crate) fn current_cpu() -> usize {
    #[cfg(test)]
    if let Some(cpu) = CPU.get() {
        return cpu;
    }
    // SAFETY: takes nothing and returns a number.
    let cpu = keep_errno(|| unsafe { libc::sched_getcpu() });
    usize::try_from(cpu).unwrap_or(0)
}

/// Whether somebody has said already where the thread's memory comes from (numactl, `set_mempolicy`). That is not
/// known where the system does not tell (containers often forbid the call); then nobody has.
pub(crate) fn has_policy() -> bool {
    let mut mode: libc::c_int = DEFAULT;
    let mode_at = &raw mut mode;
    let none = core::ptr::null_mut::<libc::c_ulong>();
    if strikes(Call::Numa) {
        return false;
    }
    // SAFETY: with no flags the call writes the calling thread's mode to the int given, and nothing else.
    let result = keep_errno(|| unsafe {
        libc::syscall(libc::SYS_get_mempolicy, mode_at, none, 0_usize, none, 0_usize)
    });
    result == 0 && mode != DEFAULT
}

/// Asks for the range's memory to come from this node, by the system's number, where that has some. Meant for
/// memory that nothing has touched; what is there stays where it is. False where the system refuses: then memory
/// comes from the node of the thread that touches it first.
pub(crate) fn bind(address: NonNull<u8>, length: usize, node: u16) -> bool {
    #[cfg(test)]
    BINDS.set(BINDS.get() + 1);
    let mut mask = [0_u64; MASK_WORDS];
    let Some(word) = mask.get_mut(usize::from(node) / 64) else { return false };
    *word = 1 << (node % 64);
    if strikes(Call::Numa) {
        return false;
    }
    // The system reads one bit less than it is told.
    let bits = MASK_WORDS * 64 + 1;
    let result = keep_errno(|| {
        // SAFETY: the call changes where memory will come from, not what is in the range; the mask has more bits
        // than it reads.
        unsafe { libc::syscall(libc::SYS_mbind, address.as_ptr(), length, PREFERRED, mask.as_ptr(), bits, 0) }
    });
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::map;

    fn list(text: &[u8]) -> Vec<usize> {
        let mut numbers = Vec::new();
        each_of_list(text, |number| numbers.push(number));
        numbers
    }

    #[test]
    fn lists_are_read_as_the_system_writes_them() {
        assert_eq!(list(b"0\n"), [0]);
        assert_eq!(list(b"0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(list(b"\n"), []);
        assert_eq!((list(b"0,2,1"), list(b"12"), list(b"")), (vec![0, 2], vec![], vec![]));
        assert_eq!(list(b"x,3,-,5-4,7-y\n"), [3, 7]);
    }

    #[test]
    fn files_of_nodes_have_their_names() {
        let mut name = [0; 64];
        assert_eq!(cpulist(0, &mut name), Some(c"/sys/devices/system/node/node0/cpulist"));
        let mut name = [0; 64];
        assert_eq!(cpulist(1023, &mut name), Some(c"/sys/devices/system/node/node1023/cpulist"));
    }

    #[test]
    fn the_machine_says_what_it_has() {
        let (mut found, mut cpus) = (Vec::new(), Vec::new());
        nodes(|node| found.push(node));
        found.iter().for_each(|node| cpus_of(*node, |cpu| cpus.push(cpu)));
        if found.is_empty() {
            println!("skipped: /sys says nothing of nodes");
            return;
        }
        assert!(cpus.contains(&current_cpu()), "cpu {} is at none of {found:?}: {cpus:?}", current_cpu());
        assert!(crate::sys::fault::arm(Call::Numa, 0, 2));
        nodes(|_| unreachable!());
        cpus_of(found[0], |_| unreachable!());
    }

    /// The policy of the mapping at an address: its mode and the first word of its nodes.
    fn policy_of(address: NonNull<u8>) -> Option<(i32, u64)> {
        const OF_ADDRESS: usize = 2;
        let (mut mode, mut mask) = (-1_i32, [0_u64; MASK_WORDS]);
        let (mode_at, mask_at) = (&raw mut mode, mask.as_mut_ptr());
        let bits = MASK_WORDS * 64 + 1;
        let at = address.as_ptr();
        // SAFETY: writes a mode and at most as many bits as the mask has.
        let result =
            unsafe { libc::syscall(libc::SYS_get_mempolicy, mode_at, mask_at, bits, at, OF_ADDRESS) };
        (result == 0).then_some((mode, mask[0]))
    }

    #[test]
    fn memory_is_bound_to_the_node_that_was_named() {
        let address = map::map(2 << 20, 2 << 20).expect("memory");
        let done = bind(address, 2 << 20, 0);
        match policy_of(address) {
            Some(policy) if done => assert_eq!(policy, (PREFERRED, 1)),
            _ => println!("skipped: the system forbids mbind or get_mempolicy"),
        }
        // A node that no system has, and one that none can have.
        assert!(!bind(address, 2 << 20, 1023) && !bind(address, 2 << 20, u16::MAX));
        assert!(crate::sys::fault::arm(Call::Numa, 0, 1));
        assert!(!bind(address, 2 << 20, 0));
        // SAFETY: mapped above and not used any more.
        assert!(unsafe { map::unmap(address, 2 << 20) });
    }
}
