//! Commands on the gateway's machine: they change the files in its state folder, and the running gateway takes the change in within
//! seconds. Whoever may write there is the gateway's owner, so no token is asked for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::audit;
use crate::auth::{
    ADMIN_LIMITED, DEFAULT_OWNER, Entry, NewToken, Scope, Tokens, TokensError, token,
};
use crate::service_files::{self, Access};

/// The first word of each command.
pub const NAMES: &[&str] = &["token", "join-string", "host"];

/// What an administrator may ask for.
#[derive(Debug, Parser)]
#[command(name = "muster-gateway", version)]
pub struct Administration {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, list and revoke tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Let hosts join.
    #[command(subcommand)]
    JoinString(JoinCommand),
    /// List and expel hosts that have joined.
    #[command(subcommand)]
    Host(HostCommand),
}

#[derive(Debug, Subcommand)]
enum JoinCommand {
    /// Make a join string and print it; give it to `muster-agent --join-file`.
    Create {
        #[command(flatten)]
        state: State,
        /// The one host that may join by it; it replaces a host of this name that has joined before.
        #[arg(long)]
        host: Option<String>,
        /// How many hosts may join by it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it is good; 15 minutes, if left out.
        #[arg(long, value_parser = humantime::parse_duration)]
        expires_in: Option<Duration>,
    },
}

#[derive(Debug, Subcommand)]
enum HostCommand {
    /// List the hosts that have joined.
    List {
        #[command(flatten)]
        state: State,
    },
    /// Take a host's credential away, which cuts its link.
    Expel {
        #[command(flatten)]
        state: State,
        /// Its name.
        host: String,
    },
}

#[derive(Debug, Parser)]
struct State {
    /// The gateway's state folder.
    #[arg(long, env = "MUSTER_GATEWAY_STATE_DIR")]
    state_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it; it is nowhere else.
    Create {
        #[command(flatten)]
        state: State,
        /// Whose calls it makes and sees.
        #[arg(long, default_value = DEFAULT_OWNER)]
        owner: String,
        /// What it allows: submit, read, cancel, admin, metrics.
        #[arg(long, value_delimiter = ',', default_value = "submit,read,cancel")]
        scopes: Vec<Scope>,
        /// How long it is good, for example 30days; for ever, if left out.
        #[arg(long, value_parser = humantime::parse_duration)]
        expires_in: Option<Duration>,
        /// What it is for.
        #[arg(long)]
        name: Option<String>,
        /// A share that its calls may use, and no others; give it again for another. Any, if left out.
        #[arg(long = "share", value_name = "NAME", value_parser = share_name)]
        shares: Option<Vec<String>>,
    },
    /// List the tokens there are, without their secrets.
    List {
        #[command(flatten)]
        state: State,
    },
    /// Revoke a token by its id.
    Revoke {
        #[command(flatten)]
        state: State,
        /// The part of the token after `muster_`.
        id: String,
    },
}

