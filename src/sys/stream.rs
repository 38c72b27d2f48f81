//! Writing to a stream of the C library's.

/// Writes all of `bytes` to a stream. Returns whether it took them.
///
/// # Safety
/// `stream` is an open `FILE *`.
pub(crate) unsafe fn write(stream: *mut core::ffi::c_void, bytes: &[u8]) -> bool {
    // SAFETY: the caller vouches for the stream; the bytes are readable for their length.
    let written = unsafe { libc::fwrite(bytes.as_ptr().cast(), 1, bytes.len(), stream.cast()) };
    written == bytes.len()
}
