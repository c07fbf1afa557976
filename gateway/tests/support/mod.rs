//! The real gateway on a loopback port, a small HTTP client, and a fake agent.
//!
//! Every answer the client gets is held against `openapi.json`: a status or a media type that is not described there
//! fails the test that saw it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod calls;
pub mod client;
pub mod fake_agent;
pub mod faults;
pub mod openapi;
pub mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use muster_gateway::audit::{Audit, AuditConfig};
use muster_gateway::auth::{NewToken, Scope, Tokens};
use muster_gateway::blobs::Blobs;
use muster_gateway::calls::Calls;
use muster_gateway::fleet::Fleet;
use muster_gateway::http::{Front, ServerConfig, router_with, serve};
use muster_gateway::secrets::Secrets;
use muster_gateway::settings::Settings;
use muster_gateway::store::durable::{Journal, MemoryCallStore, SqliteStore};
use muster_gateway::store::{MemoryStore, Spill};
use muster_gateway::tasks::Tasks;
use muster_gateway::tls::{Tls, TlsConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::client::Client;
use self::fake_agent::{Behaviour, FakeAgent};
use self::faults::Disk;

/// How long any condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A gateway in this process.
pub struct Gateway {
    pub address: SocketAddr,
    /// A token that may do everything.
    pub admin: String,
    pub calls: Calls,
    pub blobs: Blobs,
    pub fleet: Fleet,
    pub tasks: Tasks,
    pub ready: watch::Sender<bool>,
    pub book: Tokens,
    pub folder: tempfile::TempDir,
}

impl Gateway {
    /// A gateway without hosts.
    pub async fn start() -> Gateway {
        Gateway::with(ServerConfig::default()).await
    }

    /// A gateway without hosts, its listener with these limits.
    pub async fn with(config: ServerConfig) -> Gateway {
        Gateway::limited(config, usize::MAX).await
    }

    /// The same, where one token has so many requests at once.
    pub async fn limited(config: ServerConfig, per_token: usize) -> Gateway {
        let tasks = Tasks::new();
        let journal = Journal::start(MemoryCallStore::default(), u64::MAX, &tasks);
        let folder = tempfile::tempdir().expect("a folder");
        Gateway::on(folder, None, (config, per_token), &[], journal, tasks).await
    }

    /// A gateway without hosts whose stores are on this disk, with these settings.
    pub async fn on_disk_of(disk: &Disk, settings: &[&str]) -> Gateway {
        let tasks = Tasks::new();
        let journal = Journal::start(disk.under(MemoryCallStore::default()), u64::MAX, &tasks);
        let folder = tempfile::tempdir().expect("a folder");
        let limits = (ServerConfig::default(), usize::MAX);
        let spill = Spill::new(disk.under(MemoryStore::default()), 1 << 30);
        Gateway::on_spill(folder, None, limits, settings, (journal, spill), tasks).await
    }

    /// A gateway without hosts that speaks TLS, with this deadline for handshakes.
    pub async fn with_tls(header_timeout: Duration) -> Gateway {
        let folder = tempfile::tempdir().expect("a folder");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let tls = Tls::open(folder.path(), listen, TlsConfig::default()).expect("TLS");
        let config = ServerConfig { tls: Some(tls), header_timeout, ..ServerConfig::default() };
        let tasks = Tasks::new();
        let journal = Journal::start(MemoryCallStore::default(), u64::MAX, &tasks);
        Gateway::on(folder, None, (config, usize::MAX), &[], journal, tasks).await
    }

    /// A gateway without hosts whose background calls survive [`restart`](Gateway::restart).
    pub async fn durable() -> Gateway {
        Gateway::on_disk(tempfile::tempdir().expect("a folder"), None, &[]).await
    }

    /// Stops, and starts another gateway on the same state folder, with these settings.
    pub async fn restart(mut self, settings: &[&str]) -> Gateway {
        self.tasks.stop();
        tokio::time::timeout(DEADLINE, self.tasks.ended()).await.expect("it stops");
        let admin = std::mem::take(&mut self.admin);
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        Gateway::on_disk(folder, Some(admin), settings).await
    }

    async fn on_disk(
        folder: tempfile::TempDir,
        admin: Option<String>,
        settings: &[&str],
    ) -> Gateway {
        let tasks = Tasks::new();
        let store = SqliteStore::open(folder.path()).await.expect("opens");
        let journal = Journal::start(store, u64::MAX, &tasks);
        let limits = (ServerConfig::default(), usize::MAX);
        Gateway::on(folder, admin, limits, settings, journal, tasks).await
    }

    async fn on(
        folder: tempfile::TempDir,
        known: Option<String>,
        (config, per_token): (ServerConfig, usize),
        settings: &[&str],
        journal: Journal,
        tasks: Tasks,
    ) -> Gateway {
        let spill = Spill::new(MemoryStore::default(), 1 << 30);
        let limits = (config, per_token);
        Gateway::on_spill(folder, known, limits, settings, (journal, spill), tasks).await
    }

    async fn on_spill(
        folder: tempfile::TempDir,
        known: Option<String>,
        (config, per_token): (ServerConfig, usize),
        settings: &[&str],
        (journal, spill): (Journal, Spill),
        tasks: Tasks,
    ) -> Gateway {
        let state = folder.path().to_str().expect("a plain path");
        let arguments = [&["muster-gateway", "--state-dir", state], settings].concat();
        let settings = Settings::parse_from(arguments);
        let (tokens, first) = Tokens::open(folder.path()).expect("tokens");
        let fleet = Fleet::start(&tasks);
        let blobs = Blobs::open(&folder.path().join("blobs"), settings.blobs(), &tasks).await;
        let blobs = blobs.expect("a folder");
        let secrets = Secrets::open(folder.path(), &folder.path().join("secrets.key"));
        let secrets = secrets.expect("a key");
        let bounds = settings.calls();
        let calls =
            Calls::start(bounds, fleet.clone(), spill, journal, &blobs, secrets.clone(), &tasks)
                .await
                .expect("starts");
        let (ready, is_ready) = watch::channel(true);
        let front = Front {
            calls: calls.clone(),
            blobs: blobs.clone(),
            fleet: fleet.clone(),
            secrets,
            tokens: tokens.clone(),
            audit: Audit::start(folder.path(), AuditConfig::default(), &tasks).expect("a log"),
            ready: is_ready,
            tasks: tasks.clone(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            tls: config.tls.clone(),
            url: "http://gateway".into(),
            host_life: Duration::from_secs(3600),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tasks.spawn_critical(
            "http",
            serve(listener, router_with(front, per_token), tasks.clone(), config),
        );
        tasks.spawn_critical("tokens", tokens.clone().follow(tasks.clone()));
        let book = tokens;
        let admin = first.or(known).expect("a first start");
        Gateway { address, admin, calls, blobs, fleet, tasks, ready, book, folder }
    }

    /// A gateway with one host of two cores, which behaves like this.
    pub async fn with_host(behaviour: impl Behaviour) -> (Gateway, FakeAgent) {
        let gateway = Gateway::start().await;
        let agent = gateway.connect("one", behaviour).await;
        (gateway, agent)
    }

    /// Connects one more host and waits until it counts.
    pub async fn connect(&self, name: &str, behaviour: impl Behaviour) -> FakeAgent {
        let agent = FakeAgent::dial(self.address, &self.host(name), name, 1, behaviour).await;
        let agent = agent.expect("the host is let in");
        let there = || self.fleet.hosts().iter().any(|host| host.status.host == name);
        until("the host is listed", there).await;
        agent
    }

    /// A client with the token made at the first start.
    pub fn client(&self) -> Client {
        Client::new(self.address, Some(self.admin.clone()))
    }

    /// A token of this owner, with these scopes.
    pub fn token(&self, owner: &str, scopes: &[Scope]) -> String {
        let new = NewToken { owner: owner.into(), scopes: scopes.to_vec(), ..NewToken::default() };
        self.book.create(new, muster_gateway::unix_s()).expect("made").0
    }

    /// The token of a host of this name, as one has that has joined.
    pub fn host(&self, name: &str) -> String {
        let host = Some(name.to_owned());
        let new = NewToken { scopes: vec![Scope::Host], host, ..NewToken::default() };
        self.book.create(new, muster_gateway::unix_s()).expect("made").0
    }

    /// A client with this token, or none.
    pub fn client_with(&self, token: Option<&str>) -> Client {
        Client::new(self.address, token.map(str::to_owned))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// Waits for a condition, looking again every few milliseconds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_found(what, async || condition()).await;
}

/// The same for a condition that has to be asked for.
pub async fn until_found(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(DEADLINE, async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while !condition().await {
            tick.tick().await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("waited too long: {what}"));
}
