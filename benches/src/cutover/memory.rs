//! How much memory this process took, from Linux' `/proc`.

/// What a part of the work needed, KiB.
#[derive(Clone, Copy)]
pub struct Memory {
    pub before: u64,
    pub highest: u64,
}

/// The highest resident size since this was last asked, KiB; 0 where there is no /proc.
pub fn highest_since_last() -> u64 {
    let highest = status("VmHWM:");
    // 5: the highest size is what it is now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    highest
}

/// The resident size, KiB.
pub fn now() -> u64 {
    highest_since_last();
    status("VmRSS:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
