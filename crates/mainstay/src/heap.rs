//! How the C library's allocator is set for daemons that run for years.

use std::num::NonZero;

/// Lets threads share as many heaps as there are processors. By default there may be eight times as many, and what a
/// burst of requests has freed in one is of no use to the others: a third of the memory of a small machine's cell.
pub(crate) fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let heaps = libc::c_int::try_from(processors).unwrap_or(libc::c_int::MAX);
        // Whether it was heeded makes no difference to what the process does.
        #[expect(unsafe_code, reason = "the C library's own setting of its allocator")]
        let _heeded = unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
    }
}
