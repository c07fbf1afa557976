//! A host of its own for each test, on the real engine, and the check that nothing of it is left.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use muster_agent::container::{ClaimError, Containers, Limits, Wanted, Worker};
use muster_agent::data::Data;
use muster_agent::environments::{PackageNetwork, PackageSettings};
use muster_agent::link::{Client, Dial, Source};
use muster_agent::settings::{Machine, Network, Pull, Settings};
use muster_agent::shares::Shares;
use muster_agent::status::Board;
use muster_agent::tasks::Tasks;
use muster_wire::message::Mode;
use tokio::sync::watch;

pub const IMAGE: &str = "muster/python:3.11";
pub const GIB: u64 = 1 << 30;
pub const MIB: u64 = 1 << 20;
/// For what takes milliseconds on a free machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A host with its own name, state directory and containers.
pub struct Host {
    pub settings: Settings,
    pub board: Board,
    pub containers: Containers,
    _state: tempfile::TempDir,
}

pub fn settings(state: &Path) -> Settings {
    let machine = Machine::this().expect("Linux");
    Settings {
        source: Source { folder: Some(state.join("identity")), ..Source::default() },
        runner_dir: runner_dir(),
        state_dir: state.join("s"),
        cache_dir: state.join("cache"),
        cache_bytes: GIB,
        host_name: format!("test-{:08x}", rand::random::<u32>()),
        cpus: machine.cpus,
        ram_bytes: 8 * GIB,
        warm: 0,
        warm_age: Duration::from_secs(600),
        docker_host: None,
        pull: Pull::Never,
        network: Network::Internet,
        runtime: None,
        allow_runtime: Vec::new(),
        scratch_bytes: 64 * MIB,
        grace: Duration::ZERO,
        shares: Vec::new(),
        packages: PackageSettings {
            uv: None,
            index: Some("none".into()),
            folder: None,
            certificates: None,
            network: PackageNetwork::None,
            cache_dir: state.join("c"),
            cache_bytes: GIB,
        },
    }
}

/// As `make build` leaves it.
fn runner_dir() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/runner");
    built.canonicalize().expect("build/runner is made by `make build`")
}

/// For functions pickled by our image's Python.
pub fn python_of(image: &str) -> Wanted<'_> {
    Wanted { image, mode: Mode::Python, python: Some("3.11"), runtime: None, shares: &[] }
}

/// For commands.
pub fn command_of(image: &str) -> Wanted<'_> {
    Wanted { mode: Mode::Command, ..python_of(image) }
}

impl Host {
    pub async fn open(change: impl FnOnce(&mut Settings)) -> Host {
        let state = tempfile::tempdir().expect("a directory");
        let mut settings = settings(state.path());
        change(&mut settings);
        let board = Board::new(&settings);
        let dial = Dial::new(&settings.host_name, settings.source.clone());
        let client = Client::new(Arc::new(dial), Tasks::new());
        let data = Data::new(client, &settings.cache_dir, settings.cache_bytes, Tasks::new());
        let shares = Shares::new(settings.shares.clone(), board.clone());
        let containers = Containers::open(&settings, &board, &Tasks::new(), data, &shares)
            .await
            .expect("Docker runs here, and the images are made by `make images`");
        Host { settings, board, containers, _state: state }
    }

    pub async fn claim(&self, cpu: f64, ram_bytes: u64) -> Result<Worker, ClaimError> {
        self.claim_of(python_of(IMAGE), cpu, ram_bytes).await
    }

    pub async fn claim_of(
        &self,
        wanted: Wanted<'_>,
        cpu: f64,
        ram_bytes: u64,
    ) -> Result<Worker, ClaimError> {
        let waiting = watch::Sender::new(None);
        let limits = Limits { cpu, ram_bytes };
        let claim = self.containers.claim("call", wanted, limits, waiting);
        tokio::time::timeout(SOON, claim).await.expect("a worker within a minute")
    }

    /// Stops everything, and holds that nothing is left.
    pub async fn close(self) {
        self.containers.close().await;
        assert_eq!(self.containers_left(), "");
        let left = std::fs::read_dir(&self.settings.state_dir).expect("ours").count();
        assert_eq!(left, 0, "files are left in the state directory");
        let cgroups = format!("muster/{}", self.settings.host_name);
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpuset"] {
            assert!(!Path::new(root).join(&cgroups).exists(), "a cgroup is left in {root}");
        }
        let mut status = self.board.watch();
        let free = status.wait_for(|status| status.free_cores == status.cores && status.warm == 0);
        let free = tokio::time::timeout(SOON, free).await;
        free.expect("all room comes back").expect("the board lives");
    }

    pub fn containers_left(&self) -> String {
        let label = format!("label=muster.agent={}", self.settings.host_name);
        text(docker(&["ps", "-aq", "--no-trunc", "--filter", &label]))
    }
}

/// A test that failed leaves nothing either.
impl Drop for Host {
    fn drop(&mut self) {
        for container in self.containers_left().lines() {
            docker(&["rm", "-f", container]);
        }
        // Fails where nothing is left.
        let _ = Command::new("umount")
            .args(["-l", "-q"])
            .arg(self.settings.state_dir.join("mnt"))
            .output();
    }
}

/// Runs Python inside a worker, as the worker's user, under its profile; what it printed.
pub async fn python(worker: &Worker, source: &str) -> String {
    let (name, source) = (worker.container.name().to_string(), source.to_string());
    let run = move || docker(&["exec", &name, "python3", "-c", &source]);
    let output = tokio::task::spawn_blocking(run).await.expect("no panic");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text(output)
}

pub fn docker(args: &[&str]) -> Output {
    Command::new("docker").args(args).output().expect("the docker client is there")
}

pub fn text(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}
