//! Which name servers containers ask, and whether a container can ask them itself.
//!
//! A server on the host's loopback is asked best by the engine, from the host; except that of systemd-resolved, which says in a
//! file of its own which servers it asks: the engine writes these into containers that it does not serve itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const OF_HOST: &str = "/etc/resolv.conf";
const BEHIND_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";
/// Where systemd-resolved itself listens.
const SYSTEMD: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];

/// The name servers of a host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolvers {
    reachable: BTreeSet<Ipv4Addr>,
    serve_anybody: bool,
}

impl Resolvers {
    /// As its files say now.
    pub async fn of_this_host() -> Resolvers {
        let read = async |path| tokio::fs::read_to_string(path).await.unwrap_or_default();
        Resolvers::of(&read(OF_HOST).await, &read(BEHIND_SYSTEMD).await)
    }

    fn of(of_host: &str, behind_systemd: &str) -> Resolvers {
        let named = servers(of_host);
        let stub = |server: &IpAddr| SYSTEMD.iter().any(|systemd| server == systemd);
        let asked = match !named.is_empty() && named.iter().all(stub) {
            true => servers(behind_systemd),
            false => named,
        };
        let reachable: BTreeSet<Ipv4Addr> = asked
            .iter()
            .filter_map(|server| match server {
                IpAddr::V4(server) if !server.is_loopback() && !server.is_link_local() => {
                    Some(*server)
                }
                _ => None,
            })
            .collect();
        let serve_anybody =
            !reachable.is_empty() && !asked.iter().any(|server| server.is_loopback());
        Resolvers { reachable, serve_anybody }
    }

    /// Those that containers may ask.
    pub fn reachable(&self) -> &BTreeSet<Ipv4Addr> {
        &self.reachable
    }

    /// Whether they are all that the host itself would ask, so that containers need nobody in between.
    pub fn serve_anybody(&self) -> bool {
        self.serve_anybody
    }
}

fn servers(resolv: &str) -> Vec<IpAddr> {
    resolv
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(of_host: &str, behind_systemd: &str) -> (Vec<String>, bool) {
        let found = Resolvers::of(of_host, behind_systemd);
        (found.reachable.iter().map(Ipv4Addr::to_string).collect(), found.serve_anybody)
    }

    #[test]
    fn servers_elsewhere_are_asked_by_containers_themselves() {
        let text = "# x\nnameserver 10.0.0.53\nnameserver fe80::1\nsearch a\nnameserver 1.1.1.1\n";
        assert_eq!(
            found(text, "nameserver 9.9.9.9"),
            (vec!["1.1.1.1".into(), "10.0.0.53".into()], true)
        );
    }

    #[test]
    fn one_on_the_hosts_loopback_is_left_to_the_engine() {
        let text = "nameserver 10.0.0.53\nnameserver 127.0.0.1\nnameserver 169.254.169.254\n";
        assert_eq!(found(text, ""), (vec!["10.0.0.53".into()], false));
        assert_eq!(found("nameserver ::1", ""), (vec![], false));
        assert_eq!(found("", ""), (vec![], false));
    }

    #[test]
    fn behind_systemds_stub_are_the_servers_it_asks() {
        let stub = "nameserver 127.0.0.53\noptions edns0\n";
        assert_eq!(found(stub, "nameserver 192.168.1.1\n"), (vec!["192.168.1.1".into()], true));
        assert_eq!(found(stub, ""), (vec![], false));
    }
}
