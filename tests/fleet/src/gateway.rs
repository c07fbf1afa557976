//! The real gateway as a process of its own, and what the kernel says it used.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use muster_agent::link::identity::JoinString;
use serde::Deserialize;

/// A running gateway; it is ended when dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    child: Child,
    /// How clients find it.
    pub service: Access,
    /// How hosts join it.
    pub join: JoinString,
    _folder: tempfile::TempDir,
}

/// Where a gateway is, and a token for it.
#[derive(Debug, Clone, Deserialize)]
pub struct Access {
    /// `http://host:port`.
    pub url: String,
    /// A token.
    pub token: String,
}

/// What a process used so far.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// CPU seconds of all its threads.
    pub cpu_s: f64,
    /// Memory it holds now, in bytes.
    pub memory: u64,
    /// The most memory it held, in bytes.
    pub peak: u64,
}

impl GatewayProcess {
    /// Starts the binary with a state folder of its own, and waits until it listens.
    pub fn start(binary: &Path) -> anyhow::Result<GatewayProcess> {
        let folder = tempfile::tempdir()?;
        let mut child = Command::new(binary)
            .args(["--listen", "127.0.0.1:0", "--max-calls", "20000", "--state-dir"])
            .arg(folder.path())
            .arg("--secrets-key")
            .arg(folder.path().join("secrets.key"))
            .stdout(Stdio::piped())
            .env("MUSTER_GATEWAY_LOG", "error")
            .spawn()
            .with_context(|| format!("{} does not start", binary.display()))?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if !line.contains("listening") {
            drop(child.kill());
            bail!("the gateway did not start: {line}");
        }
        let service = serde_json::from_slice(&std::fs::read(folder.path().join("service.json"))?)?;
        let made = Command::new(binary)
            .args(["join-string", "create", "--uses", "100000", "--state-dir"])
            .arg(folder.path())
            .output()?;
        let join = JoinString::parse(&String::from_utf8_lossy(&made.stdout));
        let join = join.context("the gateway makes no join string")?;
        Ok(GatewayProcess { child, service, join, _folder: folder })
    }

    /// What it used so far.
    pub fn used(&self) -> anyhow::Result<Used> {
        used(&self.child.id().to_string())
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // It may be gone already; nothing it had is kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process used so far.
pub fn used_here() -> anyhow::Result<Used> {
    used("self")
}

fn used(pid: &str) -> anyhow::Result<Used> {
    /// Ticks a second: USER_HZ, the same on every Linux we run on.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit(')').next().context("no name in stat")?;
    let field = |at: usize| -> anyhow::Result<f64> {
        Ok(after.split_whitespace().nth(at).context("a short stat")?.parse()?)
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| -> anyhow::Result<u64> {
        let line = status.lines().find(|line| line.starts_with(name)).context("a short status")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
    };
    Ok(Used {
        cpu_s: (field(11)? + field(12)?) / TICKS,
        memory: kib("VmRSS:")? << 10,
        peak: kib("VmHWM:")? << 10,
    })
}
