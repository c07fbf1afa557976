//! Bearer tokens: who calls, and what they may do.
//!
//! A token is `muster_<id>_<secret>`, the secret 256 random bits in hex. What is kept is the id, the SHA-256 of the whole
//! token, its scopes and, if it has one, its expiry; never the token. It is found by id and compared in constant time,
//! against a hash of nothing where the id is unknown, so that neither timing nor the answer says which ids exist.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const FILE: &str = "tokens.json";

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Create calls and give them inputs.
    Submit,
    /// Read own calls, and the hosts.
    Read,
    /// Cancel own calls.
    Cancel,
    /// Everything above and [`Scope::Metrics`], for everybody's calls.
    Admin,
    /// Connect an agent.
    Join,
    /// Read the metrics.
    Metrics,
}

impl Scope {
    /// Its name in `tokens.json`, messages and documents.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Submit => "submit",
            Scope::Read => "read",
            Scope::Cancel => "cancel",
            Scope::Admin => "admin",
            Scope::Join => "join",
            Scope::Metrics => "metrics",
        }
    }
}

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Owner of the calls they create: the token's id.
    pub owner: String,
    scopes: Vec<Scope>,
}

impl Identity {
    /// Somebody without a token, who may do nothing.
    pub fn nobody() -> Identity {
        Identity { owner: String::new(), scopes: Vec::new() }
    }

    /// Whether they may do what needs this scope. An admin may do everything but pose as an agent.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || (scope != Scope::Join && self.is_admin())
    }

    /// Whether a call of this owner is theirs to see.
    pub fn sees(&self, owner: &str) -> bool {
        self.owner == owner || self.is_admin()
    }

    fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}

/// The tokens made at the first start, to be handed to people and agents; they are nowhere else.
#[derive(Debug)]
pub struct FirstTokens {
    /// For clients: submit, read, cancel, admin.
    pub client: String,
    /// For agents: join.
    pub join: String,
}

/// `tokens.json` could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// Reading failed.
    #[error("could not read the tokens in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what this version writes.
    #[error("could not understand the tokens in {path}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Writing failed.
    #[error("could not write the tokens to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("could not get random bytes for a token")]
    Random {
        /// Why.
        source: rand::rand_core::OsError,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: String,
    sha256: String,
    scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_unix_s: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    revoked: bool,
}

/// The tokens this gateway takes.
#[derive(Debug)]
pub struct Tokens {
    by_id: HashMap<String, Stored>,
}

impl Tokens {
    /// Reads `tokens.json` in `state_dir`; where there is none, makes it with two new tokens, which are handed out
    /// this once.
    pub fn open(state_dir: &Path) -> Result<(Tokens, Option<FirstTokens>), TokensError> {
        let path = state_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let list: Vec<Stored> = serde_json::from_slice(&bytes)
                    .map_err(|source| TokensError::Malformed { path, source })?;
                Ok((Tokens::of(list), None))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (client, client_stored) =
                    make(&[Scope::Submit, Scope::Read, Scope::Cancel, Scope::Admin])?;
                let (join, join_stored) = make(&[Scope::Join])?;
                let list = vec![client_stored, join_stored];
                write(&path, &list).map_err(|source| TokensError::Write { path, source })?;
                Ok((Tokens::of(list), Some(FirstTokens { client, join })))
            }
            Err(source) => Err(TokensError::Read { path, source }),
        }
    }

    fn of(list: Vec<Stored>) -> Tokens {
        Tokens { by_id: list.into_iter().map(|stored| (stored.id.clone(), stored)).collect() }
    }

    /// Who presents this token, if it is good at `now_unix_s`.
    pub fn identify(&self, presented: &str, now_unix_s: u64) -> Option<Identity> {
        let id = presented.strip_prefix("muster_")?.split_once('_')?.0;
        let stored = self.by_id.get(id);
        let expected = stored.map_or_else(|| hex(&[0; 32]), |stored| stored.sha256.clone());
        let same: bool = hash(presented).as_bytes().ct_eq(expected.as_bytes()).into();
        let stored = stored.filter(|_| same)?;
        let expired = stored.expires_unix_s.is_some_and(|end| end <= now_unix_s);
        if stored.revoked || expired {
            return None;
        }
        Some(Identity { owner: stored.id.clone(), scopes: stored.scopes.clone() })
    }
}

