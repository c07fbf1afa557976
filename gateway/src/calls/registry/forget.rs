//! Calls that were kept long enough: what they gave goes, and after a longer time their records.
//!
//! A call that has ended is kept for a time, counted by the age of the store, which is written down now and then; one that somebody reads is kept on, and the time of a foreground call begins when it was last read. Where the store is fuller than it should be, the oldest background calls that have ended go early.
//! Then the call *expires*: it leaves the table, its inputs, function and events are removed, and the store keeps its record alone (`past`). All that expire within seconds of each other are written together, so foreground calls, which are not in the store before, cost no write of their own.
//!
//! **Failures.** A background call that the store cannot expire now, as its disk is full, stays as it is, and its turn comes again. A foreground call goes without its record then: memory is bounded whatever the disk does.

use std::collections::HashSet;
use std::time::Duration;

use muster_wire::message::to_json;

use super::table::Table;
use super::{Calls, CallsConfig};
use crate::calls::CallHandle;
use crate::store::durable::{Change, StoredRecord};

/// How often calls that were kept long enough are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// How often the age of the store is written down, and old records are removed.
const AGE_EVERY: Duration = Duration::from_secs(60);
/// How many records of expired calls there may be: some hundred bytes each.
const RECORDS: u32 = 100_000;

/// A call whose time is over.
#[derive(Debug)]
struct Due {
    number: u64,
    handle: CallHandle,
    /// How old the store was when it ended.
    ended: Duration,
}

impl Calls {
    /// Removes a call from the store, if it is in it. What cannot be removed now comes back, ended, at the next start.
    pub(super) async fn erase(&self, call: &CallHandle) {
        let Some(kept) = &call.shared.kept else { return };
        match self.shared.journal.commit(vec![kept.delete()]).await {
            Ok(()) => kept.all_gone(),
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "a call could not be removed");
            }
        }
    }

    /// Has calls expire until the gateway stops.
    pub(super) async fn expire_all(self) {
        let mut aged = None;
        loop {
            tokio::select! {
                biased;
                () = self.shared.tasks.stopping() => return,
                () = tokio::time::sleep(EXPIRE_EVERY) => {}
            }
            let (age, journal) = (self.shared.age.now(), &self.shared.journal);
            let due = self.lock().due(&self.shared.config, age, journal.excess());
            self.expire(due).await;
            if aged.is_none_or(|aged| age - aged >= AGE_EVERY) {
                aged = Some(age);
                let ended_before_s = age.saturating_sub(self.shared.config.keep_records).as_secs();
                let forget = Change::Forget { ended_before_s, at_most: RECORDS };
                // If it cannot be written, calls and records are kept a little longer.
                drop(journal.submit(vec![Change::Age(age.as_secs()), forget]).await);
            }
            metrics::gauge!("muster_stored_bytes").set(journal.used() as f64);
            metrics::gauge!("muster_calls_live").set(self.live() as f64);
            metrics::gauge!("muster_spilled_bytes").set(self.shared.spill.used() as f64);
        }
    }

    async fn expire(&self, due: Vec<Due>) {
        if due.is_empty() {
            return;
        }
        let changes = due.iter().map(|due| Change::Expire(due.record())).collect();
        let expired = self.shared.journal.commit(changes).await;
        if let Err(error) = &expired {
            let (calls, error) = (due.len(), crate::chain(error));
            tracing::warn!(calls, error, "calls could not expire");
        }
        for Due { number, handle, .. } in due {
            match &handle.shared.kept {
                Some(_) if expired.is_err() => continue,
                Some(kept) => kept.all_gone(),
                None => {}
            }
            self.lock().remove(number);
        }
    }
}

impl Due {
    fn record(&self) -> StoredRecord {
        let handle = &self.handle;
        StoredRecord {
            call: handle.id().to_owned(),
            owner: handle.owner().to_owned(),
            ended_s: self.ended.as_secs(),
            record: to_json(&handle.record()),
        }
    }
}

impl Table {
    /// Calls that ended long enough ago and that nobody reads; and, of those the store keeps, the oldest, until `excess` bytes of it are free.
    fn due(&mut self, config: &CallsConfig, now: Duration, mut excess: u64) -> Vec<Due> {
        let mut due = Vec::new();
        let mut foreground = 0;
        for (&number, entry) in self.by_number.iter_mut().rev() {
            let shared = &entry.handle.shared;
            if shared.record.borrow().ended.is_none() {
                continue;
            }
            let ended = *entry.ended.get_or_insert(now);
            let is_read = shared.log.readers() > 0;
            let (since, keep, many) = if shared.options.background {
                (ended, config.keep_background, false)
            } else {
                let read = entry.read.get_or_insert(ended);
                if is_read {
                    *read = now;
                }
                foreground += 1;
                (*read, config.keep_foreground, foreground > config.keep_foreground_calls)
            };
            if !is_read && (many || now.saturating_sub(since) >= keep) {
                due.push(Due { number, handle: entry.handle.clone(), ended });
            }
        }
        let going: u64 = due.iter().map(|due| due.handle.stored_bytes()).sum();
        excess = excess.saturating_sub(going);
        let chosen: HashSet<u64> = due.iter().map(|due| due.number).collect();
        for (&number, entry) in &self.by_number {
            if excess == 0 {
                break;
            }
            let Some(ended) = entry.ended else { continue };
            let handle = &entry.handle;
            let goes = handle.shared.kept.is_some() && handle.shared.log.readers() == 0;
            if goes && !chosen.contains(&number) {
                excess = excess.saturating_sub(handle.stored_bytes());
                due.push(Due { number, handle: handle.clone(), ended });
            }
        }
        due
    }
}

#[cfg(test)]
#[path = "forget_tests.rs"]
mod tests;
