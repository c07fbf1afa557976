//! How much of the host's memory is available, by the kernel's own estimate.

use super::policy::Memory;

/// How it is now; where the kernel does not say, there is plenty.
pub fn look() -> Memory {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse(&text))
        .unwrap_or(Memory::Plenty)
}

fn parse(text: &str) -> Option<Memory> {
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(Memory::of(of("MemAvailable:")?, of("MemTotal:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_are_understood() {
        let text =
            |available| format!("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n");
        assert_eq!(parse(&text(500)), Some(Memory::Plenty));
        assert_eq!(parse(&text(20)), Some(Memory::Scarce));
        assert_eq!(parse("MemTotal: 1000 kB\n"), None);
    }
}
