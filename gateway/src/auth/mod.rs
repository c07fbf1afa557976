//! Who may do what: tokens of people and programs, join tokens, and the credentials of hosts.
//!
//! **Problem.** Whoever may submit a call runs code on every host, so nothing is done for nobody; and what was handed out must be
//! taken back within seconds, by a request or by a command on the gateway's machine.
//!
//! **What there is.** A *token* ([`token`]) has an id, a secret of 256 random bits, scopes, an owner (several tokens may have one), and
//! perhaps an expiry. A *join token* lets so many hosts join, for a short time, and does nothing else. A *host's credential* is the key it made itself,
//! in a certificate of ours, where the gateway speaks TLS; elsewhere it is a token. All are entries ([`entry`]) of one file
//! ([`file`]), which keeps hashes and never a secret.
//!
//! **Who owns what.** The file is the truth. Whoever changes it holds its lock, and replaces it whole. [`Tokens`] holds the table made
//! from it: at once after its own changes, and after those of a command within a second ([`Tokens::follow`]), or when somebody presents what
//! it does not know. What goes on under a credential for long, a stream, an upload, a host's link, holds its *life* ([`lives`]) and ends with it.
//!
//! **Looking one up.** By id, then compared by hash in constant time, with a hash of nothing where the id is unknown, so that neither timing nor
//! the answer says which ids exist. One hash per request.
//!
//! **Failures.** A file that cannot be read or understood while the gateway runs is said in the log, and what was known holds on: a slip of an
//! editor must not let anybody in, nor lock everybody out. A change that cannot be written is an error to whoever asked for it.

pub mod entry;
mod file;
mod hosts;
mod identity;
mod lives;
mod table;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::entry::Entry;
use self::file::{TokenFile, Version};
pub use self::hosts::{Admitted, JoinError, Proof};
pub use self::identity::{Identity, Scope};
use self::lives::Lives;
use self::table::Table;
use crate::tasks::Tasks;

/// Who owns calls where nobody said it.
pub const DEFAULT_OWNER: &str = "default";
/// Why [`NewToken::limits_an_admin`] is a mistake.
pub const ADMIN_LIMITED: &str = "would limit an admin, who can make tokens without that limit";
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What somebody asks of a new token.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// Whose calls it makes and sees.
    pub owner: String,
    /// What it is for.
    pub name: Option<String>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// How long it is good; for ever, if `None`.
    pub life: Option<Duration>,
    /// How many hosts may join by it; any number, if `None`.
    pub uses: Option<u32>,
    /// The one host that may join by it.
    pub host: Option<String>,
    /// All shares that its calls may use; any, if `None`.
    pub shares: Option<Vec<String>>,
}

impl NewToken {
    /// One of the first start.
    fn first(scopes: &[Scope]) -> NewToken {
        NewToken {
            owner: DEFAULT_OWNER.into(),
            name: Some("made at the first start".into()),
            scopes: scopes.to_vec(),
            ..NewToken::default()
        }
    }

    /// Whether it would limit somebody who can make a token without that limit.
    pub fn limits_an_admin(&self) -> bool {
        self.shares.is_some() && self.scopes.contains(&Scope::Admin)
    }

    fn into_entry(self, now_unix_s: u64) -> Result<(String, Entry), TokensError> {
        let made = token::make()?;
        let entry = Entry {
            id: made.id,
            owner: self.owner,
            name: self.name,
            scopes: self.scopes,
            sha256: made.sha256,
            created_unix_s: now_unix_s,
            expires_unix_s: self.life.map(|life| now_unix_s.saturating_add(life.as_secs())),
            revoked_unix_s: None,
            uses_left: self.uses,
            host: self.host,
            shares: self.shares,
        };
        Ok((made.text, entry))
    }
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
    #[error(
        "could not understand the tokens in {path}, which another version of Muster may have written; move the folder away to begin anew"
    )]
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

/// The tokens this gateway takes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokens {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: TokenFile,
    table: RwLock<Table>,
    /// The version the table was made from.
    version: Mutex<Option<Version>>,
    lives: Lives,
}

