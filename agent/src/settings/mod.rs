//! What an operator may choose: every setting is a flag and an environment variable of one name. [`Flags`] is what was
//! written, [`Settings`] what it means; all mistakes are reported together.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod flags;
mod joining;
mod machine;
mod shares;
mod values;

use crate::environments::PackageSettings;
use crate::link::Source;
use crate::shares::Share;

pub use flags::{Flags, Network, Pull, ShareFlags};
pub use machine::Machine;
pub use shares::from_flags as shares_of;
pub use values::cpu_list;

use joining::joining;
use values::{GIB, fit_name, is_name, parse_cpus, parse_duration, parse_size};

/// The longest state directory; a socket's path below it must fit the kernel's 107 bytes.
const MAX_STATE_DIR: usize = 84;

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
    /// Folders of this host that calls may mount.
    pub shares: Vec<Share>,
    /// What installs packages, and from where.
    pub packages: PackageSettings,
}

/// Every mistake in the settings, together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("these settings are wrong:\n{}", .0.iter().map(|m| format!("  {m}\n")).collect::<String>())]
pub struct SettingsError(pub Vec<String>);

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
        let own = [&state_dir, &cache_dir, &flags.runner_dir];
        let own = own.into_iter().chain(source.folder.as_ref()).map(PathBuf::as_path);
        let engine = flags.docker_host.as_deref();
        let shares = shares::from_flags(&flags.shares.list, own, engine, &mut fail);
        let settings = Settings {
            packages,
            shares,
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
        self.shares.iter().for_each(|share| line("share", share.to_string()));
        self.packages.describe().into_iter().for_each(|(name, value)| line(name, value));
        text
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

/// Settings of a host that exists only in tests of this crate.
#[cfg(test)]
pub(crate) fn for_tests(cores: usize) -> Settings {
    Settings {
        source: Source {
            join: crate::link::identity::JoinString::parse(
                "http://127.0.0.1:1#muster_id_secret-token",
            )
            .map(crate::link::JoinBy::String),
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
        shares: Vec::new(),
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
mod tests;
