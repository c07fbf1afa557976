//! Who may do what: tokens of people and programs, join tokens, and the credentials of hosts.
//!
//! **Problem.** Whoever may submit a call runs code on every host, so nothing is done for nobody; and what was handed out must be
//! taken back within seconds, by a request or by a command on the gateway's machine.
//!
//! **What there is.** A *token* ([`token`]) has an id, a secret of 256 random bits, scopes, an owner (several tokens may have one), and
//! perhaps an expiry. A *join token* lets so many hosts join, for a short time. A *host's credential* is the key it made itself,
//! in a certificate of ours, where the gateway speaks TLS; elsewhere it is a token. All are entries ([`entry`]) of one file
//! ([`file`]), which keeps hashes and never a secret.
//!
//! **Who owns what.** The file is the truth. Whoever changes it holds its lock, and replaces it whole. [`Tokens`] holds the table made
//! from it, at once after its own changes, and within a second after those of a command ([`Tokens::follow`]).
//!
//! **Looking one up.** By id, then compared by hash in constant time, with a hash of nothing where the id is unknown, so that neither timing nor
//! the answer says which ids exist. One hash per request.
//!
//! **Failures.** A file that cannot be read or understood while the gateway runs is said in the log, and what was known holds on: a slip of an
//! editor must not let anybody in, nor lock everybody out. A change that cannot be written is an error to whoever asked for it.

pub mod entry;
mod file;
mod hosts;
mod table;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::entry::Entry;
use self::file::{TokenFile, Version};
pub use self::hosts::{Admitted, JoinError, Proof};
use self::table::Table;
use crate::tasks::Tasks;

/// Who owns calls where nobody said it.
pub const DEFAULT_OWNER: &str = "default";
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

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
    /// Everything above and [`Scope::Metrics`], for everybody's calls; tokens and hosts too.
    Admin,
    /// Join as a host.
    Join,
    /// Read the metrics.
    Metrics,
    /// Be a host that has joined. Nobody is given it by hand.
    Host,
}

impl Scope {
    /// Those that people give to tokens.
    pub const GIVEN: &'static [Scope] =
        &[Scope::Submit, Scope::Read, Scope::Cancel, Scope::Admin, Scope::Join, Scope::Metrics];

    /// Its name in `tokens.json`, messages and documents.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Submit => "submit",
            Scope::Read => "read",
            Scope::Cancel => "cancel",
            Scope::Admin => "admin",
            Scope::Join => "join",
            Scope::Metrics => "metrics",
            Scope::Host => "host",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        Scope::GIVEN.iter().copied().find(|scope| scope.name() == text).ok_or_else(|| {
            let names: Vec<_> = Scope::GIVEN.iter().map(|scope| scope.name()).collect();
            format!("{text:?} is no scope; there are {}", names.join(", "))
        })
    }
}

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id of the token or credential.
    pub id: String,
    /// Owner of the calls they create.
    pub owner: String,
    scopes: Vec<Scope>,
    host: Option<String>,
    /// Good for so many hosts, and for joining alone.
    limited: bool,
}

impl Identity {
    /// Somebody without a token, who may do nothing.
    pub fn nobody() -> Identity {
        Identity {
            id: String::new(),
            owner: String::new(),
            scopes: Vec::new(),
            host: None,
            limited: false,
        }
    }

    /// The function of one of this owner's calls: it makes calls, and handles those that it made.
    pub fn of_owner(owner: &str) -> Identity {
        let scopes = vec![Scope::Submit, Scope::Read, Scope::Cancel];
        Identity { id: String::new(), owner: owner.to_owned(), scopes, host: None, limited: false }
    }

    fn of(entry: &Entry) -> Identity {
        Identity {
            id: entry.id.clone(),
            owner: entry.owner.clone(),
            scopes: entry.scopes.clone(),
            host: entry.host.clone().filter(|_| entry.is_host()),
            limited: entry.uses_left.is_some(),
        }
    }

