//! What an operator may choose: every setting is a flag and an environment variable of one name. [`Flags`] is what was
//! written, [`Settings`] what it means; all mistakes are reported together.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::link::identity::{self, JoinString};
use crate::link::{JoinBy, Source};

use crate::environments::{PackageFlags, PackageSettings};

/// The longest state directory; a socket's path below it must fit the kernel's 107 bytes.
const MAX_STATE_DIR: usize = 84;
const GIB: u64 = 1 << 30;

/// What to do about an image that is not on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// Pull it.
    Missing,
    /// Refuse the call.
    Never,
}

/// What containers may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Nothing.
    None,
    /// The internet, but not this host, other containers, private ranges or metadata addresses.
    Internet,
}

/// The flags as written.
#[derive(Debug, Parser)]
#[command(name = "muster-agent", version, about = "Runs Muster's calls in containers on this host")]
pub struct Flags {
    /// File with a join string (`muster-gateway join-string create`), needed until this host has joined
    #[arg(long, env = "MUSTER_AGENT_JOIN_FILE")]
    pub join_file: Option<PathBuf>,
    /// A join string itself
    #[arg(long, env = "MUSTER_AGENT_JOIN", hide_env_values = true, conflicts_with = "join_file")]
    pub join: Option<String>,
    /// Directory for this host's credential once it has joined; it outlives restarts [default: /var/lib/muster-agent/HOST-NAME]
    #[arg(long, env = "MUSTER_AGENT_IDENTITY_DIR")]
    pub identity_dir: Option<PathBuf>,
    /// Address of the gateway, https://HOST:PORT or http://HOST:PORT, if elsewhere than the join string says
    #[arg(long, env = "MUSTER_AGENT_GATEWAY")]
    pub gateway: Option<String>,
    /// Directory with bin/muster-runner and python/, mounted read-only into every container
    #[arg(long, env = "MUSTER_AGENT_RUNNER_DIR")]
    pub runner_dir: PathBuf,
    /// Directory for sockets and locks, at most 84 bytes long [default: /run/muster-agent/HOST-NAME]
    #[arg(long, env = "MUSTER_AGENT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory for what is fetched once for many calls; kept when the agent stops [default: /var/cache/muster-agent/HOST-NAME]
    #[arg(long, env = "MUSTER_AGENT_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,
    /// How many bytes of shared data are kept, like 50GiB; the longest unused go first
    #[arg(long, env = "MUSTER_AGENT_CACHE_LIMIT", default_value = "50GiB")]
    pub cache_limit: String,
    /// Name of this host, 1 to 63 of [a-z0-9-] [default: the machine's name, made to fit]
    #[arg(long, env = "MUSTER_AGENT_HOST_NAME")]
    pub host_name: Option<String>,
    /// Cores given to workers, like 0-3,6 [default: all]
    #[arg(long, env = "MUSTER_AGENT_CPUS")]
    pub cpus: Option<String>,
    /// Memory given to workers, like 20GiB [default: 90 % of the machine's]
    #[arg(long, env = "MUSTER_AGENT_RAM")]
    pub ram: Option<String>,
    /// Warm workers kept per image and mode, so that a call starts in milliseconds [default: cores, at least 2]
    #[arg(long, env = "MUSTER_AGENT_WARM")]
    pub warm: Option<usize>,
    /// How long warm workers of an image that is not used are kept, like 10m
    #[arg(long, env = "MUSTER_AGENT_WARM_AGE", default_value = "10m")]
    pub warm_age: String,
    /// Address of the Docker engine, unix:///PATH or tcp://HOST:PORT [default: DOCKER_HOST or the local socket]
    #[arg(long, env = "MUSTER_AGENT_DOCKER_HOST")]
    pub docker_host: Option<String>,
    /// Whether to pull images that are not there
    #[arg(long, env = "MUSTER_AGENT_PULL", default_value = "missing", value_enum)]
    pub pull: Pull,
    /// What containers may reach
    #[arg(long, env = "MUSTER_AGENT_NETWORK", default_value = "internet", value_enum)]
    pub network: Network,
    /// How the engine starts containers, like runsc for gVisor; it must know it [default: the engine's own, runc]
    #[arg(long, env = "MUSTER_AGENT_RUNTIME")]
    pub runtime: Option<String>,
    /// Other runtimes of the engine that calls may ask for, like runsc; several separated by commas
    #[arg(long, env = "MUSTER_AGENT_ALLOW_RUNTIME", value_delimiter = ',')]
    pub allow_runtime: Vec<String>,
    /// Size of /tmp in a container; what is written there counts as its memory
    #[arg(long, env = "MUSTER_AGENT_SCRATCH", default_value = "1GiB")]
    pub scratch: String,
    /// How long running calls may go on once a stop was asked for, like 5s
    #[arg(long, env = "MUSTER_AGENT_GRACE", default_value = "5s")]
    pub grace: String,
    /// What installs packages, and from where.
    #[command(flatten)]
    pub packages: PackageFlags,
    /// Print what the settings mean, without secrets, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// What the flags mean.
#[derive(Clone)]
pub struct Settings {
    /// How this host gets its credential, and where it keeps it.
    pub source: Source,
    /// Mounted into every container.
    pub runner_dir: PathBuf,
    /// Sockets and locks.
    pub state_dir: PathBuf,
    /// What is fetched once for many calls.
    pub cache_dir: PathBuf,
    /// Bytes of shared data that are kept.
    pub cache_bytes: u64,
    /// This host.
    pub host_name: String,
    /// Cores given to workers, ascending.
    pub cpus: Vec<usize>,
    /// Memory given to workers, in bytes.
    pub ram_bytes: u64,
    /// Warm workers per image and mode.
    pub warm: usize,
    /// How long warm workers of an unused image are kept.
    pub warm_age: Duration,
    /// Where the engine is, if not at its usual place.
    pub docker_host: Option<String>,
    /// Whether to pull.
    pub pull: Pull,
    /// What containers may reach.
    pub network: Network,
    /// How the engine starts containers, if not as it does by itself.
    pub runtime: Option<String>,
    /// Other runtimes that calls may ask for.
    pub allow_runtime: Vec<String>,
    /// Size of `/tmp` in a container, in bytes.
    pub scratch_bytes: u64,
    /// How long running calls may go on once a stop was asked for.
    pub grace: Duration,
    /// What installs packages, and from where.
    pub packages: PackageSettings,
}

/// Every mistake in the settings, together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("these settings are wrong:\n{}", .0.iter().map(|m| format!("  {m}\n")).collect::<String>())]
pub struct SettingsError(pub Vec<String>);

/// What the machine offers; asked once, so that the rest is pure.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// Cores this process may use, ascending.
    pub cpus: Vec<usize>,
    /// Its memory, in bytes.
    pub ram_bytes: u64,
}

