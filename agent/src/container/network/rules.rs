//! The firewall's part of the wall: two chains of rules, and the tool that writes them. The rules are the same for every agent
//! of a machine, and are written as a whole in one transaction, so writing them again is harmless. What is refused is refused
//! loudly: a dropped packet would let a user's connect hang for minutes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{BRIDGE, DEADLINE, NetworkError};

const FORWARD: &str = "MUSTER-FORWARD";
const INPUT: &str = "MUSTER-INPUT";

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

/// Writes the rules; those name servers may be asked.
pub async fn write(resolvers: &BTreeSet<Ipv4Addr>) -> Result<(), NetworkError> {
    run("iptables-restore", &["-w", "--noflush"], &rules(resolvers)).await?;
    for jump in jumps() {
        if !accepted("iptables", &jump.check()).await? {
            run("iptables", &jump.insert(), "").await?;
        }
    }
    Ok(())
}

/// Whether what comes from our bridge is sent through them.
pub async fn there() -> Result<bool, NetworkError> {
    let mut there = true;
    for jump in jumps() {
        there &= accepted("iptables", &jump.check()).await?;
    }
    Ok(there)
}

/// Takes them away, as far as they are there: without the bridge they match nothing.
pub async fn remove() {
    for jump in jumps() {
        while accepted("iptables", &jump.delete()).await.unwrap_or(false) {}
    }
    for chain in [FORWARD, INPUT] {
        let _ = accepted("iptables", &["-w", "-F", chain]).await;
        let _ = accepted("iptables", &["-w", "-X", chain]).await;
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
        let found = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 53)]);
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