    /// Whether they may do what needs this scope. An admin may do everything but pose as a host.
    pub fn may(&self, scope: Scope) -> bool {
        let of_hosts = matches!(scope, Scope::Join | Scope::Host);
        self.scopes.contains(&scope) || (!of_hosts && self.is_admin())
    }

    /// Whether a call of this owner is theirs to see.
    pub fn sees(&self, owner: &str) -> bool {
        self.owner == owner || self.is_admin()
    }

    /// The host they are, if they are one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Whether they are an agent, with a credential of its own or the token it joins by.
    pub fn is_host(&self) -> bool {
        self.may(Scope::Host) || (self.may(Scope::Join) && !self.limited)
    }

    /// Whether they may connect as the host with this name: a host as itself, and the gateway's own machine as any.
    pub fn connects(&self, name: &str) -> bool {
        self.host.as_deref().map_or(self.is_host(), |host| host == name)
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
    changes: watch::Sender<()>,
}

impl Tokens {
    /// Reads `tokens.json` in `state_dir`; where there is none, makes it with two tokens, which are handed out this once.
    pub fn open(state_dir: &Path) -> Result<(Tokens, Option<FirstTokens>), TokensError> {
        let file = TokenFile::new(state_dir);
        let version = file.version();
        let found = file.read()?;
        let is_first = found.is_none();
        let tokens = Tokens {
            shared: Arc::new(Shared {
                table: RwLock::new(Table::of(found.unwrap_or_default())),
                version: Mutex::new(version),
                changes: watch::Sender::new(()),
                file,
            }),
        };
        if !is_first {
            return Ok((tokens, None));
        }
        let all = [Scope::Submit, Scope::Read, Scope::Cancel, Scope::Admin];
        let make = |scopes| tokens.create(NewToken::first(scopes), crate::unix_s());
        let first = FirstTokens { client: make(&all)?.0, join: make(&[Scope::Join])?.0 };
        Ok((tokens, Some(first)))
    }

    /// Takes in what commands change, until the tasks are asked to stop.
    pub async fn follow(self, tasks: Tasks) {
        let mut complained = None;
        loop {
            tokio::select! {
                biased;
                () = tasks.stopping() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let version = self.shared.file.version();
            if version == *lock(&self.shared.version) || version == complained {
                continue;
            }
            match self.shared.file.read() {
                Ok(Some(entries)) => self.take(entries, version),
                Ok(None) => {
                    tracing::error!("tokens.json is gone; the tokens known so far hold on");
                    complained = version;
                }
                Err(error) => {
                    let error = crate::chain(&error);
                    tracing::error!(error, "the tokens known so far hold on");
                    complained = version;
                }
            }
        }
    }

    /// Who presents this token, if it is good at `now_unix_s`.
    pub fn identify(&self, presented: &str, now_unix_s: u64) -> Option<Identity> {
        let (id, bare) = token::parse(presented)?;
        let sha256 = token::hash(bare.as_bytes());
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        table.by_id(id, &sha256, now_unix_s).map(Identity::of)
    }

    /// The host that has this name and the key with this hash, if it is to be let in at `now_unix_s`.
    pub fn identify_host(&self, host: &str, key: &str, now_unix_s: u64) -> Option<Identity> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        table.by_host(host, now_unix_s).filter(|entry| entry.matches(key)).map(Identity::of)
    }

    /// All entries, newest first.
    pub fn list(&self) -> Vec<Entry> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        table.list()
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

    /// Resolves when the credential with this id is good no more.
    pub async fn until_dead(&self, id: &str) {
        let mut changes = self.shared.changes.subscribe();
        loop {
            let now = crate::unix_s();
            let end = {
                let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
                match table.get(id).filter(|entry| entry.is_good(now)) {
                    Some(entry) => entry.expires_unix_s,
                    None => return,
                }
            };
            let left = end.map_or(u64::from(u32::MAX), |end| end.saturating_sub(now).max(1));
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(Duration::from_secs(left)) => {}
            }
        }
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
        self.shared.changes.send_replace(());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
