//! Addresses on the bridge: which range it has, and which of them a new container gets. Pure, but for the lock.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the names of our ports on the host begin with; the address follows, as eight digits.
const PORT: &str = "mst";

/// The range of a bridge, and its own address there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    gateway: Ipv4Addr,
    prefix: u8,
}

/// As the engine takes it: `172.18.0.0/16`.
impl std::fmt::Display for Subnet {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", Ipv4Addr::from(self.first()), self.prefix)
    }
}

impl Subnet {
    /// None for a range without room for a container in its upper half.
    pub fn new(gateway: Ipv4Addr, netmask: Ipv4Addr) -> Option<Subnet> {
        let prefix = u32::from(netmask).leading_ones() as u8;
        (1..30).contains(&prefix).then_some(Subnet { gateway, prefix })
    }

    fn first(self) -> u32 {
        u32::from(self.gateway) & (u32::MAX << (32 - self.prefix))
    }

    /// An address of the upper half that is not taken; the search begins at a place that `seed` chooses.
    fn free(self, seed: u32, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let half = 1 << (31 - self.prefix);
        // The last one of all is for broadcasts.
        let count = half - 1;
        let nth = |n| Ipv4Addr::from(self.first() + half + (seed % count + n) % count);
        (0..count).map(nth).find(|&address| address != self.gateway && !taken(address))
    }
}

/// What containers of this agent hold.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    held: Arc<Mutex<HashSet<Ipv4Addr>>>,
}

/// An address of one container, free again when this is dropped.
#[derive(Debug)]
pub struct Address {
    address: Ipv4Addr,
    subnet: Subnet,
    addresses: Addresses,
    plugged: AtomicBool,
}

impl Addresses {
    /// One that nobody holds: neither we nor, as far as `is_there` knows, a port of another agent. Should two agents choose the same
    /// one at the same moment, the kernel gives its name to one of them only.
    pub fn take(
        &self,
        subnet: Subnet,
        seed: u32,
        is_there: impl Fn(&str) -> bool,
    ) -> Option<Address> {
        let mut held = self.lock();
        let taken = |address| held.contains(&address) || is_there(&port(address));
        let address = subnet.free(seed, taken)?;
        held.insert(address);
        drop(held);
        Some(Address { address, subnet, addresses: self.clone(), plugged: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Ipv4Addr>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address {
    /// Itself.
    pub fn ip(&self) -> Ipv4Addr {
        self.address
    }

    /// The range it is from.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// How long the range's prefix is.
    pub fn prefix(&self) -> u8 {
        self.subnet.prefix
    }

    /// Where packets for others go.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.gateway
    }

    /// The hardware address that goes with it: who gets an address later is found by what is remembered of it.
    pub fn hardware(&self) -> Vec<u8> {
        let [a, b, c, d] = self.address.octets();
        // A local one: no maker of hardware has this prefix.
        vec![0x02, 0x6d, a, b, c, d]
    }

    /// Whether the port of its name is its own; another agent's may have the same.
    pub fn is_plugged(&self) -> bool {
        self.plugged.load(Ordering::Relaxed)
    }

    /// Remembers that.
    pub fn set_plugged(&self, plugged: bool) {
        self.plugged.store(plugged, Ordering::Relaxed);
    }

    /// The name of its port on the host.
    pub fn port(&self) -> String {
        port(self.address)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.addresses.lock().remove(&self.address);
    }
}

fn port(address: Ipv4Addr) -> String {
    format!("{PORT}{:08x}", u32::from(address))
}

/// Whether an interface of this name is a port of a worker.
pub fn is_port(name: &str) -> bool {
    name.strip_prefix(PORT)
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(last: u8) -> Subnet {
        let netmask = Ipv4Addr::from(u32::MAX << (32 - u32::from(last)));
        Subnet::new(Ipv4Addr::new(172, 18, 0, 1), netmask).expect("room")
    }

    #[test]
    fn containers_get_what_nobody_has_from_the_upper_half() {
        let addresses = Addresses::default();
        let all: Vec<_> =
            std::iter::from_fn(|| addresses.take(subnet(28), 5, |port| port == "mstac12000a"))
                .collect();
        let mut seen: Vec<u8> = all.iter().map(|address| address.ip().octets()[3]).collect();
        seen.sort_unstable();
        assert_eq!(seen, [8, 9, 11, 12, 13, 14]);
        assert!(all.iter().all(|address| is_port(&address.port())));
        drop(all);
        assert!(addresses.take(subnet(28), 0, |_| false).is_some());
        assert_eq!(subnet(16).to_string(), "172.18.0.0/16");
    }

    #[test]
    fn a_range_without_room_and_the_gateway_are_never_given() {
        assert_eq!(Subnet::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::BROADCAST), None);
        assert_eq!(Subnet::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::UNSPECIFIED), None);
        let high = Subnet { gateway: Ipv4Addr::new(10, 0, 0, 6), prefix: 29 };
        let free: Vec<_> =
            (0..20).filter_map(|seed| high.free(seed, |_| false)).map(|a| a.octets()[3]).collect();
        assert!(!free.is_empty() && free.iter().all(|last| matches!(last, 4 | 5)));
    }

    #[test]
    fn other_interfaces_are_not_taken_for_ports() {
        assert!(is_port("mst0a00000b"));
        for other in ["muster0", "mst", "mst0a00000", "mst0a00000g", "veth0a00000b"] {
            assert!(!is_port(other), "{other}");
        }
    }
}
