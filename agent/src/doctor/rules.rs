//! Pure: from what a host is to what is weak about it, and what to do.

use super::advisories::{ADVISORIES, Component};
use super::facts::{Facts, Firewall};
use super::shares;
use crate::settings::Network;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Note,
    /// One wall less than there could be, or less comfort when parts fail.
    Weak,
    /// A way out of a container is known, or a wall that is promised cannot be had.
    Danger,
}

/// Something about this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Controllers without which a limit is not held.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// Everything weak, the worst first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = holes(facts);
    let mut say = |wrong: bool, level, what: &str, remedy| {
        if wrong {
            found.push(Finding { level, what: what.to_string(), remedy });
        }
    };
    say(
        !facts.seccomp,
        Level::Danger,
        "the engine has no seccomp: containers may make every system call",
        "use a kernel and an engine with seccomp (CONFIG_SECCOMP_FILTER)",
    );
    for controller in CONTROLLERS {
        say(
            !facts.controllers.contains(controller),
            Level::Danger,
            &format!("the cgroup controller `{controller}` is missing: its limit is not held"),
            "enable it on the kernel's command line (cgroup_enable=...), or use cgroup v2",
        );
    }
    match (facts.network, &facts.firewall) {
        (Network::None, _) | (_, Firewall::There) => {}
        (_, Firewall::NoTool(why)) => say(
            true,
            Level::Danger,
            &format!(
                "iptables cannot be used ({why}): containers could not be kept from this host"
            ),
            "install iptables, or give containers no network: --network none",
        ),
        (_, Firewall::NotYet) => say(
            true,
            Level::Note,
            "the containers' network is not there yet",
            "nothing: an agent makes it, with its rules, when it starts",
        ),
        (_, Firewall::Missing) => say(
            true,
            Level::Danger,
            "the containers' network is there and its firewall rules are not",
            "start an agent: it makes them, and starts nothing without them; look for what removes them",
        ),
    }
    say(
        facts.swap,
        Level::Weak,
        "swap is on: what containers hold in memory may be written to the disk",
        "switch it off (swapoff -a, /etc/fstab), or encrypt it; containers themselves get none",
    );
    say(
        !facts.swap_limit,
        Level::Weak,
        "the kernel does not account swap: a container could swap past its memory limit",
        "boot with swapaccount=1, or switch swap off",
    );
    say(
        !facts.live_restore,
        Level::Weak,
        "live-restore is off: a restart of the engine ends every container",
        "put \"live-restore\": true into /etc/docker/daemon.json and restart the engine",
    );
    say(
        !facts.apparmor,
        Level::Weak,
        "no AppArmor (or SELinux) holds containers: one wall less behind seccomp and capabilities",
        "use a kernel with AppArmor, and install apparmor",
    );
    say(
        !facts.clock,
        Level::Weak,
        "no time service is seen: certificates and expiries go by this host's clock",
        "install and start chrony or systemd-timesyncd",
    );
    say(
        facts.engine_tcp,
        Level::Danger,
        "the engine is reached over TCP without TLS: whoever can reach it is root here",
        "let the engine listen on its unix socket alone",
    );
    say(
        !facts.sandbox,
        Level::Note,
        "containers share this host's kernel: hostile code is held by what that kernel gets right",
        "for tenants who do not trust one another, install gVisor (runsc) or Kata and start the agent with --runtime, or with --allow-runtime for calls that ask for it",
    );
    found.extend(facts.shares.iter().map(shares::finding));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

fn holes(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for advisory in ADVISORIES {
        let (name, version) = match advisory.component {
            Component::Runc => ("runc", facts.runc.as_deref()),
            Component::Containerd => ("containerd", facts.containerd.as_deref()),
            Component::Engine => ("the engine", Some(facts.engine.as_str())),
        };
        let Some(version) = version else { continue };
        if advisory.affects(version) == Some(true) {
            found.push(Finding {
                level: Level::Danger,
                what: format!(
                    "{name} {version} has a known hole ({}): a container could {}",
                    advisory.cve, advisory.lets
                ),
                remedy: "update it; a distribution may have mended it under the old number: look up the CVE there",
            });
        }
    }
    if facts.runc.is_none() {
        found.push(Finding {
            level: Level::Weak,
            what: "the engine does not say which runc it has".into(),
            remedy: "compare `runc --version` with the CVEs that it names",
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Facts {
        Facts {
            engine: "28.5.2".into(),
            runc: Some("1.3.3".into()),
            containerd: Some("2.1.5".into()),
            live_restore: true,
            seccomp: true,
            apparmor: true,
            swap_limit: true,
            swap: false,
            controllers: CONTROLLERS.map(String::from).into(),
            network: Network::Internet,
            firewall: Firewall::There,
            clock: true,
            engine_tcp: false,
            sandbox: true,
            shares: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_weak_about_a_sound_host() {
        assert_eq!(findings(&sound()), []);
    }

    #[test]
    fn each_fact_has_its_finding() {
        type Case = (&'static str, Level, fn(&mut Facts));
        let cases: [Case; 14] = [
            ("CVE-2024-21626", Level::Danger, |f| f.runc = Some("1.1.11".into())),
            ("CVE-2024-40635", Level::Danger, |f| f.containerd = Some("1.7.20".into())),
            ("CVE-2024-41110", Level::Danger, |f| f.engine = "24.0.7".into()),
            ("which runc", Level::Weak, |f| f.runc = None),
            ("seccomp", Level::Danger, |f| f.seccomp = false),
            ("`pids`", Level::Danger, |f| f.controllers.retain(|name| name != "pids")),
            ("iptables", Level::Danger, |f| f.firewall = Firewall::NoTool("gone".into())),
            ("rules are not", Level::Danger, |f| f.firewall = Firewall::Missing),
            ("swap is on", Level::Weak, |f| f.swap = true),
            ("swap past", Level::Weak, |f| f.swap_limit = false),
            ("live-restore", Level::Weak, |f| f.live_restore = false),
            ("AppArmor", Level::Weak, |f| f.apparmor = false),
            ("time service", Level::Weak, |f| f.clock = false),
            ("over TCP", Level::Danger, |f| f.engine_tcp = true),
        ];
        for (what, level, spoil) in cases {
            let mut facts = sound();
            spoil(&mut facts);
            let found = findings(&facts);
            let said = found.iter().find(|finding| finding.what.contains(what));
            assert_eq!(said.map(|finding| finding.level), Some(level), "{what}: {found:?}");
            assert!(found.iter().all(|finding| !finding.remedy.is_empty()));
        }
    }

    #[test]
    fn a_host_without_container_networks_needs_no_firewall() {
        let mut facts = sound();
        (facts.network, facts.firewall) = (Network::None, Firewall::NoTool("gone".into()));
        assert_eq!(findings(&facts), []);
    }

    #[test]
    fn the_worst_comes_first() {
        let mut facts = sound();
        (facts.swap, facts.seccomp, facts.sandbox) = (true, false, false);
        let levels: Vec<_> = findings(&facts).iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Danger, Level::Weak, Level::Note]);
    }
}
