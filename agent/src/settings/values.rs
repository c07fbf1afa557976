//! Values as people write them: names, lists of cores, sizes, durations. Pure.

use std::time::Duration;

/// Bytes of a GiB.
pub const GIB: u64 = 1 << 30;

/// Whether a host may be called so: 1 to 63 of `[a-z0-9-]`.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(fits)
}

/// A name for a host that is as near as can be to the machine's.
pub fn fit_name(name: &str) -> String {
    let fitted: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(63)
        .collect();
    let fitted = fitted.trim_matches('-');
    if fitted.is_empty() { "host".into() } else { fitted.into() }
}

/// `0-3,6`; `None` if it is anything else.
pub fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    let mut cpus = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last > 8191 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

/// `512MiB`, `20GiB`; also decimal `MB`, `GB`, and plain `B`.
pub fn parse_size(text: &str) -> Option<u64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let unit: u64 = match text[at..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => GIB,
        "TiB" => 1 << 40,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    let number: f64 = text[..at].trim().parse().ok()?;
    let bytes = number * unit as f64;
    (number > 0.0 && (1.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

/// `500ms`, `30s`, `10m`, `2h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: u64 = text[..at].trim().parse().ok()?;
    match text[at..].trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// Cores as the kernel and Docker write them.
pub fn cpu_list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
