//! `tokens.json`: read whole, and changed under a lock, whole or not at all. The gateway and the commands on its machine change
//! the same file.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::TokensError;
use super::entry::Entry;
use crate::files;

const FILE: &str = "tokens.json";
const LOCK: &str = "tokens.lock";

/// The file, wherever the state folder is.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    lock: PathBuf,
}

/// One version of the file: a change makes a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u64, i64, i64, u64);

impl TokenFile {
    /// The file in this state folder.
    pub fn new(state_dir: &Path) -> TokenFile {
        TokenFile { path: state_dir.join(FILE), lock: state_dir.join(LOCK) }
    }

    /// Which version there is; `None` where there is no file.
    pub fn version(&self) -> Option<Version> {
        let found = fs::metadata(&self.path).ok()?;
        Some(Version(found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    }

    /// All entries; `None` where there is no file.
    pub fn read(&self) -> Result<Option<Vec<Entry>>, TokensError> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| TokensError::Malformed { path: self.path.clone(), source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TokensError::Read { path: self.path.clone(), source }),
        }
    }

    /// Changes the entries, which nobody else changes meanwhile. Gives what `change` gave, the entries, and their version; nothing
    /// is written when `change` fails.
    pub fn update<T, E: From<TokensError>>(
        &self,
        now_unix_s: u64,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<T, E>,
    ) -> Result<(T, Vec<Entry>, Option<Version>), E> {
        let failed = |source| TokensError::Write { path: self.path.clone(), source };
        let lock = File::options().create(true).append(true).mode(0o600).open(&self.lock);
        let lock = lock.map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut entries = self.read()?.unwrap_or_default();
        entries.retain(|entry| !entry.is_history(now_unix_s));
        let done = change(&mut entries)?;
        let mut text = serde_json::to_vec_pretty(&entries).expect("entries have string keys");
        text.push(b'\n');
        files::replace(&self.path, &text).map_err(failed)?;
        Ok((done, entries, self.version()))
    }
}
