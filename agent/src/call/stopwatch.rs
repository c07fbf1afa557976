//! Pure: whether an input runs for too long, from looks at the page.

use std::time::Duration;

use tokio::time::Instant;

use crate::runner::Running;

/// Limits of the time between two looks.
const LOOKS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// What a runner may take beyond the limit to begin an input of a batch it has, which may be large and has to be read.
const BEGIN: Duration = Duration::from_secs(30);

/// Watches one worker.
#[derive(Debug)]
pub struct Stopwatch {
    limit: Duration,
    seen: Option<Running>,
    since: Instant,
}

impl Stopwatch {
    /// No input may run for longer than `limit`.
    pub fn new(limit: Duration, now: Instant) -> Stopwatch {
        Stopwatch { limit, seen: None, since: now }
    }

    /// When to look next.
    pub fn next_look(&self, now: Instant) -> Instant {
        now + (self.limit / 8).clamp(LOOKS.0, LOOKS.1)
    }

    /// A look at what runs: whether it has run for longer than it may. Never too early, and late by two looks at most.
    pub fn is_over(&mut self, running: Option<Running>, now: Instant) -> bool {
        match running {
            Some(running) if self.seen != Some(running) => {
                (self.seen, self.since) = (Some(running), now);
                false
            }
            // One that says it runs nothing, and does not end its batch either, is no honest one.
            Some(Running { index: None, .. }) => {
                now.duration_since(self.since) > self.limit + BEGIN
            }
            // A page that never settles gives nobody more time.
            Some(_) | None => now.duration_since(self.since) > self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_starts_anew_with_each_input() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let run = |seq, index| Some(Running { seq, index });
        let mut watch = Stopwatch::new(Duration::from_millis(100), start);
        assert!(!watch.is_over(run(2, Some(0)), at(10)));
        assert!(!watch.is_over(run(2, Some(0)), at(110)));
        assert!(!watch.is_over(run(4, Some(1)), at(111)));
        assert!(!watch.is_over(run(6, None), at(130)));
        assert!(!watch.is_over(run(6, None), at(30_100)));
        assert!(watch.is_over(run(6, None), at(30_300)));
        assert!(!watch.is_over(run(8, Some(2)), at(30_901)));
        assert!(watch.is_over(run(8, Some(2)), at(31_002)));
    }

    #[test]
    fn a_page_that_never_settles_runs_out_of_time_too() {
        let start = Instant::now();
        let mut watch = Stopwatch::new(Duration::from_millis(100), start);
        assert!(!watch.is_over(None, start + Duration::from_millis(90)));
        assert!(watch.is_over(None, start + Duration::from_millis(101)));
    }
}
