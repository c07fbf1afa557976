//! Secrets: texts that a user's functions need and nobody else may see, such as a password of a database.
//!
//! **Problem.** A secret in a closure, an argument or a setting ends up in pickles, stores, logs and shell histories. So it is given to the gateway once, under a name; calls name it, and their workers have it in their environment.
//!
//! **Who owns what.** [`Secrets`] is the table: values by owner and name, in memory, and whole in one sealed file of the state folder. The key that seals it is in a file of its own, which belongs elsewhere ([`seal`]): who has a copy of the state folder has nothing. The same key seals what calls that are kept say of themselves, their `env` among it.
//!
//! **Path of a value.** HTTP body → table (and sealed file) → SECRETS frame of a host that begins to work on a call → agent → socket of the container → environment of the runner. No route gives it back, to an admin neither; none of our types shows it in `Debug`; memory is wiped where it is ours.
//!
//! **Failures.** A key that is gone, or is another one, ends the start: the operator brings it back, or removes the sealed file and the secrets with it. The file is replaced whole, and a change is answered after it is on the disk. A secret that was deleted while a call runs fails that call when it is next given to a host ([`calls`](crate::calls)).
//!
//! **Not here.** Who may ask (`http`), and what a function does with what it was given: it can print it.

mod seal;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallError, to_json};
use zeroize::Zeroizing;

use self::seal::Sealer;
pub use self::table::{Change, Name, NameError, Record};
use self::table::{Secret, Table};
use crate::files;

const FILE: &str = "secrets.sealed";
/// What a sealed text is for, so that none can stand for another.
const TABLE: &str = "secrets";
const SPEC: &str = "call ";

/// What to do where there is no such secret.
pub const NO_SECRET: &str = "Set it (`muster.secrets.set(name, value)`, or `PUT /v1/secrets/NAME`), under the same owner as the call's, and make the call again.";
/// The longest value, in bytes: the kernel takes a variable of 128 KiB at most.
pub const MAX_VALUE: usize = 32 << 10;
/// How many secrets one owner may have.
pub const MAX_SECRETS: usize = 256;

/// All secrets of all owners. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Secrets {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    sealer: Sealer,
    table: Mutex<Table>,
    /// Held while a change is written.
    writing: Mutex<()>,
}

/// What keeps secrets from being read, changed or used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file of the key cannot be read or made.
    #[error("the key of the secrets, {}, could not be read or made; name another file with --secrets-key", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the key, or it is no key.
    #[error("the key of the secrets, {}, {why}", path.display())]
    BadKey {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// The file of the secrets cannot be read.
    #[error("the secrets in {} could not be read", path.display())]
    Read {
        /// The secrets' file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// They were sealed with another key, or are damaged.
    #[error("the secrets in {} were sealed with another key, or are damaged; bring back the key that was in {}, or remove both files and set the secrets again", path.display(), key.display())]
    Sealed {
        /// The secrets' file.
        path: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A change could not be written.
    #[error("the secrets could not be written to {}", path.display())]
    Write {
        /// The secrets' file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The owner has none under these names.
    #[error("there is no secret {}", names.join(", "))]
    Unknown {
        /// The names.
        names: Vec<String>,
    },
    /// The owner has as many as one may have.
    #[error("an owner has {MAX_SECRETS} secrets at most")]
    TooMany,
}

impl SecretsError {
    /// How a call fails that is given to a host and needs what is not there any more.
    pub fn to_call_error(&self) -> CallError {
        CallError {
            code: "unknown_secret".to_owned(),
            message: self.to_string(),
            action: NO_SECRET.to_owned(),
        }
    }
}

impl Secrets {
    /// The secrets of this state folder, sealed by the key in this file. Both are made at the first start.
    pub fn open(state_dir: &Path, key: &Path) -> Result<Secrets, SecretsError> {
        let path = state_dir.join(FILE);
        let sealed = match fs::read(&path) {
            Ok(sealed) => Some(sealed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(SecretsError::Read { path, source }),
        };
        let wrong = || SecretsError::Sealed { path: path.clone(), key: key.to_owned() };
        let sealer = match Sealer::read(key)? {
            Some(sealer) => sealer,
            None if sealed.is_some() => return Err(wrong()),
            None => Sealer::make(key)?,
        };
        let table = match &sealed {
            Some(sealed) => sealer
                .open(TABLE, sealed)
                .and_then(|text| serde_json::from_slice(&text).ok())
                .ok_or_else(wrong)?,
            None => Table::default(),
        };
        let secrets = Secrets {
            shared: Arc::new(Shared {
                path,
                sealer,
                table: Mutex::new(table),
                writing: Mutex::new(()),
            }),
        };
        if sealed.is_none() {
            // From now on a key that is gone is noticed.
            secrets.change(|_| Ok(()))?;
        }
        Ok(secrets)
    }

    /// Sets a secret; on the disk when this returns.
    pub fn set(
        &self,
        owner: &str,
        name: &Name,
        value: Zeroizing<String>,
        now_unix_s: u64,
    ) -> Result<Change, SecretsError> {
        self.change(|table| {
            let secret = Secret { value, updated_unix_s: now_unix_s };
            table.set(owner, name, secret).ok_or(SecretsError::TooMany)
        })
    }

    /// Removes a secret; off the disk when this returns.
    pub fn delete(&self, owner: &str, name: &str) -> Result<(), SecretsError> {
        self.change(|table| match table.delete(owner, name) {
            true => Ok(()),
            false => Err(SecretsError::Unknown { names: vec![name.to_owned()] }),
        })
    }

    /// What an owner has, by name.
    pub fn list(&self, owner: &str) -> Vec<Record> {
        self.table().list(owner)
    }

    /// Whether an owner has all of these.
    pub fn check(&self, owner: &str, names: &[String]) -> Result<(), SecretsError> {
        match names.is_empty() {
            true => Ok(()),
            false => self.table().values(owner, names).map(drop),
        }
    }

    /// The SECRETS frame with the values of now; `None` where no secret is named.
    pub fn frame(&self, owner: &str, names: &[String]) -> Result<Option<Frame>, SecretsError> {
        if names.is_empty() {
            return Ok(None);
        }
        let table = self.table();
        let values = table.values(owner, names)?;
        Ok(Some(Frame::new(Kind::Secrets, to_json(&values))))
    }

    /// What a call that is kept says of itself, for the store.
    pub fn seal_spec(&self, call: &str, spec: &[u8]) -> Vec<u8> {
        self.shared.sealer.seal(&format!("{SPEC}{call}"), spec)
    }

    /// The reverse; `None` where it was sealed by another key, or for another call.
    pub fn open_spec(&self, call: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.shared.sealer.open(&format!("{SPEC}{call}"), sealed)
    }

    /// Makes a change, or leaves all as it was.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Table) -> Result<T, SecretsError>,
    ) -> Result<T, SecretsError> {
        let _writing = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.table().clone();
        let done = change(&mut table)?;
        let text = Zeroizing::new(serde_json::to_vec(&table).expect("tables have string keys"));
        let path = &self.shared.path;
        files::replace(path, &self.shared.sealer.seal(TABLE, &text))
            .map_err(|source| SecretsError::Write { path: path.clone(), source })?;
        *self.table() = table;
        Ok(done)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
