//! Values by owner and name, and what may be a name. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{MAX_SECRETS, SecretsError};

const MAX_NAME: usize = 128;
/// Variables that Muster, the loader, shells and interpreters live by: a secret under such a name is a mistake that would break the worker.
const RESERVED: &[&str] = &["PATH", "HOME", "IFS", "ENV", "BASH_ENV"];
const RESERVED_PREFIXES: &[&str] = &["MUSTER_", "LD_", "PYTHON"];

/// A name that a secret can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is not written as variables are.
    #[error("is not 1 to {MAX_NAME} letters, digits and `_`, beginning with no digit")]
    Syntax,
    /// It is somebody else's.
    #[error("is a name that the worker itself lives by")]
    Reserved,
}

/// What came of setting a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was none under this name.
    New,
    /// There was one.
    Replaced,
}

/// A secret as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// When it was set last.
    pub updated_unix_s: u64,
}

/// A value; it is wiped from memory after its last use, and never shown.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Secret {
    pub value: Zeroizing<String>,
    pub updated_unix_s: u64,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// All of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Table {
    owners: BTreeMap<String, BTreeMap<String, Secret>>,
}

impl Name {
    /// The text as a name.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
        if text.is_empty() || text.len() > MAX_NAME || digit_first || !text.bytes().all(fits) {
            return Err(NameError::Syntax);
        }
        let is_prefixed = RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        match is_prefixed || RESERVED.contains(&text) {
            true => Err(NameError::Reserved),
            false => Ok(Name(text.to_owned())),
        }
    }
}

impl Table {
    /// Sets a secret; `None` where the owner may have no more.
    pub fn set(&mut self, owner: &str, name: &Name, secret: Secret) -> Option<Change> {
        let own = self.owners.entry(owner.to_owned()).or_default();
        let is_new = !own.contains_key(&name.0);
        if is_new && own.len() >= MAX_SECRETS {
            return None;
        }
        own.insert(name.0.clone(), secret);
        Some(if is_new { Change::New } else { Change::Replaced })
    }

    /// Whether there was one.
    pub fn delete(&mut self, owner: &str, name: &str) -> bool {
        let Some(own) = self.owners.get_mut(owner) else { return false };
        let was_there = own.remove(name).is_some();
        if own.is_empty() {
            self.owners.remove(owner);
        }
        was_there
    }

    /// What an owner has.
    pub fn list(&self, owner: &str) -> Vec<Record> {
        let own = self.owners.get(owner).into_iter().flatten();
        own.map(|(name, secret)| Record {
            name: name.clone(),
            updated_unix_s: secret.updated_unix_s,
        })
        .collect()
    }

    /// The values under these names, or those names that are not there.
    pub fn values<'a>(
        &'a self,
        owner: &str,
        names: &'a [String],
    ) -> Result<BTreeMap<&'a str, &'a str>, SecretsError> {
        let own = self.owners.get(owner);
        let find = |name: &String| own.and_then(|own| own.get(name));
        let missing: Vec<String> =
            names.iter().filter(|name| find(name).is_none()).cloned().collect();
        if !missing.is_empty() {
            return Err(SecretsError::Unknown { names: missing });
        }
        let found = names.iter().filter_map(|name| Some((name.as_str(), find(name)?)));
        Ok(found.map(|(name, secret)| (name, secret.value.as_str())).collect())
    }
}
