//! The shares that the settings name, as they are on this host now.

use std::time::Duration;

use super::rules::{Finding, Level};
use crate::settings::shares_of;
use crate::shares::{Access, Share, access};

/// All folders together have so long to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A `--share` of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedFolder {
    /// An agent would not start with it, or could not use it, for this reason.
    Refused(String),
    /// One of them, or several, do not answer.
    Silent,
    /// It is there.
    There(Share, Access),
}

/// Looks at the folders that these flags name.
pub async fn look(flags: Vec<String>, docker_host: Option<String>) -> Vec<SharedFolder> {
    if flags.is_empty() {
        return Vec::new();
    }
    let looking = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        let mut refuse = |_: &str, why: String| found.push(SharedFolder::Refused(why));
        let shares = shares_of(&flags, std::iter::empty(), docker_host.as_deref(), &mut refuse);
        found.extend(shares.into_iter().map(|share| match access(&share) {
            Ok(access) => SharedFolder::There(share, access),
            Err(error) => SharedFolder::Refused(format!("`{share}` cannot be used: {error}")),
        }));
        found
    });
    // It does not panic; what hangs is left behind.
    let found = tokio::time::timeout(ANSWER_WITHIN, looking).await;
    found.ok().and_then(Result::ok).unwrap_or_else(|| vec![SharedFolder::Silent])
}

/// What there is to say of a folder.
pub fn finding(folder: &SharedFolder) -> Finding {
    let (level, what, remedy) = match folder {
        SharedFolder::Refused(why) => (
            Level::Weak,
            format!("--share {why}"),
            "mount or make the folder, or mend the setting: an agent does not start with it",
        ),
        SharedFolder::Silent => (
            Level::Weak,
            "the folder of a share does not answer".into(),
            "look whether the server that it lies on is up, or leave the share out",
        ),
        SharedFolder::There(share, Access::Unreadable) => (
            Level::Weak,
            format!(
                "share `{share}` cannot be read by containers, whose users are none of this host's"
            ),
            "let everybody read the folder and what is in it: chmod -R o+rX FOLDER",
        ),
        SharedFolder::There(share, Access::Unwritable) => (
            Level::Weak,
            format!(
                "share `{share}` cannot be written to by containers, whose users are none of this host's"
            ),
            "let everybody write to the folder (chmod 1777 FOLDER), or share it read-only (:ro)",
        ),
        SharedFolder::There(share, Access::ReadOnly) => (
            Level::Weak,
            format!("share `{share}` is writable, and its file system is mounted read-only"),
            "mount the file system writable, or share the folder read-only (:ro)",
        ),
        SharedFolder::There(share, Access::Whole) => (
            Level::Note,
            format!("share `{share}` is there, and containers may use it so"),
            "nothing: calls name it with shares={...}",
        ),
    };
    Finding { level, what, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn folders_are_seen_and_what_settings_refuse_is_said_with_the_reason() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().canonicalize().expect("there").display().to_string();
        let flags = vec![format!("data={path}"), format!("gone={path}/gone"), "all=/".into()];
        let found = look(flags, None).await;
        let said: Vec<String> = found.iter().map(|folder| finding(folder).what).collect();
        assert!(said[0].starts_with("--share \"gone=") && said[0].contains("not a folder"));
        assert!(said[1].contains("the whole host"), "{said:?}");
        assert!(said[2].contains(&format!("`data={path}:ro`")), "{said:?}");
        assert_eq!(look(Vec::new(), None).await, []);
    }

    #[test]
    fn only_a_share_that_is_as_its_settings_say_is_not_weak() {
        let share = || Share { name: "out".into(), path: "/srv/out".into(), writable: true };
        for access in [Access::Unreadable, Access::Unwritable, Access::ReadOnly] {
            let finding = finding(&SharedFolder::There(share(), access));
            assert_eq!(finding.level, Level::Weak);
            assert!(finding.what.contains("`out=/srv/out:rw`") && !finding.remedy.is_empty());
        }
        assert_eq!(finding(&SharedFolder::There(share(), Access::Whole)).level, Level::Note);
        assert_eq!(finding(&SharedFolder::Silent).level, Level::Weak);
    }
}
