//! How the process's memory comes from the kernel, and goes back.

use std::ffi::{c_int, c_long};

use libmimalloc_sys::mi_option_set_default;

/// Buffers of a megabyte come and go with every request; the system's allocator gives such memory back to the kernel and
/// faults it in again, which was a tenth of the CPU of a produce.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3, which its crate has no name for.
const PURGE_DELAY: c_int = 15;
/// How long memory that is not used stays with a process that is to be small, in milliseconds.
const SHORT_DELAY: c_long = 10;

/// Has memory come in small pages. The allocator asks for huge ones, and the kernel then clears two megabytes for each buffer
/// of one that comes and goes: a third of the CPU of a produce through four processes, and half of an idle one's memory.
pub(crate) fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        // An old or a strange kernel: it costs memory, and nothing else.
        eprintln!("huge pages cannot be turned off: {error}");
    }
}

/// Has memory that is not used go back to the kernel within 10 ms, not a second. Under load what was freed within a second
/// is a hundred megabytes or two; to have them again takes a tenth more CPU. A delay set by `MIMALLOC_PURGE_DELAY` stays.
#[expect(unsafe_code, reason = "the allocator is set up by calls of C")]
pub fn give_back_soon() {
    // SAFETY: it writes to a table of options what nobody has set there, and knows what is not in it.
    unsafe { mi_option_set_default(PURGE_DELAY, SHORT_DELAY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn no_memory_comes_in_huge_pages() {
        use_small_pages();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        // Told since Linux 5.0, and only where the kernel has them at all.
        if let Some(enabled) = status.lines().find_map(|line| line.strip_prefix("THP_enabled:")) {
            assert_eq!(enabled.trim(), "0");
        }
    }

    #[test]
    #[expect(unsafe_code, reason = "the allocator is asked by calls of C")]
    fn the_allocator_is_told_by_its_own_options() {
        // SAFETY: it reads a table of options, and knows what is not in it.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        // By its usual value the option is known to be the one that is meant.
        assert_eq!(delay(), 1_000, "another version of the allocator has other options");
        give_back_soon();
        assert_eq!(delay(), SHORT_DELAY);
        // Who has set it wants it so.
        // SAFETY: as above. The allocator reads the option whenever it frees, and takes any value.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 500) };
        give_back_soon();
        assert_eq!(delay(), 500);
    }
}
