//! Hosts join, renew their credentials, and are expelled.
//!
//! A host proves who it is by a key of its own, where the gateway speaks TLS: then the hash of the public key is kept, and any certificate of
//! ours for it is good until it expires. Without TLS it proves it by a token. A name belongs to the host that joined under it until
//! it is expelled; a join token made for this very name replaces it.

use std::time::Duration;

use super::{Entry, NewToken, Scope, Tokens, TokensError};

/// What a host proves itself by.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// The key with this hash, over TLS.
    Key(&'a str),
    /// A token that is made for it.
    Token,
}

/// A host was let in, or in again.
#[derive(Debug)]
pub struct Admitted {
    /// Its credential.
    pub entry: Entry,
    /// Its token, where it proves itself by one.
    pub token: Option<String>,
}

/// Why a host was not let in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The join token was used up meanwhile, or is for another name.
    #[error("the join token is not good for a host named {host}")]
    NotGood {
        /// The name asked for.
        host: String,
    },
    /// Another host has this name.
    #[error("a host named {host} has joined already")]
    Taken {
        /// The name.
        host: String,
    },
    /// The host was expelled meanwhile.
    #[error("the host {host} is no longer one of this gateway's")]
    Gone {
        /// The name.
        host: String,
    },
    /// The file failed.
    #[error("the host could not be written down")]
    Tokens(#[from] TokensError),
}

impl Tokens {
    /// Lets a host in by the join token with the id `join`, for so long.
    pub fn admit(
        &self,
        join: &str,
        host: &str,
        proof: Proof<'_>,
        life: Duration,
        now_unix_s: u64,
    ) -> Result<Admitted, JoinError> {
        let new = NewToken {
            owner: String::new(),
            scopes: vec![Scope::Host],
            life: Some(life),
            host: Some(host.to_owned()),
            ..NewToken::default()
        };
        let (text, mut entry) = new.into_entry(now_unix_s)?;
        let token = match proof {
            Proof::Token => Some(text),
            Proof::Key(sha256) => {
                sha256.clone_into(&mut entry.sha256);
                None
            }
        };
        self.update(now_unix_s, |entries| {
            let by = entries.iter_mut().find(|entry| entry.id == join);
            let by = by.filter(|by| {
                by.is_good(now_unix_s) && by.host.as_deref().is_none_or(|bound| bound == host)
            });
            let Some(by) = by else { return Err(JoinError::NotGood { host: host.to_owned() }) };
            let replaces = by.host.is_some();
            if let Some(left) = &mut by.uses_left {
                *left -= 1;
                if *left == 0 {
                    by.revoked_unix_s = Some(now_unix_s);
                }
            }
            let former = entries.iter_mut().filter(|entry| is_of(entry, host));
            for former in former {
                if !replaces && former.is_good(now_unix_s) {
                    return Err(JoinError::Taken { host: host.to_owned() });
                }
                former.revoked_unix_s = Some(now_unix_s);
            }
            entries.push(entry.clone());
            Ok(())
        })?;
        Ok(Admitted { entry, token })
    }

    /// Lets a host go on with the credential it has, for so long from now.
    pub fn renew(
        &self,
        id: &str,
        host: &str,
        life: Duration,
        now_unix_s: u64,
    ) -> Result<Entry, JoinError> {
        self.update(now_unix_s, |entries| {
            let entry =
                entries.iter_mut().find(|entry| entry.id == id && entry.is_good(now_unix_s));
            let Some(entry) = entry else { return Err(JoinError::Gone { host: host.to_owned() }) };
            entry.expires_unix_s = Some(now_unix_s.saturating_add(life.as_secs()));
            Ok(entry.clone())
        })
    }

    /// Takes a host's credential away; whether there was one.
    pub fn expel(&self, host: &str, now_unix_s: u64) -> Result<bool, TokensError> {
        self.update(now_unix_s, |entries| {
            let mut found = false;
            for entry in entries.iter_mut().filter(|entry| is_of(entry, host)) {
                found |= entry.is_good(now_unix_s);
                entry.revoked_unix_s = Some(now_unix_s);
            }
            Ok(found)
        })
    }

    /// The credentials of hosts that may connect, by name.
    pub fn hosts(&self, now_unix_s: u64) -> Vec<Entry> {
        let mut hosts = self.list();
        hosts.retain(|entry| entry.is_host() && entry.is_good(now_unix_s));
        hosts.sort_by(|a, b| a.host.cmp(&b.host));
        hosts
    }
}

fn is_of(entry: &Entry, host: &str) -> bool {
    entry.is_host() && entry.revoked_unix_s.is_none() && entry.host.as_deref() == Some(host)
}
