//! What is kept of a token or of a host's credential, and whether it is good. Pure.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::Scope;

/// How long tokens that are no longer good stay in the list.
const HISTORY_S: u64 = 7 * 24 * 3600;

/// One line of `tokens.json`. A host's credential is one with the scope `host`, known by the name of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its public part.
    pub id: String,
    /// Whose calls it makes and sees.
    pub owner: String,
    /// What it is for, as people wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Hash of the token, or of a host's public key.
    pub sha256: String,
    /// When it was made.
    pub created_unix_s: u64,
    /// From when on it is not good any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_s: Option<u64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_unix_s: Option<u64>,
    /// How many hosts may still join by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
    /// Which host it is, or the one that may join by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// All shares that its calls may use; any, if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Vec<String>>,
}

impl Entry {
    /// Whether it is good now.
    pub fn is_good(&self, now_unix_s: u64) -> bool {
        self.revoked_unix_s.is_none()
            && self.expires_unix_s.is_none_or(|end| now_unix_s < end)
            && self.uses_left != Some(0)
    }

    /// Whether this hash is its own; takes the same time whatever the answer.
    pub fn matches(&self, sha256: &str) -> bool {
        same(&self.sha256, sha256)
    }

    /// Whether it is a host's credential.
    pub fn is_host(&self) -> bool {
        self.scopes.contains(&Scope::Host)
    }

    /// Whether it ended so long ago that the list does without it.
    pub fn is_history(&self, now_unix_s: u64) -> bool {
        let end = self.revoked_unix_s.or(self.expires_unix_s);
        end.is_some_and(|end| end.saturating_add(HISTORY_S) < now_unix_s)
    }
}

/// Whether two hashes are one, found in the same time whatever the answer.
pub fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
