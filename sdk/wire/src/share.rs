//! Shared folders: what hosts may call them, and where a container may see them. Pure: gateway and agent hold calls to the same rules.

use std::collections::BTreeMap;

/// How many shares one call may name.
pub const MAX_SHARES: usize = 32;
const MAX_NAME: usize = 63;
const MAX_TARGET: usize = 1024;
/// What every container has of its own, or of the engine's; nothing is mounted at, in or above it.
const TAKEN: &[&str] = &[
    "/.muster",
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
    "/tmp",
];

/// The shares of a call cannot be mounted so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// More than one call may name.
    #[error("names over {MAX_SHARES} shares")]
    TooMany,
    /// No share can be called so.
    #[error("names {0:?}, which is not the name of a share")]
    Name(String),
    /// A share cannot be seen there.
    #[error("mounts {name:?} at {target:?}, which {why}")]
    Target {
        /// Which share.
        name: String,
        /// Where.
        target: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// One would hide the other, or lie in it.
    #[error("mounts {0:?} and {1:?} at one place, or one in the other")]
    Overlap(String, String),
}

/// Whether a share may be called so: 1 to 63 of `[a-z0-9_-]`, the first a letter or digit.
pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with(['-', '_'])
}

/// Checks the shares of a call, by name, each with the folder of the container where it is to be seen.
pub fn check(shares: &BTreeMap<String, String>) -> Result<(), ShareError> {
    if shares.len() > MAX_SHARES {
        return Err(ShareError::TooMany);
    }
    for (name, target) in shares {
        if !is_name(name) {
            return Err(ShareError::Name(name.chars().take(MAX_NAME).collect()));
        }
        if let Some(why) = wrong_with(target) {
            let target = target.chars().take(100).collect();
            return Err(ShareError::Target { name: name.clone(), target, why });
        }
    }
    let mut targets: Vec<_> = shares.iter().map(|(name, target)| (target, name)).collect();
    // `/a-b` sorts between `/a` and `/a/b`: all pairs are compared, and there are few.
    while let Some((target, name)) = targets.pop() {
        if let Some((_, other)) = targets.iter().find(|(other, _)| overlap(target, other)) {
            return Err(ShareError::Overlap(name.clone(), (*other).clone()));
        }
    }
    Ok(())
}

fn wrong_with(target: &str) -> Option<&'static str> {
    let Some(path) = target.strip_prefix('/') else { return Some("is not an absolute path") };
    if path.is_empty() {
        return Some("is the root of the container");
    }
    if target.len() > MAX_TARGET {
        return Some("is longer than 1024 bytes");
    }
    if target.chars().any(char::is_control) {
        return Some("has control characters");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some("has empty parts, `.` or `..`, or ends in `/`");
    }
    TAKEN
        .iter()
        .any(|taken| overlap(taken, target))
        .then_some("is at, in or above a folder that the container has already")
}

/// Whether one is the other, or in it.
fn overlap(a: &str, b: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(pairs: &[(&str, &str)]) -> Result<(), ShareError> {
        check(&pairs.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect())
    }

    #[test]
    fn plain_folders_are_taken() {
        let beside =
            [("data", "/data"), ("more", "/data-2"), ("deep", "/srv/a/b"), ("e", "/etc/x")];
        assert_eq!(checked(&beside), Ok(()));
        assert_eq!(checked(&[]), Ok(()));
        assert_eq!(checked(&[("tmpfs", "/tmpfs"), ("dots", "/...")]), Ok(()));
    }

    #[test]
    fn what_is_not_one_plain_place_of_its_own_is_refused() {
        for target in [
            "",
            "data",
            "./data",
            "/",
            "//",
            "/data/",
            "/a//b",
            "/a/../etc",
            "/a/.",
            "/..",
            "/a\0b",
            "/a\nb",
            "/tmp",
            "/tmp/x",
            "/proc",
            "/proc/self",
            "/sys/fs",
            "/dev/shm",
            "/.muster",
            "/.muster/runner",
            "/.muster/mnt/data",
            "/etc",
            "/etc/hosts",
        ] {
            let refused = checked(&[("data", target)]).expect_err(target);
            assert!(matches!(refused, ShareError::Target { .. }), "{target}: {refused}");
        }
        let long = format!("/{}", "x".repeat(MAX_TARGET));
        assert!(checked(&[("data", &long)]).is_err());
    }

    #[test]
    fn no_share_hides_another() {
        for other in ["/data", "/data/in", "/data/in/deep"] {
            let refused = checked(&[("a", "/data"), ("b", other), ("c", "/data-x")]);
            assert!(matches!(refused, Err(ShareError::Overlap(..))), "{other}");
        }
    }

    #[test]
    fn names_are_plain_and_few() {
        for name in ["data", "a", "0", "nfs-1_x"] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(64);
        for name in ["", "Data", "a.b", "a/b", "-a", "_a", "ä", long.as_str()] {
            assert!(matches!(checked(&[(name, "/data")]), Err(ShareError::Name(_))), "{name}");
        }
        let many: BTreeMap<_, _> =
            (0..=MAX_SHARES).map(|n| (format!("s{n}"), format!("/s{n}"))).collect();
        assert_eq!(check(&many), Err(ShareError::TooMany));
    }
}
