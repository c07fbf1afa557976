//! Hosts that a call had an exchange with when their connection broke, or when an earlier gateway ended. Pure.
//!
//! ```text
//!                      its host is back, on another connection           HELD: leases as it says
//!  broken, restored ──────────────────────────────────────────▶ asked for ────────────────────────▶ at work
//!        │ not back for 15 s (20 s after a restart), given up, or its connection is there without it
//!        ▼                                                                │ not held there
//!  lost: its inputs wait again ◀──────────────────────────────────────────┘
//! ```
//!
//! **Why wait.** The agent runs its calls on for 120 s without a gateway (P5), and dials again within 10 s. What it holds may have taken an hour, so it is worth some seconds; but an agent that was killed never comes back with it, and its inputs should not wait a minute. So a call waits for 15 s. A host that is back as another start of its agent is asked
//! too, and says at once that it holds nothing. A host that was silent for 55 s before its connection was closed is not waited for at all.
//!
//! **After a restart** nobody knows which input was leased to whom, but the store knows which hosts worked for the call. So a call leases nothing until they have all said what they hold, or their time is up.

use std::time::Duration;

use tokio::time::Instant;

use super::machine::LinkId;

/// How long a host whose connection broke may take to be back.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// The same for those of an earlier gateway: agents dial every 10 s at least.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
/// A connection that is there for so long after an exchange on it broke did not break itself.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// An exchange without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// This connection broke.
    Broken(LinkId),
    /// An earlier gateway had it.
    Restored,
}

/// How a host's connection is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The one there is.
    pub link: Option<LinkId>,
    /// Whether the one that broke was closed because the host was silent for too long.
    pub given_up: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Look again then, or when a host has come.
    Wait(Instant),
    /// Ask for the exchange on the connection there is.
    Ask,
    /// It is lost.
    Lose,
}

/// What becomes of an exchange that is away since `at`.
pub fn next(since: Since, at: Instant, seen: Seen, now: Instant) -> Next {
    if seen.given_up {
        return Next::Lose;
    }
    let within = match (since, seen.link) {
        (Since::Broken(before), Some(link)) if link != before => return Next::Ask,
        (Since::Restored, Some(_)) => return Next::Ask,
        (Since::Broken(_), Some(_)) => NOTICED_WITHIN,
        (Since::Broken(_), None) => BACK_WITHIN,
        (Since::Restored, None) => FOUND_WITHIN,
    };
    match now >= at + within {
        true => Next::Lose,
        false => Next::Wait(at + within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: Seen = Seen { link: Some(2), given_up: false };
    const AWAY: Seen = Seen { link: None, given_up: false };

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_host_that_is_back_is_asked_at_once() {
        let now = Instant::now();
        for since in [Since::Broken(1), Since::Restored] {
            assert_eq!(next(since, now, THERE, now), Next::Ask);
        }
    }

    #[test]
    fn a_host_is_waited_for_some_seconds_and_longer_after_a_restart() {
        let at = Instant::now();
        for (since, within) in [(Since::Broken(1), 15), (Since::Restored, 20)] {
            let end = at + second(within);
            assert_eq!(next(since, at, AWAY, at), Next::Wait(end));
            assert_eq!(next(since, at, AWAY, end), Next::Lose);
        }
    }

    #[test]
    fn a_silent_host_and_an_exchange_that_broke_by_itself_are_not_waited_for() {
        let at = Instant::now();
        let silent = Seen { given_up: true, ..AWAY };
        assert_eq!(next(Since::Broken(1), at, silent, at), Next::Lose);
        assert_eq!(next(Since::Broken(2), at, THERE, at), Next::Wait(at + second(1)));
        assert_eq!(next(Since::Broken(2), at, THERE, at + second(1)), Next::Lose);
    }
}
