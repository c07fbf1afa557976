//! Pure: how long each input of a call takes, and what it gives. A call carries this where others have their function.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the inputs of a call do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How long an input takes, or takes on average, in microseconds.
    pub takes_us: u64,
    /// Whether the durations are spread exponentially around that.
    pub uneven: bool,
    /// Bytes of an output; without it an output is its input.
    pub output_bytes: Option<usize>,
    /// Another seed, other durations.
    pub seed: u64,
}

impl Plan {
    /// How long this input takes.
    pub fn takes(&self, index: u64) -> Duration {
        let mean = Duration::from_micros(self.takes_us);
        if !self.uneven {
            return mean;
        }
        // In (0, 1], so that the logarithm is finite.
        let random = ((mix(self.seed ^ mix(index)) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        mean.mul_f64(-random.ln())
    }

    /// What this input gives.
    pub fn output(&self, input: &Bytes) -> Bytes {
        match self.output_bytes {
            None => input.clone(),
            Some(bytes) => input.iter().copied().cycle().take(bytes).collect(),
        }
    }
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_inputs_all_take_the_same() {
        let plan = Plan { takes_us: 1500, ..Plan::default() };
        assert_eq!(plan.takes(3), Duration::from_micros(1500));
        assert_eq!(plan.takes(4), plan.takes(3));
    }

    #[test]
    fn uneven_inputs_take_their_mean_on_average_and_the_same_each_time() {
        let plan = Plan { takes_us: 1000, uneven: true, seed: 7, ..Plan::default() };
        let sum: Duration = (0..10_000).map(|index| plan.takes(index)).sum();
        assert!((9.0..11.0).contains(&sum.as_secs_f64()), "{sum:?}");
        assert_eq!(plan.takes(5), plan.takes(5));
        assert_ne!(plan.takes(5), Plan { seed: 8, ..plan }.takes(5));
    }

    #[test]
    fn an_output_is_the_input_or_as_long_as_asked() {
        let input = Bytes::from_static(b"abc");
        assert_eq!(Plan::default().output(&input), input);
        let long = Plan { output_bytes: Some(7), ..Plan::default() };
        assert_eq!(long.output(&input), "abcabca");
    }
}
