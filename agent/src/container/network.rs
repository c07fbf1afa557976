//! What containers may reach: the internet, and nothing near them. A bridge of our own keeps containers apart, and two chains
//! of rules keep them from this host, from private and link-local ranges (cloud metadata), and from every other network of
//! this machine. Name servers of the host stay reachable on port 53.
//!
//! The rules are the same for every agent of a machine, and are written as a whole in one transaction, so writing them again
//! is harmless; they are, on a timer, because firewall tools and restarts of the engine forget them. Where that fails, the [`Wall`] is down:
//! nothing starts and nothing is claimed until it stands again. What is refused is refused loudly: a dropped packet would let a user's connect hang for minutes.
//!
//! IPv6: the bridge has none, and the engine switches it off inside the containers.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::doctor::Firewall;
use crate::engine::{Engine, EngineError, EngineNetwork};

use super::profile::NETWORK;

const BRIDGE: &str = "muster0";
const FORWARD: &str = "MUSTER-FORWARD";
const INPUT: &str = "MUSTER-INPUT";
const DEADLINE: Duration = Duration::from_secs(30);
/// How often the rules are made again, in case something took them away.
pub const EVERY: Duration = Duration::from_secs(10);

/// Every IPv4 range that is not the public internet (RFC 6890 and multicast).
const NOT_INTERNET: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// The network could not be made safe.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The engine would not make it.
    #[error("the network {NETWORK} could not be made")]
    Engine(#[from] EngineError),
    /// Another agent of this machine holds it for too long.
    #[error("the lock on the machine's network rules could not be had")]
    Lock {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tool could not be run.
    #[error(
        "{command} could not be run; install iptables, or give containers no network with --network none"
    )]
    Tool {
        /// Which.
        command: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tool refused.
    #[error("{command} refused our rules: {said}")]
    Refused {
        /// Which.
        command: &'static str,
        /// Its own words.
        said: String,
    },
}

/// Makes network and rules, or puts right what has changed since.
async fn ensure(engine: &Engine) -> Result<(), NetworkError> {
    let _turn = turn().await?;
    engine.ensure_network(&EngineNetwork { name: NETWORK.into(), bridge: BRIDGE.into() }).await?;
    let resolv = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    run("iptables-restore", &["-w", "--noflush"], &rules(&resolvers(&resolv))).await?;
    for jump in jumps() {
        if !accepted("iptables", &jump.check()).await? {
            run("iptables", &jump.insert(), "").await?;
        }
    }
    Ok(())
}

/// Whether the rules were there when they were last made or looked at. Nothing starts, and no call gets a worker, while not.
#[derive(Debug, Default)]
pub struct Wall {
    broken: AtomicBool,
}

impl Wall {
    /// Makes network and rules, or puts right what has changed; remembers whether that could be done.
    pub async fn keep(&self, engine: &Engine) -> Result<(), NetworkError> {
        let kept = ensure(engine).await;
        if self.broken.swap(kept.is_err(), Ordering::Relaxed) && kept.is_ok() {
            tracing::info!("the network is safe again");
        }
        kept
    }

    /// Whether it stands.
    pub fn stands(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }
}

/// What there is of the rules on this host; changes nothing.
pub async fn rules_on_this_host(engine: &Engine) -> Firewall {
    let mut there = true;
    for jump in jumps() {
        match accepted("iptables", &jump.check()).await {
            Ok(found) => there &= found,
            Err(error) => return Firewall::NoTool(error.to_string()),
        }
    }
    match (there, engine.has_network(NETWORK).await) {
        (true, _) => Firewall::There,
        (false, true) => Firewall::Missing,
        (false, false) => Firewall::NotYet,
    }
}

/// Removes network and rules if no container uses them: the last agent of a machine leaves nothing.
pub async fn remove_if_unused(engine: &Engine) {
    let Ok(_turn) = turn().await else { return };
    if !engine.remove_network(NETWORK).await {
        return;
    }
    // Best effort from here: without the bridge the rules match nothing.
    for jump in jumps() {
        while accepted("iptables", &jump.delete()).await.unwrap_or(false) {}
    }
    for chain in [FORWARD, INPUT] {
        let _ = accepted("iptables", &["-w", "-F", chain]).await;
        let _ = accepted("iptables", &["-w", "-X", chain]).await;
    }
}

