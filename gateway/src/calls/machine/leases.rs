//! The inputs that one link holds, as ranges, each at its attempt.

use std::collections::BTreeMap;

use super::Range;

/// What one link holds.
#[derive(Debug, Default)]
pub(super) struct Leases {
    ranges: BTreeMap<u64, (u64, u32)>,
    inputs: u64,
}

impl Leases {
    /// Adds inputs that it does not hold yet.
    pub fn insert(&mut self, Range { first, end, attempt }: Range) {
        self.ranges.insert(first, (end, attempt));
        self.inputs += end - first;
    }

    /// Removes what of `first .. end` it holds at `attempt`, and gives it, joined where parts are next to each other.
    pub fn take(&mut self, first: u64, end: u64, attempt: u32) -> Vec<(u64, u64)> {
        let mut taken: Vec<(u64, u64)> = Vec::new();
        let mut at = first;
        while at < end {
            let held = self.ranges.range(..=at).next_back().map(|(&from, &range)| (from, range));
            match held {
                Some((from, (until, held_attempt))) if at < until => {
                    let stop = until.min(end);
                    if held_attempt == attempt {
                        self.ranges.remove(&from);
                        if from < at {
                            self.ranges.insert(from, (at, attempt));
                        }
                        if stop < until {
                            self.ranges.insert(stop, (until, attempt));
                        }
                        self.inputs -= stop - at;
                        match taken.last_mut() {
                            Some((_, last)) if *last == at => *last = stop,
                            _ => taken.push((at, stop)),
                        }
                    }
                    at = stop;
                }
                _ => match self.ranges.range(at..end).next() {
                    Some((&next, _)) => at = next,
                    None => break,
                },
            }
        }
        taken
    }

    /// How many inputs it holds.
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// All it holds, in order.
    pub fn into_ranges(self) -> impl Iterator<Item = Range> {
        let range = |(first, (end, attempt))| Range { first, end, attempt };
        self.ranges.into_iter().map(range)
    }
}
