//! Why a call waits, in words for people. Pure.

use std::collections::BTreeMap;

use crate::fleet::Placement;

/// What is known about the workers of a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Workers<'a> {
    /// Workers that take inputs.
    pub running: u32,
    /// Workers being made ready.
    pub starting: u32,
    /// What a host says it waits for.
    pub host_says: Option<&'a str>,
    /// A host with workers of the call that is silent.
    pub suspect: Option<&'a str>,
    /// Whether it had a worker before.
    pub has_run: bool,
    /// Whether inputs or events of it wait for space on the gateway's disk.
    pub disk_full: bool,
}

/// Why a call with these shares does not go on; `None` when something of it runs or nothing is to be run.
pub fn why(
    waiting_inputs: u64,
    placement: &Placement,
    workers: Workers<'_>,
    shares: &BTreeMap<String, String>,
) -> Option<String> {
    if workers.disk_full {
        return Some(
            "waiting: the gateway's disk is full, or what may be spilled there (--spill-limit); the call goes on when there is room".to_owned(),
        );
    }
    if workers.running > 0 {
        return None;
    }
    if let Some(says) = workers.host_says {
        return Some(says.to_owned());
    }
    if workers.starting > 0 {
        return Some("starting containers".to_owned());
    }
    if let Some(host) = workers.suspect {
        return Some(format!(
            "waiting: host {host} does not answer; what it holds runs elsewhere if it stays silent for a minute"
        ));
    }
    if waiting_inputs == 0 {
        return Some("waiting for inputs".to_owned());
    }
    if placement.hosts == 0 {
        return Some("waiting: no host is connected".to_owned());
    }
    if placement.slots == 0 {
        let names: Vec<&str> = shares.keys().map(String::as_str).collect();
        let names = names.join(" and ");
        return Some(match (placement.closed_slots, names.is_empty()) {
            (0, true) => "waiting: no connected host is large enough or has the image".to_owned(),
            (0, false) => format!(
                "waiting: no connected host has share {names}, the image and the size; is a folder gone from a host? (`muster hosts`)"
            ),
            (closed, true) => {
                format!("waiting: the hosts with its {closed} slots are draining or do not answer")
            }
            (closed, false) => format!(
                "waiting: the hosts with its {closed} slots, which have share {names}, are draining or do not answer"
            ),
        });
    }
    if placement.targets.is_empty() {
        let ahead = match placement.ahead {
            0 => String::new(),
            1 => ", 1 call ahead".to_owned(),
            calls => format!(", {calls} calls ahead"),
        };
        let slots = placement.slots;
        return Some(match workers.has_run {
            true => format!("paused: others have their share of {slots} slots now{ahead}"),
            false => format!("waiting: 0 of {slots} slots free{ahead}"),
        });
    }
    Some("starting containers".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Workers<'_> = Workers {
        running: 0,
        starting: 0,
        host_says: None,
        suspect: None,
        has_run: false,
        disk_full: false,
    };

    fn full() -> Placement {
        Placement { hosts: 1, slots: 12, ahead: 3, ..Placement::default() }
    }

    #[test]
    fn a_full_fleet_says_how_many_calls_are_ahead() {
        let text = why(5, &full(), NONE, &BTreeMap::new()).expect("waits");
        assert_eq!(text, "waiting: 0 of 12 slots free, 3 calls ahead");
        let alone = Placement { ahead: 0, ..full() };
        assert_eq!(
            why(5, &alone, NONE, &BTreeMap::new()).as_deref(),
            Some("waiting: 0 of 12 slots free")
        );
    }

    #[test]
    fn a_full_disk_is_told_whatever_runs() {
        let workers = Workers { running: 2, disk_full: true, ..NONE };
        let text = why(5, &full(), workers, &BTreeMap::new()).expect("waits");
        assert!(text.contains("disk is full"), "{text}");
    }

    #[test]
    fn a_call_that_lost_its_workers_to_others_is_paused() {
        let text =
            why(5, &full(), Workers { has_run: true, ..NONE }, &BTreeMap::new()).expect("waits");
        assert_eq!(text, "paused: others have their share of 12 slots now, 3 calls ahead");
    }

    #[test]
    fn what_the_host_says_comes_first_and_running_calls_do_not_wait() {
        let pulling = Workers { host_says: Some("pulling image x 40 %"), ..NONE };
        assert_eq!(
            why(5, &full(), pulling, &BTreeMap::new()).as_deref(),
            Some("pulling image x 40 %")
        );
        assert_eq!(why(5, &full(), Workers { running: 1, ..NONE }, &BTreeMap::new()), None);
        let starting = Workers { starting: 1, ..NONE };
        assert_eq!(
            why(5, &full(), starting, &BTreeMap::new()).as_deref(),
            Some("starting containers")
        );
    }

    #[test]
    fn a_silent_host_is_named() {
        let text = why(5, &full(), Workers { suspect: Some("box"), ..NONE }, &BTreeMap::new())
            .expect("waits");
        assert!(text.starts_with("waiting: host box does not answer; "), "{text}");
    }

    #[test]
    fn without_a_host_that_fits_it_says_which_kind_of_host_is_missing() {
        let nobody = Placement::default();
        assert_eq!(
            why(5, &nobody, NONE, &BTreeMap::new()).as_deref(),
            Some("waiting: no host is connected")
        );
        let small = Placement { hosts: 1, ..nobody.clone() };
        let text = "waiting: no connected host is large enough or has the image";
        assert_eq!(why(5, &small, NONE, &BTreeMap::new()).as_deref(), Some(text));
        let closed = Placement { hosts: 1, closed_slots: 4, ..nobody };
        let text = "waiting: the hosts with its 4 slots are draining or do not answer";
        assert_eq!(why(5, &closed, NONE, &BTreeMap::new()).as_deref(), Some(text));
    }

    #[test]
    fn a_call_with_shares_is_told_that_only_hosts_with_them_count() {
        let shares = BTreeMap::from([("data".into(), "/d".into()), ("out".into(), "/o".into())]);
        let none = Placement { hosts: 2, ..Placement::default() };
        let text = why(5, &none, NONE, &shares).expect("waits");
        assert!(
            text.contains("share data and out") && text.contains("no connected host"),
            "{text}"
        );
        let away = Placement { closed_slots: 4, ..none };
        let text = why(5, &away, NONE, &shares).expect("waits");
        assert!(text.contains("share data and out") && text.contains("do not answer"), "{text}");
    }

    #[test]
    fn a_call_whose_inputs_are_all_done_waits_for_more() {
        assert_eq!(why(0, &full(), NONE, &BTreeMap::new()).as_deref(), Some("waiting for inputs"));
    }
}