/// One agent of a machine at a time: else one that stops could take away the rules that another has just made. The lock is
/// on a directory that is always there, so that it leaves no file.
async fn turn() -> Result<Flock<File>, NetworkError> {
    let lock = || {
        Flock::lock(File::open("/run")?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    };
    let locked = tokio::task::spawn_blocking(lock);
    let failed = |source| NetworkError::Lock { source };
    match tokio::time::timeout(DEADLINE, locked).await {
        Ok(Ok(locked)) => locked.map_err(failed),
        Ok(Err(panicked)) => Err(failed(std::io::Error::other(panicked))),
        Err(late) => Err(failed(std::io::Error::other(late))),
    }
}

/// A rule that sends what comes from our bridge into one of our chains.
struct Jump {
    from: &'static str,
    to: &'static str,
}

fn jumps() -> [Jump; 2] {
    // DOCKER-USER is the engine's promise not to touch what is in it; it is seen before the engine's own rules.
    [Jump { from: "DOCKER-USER", to: FORWARD }, Jump { from: "INPUT", to: INPUT }]
}

impl Jump {
    fn check(&self) -> [&'static str; 7] {
        ["-w", "-C", self.from, "-i", BRIDGE, "-j", self.to]
    }

    fn insert(&self) -> [&'static str; 8] {
        ["-w", "-I", self.from, "1", "-i", BRIDGE, "-j", self.to]
    }

    fn delete(&self) -> [&'static str; 7] {
        ["-w", "-D", self.from, "-i", BRIDGE, "-j", self.to]
    }
}

/// Both chains, as `iptables-restore --noflush` takes them: naming a chain empties it, and all of it happens at once.
fn rules(resolvers: &BTreeSet<Ipv4Addr>) -> String {
    let mut text = format!("*filter\n:{FORWARD} - [0:0]\n:{INPUT} - [0:0]\n");
    for (chain, pass) in [(FORWARD, "RETURN"), (INPUT, "ACCEPT")] {
        for resolver in resolvers {
            for protocol in ["udp", "tcp"] {
                text += &format!("-A {chain} -d {resolver} -p {protocol} --dport 53 -j {pass}\n");
            }
        }
    }
    // To another container of ours, if the engine's own isolation ever fails.
    text += &format!("-A {FORWARD} -o {BRIDGE} -j REJECT\n");
    for range in NOT_INTERNET {
        text += &format!("-A {FORWARD} -d {range} -j REJECT\n");
    }
    text += &format!("-A {FORWARD} -j RETURN\n-A {INPUT} -j REJECT\nCOMMIT\n");
    text
}

/// IPv4 name servers of `resolv.conf`. Those on loopback are asked by the engine itself.
fn resolvers(resolv: &str) -> BTreeSet<Ipv4Addr> {
    resolv
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .filter_map(|address| match address {
            IpAddr::V4(address) if !address.is_loopback() && !address.is_link_local() => {
                Some(address)
            }
            _ => None,
        })
        .collect()
}

async fn run(command: &'static str, args: &[&str], input: &str) -> Result<(), NetworkError> {
    match output(command, args, input).await? {
        (true, _) => Ok(()),
        (false, said) => Err(NetworkError::Refused { command, said }),
    }
}

async fn accepted(command: &'static str, args: &[&str]) -> Result<bool, NetworkError> {
    Ok(output(command, args, "").await?.0)
}

async fn output(
    command: &'static str,
    args: &[&str],
    input: &str,
) -> Result<(bool, String), NetworkError> {
    let tool = |source| NetworkError::Tool { command, source };
    let running = async {
        let mut child = Command::new(command)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // Rules are shorter than a pipe, and a tool that did not want them has said why on stderr.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(DEADLINE, running)
        .await
        .map_err(|late| tool(std::io::Error::other(late)))?
        .map_err(tool)?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_pass_before_anything_is_refused() {
        let found = resolvers(
            "# x\nnameserver 10.0.0.53\nnameserver 127.0.0.53\nnameserver fe80::1\n\
             nameserver 169.254.169.254\nsearch a\n",
        );
        assert_eq!(found, BTreeSet::from([Ipv4Addr::new(10, 0, 0, 53)]));
        let text = rules(&found);
        let line = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
        let dns = line("-A MUSTER-FORWARD -d 10.0.0.53 -p udp --dport 53 -j RETURN");
        assert!(dns < line("-A MUSTER-FORWARD -d 10.0.0.0/8 -j REJECT"));
        assert!(
            line("-A MUSTER-INPUT -d 10.0.0.53 -p tcp --dport 53 -j ACCEPT")
                < line("-A MUSTER-INPUT -j REJECT")
        );
        line("-A MUSTER-FORWARD -d 169.254.0.0/16 -j REJECT");
        assert!(text.ends_with("COMMIT\n"));
    }
}
