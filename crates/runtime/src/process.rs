//! What the process uses, read from Linux's `/proc/self`.

use std::fs;

/// Linux reports CPU time to user space in these, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) open_files: usize,
    pub(crate) threads: u64,
}

/// Nothing where there is no `/proc`.
pub(crate) fn usage() -> Option<Usage> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    Some(Usage {
        resident_bytes: field(&status, "VmRSS:")? * 1024,
        cpu_seconds: cpu_seconds(&stat)?,
        open_files: fs::read_dir("/proc/self/fd").ok()?.count(),
        threads: field(&status, "Threads:")?,
    })
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the command's name in brackets, and may itself have spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn this_process_uses_memory_and_has_threads() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.threads >= 1 && usage.open_files >= 3, "{usage:?}");
    }
}
