//! What counts against inputs that failed, and when it is enough: an input is tried again as often as its call asks, and after losses of ours; one that kills worker after worker is not.

use std::collections::HashMap;

use super::{Fault, Verdict};

/// Losses of ours that one input survives.
const MAX_LOST: u32 = 5;
/// Workers one input may kill.
const MAX_KILLS: u32 = 3;

/// The inputs that failed and have no output yet.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    by_input: HashMap<u64, Strike>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Strike {
    retried: u32,
    killed: u32,
    lost: u32,
}

impl Strikes {
    /// Notes that an attempt failed, of a call whose inputs are tried again up to `retries` times: whether this input is, or this was its end.
    pub fn judge(&mut self, index: u64, fault: Fault, retries: u32) -> Verdict {
        let strikes = self.by_input.entry(index).or_default();
        let (again, poison) = match fault {
            Fault::Lost => {
                strikes.lost += 1;
                (strikes.lost < MAX_LOST, false)
            }
            Fault::Permanent => (false, false),
            Fault::Raised | Fault::Killed => {
                strikes.killed += u32::from(fault == Fault::Killed);
                let poison = strikes.killed >= MAX_KILLS && strikes.retried < retries;
                let again = strikes.retried < retries && !poison;
                strikes.retried += u32::from(again);
                (again, poison)
            }
        };
        if again {
            return Verdict::Again;
        }
        self.by_input.remove(&index);
        if poison { Verdict::Poison } else { Verdict::Commit }
    }

    /// Inputs `first .. end` have their outputs.
    pub fn forget(&mut self, first: u64, end: u64) {
        if (end - first) as usize > self.by_input.len() {
            self.by_input.retain(|index, _| !(first..end).contains(index));
        } else {
            for index in first..end {
                self.by_input.remove(&index);
            }
        }
    }
}