impl Tokens {
    /// Reads `tokens.json` in `state_dir`; where there is none, makes it with one token that may do everything, which is handed out this once.
    pub fn open(state_dir: &Path) -> Result<(Tokens, Option<String>), TokensError> {
        let file = TokenFile::new(state_dir);
        let version = file.version();
        let found = file.read()?;
        let is_first = found.is_none();
        let tokens = Tokens {
            shared: Arc::new(Shared {
                table: RwLock::new(Table::of(found.unwrap_or_default())),
                version: Mutex::new(version),
                lives: Lives::default(),
                file,
            }),
        };
        if !is_first {
            return Ok((tokens, None));
        }
        let all = [Scope::Submit, Scope::Read, Scope::Cancel, Scope::Admin];
        let (first, _) = tokens.create(NewToken::first(&all), crate::unix_s())?;
        Ok((tokens, Some(first)))
    }

    /// Takes in what commands change, and ends what goes on under credentials that have ended, until the tasks are asked to stop.
    pub async fn follow(self, tasks: Tasks) {
        loop {
            tokio::select! {
                biased;
                () = tasks.stopping() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if !self.refresh() {
                self.sweep();
            }
        }
    }

    /// Who presents this token, if it is good at `now_unix_s`.
    pub fn identify(&self, presented: &str, now_unix_s: u64) -> Option<Identity> {
        let (id, bare) = token::parse(presented)?;
        let sha256 = token::hash(bare.as_bytes());
        let find = || self.table().by_id(id, &sha256, now_unix_s).map(Identity::of);
        // A command may have made it a moment ago.
        find().or_else(|| self.refresh().then(find).flatten())
    }

    /// The host that has this name and the key with this hash, if it is to be let in at `now_unix_s`.
    pub fn identify_host(&self, host: &str, key: &str, now_unix_s: u64) -> Option<Identity> {
        let table = self.table();
        table.by_host(host, now_unix_s).filter(|entry| entry.matches(key)).map(Identity::of)
    }

    /// All entries, newest first.
    pub fn list(&self) -> Vec<Entry> {
        self.table().list()
    }

    /// Makes a token; its text is given this once.
    pub fn create(&self, new: NewToken, now_unix_s: u64) -> Result<(String, Entry), TokensError> {
        let (text, entry) = new.into_entry(now_unix_s)?;
        self.update(now_unix_s, |entries| {
            entries.push(entry.clone());
            Ok::<_, TokensError>(())
        })?;
        Ok((text, entry))
    }

    /// Revokes a token; `None` if there is none with this id.
    pub fn revoke(&self, id: &str, now_unix_s: u64) -> Result<Option<Entry>, TokensError> {
        self.update(now_unix_s, |entries| {
            let found = entries.iter_mut().find(|entry| entry.id == id && !entry.is_host());
            Ok(found.map(|entry| {
                entry.revoked_unix_s.get_or_insert(now_unix_s);
                entry.clone()
            }))
        })
    }

    /// Is cancelled when the credential with this id is good no more: at once when the gateway hears of it, and a second after its expiry at most.
    pub fn life(&self, id: &str) -> CancellationToken {
        self.shared.lives.of(id, |id| self.is_good(id))
    }

    fn is_good(&self, id: &str) -> bool {
        self.table().get(id).is_some_and(|entry| entry.is_good(crate::unix_s()))
    }

    fn sweep(&self) {
        self.shared.lives.sweep(|id| self.is_good(id));
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.shared.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what another process changed; whether anything was.
    fn refresh(&self) -> bool {
        let version = self.shared.file.version();
        if version == *lock(&self.shared.version) {
            return false;
        }
        match self.shared.file.read() {
            Ok(Some(entries)) => {
                self.take(entries, version);
                return true;
            }
            Ok(None) => tracing::error!("tokens.json is gone; the tokens known so far hold on"),
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(error, "the tokens known so far hold on");
            }
        }
        // Each version is complained of once.
        *lock(&self.shared.version) = version;
        false
    }

    fn update<T, E: From<TokensError>>(
        &self,
        now_unix_s: u64,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (done, entries, version) = self.shared.file.update(now_unix_s, change)?;
        self.take(entries, version);
        Ok(done)
    }

    fn take(&self, entries: Vec<Entry>, version: Option<Version>) {
        // The version first: where two changes meet, the older table is read again rather than kept.
        *lock(&self.shared.version) = version;
        let table = Table::of(entries);
        *self.shared.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        self.sweep();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
