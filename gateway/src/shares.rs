//! Which hosts have the shares of a call. Pure.

use std::collections::BTreeMap;

use muster_wire::message::{HostStatus, Share};

/// No host has all the shares that a call names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Those that no host has; none where each is somewhere, but no host has all.
    pub nowhere: Vec<String>,
    /// Those of them that a host's settings name, and whose folder is gone there: share and host.
    pub gone: Vec<(String, String)>,
    /// All that hosts have.
    pub there: Vec<String>,
}

/// The hosts that have all of these shares, at least one.
pub fn hosts_with(
    hosts: &[HostStatus],
    wanted: &BTreeMap<String, String>,
) -> Result<Vec<HostStatus>, Missing> {
    let has_all = |host: &&HostStatus| wanted.keys().all(|name| has(host, name));
    let found: Vec<HostStatus> = hosts.iter().filter(has_all).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let nowhere = wanted.keys().filter(|name| !hosts.iter().any(|host| has(host, name)));
    let nowhere: Vec<String> = nowhere.cloned().collect();
    let gone = nowhere.iter().filter_map(|name| {
        let host = hosts.iter().find(|host| host.shares.iter().any(|it| it.name == *name))?;
        Some((name.clone(), host.host.clone()))
    });
    Err(Missing { gone: gone.collect(), there: there(hosts), nowhere })
}

fn has(host: &HostStatus, name: &str) -> bool {
    host.shares.iter().any(|share| share.there && share.name == name)
}

/// Names of the shares that hosts have, each once, sorted.
fn there(hosts: &[HostStatus]) -> Vec<String> {
    let shares = hosts.iter().flat_map(|host| &host.shares).filter(|share: &&Share| share.there);
    let mut names: Vec<String> = shares.map(|share| share.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, shares: &[(&str, bool)]) -> HostStatus {
        let share = |(name, there): &(&str, bool)| Share {
            name: (*name).into(),
            writable: false,
            there: *there,
        };
        HostStatus {
            host: name.into(),
            version: "1".into(),
            cores: 1.0,
            ram_bytes: 1,
            free_cores: 1.0,
            lent_cores: 0.0,
            waiting_workers: 0,
            free_ram_bytes: 1,
            workers: 0,
            warm: 0,
            warm_claims: 0,
            cold_claims: 0,
            draining: false,
            pull: false,
            images: Vec::new(),
            runtimes: Vec::new(),
            shares: shares.iter().map(share).collect(),
        }
    }

    fn wanted(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), format!("/{name}"))).collect()
    }

    #[test]
    fn only_hosts_with_every_share_count() {
        let hosts = [
            host("a", &[("data", true)]),
            host("b", &[("data", true), ("out", true)]),
            host("c", &[("data", true), ("out", false)]),
        ];
        let found = hosts_with(&hosts, &wanted(&["data", "out"])).expect("b has both");
        assert_eq!(found.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is_and_whose_folder_is_gone() {
        let hosts = [host("a", &[("data", true)]), host("b", &[("out", false), ("more", true)])];
        let missing = hosts_with(&hosts, &wanted(&["nfs", "out"])).expect_err("neither");
        assert_eq!(missing.nowhere, ["nfs", "out"]);
        assert_eq!(missing.gone, [("out".to_owned(), "b".to_owned())]);
        assert_eq!(missing.there, ["data", "more"]);
        let apart = hosts_with(&hosts, &wanted(&["data", "more"])).expect_err("not together");
        assert_eq!((apart.nowhere.len(), apart.gone.len()), (0, 0));
    }
}
