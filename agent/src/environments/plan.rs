//! Pure: what is left to install for a call, given what its image has, and the name that this has everywhere.

use std::collections::{BTreeMap, BTreeSet};

use muster_wire::message::Packages;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Run by the image's own Python: what decides which wheels fit, and what is installed.
pub const PROBE: &str = "\
import json, platform, sys, sysconfig
from importlib.metadata import distributions
print(json.dumps({
    'python': '%d.%d' % sys.version_info[:2],
    'executable': sys.executable,
    'platform': ' '.join([sysconfig.get_platform(), *platform.libc_ver()]),
    'packages': [[found.metadata['Name'] or '', found.version or ''] for found in distributions()],
}))";

/// What is known about an image: the answer to [`PROBE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ImageFacts {
    python: String,
    /// Where its Python is.
    pub executable: String,
    platform: String,
    packages: Vec<(String, String)>,
}

impl ImageFacts {
    /// Of what was installed (names of folders like `six-1.16.0.dist-info`), the packages that the image has at the same version.
    pub fn also_has<'a>(&self, installed: impl Iterator<Item = &'a str>) -> Vec<String> {
        let named =
            installed.filter_map(|folder| folder.strip_suffix(".dist-info")?.split_once('-'));
        let has = |name: &str, version: &str| {
            let same = |(its, at): &(String, String)| normalized(its) == name && at == version;
            self.packages.iter().any(same)
        };
        let named = named.map(|(name, version)| (normalized(name), version));
        named.filter(|(name, version)| has(name, version)).map(|(name, _)| name).collect()
    }
}

/// An environment to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The hash of all that decides what is in it.
    pub key: String,
    /// What to install.
    pub requirements: Vec<String>,
    /// Nothing beside it.
    pub exact: bool,
    /// Each comes with the hashes of the files that it may come as.
    pub hashed: bool,
}

impl Plan {
    /// What these packages come to in this image, taken from `source` (an index). None if the image has them all.
    pub fn new(image: &ImageFacts, packages: &Packages, source: &str) -> Option<Plan> {
        let there: BTreeMap<String, &str> = image
            .packages
            .iter()
            .map(|(name, version)| (normalized(name), version.as_str()))
            .collect();
        let missing = |requirement: &&String| match pinned(requirement) {
            Some((name, version)) => there.get(&name) != Some(&version),
            None => true,
        };
        let wanted: BTreeSet<&String> = packages.requirements.iter().filter(missing).collect();
        if wanted.is_empty() {
            return None;
        }
        let hashed =
            packages.requirements.iter().any(|requirement| requirement != bare(requirement));
        // A list with hashes has all that is needed, but the installer does not see what of it the image has.
        let exact =
            packages.exact || (hashed && !packages.requirements.iter().all(|one| missing(&one)));
        let mut hash = Sha256::new();
        let kind = if exact { "exact" } else { "resolved" };
        for part in [image.python.as_str(), &image.platform, source, kind] {
            hash.update(part);
            hash.update([0]);
        }
        // What comes along and is there already is left out, so images share only what both would have.
        let images =
            there.iter().filter(|_| !exact).map(|(name, version)| format!("{name}=={version}"));
        for part in wanted.iter().map(|wanted| (*wanted).clone()).chain(images) {
            hash.update(part);
            hash.update([0]);
        }
        let key = hex::encode(&hash.finalize()[..16]);
        let requirements = wanted.into_iter().cloned().collect();
        Some(Plan { key, requirements, exact, hashed })
    }

    /// Its name, for people.
    pub fn short(&self) -> &str {
        self.key.get(..4).unwrap_or(&self.key)
    }
}

/// A requirement without its hashes.
pub fn bare(requirement: &str) -> &str {
    requirement.split_once(" --hash=").map_or(requirement, |(bare, _)| bare)
}

/// Name and version of a requirement that is nothing else, but for its hashes.
pub fn pinned(requirement: &str) -> Option<(String, &str)> {
    let (name, version) = bare(requirement).split_once("==")?;
    let plain = |text: &str| !text.contains([' ', ';', '[', ',', '*', '=', '<', '>', '!', '~']);
    (plain(name) && plain(version)).then(|| (normalized(name), version))
}

