//! How long credentials are good, for what goes on under them: one signal for each that is in use.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// The lives in use, by the ids of their credentials.
#[derive(Debug, Default)]
pub struct Lives(Mutex<HashMap<String, CancellationToken>>);

impl Lives {
    /// The life of this credential; over already, if it is not good.
    pub fn of(&self, id: &str, is_good: impl Fn(&str) -> bool) -> CancellationToken {
        // Whether it is good is asked under the lock: a change after that finds the life it has to end.
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = lives.get(id) {
            return life.clone();
        }
        let life = CancellationToken::new();
        match is_good(id) {
            true => drop(lives.insert(id.to_owned(), life.clone())),
            false => life.cancel(),
        }
        life
    }

    /// Ends the lives of those that are not good any more.
    pub fn sweep(&self, is_good: impl Fn(&str) -> bool) {
        let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|id, life| {
            let good = is_good(id);
            if !good {
                life.cancel();
            }
            good
        });
    }
}