/// The engine takes absolute paths only. Links stay as they are: what they point at may be replaced while the agent runs.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Settings {
    /// Checks everything and reports every mistake.
    pub fn from_flags(flags: &Flags, machine: &Machine) -> Result<Settings, SettingsError> {
        let mut wrong = Vec::new();
        let mut fail = |flag: &str, why: String| wrong.push(format!("{flag}: {why}"));

        if !flags.runner_dir.join("bin/muster-runner").is_file() {
            let at = flags.runner_dir.display();
            fail(
                "--runner-dir",
                format!("{at}/bin/muster-runner is not there; `make build` makes it"),
            );
        }
        let host_name = flags.host_name.clone().unwrap_or_else(|| fit_name(&machine.name));
        if !is_name(&host_name) {
            fail("--host-name", format!("{host_name:?} is not 1 to 63 of [a-z0-9-]"));
        }
        let source = joining(flags, &host_name, &mut fail);
        let state_dir = flags
            .state_dir
            .clone()
            .unwrap_or_else(|| Path::new("/run/muster-agent").join(&host_name));
        if !state_dir.is_absolute() || state_dir.as_os_str().len() > MAX_STATE_DIR {
            fail("--state-dir", format!("must be absolute and at most {MAX_STATE_DIR} bytes long"));
        }
        let cpus = match flags.cpus.as_deref().map(parse_cpus) {
            None => machine.cpus.clone(),
            Some(Some(cpus)) => {
                if let Some(core) = cpus.iter().find(|core| !machine.cpus.contains(core)) {
                    fail(
                        "--cpus",
                        format!("core {core} is not there; there are {:?}", machine.cpus),
                    );
                }
                cpus
            }
            Some(None) => {
                fail("--cpus", "is not a list of cores like 0-3,6".into());
                Vec::new()
            }
        };
        let mut size = |flag: &str, text: &str| {
            parse_size(text).unwrap_or_else(|| {
                fail(flag, format!("{text:?} is not a size with a unit, like 512MiB or 20GiB"));
                0
            })
        };
        let ram_bytes = match &flags.ram {
            Some(text) => size("--ram", text),
            None => machine.ram_bytes / 10 * 9,
        };
        let scratch_bytes = size("--scratch", &flags.scratch);
        let cache_bytes = size("--cache-limit", &flags.cache_limit);
        let cache_dir = flags
            .cache_dir
            .clone()
            .unwrap_or_else(|| Path::new("/var/cache/muster-agent").join(&host_name));
        let package_bytes = size("--package-cache", &flags.packages.package_cache);
        if flags.ram.is_some() && ram_bytes > machine.ram_bytes {
            let has = machine.ram_bytes / GIB;
            fail("--ram", format!("is more than the machine's {has} GiB"));
        }
        let mut duration = |flag: &str, text: &str| {
            parse_duration(text).unwrap_or_else(|| {
                fail(
                    flag,
                    format!("{text:?} is not a duration with a unit, like 500ms, 30s or 10m"),
                );
                Duration::ZERO
            })
        };
        let warm_age = duration("--warm-age", &flags.warm_age);
        let grace = duration("--grace", &flags.grace);
        let warm = flags.warm.unwrap_or_else(|| cpus.len().max(2));
        if warm > 1000 {
            fail("--warm", format!("{warm} is more than 1000"));
        }
        let path = std::env::var("PATH").ok();
        let (package_flags, path) = (&flags.packages, path.as_deref());
        let packages = PackageSettings::from_flags(
            package_flags,
            cache_dir.join("packages"),
            package_bytes,
            path,
            &mut fail,
        );
        let settings = Settings {
            packages,
            source,
            runner_dir: absolute(&flags.runner_dir),
            state_dir: absolute(&state_dir),
            cache_dir: absolute(&cache_dir),
            cache_bytes,
            host_name,
            cpus,
            ram_bytes,
            warm,
            warm_age,
            docker_host: flags.docker_host.clone(),
            pull: flags.pull,
            network: flags.network,
            runtime: flags.runtime.clone(),
            allow_runtime: flags.allow_runtime.clone(),
            scratch_bytes,
            grace,
        };
        if wrong.is_empty() { Ok(settings) } else { Err(SettingsError(wrong)) }
    }

    /// The settings for people, without secrets.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} = {value}");
        };
        let gateway = self.source.gateway.clone();
        line("gateway", gateway.unwrap_or_else(|| "(as joined)".into()));
        let folder = self.source.folder.clone().unwrap_or_default();
        line("identity-dir", folder.display().to_string());
        line("runner-dir", self.runner_dir.display().to_string());
        line("state-dir", self.state_dir.display().to_string());
        line("cache-dir", self.cache_dir.display().to_string());
        line("cache-limit", format!("{} bytes", self.cache_bytes));
        line("host-name", self.host_name.clone());
        line("cpus", cpu_list(&self.cpus));
        line("ram", format!("{} bytes", self.ram_bytes));
        line("warm", self.warm.to_string());
        line("warm-age", format!("{:?}", self.warm_age));
        line("docker-host", self.docker_host.clone().unwrap_or_else(|| "(default)".into()));
        line("pull", format!("{:?}", self.pull).to_lowercase());
        line("network", format!("{:?}", self.network).to_lowercase());
        line("runtime", self.runtime.clone().unwrap_or_else(|| "(default)".into()));
        line("allow-runtime", self.allow_runtime.join(","));
        line("scratch", format!("{} bytes", self.scratch_bytes));
        line("grace", format!("{:?}", self.grace));
        self.packages.describe().into_iter().for_each(|(name, value)| line(name, value));
        text
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Machine {
    /// Asks this machine.
    pub fn this() -> std::io::Result<Machine> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_string();
        let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
        let cpus = (0..nix::sched::CpuSet::count())
            .filter(|core| set.is_set(*core).unwrap_or(false))
            .collect();
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
            .ok_or_else(|| std::io::Error::other("/proc/meminfo has no MemTotal"))?;
        Ok(Machine { name, cpus, ram_bytes: kib * 1024 })
    }
}

