//! The flags as written.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::environments::PackageFlags;

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

/// The flag that names shares, as written.
#[derive(Debug, Clone, Args)]
pub struct ShareFlags {
    /// A folder of this host that calls may mount, NAME=/PATH:ro or NAME=/PATH:rw, read-only if neither is said; give it again for another (in the variable: with commas between)
    #[arg(
        id = "share",
        long = "share",
        env = "MUSTER_AGENT_SHARE",
        value_name = "NAME=/PATH[:ro|:rw]",
        value_delimiter = ','
    )]
    pub list: Vec<String>,
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
    /// Folders of this host that calls may mount.
    #[command(flatten)]
    pub shares: ShareFlags,
    /// What installs packages, and from where.
    #[command(flatten)]
    pub packages: PackageFlags,
    /// Print what the settings mean, without secrets, and exit
    #[arg(long)]
    pub print_config: bool,
}
