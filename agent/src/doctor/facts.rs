//! The edge: what this host is, asked of the engine, the kernel and the firewall.

use std::collections::BTreeSet;
use std::path::Path;

use super::DoctorFlags;
use super::shares::{SharedFolder, look};
use crate::container::rules_on_this_host;
use crate::engine::{Engine, EngineError};
use crate::settings::Network;

/// What the rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Version of the engine.
    pub engine: String,
    /// Version of runc, where the engine says.
    pub runc: Option<String>,
    /// Version of containerd, where the engine says.
    pub containerd: Option<String>,
    /// Whether containers outlive the engine.
    pub live_restore: bool,
    /// Whether it filters system calls.
    pub seccomp: bool,
    /// Whether AppArmor or SELinux holds containers.
    pub apparmor: bool,
    /// Whether swap is accounted.
    pub swap_limit: bool,
    /// Whether there is swap.
    pub swap: bool,
    /// The kernel's cgroup controllers.
    pub controllers: BTreeSet<String>,
    /// What containers are to reach.
    pub network: Network,
    /// The rules that hold them to it.
    pub firewall: Firewall,
    /// Whether something keeps the clock.
    pub clock: bool,
    /// Whether the engine is reached in the clear over a network.
    pub engine_tcp: bool,
    /// Whether a runtime with a kernel of its own is there.
    pub sandbox: bool,
    /// The shares that the settings name.
    pub shares: Vec<SharedFolder>,
}

/// The firewall, as far as it concerns containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firewall {
    /// Every rule is there.
    There,
    /// The network is there and rules are not.
    Missing,
    /// Neither is there.
    NotYet,
    /// The tool cannot be used, for this reason.
    NoTool(String),
}

impl Facts {
    /// Asks this host.
    pub async fn gather(flags: &DoctorFlags) -> Result<Facts, EngineError> {
        let engine = Engine::connect(flags.docker_host.as_deref()).await?;
        let about = engine.about().await?;
        let secured = |name: &str| about.security.iter().any(|option| option.contains(name));
        let docker_host = flags.docker_host.clone().or_else(|| std::env::var("DOCKER_HOST").ok());
        Ok(Facts {
            seccomp: secured("seccomp"),
            apparmor: secured("apparmor") || secured("selinux"),
            engine: about.facts.version,
            runc: about.runc,
            containerd: about.containerd,
            live_restore: about.live_restore,
            swap_limit: about.facts.swap_limit,
            swap: swaps(&text("/proc/swaps")),
            controllers: controllers(
                &text("/sys/fs/cgroup/cgroup.controllers"),
                &text("/proc/cgroups"),
            ),
            network: flags.network,
            firewall: rules_on_this_host(&engine).await,
            clock: keeps_time(),
            engine_tcp: docker_host.as_ref().is_some_and(|host| host.starts_with("tcp:")),
            sandbox: about
                .facts
                .runtimes
                .iter()
                .any(|name| ["runsc", "kata"].iter().any(|known| name.contains(known))),
            shares: look(flags.shares.list.clone(), docker_host).await,
        })
    }
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `/proc/swaps` has a line of titles, and one for each swap.
fn swaps(text: &str) -> bool {
    text.lines().skip(1).any(|line| !line.trim().is_empty())
}

/// Of cgroup v2 the root's list; of v1 the kernel's table, where the last column says whether each is enabled.
fn controllers(v2: &str, v1: &str) -> BTreeSet<String> {
    if !v2.trim().is_empty() {
        return v2.split_whitespace().map(String::from).collect();
    }
    v1.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            matches!(fields.as_slice(), [_, _, _, "1"]).then(|| fields[0].to_string())
        })
        .collect()
}

/// Whether systemd says that the clock is kept, or a time service runs.
fn keeps_time() -> bool {
    const SERVICES: [&str; 5] = ["chronyd", "ntpd", "systemd-timesyn", "openntpd", "ptp4l"];
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return true;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|entry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        SERVICES.contains(&name.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_are_lines_after_the_title() {
        let title = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!swaps(title));
        assert!(!swaps(""));
        assert!(swaps(&format!("{title}/dev/sda2 partition 1000 0 -2\n")));
    }

    #[test]
    fn controllers_of_both_versions_are_read() {
        let v1 = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t5\t1\nmemory\t4\t6\t0\npids\t5\t2\t1\n";
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        assert_eq!(controllers("", v1), set(&["cpu", "pids"]));
        assert_eq!(
            controllers("cpuset cpu io memory pids\n", v1),
            set(&["cpuset", "cpu", "io", "memory", "pids"])
        );
    }
}
