//! The gateway's process: settings, start, and the order of stopping.

use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use muster_gateway::address;
use muster_gateway::audit::{Audit, AuditConfig};
use muster_gateway::auth::Tokens;
use muster_gateway::blobs::Blobs;
use muster_gateway::calls::Calls;
use muster_gateway::commands::{self, Administration};
use muster_gateway::fleet::Fleet;
use muster_gateway::http::{self, Front, ServerConfig};
use muster_gateway::secrets::Secrets;
use muster_gateway::service_files;
use muster_gateway::settings::Settings;
use muster_gateway::store::durable::{Journal, SqliteStore};
use muster_gateway::store::{DirStore, Spill};
use muster_gateway::tasks::Tasks;
use muster_gateway::tls::Tls;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How the process ends.
enum Exit {
    /// Asked to, and did.
    Stopped = 0,
    /// Settings that cannot be used.
    BadSettings = 64,
    /// Could not start, or a critical task ended.
    Failed = 70,
}

/// How long tasks may take to end after they were asked to.
const TASKS_END: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    if command.is_some_and(|word| commands::NAMES.contains(&word.as_str())) {
        return administer();
    }
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(error) => {
            let code = if error.use_stderr() { Exit::BadSettings } else { Exit::Stopped };
            let _ = error.print();
            return ExitCode::from(code as u8);
        }
    };
    let mistakes = settings.mistakes();
    if !mistakes.is_empty() {
        mistakes.iter().for_each(|mistake| eprintln!("muster-gateway: {mistake}"));
        return ExitCode::from(Exit::BadSettings as u8);
    }
    if settings.print_config {
        println!("{settings:#?}");
        return ExitCode::from(Exit::Stopped as u8);
    }
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MUSTER_GATEWAY_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    match run(settings) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            eprintln!("muster-gateway: {error:#}");
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

/// One command on the gateway's machine.
fn administer() -> ExitCode {
    let done = match Administration::try_parse() {
        Ok(command) => command.run(),
        Err(error) => {
            let code = if error.use_stderr() { Exit::BadSettings } else { Exit::Stopped };
            let _ = error.print();
            return ExitCode::from(code as u8);
        }
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::from(Exit::Stopped as u8)
        }
        Err(error) => {
            eprintln!("muster-gateway: {}", muster_gateway::chain(&error));
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

#[tokio::main]
async fn run(settings: Settings) -> anyhow::Result<Exit> {
    let folder = &settings.state_dir;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("could not make the state folder {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("could not make the lock file")?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("another gateway uses the state folder {}; stop it first", folder.display())
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).context("could not lock the state folder");
        }
    }
    let (tokens, first) = Tokens::open(folder)?;
    let secrets = Secrets::open(folder, &settings.secrets_key())?;
    let store = DirStore::open(folder.join("spill")).context("could not make the spill folder")?;
    let metrics =
        PrometheusBuilder::new().install_recorder().context("could not set up metrics")?;
    let listener = listen_at(settings.listen)
        .with_context(|| format!("could not listen on {}", settings.listen))?;
    let listen = listener.local_addr().context("no address to listen on")?;
    let tls = settings.tls().map(|config| Tls::open(folder, listen, config)).transpose()?;
    let url = address::url(tls.is_some(), listen, settings.advertise.as_deref());
    let pin = tls.as_ref().and_then(Tls::pin).map(str::to_owned);

    let tasks = Tasks::new();
    let audit = Audit::start(folder, AuditConfig::default(), &tasks)
        .context("could not open the audit log")?;
    tasks.spawn_critical("tokens", tokens.clone().follow(tasks.clone()));
    let fleet = Fleet::start(&tasks);
    let spill = Spill::with_spare(store, settings.spill_limit, settings.spare());
    let blobs = Blobs::open(&folder.join("blobs"), settings.blobs(), &tasks)
        .await
        .context("could not open the folder of blobs")?;
    let kept = SqliteStore::open(folder).await.context("could not open the store of calls")?;
    let journal = Journal::start(kept, settings.store_limit, &tasks);
    let config = settings.calls();
    let calls =
        Calls::start(config, fleet.clone(), spill, journal, &blobs, secrets.clone(), &tasks)
            .await
            .context("could not read the stored calls")?;
    let (ready, is_ready) = watch::channel(true);
    let front = Front {
        calls: calls.clone(),
        blobs,
        fleet,
        secrets,
        tokens,
        audit,
        tls: tls.clone(),
        url: url.as_str().into(),
        host_life: settings.host_credential_life,
        ready: is_ready,
        tasks: tasks.clone(),
        metrics,
    };
    if let Some(tls) = &tls {
        tasks.spawn_critical("certificate", tls.clone().renew(tasks.clone()));
    }
    let config = ServerConfig { tls, grace: settings.stop_grace, ..ServerConfig::default() };
    tasks.spawn_critical("http", http::serve(listener, http::router(front), tasks.clone(), config));

    let is_known = service_files::write(folder, &url, pin.as_deref(), first)
        .context("could not write service.json")?;
    if !is_known {
        tracing::warn!(
            "the token of service.json is lost; make another with `muster-gateway token create`"
        );
    }
    tracing::info!(url, "listening");
    println!("muster-gateway: listening on {url}");
    stop_when_asked(&settings, &calls, &ready, &tasks).await
}

/// The order of stopping: not ready; refuse new calls; let running ones end within the grace period; cancel the rest and stop every
/// task; the state folder's lock goes with the process. A second signal exits at once.
async fn stop_when_asked(
    settings: &Settings,
    calls: &Calls,
    ready: &watch::Sender<bool>,
    tasks: &Tasks,
) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        () = tasks.stopping() => false,
    };
    let stop = async {
        tracing::info!("stopping");
        ready.send_replace(false);
        calls.refuse();
        let _ = tokio::time::timeout(settings.stop_grace, calls.idle()).await;
        tasks.stop();
        let ended = tokio::time::timeout(settings.stop_grace + TASKS_END, tasks.ended()).await;
        if ended.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        tracing::info!("stopped");
    };
    tokio::select! {
        () = stop => {}
        _ = terminate.recv() => tracing::warn!("second signal, exiting at once"),
        _ = interrupt.recv() => tracing::warn!("second signal, exiting at once"),
    }
    Ok(if asked { Exit::Stopped } else { Exit::Failed })
}

/// Listens for whole crowds: a connection past the backlog is dropped by the kernel, and its client waits for seconds before it tries again.
fn listen_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
