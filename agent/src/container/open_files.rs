//! How many open files a container may be given. The engine can only raise a container's limit past its own with
//! CAP_SYS_RESOURCE, which engines inside other sandboxes lack; asking for more then makes every start fail.

use std::os::unix::net::UnixStream;

/// What a container gets where the engine may give it.
const WANTED: u64 = 65_536;
/// Number of CAP_SYS_RESOURCE.
const SYS_RESOURCE: u32 = 24;

/// The limit for containers of the engine at this address.
pub fn allowed(docker_host: Option<&str>) -> u64 {
    // An engine on another machine is not ours to look at.
    let engine = match docker_host.unwrap_or("unix:///var/run/docker.sock").strip_prefix("unix://")
    {
        Some(path) => UnixStream::connect(path).ok().and_then(|stream| owner(&stream)),
        None => None,
    };
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", engine?)).ok();
    match (read("status"), read("limits")) {
        (Some(status), Some(limits)) => decide(&status, &limits),
        _ => WANTED,
    }
}

/// Who listens; with socket activation that is systemd, which may raise any limit.
fn owner(stream: &UnixStream) -> Option<i32> {
    let credentials =
        nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials).ok()?;
    Some(credentials.pid())
}

fn decide(status: &str, limits: &str) -> u64 {
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    if capabilities.is_none_or(|bits| bits & (1 << SYS_RESOURCE) != 0) {
        return WANTED;
    }
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u64>().ok());
    hard.map_or(WANTED, |hard| hard.min(WANTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
        Max open files            1024                 20000                files\n";

    #[test]
    fn an_engine_that_may_not_raise_limits_gives_its_own() {
        assert_eq!(decide("CapEff:\t000001fffeffffff\n", LIMITS), 20_000);
        assert_eq!(decide("CapEff:\t000001ffffffffff\n", LIMITS), WANTED);
        assert_eq!(decide("", LIMITS), WANTED);
        assert_eq!(decide("CapEff:\t0\n", "Max open files unlimited unlimited files"), WANTED);
    }

    #[test]
    fn an_engine_that_cannot_be_looked_at_is_asked_for_what_is_wanted() {
        assert_eq!(allowed(Some("tcp://10.0.0.1:2375")), WANTED);
        assert_eq!(allowed(Some("unix:///nowhere.sock")), WANTED);
    }
}
