//! Pure: what the inputs of a worker cost, from what is seen when some of them have ended.

use std::time::Duration;

use muster_wire::receipt::Receipt;
use tokio::time::Instant;

use crate::container::Used;

/// What was seen of a worker last.
#[derive(Debug, Default)]
pub struct Meter {
    since: Option<Instant>,
    cpu: Duration,
}

impl Meter {
    /// A batch is handed over: what passed until now is no input's. `cpu` is asked for the first batch alone, since a worker that
    /// waits uses next to nothing.
    pub fn begin(&mut self, now: Instant, cpu: impl FnOnce() -> Duration) {
        if self.since.is_none() {
            self.cpu = cpu();
        }
        self.since = Some(now);
    }

    /// These inputs have ended since it was asked last.
    pub fn ended(
        &mut self,
        (first, count): (u64, u32),
        attempt: u32,
        now: Instant,
        used: Used,
    ) -> Receipt {
        let ran = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let cpu = used.cpu.saturating_sub(self.cpu);
        (self.since, self.cpu) = (Some(now), used.cpu.max(self.cpu));
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Receipt {
            first,
            attempt,
            count,
            run_us: micros(ran),
            cpu_us: micros(cpu),
            peak_bytes: used.peak_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_group_of_inputs_gets_what_passed_since_the_one_before() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        let used = |seconds| Used { cpu: SECOND * seconds, peak_bytes: 9 };
        meter.begin(start, || SECOND * 5);
        let first = meter.ended((0, 2), 1, start + SECOND, used(6));
        assert_eq!((first.run_us, first.cpu_us, first.peak_bytes), (1_000_000, 1_000_000, 9));
        let next = meter.ended((2, 1), 1, start + SECOND * 3, used(6));
        assert_eq!((next.first, next.run_us, next.cpu_us), (2, 2_000_000, 0));
        meter.begin(start + SECOND * 60, || unreachable!("asked once"));
        let later = meter.ended((3, 1), 2, start + SECOND * 61, used(8));
        assert_eq!((later.attempt, later.run_us, later.cpu_us), (2, 1_000_000, 2_000_000));
    }
}