/// The one spelling of a package's name.
pub fn normalized(name: &str) -> String {
    let mut spelled = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if spelled.ends_with('-') => {}
            '-' | '_' | '.' => spelled.push('-'),
            c => spelled.push(c.to_ascii_lowercase()),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageFacts {
        let packages = [("Zope.Interface", "6.0"), ("six", "1.16.0")];
        let packages = packages.map(|(name, version)| (name.into(), version.into())).to_vec();
        let (executable, platform) = ("/usr/bin/python3".into(), "linux-x86_64 glibc 2.36".into());
        ImageFacts { python: "3.11".into(), executable, platform, packages }
    }

    fn plan(list: &[&str]) -> Option<Plan> {
        let requirements = list.iter().map(|name| name.to_string()).collect();
        Plan::new(&image(), &Packages { requirements, exact: true }, "index")
    }

    #[test]
    fn what_the_image_has_at_the_same_version_is_not_installed() {
        assert_eq!(plan(&["six==1.16.0", "zope-interface==6.0"]), None);
        let left = plan(&["six==1.15.0", "numpy==1.26.4", "zope_interface==6.0", "six"]);
        assert_eq!(left.expect("some").requirements, ["numpy==1.26.4", "six", "six==1.15.0"]);
    }

    #[test]
    fn the_order_of_requirements_makes_no_other_environment_and_all_else_does() {
        let key = |list: &[&str]| plan(list).expect("some").key;
        let first = key(&["a==1", "b==2"]);
        assert_eq!(first, key(&["b==2", "a==1", "a==1"]));
        assert_eq!(first.len(), 32);
        assert_ne!(first, key(&["a==1", "b==3"]));
        let packages = Packages { requirements: vec!["a==1".into(), "b==2".into()], exact: true };
        let other = |facts: ImageFacts, packages: &Packages, source: &str| {
            Plan::new(&facts, packages, source).expect("some").key
        };
        assert_ne!(first, other(image(), &packages, "another index"));
        assert_ne!(
            first,
            other(ImageFacts { python: "3.12".into(), ..image() }, &packages, "index")
        );
        assert_ne!(
            first,
            other(ImageFacts { platform: "musl".into(), ..image() }, &packages, "index")
        );
        assert_ne!(first, other(image(), &Packages { exact: false, ..packages.clone() }, "index"));
    }

    #[test]
    fn what_was_installed_beside_a_request_and_the_image_has_is_known_by_its_folder() {
        let installed = ["zope_interface-6.0.dist-info", "six-1.17.0.dist-info", "six.py", "bin"];
        assert_eq!(image().also_has(installed.into_iter()), ["zope-interface"]);
    }

    #[test]
    fn images_share_what_is_listed_whole_and_not_what_is_found_out() {
        let bare = ImageFacts { packages: Vec::new(), ..image() };
        let keys = |exact| {
            let packages = Packages { requirements: vec!["a==1".into()], exact };
            [&image(), &bare].map(|image| Plan::new(image, &packages, "index").expect("some").key)
        };
        let [one, other] = keys(true);
        assert_eq!(one, other);
        let [one, other] = keys(false);
        assert_ne!(one, other);
    }

    #[test]
    fn hashes_are_part_of_the_environment_and_the_image_needs_none() {
        let hashed = |name: &str, digit: &str| format!("{name} --hash=sha256:{}", digit.repeat(64));
        let plan = |list: &[String]| {
            let packages = Packages { requirements: list.to_vec(), exact: false };
            Plan::new(&image(), &packages, "index")
        };
        let whole = plan(&[hashed("numpy==1.26.4", "a")]).expect("some");
        assert!(whole.hashed && !whole.exact);
        let other = plan(&[hashed("numpy==1.26.4", "b")]).expect("some");
        assert_ne!(whole.key, other.key);
        assert_eq!(plan(&[hashed("six==1.16.0", "a")]), None);
        let left = plan(&[hashed("numpy==1.26.4", "a"), hashed("six==1.16.0", "a")]);
        let left = left.expect("some");
        assert_eq!(left.requirements, whole.requirements);
        assert!(left.hashed && left.exact, "what the image has is on no list");
    }

    #[test]
    fn only_a_name_with_one_version_is_pinned() {
        assert_eq!(pinned("A_b.c==1.0"), Some(("a-b-c".into(), "1.0")));
        for loose in
            ["a", "a>=1", "a==1.*", "a==1,<2", "a[x]==1", "a==1 ; python_version < '3'", "a===1"]
        {
            assert_eq!(pinned(loose), None, "{loose}");
        }
    }
}