/// A command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The tokens' file failed.
    #[error("the tokens could not be changed")]
    Tokens(#[from] TokensError),
    /// No gateway has used the folder.
    #[error("{0} is no gateway's state folder; give the --state-dir of one that was started")]
    NoState(PathBuf),
    /// No such token.
    #[error("no token has the id {0}; `muster-gateway token list` shows those there are")]
    UnknownToken(String),
    /// The name of an owner cannot be one.
    #[error("{0:?} is not the name of an owner: 1 to 64 letters, digits, `.`, `-`, `@` or `_`")]
    BadOwner(String),
    /// Shares of an admin.
    #[error("--share {ADMIN_LIMITED}; leave it out, or the scope admin")]
    LimitedAdmin,
    /// The name of a host cannot be one.
    #[error("{0:?} is not the name of a host: 1 to 63 lower-case letters, digits and `-`")]
    BadHost(String),
    /// No such host.
    #[error("no host named {0} has joined; `muster-gateway host list` shows those that have")]
    UnknownHost(String),
    /// The audit log failed.
    #[error("the audit log could not be written")]
    Audit(#[source] std::io::Error),
}

impl Administration {
    /// Does it; gives what is to be printed.
    pub fn run(self) -> Result<String, CommandError> {
        match self.command {
            Command::Token(command) => command.run(),
            Command::JoinString(command) => command.run(),
            Command::Host(command) => command.run(),
        }
    }
}

impl TokenCommand {
    fn run(self) -> Result<String, CommandError> {
        match self {
            TokenCommand::Create { state, owner, scopes, expires_in, name, shares } => {
                if !crate::http::is_owner(&owner) {
                    return Err(CommandError::BadOwner(owner));
                }
                let new = NewToken {
                    owner,
                    name,
                    scopes,
                    life: expires_in,
                    shares,
                    ..NewToken::default()
                };
                if new.limits_an_admin() {
                    return Err(CommandError::LimitedAdmin);
                }
                let (token, entry) = state.tokens()?.create(new, crate::unix_s())?;
                written_down(&state.state_dir, "token_created", &entry.id)?;
                let service = state.service();
                let pin = service.as_ref().and_then(|found| token::pin(&found.token));
                Ok(format!("{}\n", token::with_pin(&token, pin)))
            }
            TokenCommand::List { state } => Ok(table(&state.tokens()?.list())),
            TokenCommand::Revoke { state, id } => {
                let revoked = state.tokens()?.revoke(&id, crate::unix_s())?;
                let entry = revoked.ok_or(CommandError::UnknownToken(id))?;
                written_down(&state.state_dir, "token_revoked", &entry.id)?;
                Ok(format!("revoked {}\n", entry.id))
            }
        }
    }
}

impl JoinCommand {
    fn run(self) -> Result<String, CommandError> {
        let JoinCommand::Create { state, host, uses, expires_in } = self;
        if let Some(host) = host.as_deref().filter(|host| !crate::http::is_host_name(host)) {
            return Err(CommandError::BadHost(host.to_owned()));
        }
        let service = state.service();
        let service = service.ok_or_else(|| CommandError::NoState(state.state_dir.clone()))?;
        let new = crate::http::join_token(host, uses, expires_in);
        let (text, entry) = state.tokens()?.create(new, crate::unix_s())?;
        written_down(&state.state_dir, "join_string_created", &entry.id)?;
        let pin = token::pin(&service.token);
        Ok(format!("{}\n", crate::http::join_string(&service.url, &text, pin)))
    }
}

impl HostCommand {
    fn run(self) -> Result<String, CommandError> {
        match self {
            HostCommand::List { state } => {
                let mut text = String::from("host  joined  until\n");
                for entry in state.tokens()?.hosts(crate::unix_s()) {
                    let (joined, end) = (entry.created_unix_s, entry.expires_unix_s.unwrap_or(0));
                    let host = entry.host.unwrap_or_default();
                    let (joined, end) = (crate::http::rfc3339(joined), crate::http::rfc3339(end));
                    text += &format!("{host}  {joined}  {end}\n");
                }
                Ok(text)
            }
            HostCommand::Expel { state, host } => {
                if !state.tokens()?.expel(&host, crate::unix_s())? {
                    return Err(CommandError::UnknownHost(host));
                }
                written_down(&state.state_dir, "host_expelled", &host)?;
                Ok(format!("expelled {host}\n"))
            }
        }
    }
}

impl State {
    fn tokens(&self) -> Result<Tokens, CommandError> {
        if !self.state_dir.join("tokens.json").exists() {
            return Err(CommandError::NoState(self.state_dir.clone()));
        }
        Ok(Tokens::open(&self.state_dir)?.0)
    }

    /// Where the gateway was when it started last, with its pin.
    fn service(&self) -> Option<Access> {
        service_files::read(&self.state_dir.join(service_files::SERVICE))
    }
}

fn written_down(state_dir: &Path, what: &'static str, on: &str) -> Result<(), CommandError> {
    let entry = audit::Entry {
        what,
        from: "local".into(),
        on: on.to_owned(),
        result: "ok".into(),
        ..audit::Entry::default()
    };
    audit::append(state_dir, &entry).map_err(CommandError::Audit)
}

/// A name that a share may have.
fn share_name(name: &str) -> Result<String, String> {
    match muster_wire::share::is_name(name) {
        true => Ok(name.to_owned()),
        false => Err("a share's name is 1 to 63 of [a-z0-9_-], the first a letter or digit".into()),
    }
}

fn table(entries: &[Entry]) -> String {
    let now = crate::unix_s();
    let mut text = String::from("id                owner     scopes  shares  until  for\n");
    for entry in entries.iter().filter(|entry| !entry.is_host()) {
        let scopes: Vec<_> = entry.scopes.iter().map(|scope| scope.name()).collect();
        let until = match (entry.revoked_unix_s, entry.expires_unix_s) {
            (Some(_), _) => "revoked".to_owned(),
            (None, _) if !entry.is_good(now) => "ended".to_owned(),
            (None, Some(end)) => crate::http::rfc3339(end),
            (None, None) => "-".to_owned(),
        };
        let (owner, name) = (&entry.owner, entry.name.as_deref().unwrap_or("-"));
        let shares = match entry.shares.as_deref() {
            None => "all".to_owned(),
            Some([]) => "none".to_owned(),
            Some(names) => names.join(","),
        };
        let (id, scopes) = (&entry.id, scopes.join(","));
        text += &format!("{id}  {owner:<8}  {scopes}  {shares}  {until}  {name}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, arguments: &[&str]) -> Result<String, CommandError> {
        let folder = folder.to_str().expect("plain");
        let mut all = vec!["muster-gateway"];
        all.extend(arguments);
        all.extend(["--state-dir", folder]);
        Administration::try_parse_from(all).expect("parses").run()
    }

    #[test]
    fn a_token_may_be_limited_to_shares_but_not_an_admins() {
        let folder = tempfile::tempdir().expect("a folder");
        Tokens::open(folder.path()).expect("a first start");
        let limited = ["token", "create", "--owner", "bob", "--share", "data", "--share", "out"];
        run(folder.path(), &limited).expect("made");
        let listed = run(folder.path(), &["token", "list"]).expect("listed");
        let bob = listed.lines().find(|line| line.contains("bob")).expect("bob's");
        assert!(bob.contains("  data,out  "), "{bob}");
        assert!(listed.lines().any(|line| line.contains("  all  ")), "{listed}");
        let admin = ["token", "create", "--scopes", "admin", "--share", "data"];
        assert!(matches!(run(folder.path(), &admin), Err(CommandError::LimitedAdmin)));
        let odd = ["muster-gateway", "token", "create", "--state-dir", "/x", "--share", "../etc"];
        assert!(Administration::try_parse_from(odd).is_err());
    }

    #[test]
    fn tokens_are_made_listed_and_revoked_on_the_gateways_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let early = run(folder.path(), &["token", "list"]);
        assert!(matches!(early, Err(CommandError::NoState(_))));
        let (tokens, _) = Tokens::open(folder.path()).expect("a first start");
        let create =
            ["token", "create", "--owner", "ann", "--scopes", "read", "--expires-in", "1h"];
        let text = run(folder.path(), &create).expect("made");
        let text = text.trim();
        let id = crate::auth::token::parse(text).expect("a token").0.to_owned();
        let listed = run(folder.path(), &["token", "list"]).expect("listed");
        assert!(listed.contains(&id) && !listed.contains(text));
        run(folder.path(), &["token", "revoke", &id]).expect("revoked");
        assert!(matches!(
            run(folder.path(), &["token", "revoke", "none"]),
            Err(CommandError::UnknownToken(_))
        ));
        assert!(matches!(
            run(folder.path(), &["token", "create", "--owner", "a b"]),
            Err(CommandError::BadOwner(_))
        ));
        drop(tokens);
        let (again, _) = Tokens::open(folder.path()).expect("opened");
        assert_eq!(again.identify(text, crate::unix_s()), None);
        let log = std::fs::read_to_string(folder.path().join("audit.log")).expect("a log");
        assert_eq!(log.lines().count(), 2);
        assert!(!log.contains(text.rsplit('_').next().expect("a secret")));
    }
}
