//! Pure: how many inputs a worker gets at once.
//!
//! The first batch of a worker is one input; then batches grow, at most fourfold each time, to what takes about 50 ms. Near
//! the end they shrink, so that no worker is left with much while others have nothing.

use std::time::Duration;

/// What a batch should take.
const TARGET: Duration = Duration::from_millis(50);
/// How much larger than its last one a worker's batch may be.
const GROWTH: usize = 4;
/// Bytes of inputs in one batch, unless a single input has more.
pub const MAX_BYTES: usize = 8 << 20;
/// What an input takes at least, for the arithmetic.
const LEAST: f64 = 1e-9;

/// What is known of the time that an input takes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pace {
    seconds: Option<f64>,
}

impl Pace {
    /// A batch of this many inputs took this long.
    pub fn observe(&mut self, inputs: usize, took: Duration) {
        if inputs > 0 {
            let now = (took.as_secs_f64() / inputs as f64).max(LEAST);
            // Half old, half new: fast enough to forget a slow start, slow enough not to follow each uneven input.
            self.seconds = Some(self.seconds.map_or(now, |before| (before + now) / 2.0));
        }
    }

    /// How many inputs one worker runs in this time; `None` before the first batch is done.
    pub fn within(&self, time: Duration) -> Option<f64> {
        self.seconds.map(|seconds| time.as_secs_f64() / seconds)
    }

    /// The next batch of a worker whose last batch had `last` inputs, while `waiting` inputs wait for `workers` workers.
    pub fn batch(&self, last: usize, waiting: usize, workers: usize) -> usize {
        let target = self.within(TARGET).unwrap_or(1.0) as usize;
        let share = waiting.div_ceil(2 * workers.max(1));
        target.min(share).min(last.saturating_mul(GROWTH)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(inputs: usize, took: Duration) -> Pace {
        let mut pace = Pace::default();
        pace.observe(inputs, took);
        pace
    }

    #[test]
    fn the_first_batch_is_one_input() {
        assert_eq!(Pace::default().batch(0, 1_000_000, 2), 1);
    }

    #[test]
    fn batches_grow_step_by_step_to_what_takes_50_ms() {
        let mut pace = Pace::default();
        let (mut last, mut sizes) = (0, Vec::new());
        for _ in 0..8 {
            last = pace.batch(last, 10_000_000, 2);
            sizes.push(last);
            pace.observe(last, Duration::from_micros(10) * last as u32);
        }
        assert_eq!(sizes, [1, 4, 16, 64, 256, 1024, 4096, 5000]);
    }

    #[test]
    fn near_the_end_what_is_left_is_shared() {
        let pace = pace(100, Duration::from_millis(1));
        assert_eq!(pace.batch(1000, 100, 4), 13);
        assert_eq!(pace.batch(1000, 3, 4), 1);
        assert_eq!(pace.batch(1000, 0, 4), 1);
    }

    #[test]
    fn slow_inputs_travel_alone() {
        assert_eq!(pace(1, Duration::from_secs(3)).batch(1, 1000, 2), 1);
    }

    #[test]
    fn a_slow_start_is_forgotten() {
        let mut pace = pace(1, Duration::from_millis(400));
        for _ in 0..12 {
            pace.observe(1, Duration::from_micros(100));
        }
        assert!(pace.batch(100, 1_000_000, 1) > 200);
    }
}
