//! Why a call waits, in words for people. Pure.

use crate::fleet::Placement;

/// What is known about the workers of a call.
#[derive(Debug, Clone, Copy)]
pub struct Workers<'a> {
    /// Workers that take inputs.
    pub running: u32,
    /// Workers being made ready.
    pub starting: u32,
    /// What a host says it waits for.
    pub host_says: Option<&'a str>,
}

/// Why nothing of a call runs; `None` when something does or nothing is to be run.
pub fn why(waiting_inputs: u64, placement: &Placement, workers: Workers<'_>) -> Option<String> {
    if workers.running > 0 {
        return None;
    }
    if let Some(says) = workers.host_says {
        return Some(says.to_owned());
    }
    if workers.starting > 0 {
        return Some("starting containers".to_owned());
    }
    if waiting_inputs == 0 {
        return Some("waiting for inputs".to_owned());
    }
    if placement.hosts == 0 {
        return Some("waiting: no host is connected".to_owned());
    }
    if placement.slots == 0 {
        return Some("waiting: no connected host is large enough or has the image".to_owned());
    }
    if placement.targets.is_empty() {
        let ahead = match placement.ahead {
            0 => String::new(),
            1 => ", 1 call ahead".to_owned(),
            calls => format!(", {calls} calls ahead"),
        };
        return Some(format!("waiting: 0 of {} slots free{ahead}", placement.slots));
    }
    Some("starting containers".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NONE: Workers<'_> = Workers { running: 0, starting: 0, host_says: None };

    #[test]
    fn a_full_fleet_says_how_many_calls_are_ahead() {
        let placement = Placement { hosts: 1, slots: 12, ahead: 3, targets: Arc::default() };
        let text = why(5, &placement, NONE).expect("waits");
        assert_eq!(text, "waiting: 0 of 12 slots free, 3 calls ahead");
    }

    #[test]
    fn what_the_host_says_comes_first_and_running_calls_do_not_wait() {
        let placement = Placement { hosts: 1, slots: 1, ahead: 0, targets: Arc::default() };
        let pulling = Workers { host_says: Some("pulling image x 40 %"), ..NONE };
        assert_eq!(why(5, &placement, pulling).as_deref(), Some("pulling image x 40 %"));
        assert_eq!(why(5, &placement, Workers { running: 1, ..NONE }), None);
        let nobody = Placement { hosts: 0, slots: 0, ahead: 0, targets: Arc::default() };
        assert_eq!(why(5, &nobody, NONE).as_deref(), Some("waiting: no host is connected"));
    }
}
