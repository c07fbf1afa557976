//! Pure: what the lines of the installer (uv) mean: how far it is, and why it failed.

use super::EnvironmentError;
use super::plan::{bare, normalized, pinned};

/// Of a failure's words, at most, in bytes.
const WORDS: usize = 2000;

/// How far an installation is, from the lines that were written so far.
#[derive(Debug)]
pub struct Telling<'a> {
    requirements: &'a [String],
    count: usize,
    begun: usize,
}

impl<'a> Telling<'a> {
    /// Nothing was written yet.
    pub fn new(requirements: &'a [String]) -> Telling<'a> {
        Telling { requirements, count: requirements.len(), begun: 0 }
    }

    /// The next line; what there is to tell people.
    pub fn line(&mut self, line: &str) -> Option<String> {
        let (verb, rest) = line.trim().split_once(' ')?;
        match verb {
            "Resolved" => {
                self.count = rest.split(' ').next().and_then(|n| n.parse().ok())?;
                Some(format!("fetching {} packages", self.count))
            }
            "Downloading" => {
                self.begun = (self.begun + 1).min(self.count);
                let name = rest.split(' ').next().unwrap_or(rest);
                let pinned = self.requirements.iter().filter_map(|line| pinned(line));
                let version = pinned.into_iter().find(|(other, _)| *other == normalized(name));
                let version = version.map(|(_, version)| format!(" {version}")).unwrap_or_default();
                Some(format!("installing {name}{version}, {} of {}", self.begun, self.count))
            }
            "Prepared" => Some(format!("unpacking {} packages", self.count)),
            "Installed" => Some("compiling bytecode".into()),
            _ => None,
        }
    }
}

/// The error that these last words of the installer mean.
pub fn failure(requirements: &[String], words: &str) -> EnvironmentError {
    let cut = words.len().saturating_sub(WORDS);
    let start = (cut..words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or_default();
    let words = &words[start..];
    let mut said: Vec<&str> =
        words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    said.retain(|line| !line.starts_with("Using ") && !line.starts_with("Resolved "));
    let said = said.join(" ");
    let cannot = [
        "No solution found",
        "not found in the package registry",
        "no usable wheels",
        "Failed to parse",
        "no wheels with a matching",
    ];
    let unverified = ["Hash mismatch", "Hash-checking is required", "--require-hashes"];
    let has = |signs: &[&str]| signs.iter().any(|sign| said.contains(sign));
    if !has(&cannot) && !has(&unverified) {
        return EnvironmentError::Failed { said };
    }
    let named = |requirement: &&String| {
        let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
        let name = normalized(&requirement[..end.unwrap_or(requirement.len())]);
        said.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
            .any(|word| normalized(word.trim_end_matches('.')) == name)
    };
    let package = requirements.iter().find(named).map(|requirement| bare(requirement).to_owned());
    match has(&unverified) {
        true => EnvironmentError::Unverified { package, said },
        false => EnvironmentError::Unavailable { package, said },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(list: &[&str]) -> Vec<String> {
        list.iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn lines_tell_what_is_being_installed_and_how_much_there_is() {
        let requirements = list(&["pyarrow==15.0.2", "numpy"]);
        let mut telling = Telling::new(&requirements);
        let lines = [
            ("Using CPython 3.11.2 interpreter at: /usr/bin/python3", None),
            ("Resolved 4 packages in 264ms", Some("fetching 4 packages")),
            ("Downloading pyarrow (36.6MiB)", Some("installing pyarrow 15.0.2, 1 of 4")),
            ("Downloading numpy (17.4MiB)", Some("installing numpy, 2 of 4")),
            (" Downloaded numpy", None),
            ("Prepared 4 packages in 894ms", Some("unpacking 4 packages")),
            ("Installed 4 packages in 88ms", Some("compiling bytecode")),
            (" + six==1.17.0", None),
        ];
        for (line, told) in lines {
            assert_eq!(telling.line(line).as_deref(), told, "{line}");
        }
    }

    #[test]
    fn a_package_that_cannot_be_had_is_named_with_the_installers_words() {
        let words = "Using CPython 3.11.2 interpreter at: /usr/bin/python3\nerror: No solution found when resolving dependencies\n  \
            cause: Because no-such.pkg was not found in the package registry and you require no-such.pkg==1, we can conclude that \
            your requirements are unsatisfiable.\n";
        let error = failure(&list(&["numpy==1.26.4", "no_such.pkg==1"]), words);
        let EnvironmentError::Unavailable { package, said } = &error else { panic!("{error}") };
        assert_eq!(package.as_deref(), Some("no_such.pkg==1"));
        assert!(said.starts_with("error: No solution found") && said.ends_with("unsatisfiable."));
        assert_eq!(error.code().0, "package_unavailable");
    }

    #[test]
    fn a_package_that_is_not_what_its_hash_says_is_no_package_that_there_is_not() {
        let words = "error: Failed to download `six==1.17.0`\n  cause: Hash mismatch for `six==1.17.0`\n\n Expected:\n  sha256:00\n";
        let error = failure(&list(&["numpy==1.26.4", "six==1.17.0 --hash=sha256:00"]), words);
        let EnvironmentError::Unverified { package, said } = &error else { panic!("{error}") };
        assert_eq!(package.as_deref(), Some("six==1.17.0"));
        assert!(said.contains("Expected: sha256:00"));
        let words =
            "error: Hash-checking is required, but no trusted hash was provided for: `six`\n";
        let error = failure(&list(&["numpy==1.26.4 --hash=sha256:00"]), words);
        assert_eq!(error.code().0, "package_unverified");
    }

    #[test]
    fn an_installer_that_cannot_work_is_not_the_packages_fault() {
        let error =
            failure(&list(&["numpy"]), "error: Failed to fetch: `https://x/simple/numpy/`\n");
        assert!(
            matches!(&error, EnvironmentError::Failed { said } if said.contains("Failed to fetch"))
        );
        assert_eq!(error.code().0, "packages_failed");
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let EnvironmentError::Failed { said } = failure(&[], &"é".repeat(WORDS)) else { panic!() };
        assert!(said.len() <= WORDS && said.chars().all(|c| c == 'é'));
    }
}