fn make(scopes: &[Scope]) -> Result<(String, Stored), TokensError> {
    let mut random = [0u8; 40];
    OsRng.try_fill_bytes(&mut random).map_err(|source| TokensError::Random { source })?;
    let (id, secret) = random.split_at(8);
    let id = hex(id);
    let token = format!("muster_{id}_{}", hex(secret));
    let stored = Stored {
        id,
        sha256: hash(&token),
        scopes: scopes.to_vec(),
        expires_unix_s: None,
        revoked: false,
    };
    Ok((token, stored))
}

/// Whole or not at all: a crash must not leave half a file that locks everybody out.
fn write(path: &Path, list: &[Stored]) -> std::io::Result<()> {
    let part = path.with_extension("json.part");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&serde_json::to_vec_pretty(list)?)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&part, path)
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn opened() -> (tempfile::TempDir, Tokens, FirstTokens) {
        let dir = tempfile::tempdir().expect("a folder");
        let (tokens, first) = Tokens::open(dir.path()).expect("tokens");
        (dir, tokens, first.expect("a first start"))
    }

    #[test]
    fn the_first_start_makes_tokens_and_later_ones_know_them() {
        let (dir, tokens, first) = opened();
        let (again, none) = Tokens::open(dir.path()).expect("tokens");
        assert!(none.is_none());
        for tokens in [tokens, again] {
            let client = tokens.identify(&first.client, 0).expect("known");
            assert!(client.may(Scope::Submit) && client.may(Scope::Metrics));
            assert!(!client.may(Scope::Join));
            let join = tokens.identify(&first.join, 0).expect("known");
            assert!(join.may(Scope::Join) && !join.may(Scope::Read));
        }
    }

    #[test]
    fn the_file_is_private_and_holds_no_token() {
        let (dir, _, first) = opened();
        let path = dir.path().join(FILE);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(path).expect("text");
        assert!(!text.contains(first.client.rsplit('_').next().expect("a secret")));
    }

    #[test]
    fn a_wrong_secret_or_shape_is_nobody() {
        let (_dir, tokens, first) = opened();
        let mut wrong = first.client.clone();
        let last = wrong.pop().expect("not empty");
        wrong.push(if last == '0' { '1' } else { '0' });
        for token in ["", "muster_", "muster__", "muster_00_11", "x", wrong.as_str()] {
            assert_eq!(tokens.identify(token, 0), None, "{token}");
        }
    }

    #[test]
    fn expired_and_revoked_tokens_are_nobody() {
        let (token, mut stored) = make(&[Scope::Read]).expect("a token");
        stored.expires_unix_s = Some(100);
        let tokens = Tokens::of(vec![stored.clone()]);
        assert!(tokens.identify(&token, 99).is_some());
        assert_eq!(tokens.identify(&token, 100), None);
        stored.revoked = true;
        assert_eq!(Tokens::of(vec![stored]).identify(&token, 0), None);
    }

    #[test]
    fn only_an_admin_sees_the_calls_of_others() {
        let (token, stored) = make(&[Scope::Read]).expect("a token");
        let (admin, admin_stored) = make(&[Scope::Admin]).expect("a token");
        let tokens = Tokens::of(vec![stored, admin_stored]);
        let reader = tokens.identify(&token, 0).expect("known");
        assert!(reader.sees(&reader.owner) && !reader.sees("somebody"));
        assert!(tokens.identify(&admin, 0).expect("known").sees("somebody"));
    }
}
