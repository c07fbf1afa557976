//! Holes of runc, containerd and the Docker engine through which a container got out, or to the host's files, with the
//! versions that closed them.

use std::cmp::Ordering;

/// Whose hole it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// What starts containers.
    Runc,
    /// What keeps them.
    Containerd,
    /// What we talk to.
    Engine,
}

/// A known hole.
#[derive(Debug)]
pub struct Advisory {
    /// Its name.
    pub cve: &'static str,
    /// Whose.
    pub component: Component,
    /// What it lets a container do.
    pub lets: &'static str,
    /// The first good version of each branch that was mended, ascending; a branch that is not named was not.
    fixed: &'static [&'static str],
}

/// All of them, newest first.
pub const ADVISORIES: &[Advisory] = &[
    Advisory {
        cve: "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        component: Component::Runc,
        lets: "write to files of the kernel by mounts that it swaps while it starts",
        fixed: &["1.2.8", "1.3.3", "1.4.0-rc3"],
    },
    Advisory {
        cve: "CVE-2024-45310",
        component: Component::Runc,
        lets: "make empty files on the host",
        fixed: &["1.1.14", "1.2.0-rc3"],
    },
    Advisory {
        cve: "CVE-2024-41110",
        component: Component::Engine,
        lets: "(where an authorisation plugin guards the engine) have its API pass requests unseen",
        fixed: &["23.0.15", "25.0.6", "26.1.5", "27.1.1"],
    },
    Advisory {
        cve: "CVE-2024-40635",
        component: Component::Containerd,
        lets: "run as root where an image names a user number that is too large",
        fixed: &["1.6.38", "1.7.27", "2.0.4"],
    },
    Advisory {
        cve: "CVE-2024-21626",
        component: Component::Runc,
        lets: "reach the host's files through a descriptor left open",
        fixed: &["1.1.12"],
    },
    Advisory {
        cve: "CVE-2022-23648",
        component: Component::Containerd,
        lets: "read the host's files through an image",
        fixed: &["1.4.13", "1.5.10", "1.6.1"],
    },
    Advisory {
        cve: "CVE-2021-30465",
        component: Component::Runc,
        lets: "mount the host's files by swapping links",
        fixed: &["1.0.0-rc95"],
    },
    Advisory {
        cve: "CVE-2019-14271",
        component: Component::Engine,
        lets: "run code on the host when files are copied out of it",
        fixed: &["18.9.9", "19.3.1"],
    },
    Advisory {
        cve: "CVE-2019-5736",
        component: Component::Runc,
        lets: "replace runc on the host",
        fixed: &["1.0.0-rc7"],
    },
];

impl Advisory {
    /// Whether this version has the hole, going by its number alone; `None` where the number cannot be read.
    pub fn affects(&self, version: &str) -> Option<bool> {
        let version = Version::parse(version)?;
        let mut fixed = self.fixed.iter().filter_map(|text| Version::parse(text));
        let newest = fixed.clone().max()?;
        let mended = fixed.any(|fixed| fixed.branch() == version.branch() && version >= fixed);
        Some(version < newest && !mended)
    }
}

/// `1.1.5+ds1`, `v1.6.20~ds1`, `1.0.0-rc95`; what follows the numbers is left out, but for a release candidate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    numbers: [u32; 3],
    /// A release comes after all of its candidates.
    candidate: Option<u32>,
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let text = text.trim().trim_start_matches('v');
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (front, rest) = text.split_at(end);
        let mut numbers = [0; 3];
        for (at, part) in front.split('.').take(3).enumerate() {
            numbers[at] = part.parse().ok()?;
        }
        let candidate = rest.get(1..).and_then(|rest| rest.strip_prefix("rc")).map(|number| {
            let number = number.trim_start_matches('.');
            let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            number[..end].parse().unwrap_or(0)
        });
        Some(Version { numbers, candidate })
    }

    fn branch(&self) -> [u32; 2] {
        [self.numbers[0], self.numbers[1]]
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let rank = |version: &Version| version.candidate.unwrap_or(u32::MAX);
        (self.numbers, rank(self)).cmp(&(other.numbers, rank(other)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affected(cve: &str, version: &str) -> Option<bool> {
        let advisory = ADVISORIES.iter().find(|advisory| advisory.cve.contains(cve));
        advisory.expect("it is there").affects(version)
    }

    #[test]
    fn versions_are_judged_within_their_branch() {
        for (cve, version, expected) in [
            ("CVE-2024-21626", "1.1.11", true),
            ("CVE-2024-21626", "1.1.5+ds1", true),
            ("CVE-2024-21626", "1.1.12", false),
            ("CVE-2024-21626", "1.3.0", false),
            ("CVE-2025-52881", "1.1.15", true),
            ("CVE-2025-52881", "1.2.7", true),
            ("CVE-2025-52881", "1.2.8", false),
            ("CVE-2025-52881", "1.3.2", true),
            ("CVE-2025-52881", "1.3.3", false),
            ("CVE-2025-52881", "1.4.0", false),
            ("CVE-2021-30465", "1.0.0-rc93", true),
            ("CVE-2021-30465", "1.0.0-rc95", false),
            ("CVE-2021-30465", "1.0.0~rc93+ds1", true),
            ("CVE-2021-30465", "1.0.0", false),
            ("CVE-2024-41110", "20.10.24+dfsg1", true),
            ("CVE-2024-41110", "24.0.9", true),
            ("CVE-2024-41110", "25.0.6", false),
            ("CVE-2022-23648", "v1.6.20~ds1", false),
            ("CVE-2024-40635", "1.6.20~ds1", true),
        ] {
            assert_eq!(affected(cve, version), Some(expected), "{cve} {version}");
        }
        assert_eq!(affected("CVE-2024-21626", "unknown"), None);
    }

    #[test]
    fn every_advisory_can_be_read() {
        for advisory in ADVISORIES {
            assert!(advisory.affects("0.0.1") == Some(true), "{}", advisory.cve);
            assert!(advisory.affects("99.0.0") == Some(false), "{}", advisory.cve);
        }
    }
}
