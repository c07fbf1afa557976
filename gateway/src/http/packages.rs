//! The packages of a call, as a user asks for them. Pure. What they come to is found out on the hosts, whose index it is; here
//! only what could never be a package of an index is refused: addresses, paths and options.

use muster_wire::message::Packages;
use serde::Deserialize;

use super::fields::Fields;
use super::problem::Problem;

const MAX_REQUIREMENTS: usize = 2000;
/// Of a requirement without its hashes, and how many it may have.
const MAX_LENGTH: usize = 512;
const MAX_HASHES: usize = 1000;
const ACTION: &str = "Give {\"requirements\": [\"numpy==1.26.4\"]}: names of packages with versions, not addresses, paths or options.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    requirements: Vec<String>,
    #[serde(default)]
    exact: bool,
}

/// The field `packages`; none where it is left out.
pub fn of(fields: &Fields<'_>) -> Result<Option<Packages>, Problem> {
    let wanted = "an object with `requirements`, an array of strings";
    let Some(asked) = fields.of::<Asked>("packages", wanted, ACTION)? else { return Ok(None) };
    if asked.requirements.len() > MAX_REQUIREMENTS {
        let why =
            format!("has {} requirements, more than {MAX_REQUIREMENTS}", asked.requirements.len());
        return Err(Problem::bad_field("packages", why, "Use an image that has them."));
    }
    if let Some(bad) = asked.requirements.iter().find(|requirement| !is_of_an_index(requirement)) {
        let shown: String = bad.chars().take(60).collect();
        return Err(Problem::bad_field(
            "packages",
            format!("has {shown:?}, which is not a package of an index"),
            ACTION,
        ));
    }
    Ok(Some(Packages { requirements: asked.requirements, exact: asked.exact }))
}

/// `name[extra] >= 1, < 2 ; marker --hash=sha256:...`: no `name @ address`, and nothing that could begin another option.
fn is_of_an_index(requirement: &str) -> bool {
    let mut parts = requirement.split(" --hash=");
    let named = parts.next().is_some_and(is_named);
    named && parts.clone().count() <= MAX_HASHES && parts.all(is_hash)
}

fn is_hash(hash: &str) -> bool {
    let digits = |digits: &str, count| {
        digits.len() == count && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    match hash.split_once(':') {
        Some(("sha256", rest)) => digits(rest, 64),
        Some(("sha384", rest)) => digits(rest, 96),
        Some(("sha512", rest)) => digits(rest, 128),
        _ => false,
    }
}

fn is_named(requirement: &str) -> bool {
    let printable = |c: char| c == ' ' || c.is_ascii_graphic();
    requirement.len() <= MAX_LENGTH
        && requirement.starts_with(|c: char| c.is_ascii_alphanumeric())
        && requirement.chars().all(printable)
        && !requirement.contains(['@', '/', '\\', '#'])
        && !requirement.contains(" -")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_names_with_versions_extras_and_markers() {
        for good in [
            "numpy",
            "numpy==1.26.4",
            "a.b-c_d[x,y] >=1,<2 ; python_version < '3.12' and sys_platform == \"linux\"",
            "torch==2.1.0+cpu",
            "a~=1.0",
            &format!(
                "a==1 ; os_name == 'posix' --hash=sha256:{0} --hash=sha256:{0}",
                "0a".repeat(32)
            ),
            &format!("a==1 --hash=sha512:{}", "0a".repeat(64)),
        ] {
            assert!(is_of_an_index(good), "{good}");
        }
    }

    #[test]
    fn addresses_paths_and_options_are_refused() {
        let long = "a".repeat(MAX_LENGTH + 1);
        for bad in [
            "",
            "-e .",
            "--index-url=http://x",
            "a @ file:///etc",
            "./a",
            "../a",
            "a/b",
            "a --hash=sha256:00",
            "--hash=sha256:00",
            &format!("a==1 --hash=md5:{}", "0a".repeat(16)),
            &format!("a==1 --hash=sha256:{} --pre", "0a".repeat(32)),
            &format!(
                "a==1{}",
                format!(" --hash=sha256:{}", "0a".repeat(32)).repeat(MAX_HASHES + 1)
            ),
            "a\n-e .",
            "é",
            "a # b",
            &long,
        ] {
            assert!(!is_of_an_index(bad), "{bad}");
        }
    }
}
