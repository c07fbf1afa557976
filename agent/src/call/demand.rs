//! Pure: how many inputs the gateway is asked for.
//!
//! Enough that no worker waits for the network, few enough that other hosts are not robbed: about 200 ms of work, and never
//! more than a bounded number of bytes.

use std::time::Duration;

use super::batching::Pace;

/// How much work is kept here.
const AHEAD: Duration = Duration::from_millis(200);
/// Bytes of inputs that were received and not answered.
const MAX_BYTES: u64 = 32 << 20;
/// Inputs that were received and not answered.
const MAX_INPUTS: u64 = 1 << 20;

/// What was asked for, and what came of it; all counted since the call began.
#[derive(Debug, Default)]
pub struct Demand {
    asked: (u64, u64),
    answered: (u64, u64),
    told: bool,
}

impl Demand {
    /// Inputs were answered.
    pub fn answered(&mut self, inputs: usize, bytes: usize) {
        self.answered.0 += inputs as u64;
        self.answered.1 += bytes as u64;
    }

    /// The gateway does not know any more what was asked for: it is told with the next.
    pub fn forget(&mut self) {
        self.told = false;
    }

    /// The DEMAND to send, (inputs, bytes), if it is worth a message now.
    pub fn next(&mut self, starting: usize, running: usize, pace: Pace) -> Option<(u64, u64)> {
        // One for each, also while it starts. Slow inputs are not asked for ahead: one that waited here behind another could
        // be running on a host that has nothing to do.
        let least = (running + starting) as u64;
        let ahead = match pace.within(AHEAD) {
            Some(each) if each > 1.0 => (each * running as f64).ceil() as u64,
            _ => 0,
        };
        let window = least.max(ahead).min(MAX_INPUTS);
        let inputs = (self.answered.0 + window).max(self.asked.0);
        let bytes = (self.answered.1 + MAX_BYTES).max(self.asked.1);
        // What is ahead is asked for in large steps; what a worker would otherwise wait for, at once.
        let worth =
            inputs - self.asked.0 > (window - least) / 8 || bytes - self.asked.1 >= MAX_BYTES / 8;
        let known = self.told || self.asked == (0, 0);
        if window == 0 || (!worth && known) {
            return None;
        }
        (self.asked, self.told) = ((inputs, bytes), true);
        Some(self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(took: Duration) -> Pace {
        let mut pace = Pace::default();
        pace.observe(1, took);
        pace
    }

    #[test]
    fn nothing_is_asked_for_without_workers() {
        assert_eq!(Demand::default().next(0, 0, Pace::default()), None);
    }

    #[test]
    fn workers_ask_for_one_each_before_the_pace_is_known() {
        let mut demand = Demand::default();
        assert_eq!(demand.next(3, 0, Pace::default()), Some((3, 32 << 20)));
        assert_eq!(demand.next(3, 0, Pace::default()), None);
        assert_eq!(demand.next(0, 4, Pace::default()), Some((4, 32 << 20)));
    }

    #[test]
    fn slow_inputs_are_asked_for_one_by_one() {
        let mut demand = Demand::default();
        let slow = pace(Duration::from_secs(1));
        assert_eq!(demand.next(0, 2, slow), Some((2, 32 << 20)));
        demand.answered(1, 10);
        assert_eq!(demand.next(0, 2, slow).map(|asked| asked.0), Some(3));
    }

    #[test]
    fn inputs_of_half_the_time_ahead_leave_no_worker_waiting_for_the_network() {
        let asked = |ms, running| {
            let asked = Demand::default().next(0, running, pace(Duration::from_millis(ms)));
            asked.expect("workers run").0
        };
        assert_eq!((asked(101, 2), asked(150, 2), asked(199, 64)), (4, 3, 65));
        assert_eq!(asked(200, 64), 64);
    }

    #[test]
    fn a_host_with_many_workers_leaves_none_of_them_idle() {
        let mut demand = Demand::default();
        assert_eq!(demand.next(95, 0, Pace::default()).map(|asked| asked.0), Some(95));
        assert_eq!(demand.next(5, 95, Pace::default()).map(|asked| asked.0), Some(100));
        demand.answered(1, 10);
        let slow = pace(Duration::from_secs(1));
        assert_eq!(demand.next(0, 100, slow).map(|asked| asked.0), Some(101));
    }

    #[test]
    fn fast_inputs_are_asked_for_200_ms_ahead_and_not_in_tiny_steps() {
        let mut demand = Demand::default();
        let fast = pace(Duration::from_micros(100));
        let asked = demand.next(0, 2, fast).expect("workers run").0;
        assert!((3_900..=4_000).contains(&asked), "{asked}");
        demand.answered(10, 100);
        assert_eq!(demand.next(0, 2, fast), None);
        demand.answered(1_000, 10_000);
        assert_eq!(demand.next(0, 2, fast).expect("worth it").0, asked + 1_010);
    }

    #[test]
    fn what_was_asked_for_is_never_taken_back() {
        let mut demand = Demand::default();
        let before = demand.next(0, 8, pace(Duration::from_micros(10))).expect("workers run");
        demand.answered(1, 8 << 20);
        let after = demand.next(0, 1, pace(Duration::from_secs(1))).expect("bytes are free again");
        assert_eq!((after.0, after.1), (before.0, before.1 + (8 << 20)));
    }
}
