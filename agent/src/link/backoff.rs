//! How long to wait before dialling again: pure.

use std::time::Duration;

use super::DialError;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A wrong token is mended by people.
const UNWANTED: Duration = Duration::from_secs(30);
/// A name is taken until the gateway has noticed that its former owner is dead.
const TAKEN: Duration = Duration::from_secs(3);
/// A link that held this long was a good one.
const GOOD: Duration = Duration::from_secs(30);

/// Doubles with each failure.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A link held this long before it was lost.
    pub fn was_linked(&mut self, held: Duration) {
        if held >= GOOD {
            self.failures = 0;
        }
    }

    /// After a link was lost; `random` is any number.
    pub fn after_loss(&mut self, random: u32) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        jitter(wait, random)
    }

    /// After dialling failed like this.
    pub fn after(&mut self, error: &DialError, random: u32) -> Duration {
        match error {
            DialError::Unwanted { .. } => jitter(UNWANTED, random),
            DialError::Taken { .. } => jitter(TAKEN, random),
            _ => self.after_loss(random),
        }
    }
}

/// Between half of it and all of it.
fn jitter(wait: Duration, random: u32) -> Duration {
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_over_after_a_good_link() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..12).map(|_| backoff.after_loss(u32::MAX)).collect();
        assert_eq!(waits[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(waits[11], LONGEST);
        backoff.was_linked(Duration::from_secs(1));
        assert_eq!(backoff.after_loss(u32::MAX), LONGEST);
        backoff.was_linked(GOOD);
        assert_eq!(backoff.after_loss(0), FIRST / 2);
    }

    #[test]
    fn refusals_are_tried_again_slowly() {
        let mut backoff = Backoff::default();
        let unwanted = DialError::Unwanted { status: 401, said: String::new() };
        assert!(backoff.after(&unwanted, 0) >= Duration::from_secs(15));
    }
}
