//! What every container of ours looks like: a pure function from a few values of ours to the engine's description. The
//! whole hardening list is here and nowhere else.
//!
//! Of what a user supplies, two things get this far: the image, only into `Image`, and the places where shares are to be seen,
//! checked, only into `Mounts`, each with a folder and a mode that the operator chose (and a runtime is one of the operator's
//! list). The function, its environment, its
//! arguments and the call's id travel through the socket, when the container has long been running. Property tests hold
//! that.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::engine::{
    ContainerCreateBody, EngineFacts, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum as Propagation, MountType,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use crate::environments::PackageNetwork;
use crate::settings::{Network, Settings, cpu_list};
use crate::shares::ShareMount;

use super::{seccomp, slice};

/// Label with the agent's host name; the reaper looks for it.
pub const AGENT_LABEL: &str = "muster.agent";
/// Label with the worker's name.
pub const WORKER_LABEL: &str = "muster.worker";
/// The network of containers that may reach the internet.
pub const NETWORK: &str = "muster";

const RUNNER_AT: &str = "/.muster/runner";
const SOCKET_AT: &str = "/.muster/socket";
/// Where a container sees what is mounted for it when it is claimed.
pub const MOUNTS_AT: &str = "/.muster/mnt";
/// Where one that installs packages writes them.
pub const BUILD_AT: &str = "/.muster/build";
/// A warm worker may do little: it only imports the runner and waits. A claim writes the call's own limits.
const WARM_RAM: i64 = 512 << 20;
const WARM_NANO_CPUS: i64 = 1_000_000_000;
const PIDS: i64 = 1024;
/// `/dev/shm`, where `multiprocessing` keeps its locks; counted as the container's memory, like `/tmp`.
const SHM_BYTES: u64 = 256 << 20;
/// The first to die when the host itself runs out of memory.
const OOM_SCORE: i64 = 500;

const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kallsyms",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/security",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What is the same for all containers of this agent.
#[derive(Debug, Clone)]
pub struct Profile {
    host_name: String,
    runner_dir: PathBuf,
    cores: String,
    scratch_bytes: u64,
    network: Network,
    cgroup_parent: String,
    seccomp: Option<String>,
    open_files: u64,
    runtime: Option<String>,
}

/// What is different for each.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The container's name.
    pub name: &'a str,
    /// What it calls itself.
    pub host_name: &'a str,
    /// Content id of the image, or its name.
    pub image: &'a str,
    /// One of those that the operator allows, where not the default.
    pub runtime: Option<&'a str>,
    /// The user it runs as; never root.
    pub uid: u32,
    /// The folder of its socket on the host.
    pub socket_dir: &'a Path,
    /// The folder of its later mounts on the host.
    pub mounts_dir: &'a Path,
    /// Where it works for the agent itself.
    pub builder: Option<Builder<'a>>,
    /// The shares of its call.
    pub shares: &'a [ShareMount],
    /// What it gets where the agent plugs it into its network, so that it finds itself by its name.
    pub address: Option<Ipv4Addr>,
}

/// What a container that installs packages has beside those of calls.
#[derive(Debug, Clone, Copy)]
pub struct Builder<'a> {
    /// A folder that it can write, at [`BUILD_AT`].
    pub folder: &'a Path,
    /// What it may reach.
    pub network: PackageNetwork,
}

impl Profile {
    /// For these settings, on this engine, which can give containers this many open files.
    pub fn new(settings: &Settings, facts: &EngineFacts, open_files: u64) -> Profile {
        Profile {
            host_name: settings.host_name.clone(),
            runner_dir: settings.runner_dir.clone(),
            cores: cpu_list(&settings.cpus),
            scratch_bytes: settings.scratch_bytes,
            network: settings.network,
            cgroup_parent: match facts.systemd_cgroups {
                true => slice::name(&settings.host_name),
                false => format!("/muster/{}", settings.host_name),
            },
            seccomp: (!facts.seccomp_is_strict()).then(seccomp::profile),
            open_files,
            runtime: settings.runtime.clone(),
        }
    }

    /// The cgroup all containers of this agent are in, if systemd does not make it.
    pub fn own_cgroup(&self) -> Option<&str> {
        self.cgroup_parent.strip_prefix('/')
    }

    /// The slice all containers of this agent are in, where systemd makes the cgroups.
    pub fn own_slice(&self) -> Option<&str> {
        (!self.cgroup_parent.starts_with('/')).then_some(self.cgroup_parent.as_str())
    }

