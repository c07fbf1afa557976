//! When the workers of each call began, and how many there are: told by the workers, asked by scenarios.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A cheap handle to what the workers told.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    calls: Arc<Mutex<HashMap<String, Begun>>>,
}

/// The workers of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Begun {
    /// How many were given inputs, since ever.
    pub begun: u64,
    /// How many of them are there now.
    pub now: u64,
    /// When the first was given inputs.
    pub first: Option<Instant>,
    /// When the last one was.
    pub last: Option<Instant>,
}

impl Tally {
    /// A worker of this call was given its first inputs.
    pub fn begins(&self, call: &str) {
        let mut calls = self.lock();
        let found = match calls.get_mut(call) {
            Some(found) => found,
            None => calls.entry(call.to_owned()).or_default(),
        };
        let now = Instant::now();
        found.begun += 1;
        found.now += 1;
        found.first.get_or_insert(now);
        found.last = Some(now);
    }

    /// A worker that had begun is gone.
    pub fn ends(&self, call: &str) {
        if let Some(found) = self.lock().get_mut(call) {
            found.now -= 1;
        }
    }

    /// What is known of a call.
    pub fn of(&self, call: &str) -> Begun {
        self.lock().get(call).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Begun>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
