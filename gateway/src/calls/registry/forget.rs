//! Forgetting calls that were kept long enough: from the table, and from the store where it has them.
//!
//! A call that has ended is kept for a time, counted by the age of the store, which is written down now and then; one that somebody reads is kept on. Where the store is fuller than it should be, the oldest background calls that have ended go early.

use std::time::Duration;

use super::table::Table;
use super::{Calls, CallsConfig};
use crate::calls::CallHandle;
use crate::store::durable::Change;

/// How often calls that were kept long enough are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// How often the age of the store is written down.
const AGE_EVERY: Duration = Duration::from_secs(60);

impl Calls {
    /// Removes calls from the store, those that are in it. What cannot be removed now comes back, ended, at the next start.
    pub(super) async fn erase(&self, calls: &[CallHandle]) {
        let kept: Vec<_> = calls.iter().filter_map(|call| call.shared.kept.as_ref()).collect();
        if kept.is_empty() {
            return;
        }
        let changes = kept.iter().map(|kept| kept.delete()).collect();
        match self.shared.journal.commit(changes).await {
            Ok(()) => kept.iter().for_each(|kept| kept.all_gone()),
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "calls could not be removed");
            }
        }
    }

    /// Forgets calls until the gateway stops.
    pub(super) async fn forget(self) {
        let mut aged = self.shared.age.now();
        loop {
            tokio::select! {
                biased;
                () = self.shared.tasks.stopping() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            let (age, journal) = (self.shared.age.now(), &self.shared.journal);
            let gone = self.lock().forget(&self.shared.config, age, journal.excess());
            self.erase(&gone).await;
            if age - aged >= AGE_EVERY && journal.used() > 0 {
                aged = age;
                // If it cannot be written, calls are kept a little longer.
                drop(journal.submit(vec![Change::Age(age.as_secs())]).await);
            }
            metrics::gauge!("muster_stored_bytes").set(journal.used() as f64);
            metrics::gauge!("muster_calls_live").set(self.live() as f64);
            metrics::gauge!("muster_spilled_bytes").set(self.shared.spill.used() as f64);
        }
    }
}

impl Table {
    /// Forgets calls that ended long enough ago and that nobody reads; and, of those the store keeps, the oldest, until `excess` bytes of it are free. Gives them.
    fn forget(&mut self, config: &CallsConfig, now: Duration, mut excess: u64) -> Vec<CallHandle> {
        let mut gone = Vec::new();
        for (&number, entry) in &self.by_number {
            let shared = &entry.handle.shared;
            if let Some(kept) = &shared.kept
                && excess > 0
                && shared.record.borrow().state.is_end()
                && shared.log.readers() == 0
            {
                excess = excess.saturating_sub(kept.bytes());
                gone.push(number);
            }
        }
        let mut foreground = 0;
        for (&number, kept) in self.by_number.iter_mut().rev() {
            let shared = &kept.handle.shared;
            if !shared.record.borrow().state.is_end() {
                continue;
            }
            let ended = *kept.ended.get_or_insert(now);
            let (keep, many) = if shared.options.background {
                (config.keep_background, false)
            } else {
                foreground += 1;
                (config.keep_foreground, foreground > config.keep_foreground_calls)
            };
            if shared.log.readers() == 0 && (many || now.saturating_sub(ended) >= keep) {
                gone.push(number);
            }
        }
        gone.into_iter()
            .filter_map(|number| self.remove(number))
            .map(|entry| entry.handle)
            .collect()
    }
}
