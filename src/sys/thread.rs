//! Threads as the C library knows them: who runs, word of its exit, forks, one more thread, and `membarrier`.

use core::ffi::{CStr, c_void};

use super::fault::{Call, strikes};
use super::keep_errno;

/// A number that no other thread of this process has while this one runs: the thread pointer. A fork child's
/// only thread has its parent's.
#[inline]
pub(crate) fn this_thread() -> usize {
    let pointer: usize;
    #[cfg(all(not(miri), target_arch = "x86_64"))]
    // SAFETY: the x86_64 ABI keeps the thread pointer itself at fs:0.
    unsafe {
        core::arch::asm!("mov {0}, qword ptr fs:[0]", out(reg) pointer,
            options(pure, nomem, nostack, preserves_flags));
    }
    #[cfg(all(not(miri), target_arch = "aarch64"))]
    // SAFETY: reads the thread pointer register.
    unsafe {
        core::arch::asm!("mrs {0}, tpidr_el0", out(reg) pointer,
            options(pure, nomem, nostack, preserves_flags));
    }
    #[cfg(not(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        // SAFETY: takes nothing, returns this thread's errno location, which is as good as its pointer.
        pointer = unsafe { libc::__errno_location() }.addr();
    }
    pointer
}

/// Word of threads' exits, by a pthread key. Of the three ways the only one that needs neither an allocation
/// nor a search for the dead.
pub(crate) struct ExitKey(libc::pthread_key_t);

impl ExitKey {
    /// A key whose destructor is `on_exit`; `None` where the program has used up the keys.
    pub(crate) fn new(on_exit: unsafe extern "C" fn(*mut libc::c_void)) -> Option<Self> {
        if strikes(Call::ThreadExit) {
            return None;
        }
        let mut key = 0;
        // SAFETY: `key` is writable, and `on_exit` stays where it is: libraries that hold this code are never
        // unloaded (-z nodelete), or the process ends with them.
        (unsafe { libc::pthread_key_create(&raw mut key, Some(on_exit)) } == 0).then_some(Self(key))
    }

    /// A key from the number that `number` gave.
    pub(crate) fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The key as a number to keep in an atomic.
    pub(crate) fn number(&self) -> u32 {
        self.0
    }

    /// Asks for this thread's exit to be told, with `value` (not null). May call `calloc` (keys above 31).
    pub(crate) fn arm(&self, value: *mut u8) -> bool {
        if strikes(Call::ThreadExit) {
            return false;
        }
        // SAFETY: the key exists, since nothing deletes it; the value is only handed back.
        keep_errno(|| unsafe { libc::pthread_setspecific(self.0, value.cast_const().cast()) }) == 0
    }
}

/// Registers fork handlers. May call `malloc`, so no lock of ours may be held.
pub(crate) fn at_fork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> bool {
    if strikes(Call::Fork) {
        return false;
    }
    // libc's declaration takes `unsafe extern "C" fn`s; these are safe to call.
    // SAFETY: this is pthread_atfork's type in POSIX, handlers that take and return nothing.
    unsafe extern "C" {
        fn pthread_atfork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> i32;
    }
    // SAFETY: the handlers stay where they are, as in `ExitKey::new`.
    keep_errno(|| unsafe { pthread_atfork(prepare, parent, child) }) == 0
}

/// Starts a thread that nobody waits for and that takes no signals. Allocates, so no lock of ours may be held.
pub(crate) fn spawn_detached(run: extern "C" fn(*mut c_void) -> *mut c_void) -> bool {
    /// Bytes of stack. A program with much static TLS, which is cut from it, needs more.
    const STACKS: [usize; 2] = [128 << 10, 1 << 20];
    if strikes(Call::Spawn) {
        return false;
    }
    keep_errno(|| with_signals_blocked(|| STACKS.into_iter().any(|stack| spawn_with_stack(run, stack))))
}

fn spawn_with_stack(run: extern "C" fn(*mut c_void) -> *mut c_void, stack: usize) -> bool {
    // SAFETY: sysconf only reads a value of the C library.
    let least = usize::try_from(unsafe { libc::sysconf(libc::_SC_THREAD_STACK_MIN) }).unwrap_or(0);
    // SAFETY: an all-zero pthread_attr_t is a valid place for pthread_attr_init to write to.
    let mut attributes: libc::pthread_attr_t = unsafe { core::mem::zeroed() };
    let attributes = &raw mut attributes;
    // SAFETY: the place is writable and of the right type.
    if unsafe { libc::pthread_attr_init(attributes) } != 0 {
        return false;
    }
    // SAFETY: initialised just now.
    let sized = unsafe { libc::pthread_attr_setstacksize(attributes, stack.max(least)) } == 0;
    // SAFETY: as above.
    let detached =
        unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) } == 0;
    let mut thread = 0;
    // SAFETY: `thread` is writable, the attributes are initialised, and `run` stays where it is, as in
    // `ExitKey::new`; it makes no use of its argument.
    let mut create =
        || unsafe { libc::pthread_create(&raw mut thread, attributes, run, core::ptr::null_mut()) };
    let started = sized && detached && create() == 0;
    // SAFETY: initialised above and not used after this.
    unsafe { libc::pthread_attr_destroy(attributes) };
    started
}

/// Runs `work` with all signals blocked: a thread that it starts has them blocked for its life.
fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: an all-zero sigset_t is a valid value of that plain C struct.
    let mut all: libc::sigset_t = unsafe { core::mem::zeroed() };
    let mut before = all;
    // SAFETY: writes to the place given.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: reads the one set and writes the other. The signals of the C library itself stay as they are.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) } == 0;
    let result = work();
    if blocked {
        // SAFETY: the set that was read just now.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, core::ptr::null_mut()) };
    }
    result
}

/// Whether the calling thread is the process's first one.
pub(crate) fn is_main() -> bool {
    // SAFETY: takes nothing and returns a number.
    let process = unsafe { libc::getpid() };
    // SAFETY: as above.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    libc::c_long::from(process) == thread
}

/// Names the calling thread, for tools that list threads.
pub(crate) fn name_this_thread(name: &CStr) {
    // SAFETY: reads at most 16 bytes, up to the null that ends the name; a refusal changes nothing.
    keep_errno(|| unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) });
}

/// A full memory barrier on every thread of this process that runs now (threads that do not run pass one when
/// they are switched). False where the kernel refuses: then nothing was ordered.
pub(crate) fn membarrier() -> bool {
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;
    let call = |command: libc::c_int| {
        // SAFETY: membarrier takes two plain numbers and accesses no memory.
        !strikes(Call::Membarrier)
            && keep_errno(|| unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }) == 0
    };
    // Refused where the process has not registered yet.
    call(PRIVATE_EXPEDITED) || call(REGISTER_PRIVATE_EXPEDITED) && call(PRIVATE_EXPEDITED)
}
