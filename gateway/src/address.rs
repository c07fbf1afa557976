//! Where the gateway is reached: the address it hands out, and every name a certificate of it should have.

use std::net::{IpAddr, SocketAddr};

/// The address that clients and hosts are told: the one they were meant to be told, or where the gateway listens; where that is every address of
/// this machine, one that others can reach.
pub fn url(is_secret: bool, listen: SocketAddr, advertised: Option<&str>) -> String {
    let scheme = if is_secret { "https" } else { "http" };
    match advertised {
        Some(named) if has_port(named) => format!("{scheme}://{named}"),
        Some(named) => format!("{scheme}://{named}:{}", listen.port()),
        None => {
            let ip = if listen.ip().is_unspecified() { outside() } else { listen.ip() };
            format!("{scheme}://{}", SocketAddr::new(ip, listen.port()))
        }
    }
}

/// The name or address without its port.
pub fn without_port(named: &str) -> &str {
    let end = if has_port(named) { named.rfind(':').unwrap_or(named.len()) } else { named.len() };
    named[..end].trim_start_matches('[').trim_end_matches(']')
}

/// `[::1]` and `name` have none, `[::1]:1` and `name:1` do.
fn has_port(named: &str) -> bool {
    named.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
}

/// An address of this machine that others may reach.
fn outside() -> IpAddr {
    let all = addresses();
    let reached = all.iter().find(|ip| ip.is_ipv4() && !ip.is_loopback());
    *reached.unwrap_or(&IpAddr::from([127, 0, 0, 1]))
}

/// Every name and address a client may have dialled.
pub fn names(listen: SocketAddr, further: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    names.extend(this_host());
    match listen.ip().is_unspecified() {
        true => names.extend(addresses().iter().map(ToString::to_string)),
        false => names.push(listen.ip().to_string()),
    }
    names.extend(further.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// The machine's name, if it can be one in a certificate.
fn this_host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    (!name.is_empty() && name.bytes().all(fits)).then(|| name.to_owned())
}

/// The addresses of this machine.
fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    interfaces.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_told_is_the_one_meant_or_one_that_can_be_reached() {
        let listen: SocketAddr = "10.0.0.1:8470".parse().expect("an address");
        assert_eq!(url(true, listen, None), "https://10.0.0.1:8470");
        assert_eq!(url(false, listen, Some("box")), "http://box:8470");
        assert_eq!(url(true, listen, Some("box:1")), "https://box:1");
        assert_eq!(url(true, listen, Some("[::1]")), "https://[::1]:8470");
        let every: SocketAddr = "0.0.0.0:8470".parse().expect("an address");
        assert!(!url(true, every, None).contains("0.0.0.0"));
        let parts = ["box:1", "box", "[::1]:1", "[::1]"].map(without_port);
        assert_eq!(parts, ["box", "box", "::1", "::1"]);
        let names = names(every, &["box".to_owned()]);
        assert!(["box", "localhost", "127.0.0.1"].iter().all(|n| names.contains(&(*n).to_owned())));
    }
}