    /// The description of one container.
    pub fn container(&self, plan: &Plan<'_>) -> ContainerCreateBody {
        assert_ne!(plan.uid, 0, "uids come from a pool that starts far above root");
        ContainerCreateBody {
            image: Some(plan.image.to_string()),
            entrypoint: Some(vec![format!("{RUNNER_AT}/bin/muster-runner"), "init".into()]),
            cmd: Some(Vec::new()),
            hostname: plan.address.map(|_| plan.host_name.into()),
            user: Some(format!("{0}:{0}", plan.uid)),
            working_dir: Some("/tmp".into()),
            env: Some(vec!["HOME=/tmp".into(), "USER=muster".into(), "LANG=C.UTF-8".into()]),
            labels: Some(HashMap::from([
                (AGENT_LABEL.into(), self.host_name.clone()),
                (WORKER_LABEL.into(), plan.name.to_string()),
            ])),
            // An image's own health check would run programs beside the user's.
            healthcheck: Some(crate::engine::no_health_check()),
            host_config: Some(self.host_config(plan)),
            ..Default::default()
        }
    }

    /// Whether a container is on the bridge.
    pub fn is_on_bridge(&self, builder: Option<Builder<'_>>) -> bool {
        self.network(builder) == PackageNetwork::Internet
    }

    fn network(&self, builder: Option<Builder<'_>>) -> PackageNetwork {
        match (builder, self.network) {
            (Some(builder), _) => builder.network,
            (None, Network::Internet) => PackageNetwork::Internet,
            (None, Network::None) => PackageNetwork::None,
        }
    }

    fn host_config(&self, plan: &Plan<'_>) -> HostConfig {
        let mut security = vec!["no-new-privileges".to_string()];
        security.extend(self.seccomp.iter().map(|profile| format!("seccomp={profile}")));
        let scratch = format!("rw,exec,nosuid,nodev,size={},mode=1777", self.scratch_bytes);
        let mut mounts = vec![
            mounted(&self.runner_dir, RUNNER_AT, Propagation::RPRIVATE),
            mounted(plan.socket_dir, SOCKET_AT, Propagation::RPRIVATE),
            // Of the host's mounts it receives those below this folder, and sends none.
            mounted(plan.mounts_dir, MOUNTS_AT, Propagation::RSLAVE),
        ];
        if let Some(builder) = plan.builder {
            let folder = mounted(builder.folder, BUILD_AT, Propagation::RPRIVATE);
            mounts.push(Mount { read_only: Some(false), ..folder });
        }
        mounts.extend(plan.shares.iter().map(shared));
        let network = match self.network(plan.builder) {
            // The agent plugs it in when it runs.
            PackageNetwork::Internet if plan.address.is_some() => "none",
            PackageNetwork::Internet => NETWORK,
            PackageNetwork::Host => "host",
            PackageNetwork::None => "none",
        };
        let owned = |paths: &[&str]| Some(paths.iter().map(|path| path.to_string()).collect());
        HostConfig {
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(security),
            readonly_rootfs: Some(true),
            privileged: Some(false),
            tmpfs: Some(HashMap::from([("/tmp".to_string(), scratch)])),
            mounts: Some(mounts),
            network_mode: Some(network.into()),
            extra_hosts: plan.address.map(|ip| vec![format!("{}:{ip}", plan.host_name)]),
            ipc_mode: Some("private".into()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            cgroup_parent: Some(self.cgroup_parent.clone()),
            memory: Some(WARM_RAM),
            memory_swap: Some(WARM_RAM),
            nano_cpus: Some(WARM_NANO_CPUS),
            cpuset_cpus: Some(self.cores.clone()),
            pids_limit: Some(PIDS),
            ulimits: Some(vec![
                ulimit("nofile", self.open_files as i64),
                ulimit("core", 0),
                // No nproc: the kernel counts it per user of the host, not per container.
            ]),
            shm_size: Some(self.scratch_bytes.min(SHM_BYTES) as i64),
            oom_score_adj: Some(OOM_SCORE),
            // Prints travel through our own pipes; the engine's log would drop lines on a full disk without a word.
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            runtime: plan.runtime.map(Into::into).or_else(|| self.runtime.clone()),
            masked_paths: owned(&MASKED),
            readonly_paths: owned(&READ_ONLY),
            ..Default::default()
        }
    }
}

/// Read-only does not keep a process from connecting to a socket in the folder.
fn mounted(source: &Path, target: &str, propagation: Propagation) -> Mount {
    Mount {
        source: Some(source.display().to_string()),
        target: Some(target.to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        bind_options: Some(MountBindOptions {
            propagation: Some(propagation),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Alone: what is mounted below it stays out, because the engine would leave that writable in a read-only share.
fn shared(share: &ShareMount) -> Mount {
    let mount = mounted(&share.source, &share.target, Propagation::PRIVATE);
    Mount {
        read_only: Some(!share.writable),
        bind_options: Some(MountBindOptions {
            non_recursive: Some(true),
            ..mount.bind_options.unwrap_or_default()
        }),
        ..mount
    }
}

fn ulimit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.into()), soft: Some(value), hard: Some(value) }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
