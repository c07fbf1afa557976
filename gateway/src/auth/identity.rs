//! What there is to be allowed, and who asks. Pure.

use serde::{Deserialize, Serialize};

use super::Entry;

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
    /// Join as a host; what join strings are made with, and nothing else.
    Join,
    /// Read the metrics.
    Metrics,
    /// Be a host that has joined. Nobody is given it by hand.
    Host,
}

impl Scope {
    /// Those that people give to tokens.
    pub const GIVEN: &'static [Scope] =
        &[Scope::Submit, Scope::Read, Scope::Cancel, Scope::Admin, Scope::Metrics];

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
    shares: Option<Vec<String>>,
}

impl Identity {
    /// Somebody without a token, who may do nothing.
    pub fn nobody() -> Identity {
        Identity {
            id: String::new(),
            owner: String::new(),
            scopes: Vec::new(),
            host: None,
            shares: None,
        }
    }

    /// The function of one of this owner's calls: it makes calls, and handles those that it made, and may use the shares that whoever made its call may.
    pub fn of_owner(owner: &str, shares: Option<Vec<String>>) -> Identity {
        let scopes = vec![Scope::Submit, Scope::Read, Scope::Cancel];
        Identity { id: String::new(), owner: owner.to_owned(), scopes, host: None, shares }
    }

    /// Whoever presents this.
    pub(super) fn of(entry: &Entry) -> Identity {
        Identity {
            id: entry.id.clone(),
            owner: entry.owner.clone(),
            scopes: entry.scopes.clone(),
            host: entry.host.clone().filter(|_| entry.is_host()),
            shares: entry.shares.clone(),
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

    /// The one owner whose calls are theirs to see; `None` where all are.
    pub fn sees_only(&self) -> Option<&str> {
        (!self.is_admin()).then_some(&self.owner)
    }

    /// All shares that their calls may use, where they are limited.
    pub fn share_limit(&self) -> Option<&[String]> {
        self.shares.as_deref()
    }

    /// Whether their calls may use this share.
    pub fn may_share(&self, name: &str) -> bool {
        self.share_limit().is_none_or(|shares| shares.iter().any(|share| share == name))
    }

    /// The host they are, if they are one.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Whether they are an agent.
    pub fn is_host(&self) -> bool {
        self.may(Scope::Host)
    }

    fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}