/// Cores as the kernel and Docker write them.
pub fn cpu_list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// How this host joins, and where it keeps its credential.
fn joining(flags: &Flags, host_name: &str, fail: &mut impl FnMut(&str, String)) -> Source {
    let default = || Path::new("/var/lib/muster-agent").join(host_name);
    let folder = absolute(&flags.identity_dir.clone().unwrap_or_else(default));
    let has_joined = folder.join(identity::FILE).exists();
    let join = match (&flags.join, &flags.join_file) {
        (Some(text), _) => {
            let join = JoinString::parse(text);
            if join.is_none() {
                fail("--join", "is not a join string, ADDRESS#TOKEN".into());
            }
            join.map(JoinBy::String)
        }
        (None, Some(path)) => {
            // Whoever has joined needs it no more.
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if !has_joined && JoinString::parse(&text).is_none() {
                let path = path.display();
                fail("--join-file", format!("{path} has no join string, ADDRESS#TOKEN"));
            }
            Some(JoinBy::File(absolute(path)))
        }
        (None, None) => {
            if !has_joined {
                let why = "this host has not joined: give it a join string (`muster-gateway join-string create`)";
                fail("--join-file", why.into());
            }
            None
        }
    };
    let gateway = flags.gateway.as_deref().and_then(identity::address);
    if let (Some(text), None) = (&flags.gateway, &gateway) {
        fail("--gateway", format!("{text:?} is not http://HOST:PORT or https://HOST:PORT"));
    }
    Source { join, gateway, folder: Some(folder) }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(fits)
}

fn fit_name(name: &str) -> String {
    let fitted: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(63)
        .collect();
    let fitted = fitted.trim_matches('-');
    if fitted.is_empty() { "host".into() } else { fitted.into() }
}

/// `0-3,6`; `None` if it is anything else.
fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    let mut cpus = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last > 8191 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

/// `512MiB`, `20GiB`; also decimal `MB`, `GB`, and plain `B`.
fn parse_size(text: &str) -> Option<u64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let unit: u64 = match text[at..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => GIB,
        "TiB" => 1 << 40,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    let number: f64 = text[..at].trim().parse().ok()?;
    let bytes = number * unit as f64;
    (number > 0.0 && (1.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: u64 = text[..at].trim().parse().ok()?;
    match text[at..].trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// Settings of a host that exists only in tests of this crate.
#[cfg(test)]
pub(crate) fn for_tests(cores: usize) -> Settings {
    Settings {
        source: Source {
            join: JoinString::parse("http://127.0.0.1:1#muster_id_secret-token")
                .map(JoinBy::String),
            ..Source::default()
        },
        runner_dir: "/opt/runner".into(),
        state_dir: "/run/x".into(),
        cache_dir: "/run/x/cache".into(),
        cache_bytes: GIB,
        host_name: "node".into(),
        cpus: (0..cores).collect(),
        ram_bytes: 16 * GIB,
        warm: 2,
        warm_age: Duration::from_secs(60),
        docker_host: None,
        pull: Pull::Never,
        network: Network::Internet,
        runtime: None,
        allow_runtime: Vec::new(),
        scratch_bytes: GIB,
        grace: Duration::ZERO,
        packages: crate::environments::PackageSettings {
            uv: None,
            index: None,
            folder: None,
            certificates: None,
            network: crate::environments::PackageNetwork::None,
            cache_dir: "/nowhere".into(),
            cache_bytes: GIB,
        },
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
