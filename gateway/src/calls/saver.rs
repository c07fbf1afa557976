//! Saves what a background call's log gets: one write at a time, each with all that has come since the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::batch::{Outputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::pieces::Pieces;
use muster_wire::print::Print;
use tokio::time::Instant;

use super::CallRecord;
use super::handle::Shared;
use super::kept::Kept;
use super::log::last_seq;
use crate::store::durable::{Change, Done, Events, Payload, Written, written};
use crate::store::{FULL_PAUSE, StoreError};

/// How much a gateway that stops waits for what is being written.
const LAST_WRITE: Duration = Duration::from_secs(3);

pub(super) struct Saver {
    shared: Arc<Shared>,
    kept: Kept,
    under_way: Option<UnderWay>,
    full_until: Option<Instant>,
    /// The last write found the disk full.
    full: bool,
}

/// A write.
struct UnderWay {
    outcome: Written,
    /// Its last event.
    last: Option<u64>,
    /// Bytes of its events.
    bytes: usize,
    /// What it says of exchanges.
    exchanges: Vec<Change>,
}

impl Saver {
    /// For a call that the store keeps.
    pub fn of(shared: &Arc<Shared>) -> Option<Saver> {
        let kept = shared.kept.clone()?;
        Some(Saver { shared: shared.clone(), kept, under_way: None, full_until: None, full: false })
    }

    /// Begins to save what is not, unless something is being saved; `began` says that inputs may have had an attempt, `exchanges` how far they are with these events.
    pub async fn go_on(&mut self, began: bool, exchanges: impl FnOnce(bool) -> Vec<Change>) {
        if self.under_way.is_some() || self.full_until.is_some() {
            return;
        }
        let events = self.events(began);
        let exchanges = exchanges(events.is_some());
        if events.is_none() && exchanges.is_empty() {
            return;
        }
        let last = events.as_ref().map(|events| events.last_seq);
        let bytes = events.as_ref().map_or(0, |events| events.payload.len());
        let changes = events.map(Change::Events).into_iter().chain(exchanges.iter().cloned());
        let outcome = self.kept.journal.submit(changes.collect()).await;
        self.under_way = Some(UnderWay { outcome, last, bytes, exchanges });
    }

    /// Whether events wait for space in the store.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Waits until something was saved, or should be tried again; for ever if there is neither. Gives what was saved of exchanges. Cancel-safe.
    pub async fn step(&mut self) -> Result<Vec<Change>, StoreError> {
        if let Some(under_way) = &mut self.under_way {
            let outcome = (&mut under_way.outcome).await.unwrap_or(Err(StoreError::Closed));
            let saved = self.under_way.take();
            return saved.map_or(Ok(Vec::new()), |saved| self.take(outcome, saved));
        }
        match self.full_until {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        self.full_until = None;
        Ok(Vec::new())
    }

    /// Saves the last events and the end, however long the disk is full. Not visible yet: the caller tells the log.
    pub async fn end(mut self, record: &CallRecord, stopping: impl Fn() -> bool) -> bool {
        let json = match serde_json::to_vec(record) {
            Ok(json) => Bytes::from(json),
            Err(error) => {
                tracing::error!(error = crate::chain(&error), "a record could not be written");
                return false;
            }
        };
        while self.under_way.is_some() {
            if self.step().await.is_err() {
                return false;
            }
        }
        loop {
            let events = self.events(true);
            let bytes = events.as_ref().map_or(0, |events| events.payload.len());
            let mut changes: Vec<Change> = events.map(Change::Events).into_iter().collect();
            changes.push(self.kept.end(json.clone()));
            match written(self.kept.journal.submit(changes).await).await {
                Ok(()) => {
                    self.kept.grow(bytes as u64);
                    self.kept.inputs_gone();
                    return true;
                }
                Err(StoreError::Full) if !stopping() => tokio::time::sleep(FULL_PAUSE).await,
                Err(_) => return false,
            }
        }
    }

    /// The gateway stops: what can be saved soon, is. The rest is run again.
    pub async fn suspend(mut self, exchanges: impl Fn(bool) -> Vec<Change>) {
        let all = async {
            loop {
                let before = self.under_way.is_some();
                self.go_on(true, &exchanges).await;
                if self.under_way.is_none() || self.step().await.is_err() || !before {
                    return;
                }
            }
        };
        if tokio::time::timeout(LAST_WRITE, all).await.is_err() {
            tracing::warn!(call = self.shared.spec.call, "the last events were not saved in time");
        }
        self.shared.log.suspend();
    }

    fn take(
        &mut self,
        outcome: Result<(), StoreError>,
        saved: UnderWay,
    ) -> Result<Vec<Change>, StoreError> {
        self.full = matches!(outcome, Err(StoreError::Full));
        match outcome {
            Ok(()) => {
                self.kept.grow(saved.bytes as u64);
                if let Some(last) = saved.last {
                    self.shared.log.saved(last);
                }
                Ok(saved.exchanges)
            }
            Err(StoreError::Full) => {
                tracing::warn!(call = self.shared.spec.call, "no space for events, trying again");
                self.full_until = Some(Instant::now() + FULL_PAUSE);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn events(&self, began: bool) -> Option<Events> {
        let frames = self.shared.log.unsaved();
        let (first, last) = (frames.first()?.seq, last_seq(frames.last()?));
        let (done, attempt) = summary(&frames);
        let pieces = frames.into_iter().flat_map(|frame| {
            let header = Bytes::copy_from_slice(&frame.header());
            std::iter::once(header).chain(frame.body)
        });
        Some(Events {
            call: self.shared.spec.call.clone(),
            first_seq: first,
            last_seq: last,
            done,
            attempt: attempt.max(u32::from(began)),
            payload: Payload::new(pieces.collect()),
        })
    }
}

/// Which inputs ended with these events, and the highest attempt that they tell of.
fn summary(frames: &[Frame<Pieces>]) -> (Vec<Done>, u32) {
    let mut ended: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
    let mut highest = 0;
    for frame in frames {
        match frame.kind {
            Kind::Outputs => {
                let Ok(outputs) = Outputs::decode(frame.body.clone()) else { continue };
                highest = highest.max(outputs.attempt);
                let failed = outputs.statuses().filter(|&status| status != Status::Value).count();
                let (mut first, failed) = (outputs.first, failed as u32);
                // One that failed keeps its place: it may be what ends the call.
                if failed == 0
                    && let Some((&before, &(end, 0))) = ended.range(..first).next_back()
                    && end == first
                    && outputs.end() - before <= u64::from(u32::MAX)
                {
                    first = before;
                }
                ended.insert(first, (outputs.end(), failed));
            }
            Kind::Print => {
                if let Ok(print) = Print::decode(frame.clone().joined().body) {
                    highest = highest.max(print.attempt);
                }
            }
            _ => {}
        }
    }
    let done = ended.into_iter().map(|(first, (end, failed))| Done {
        first,
        count: (end - first) as u32,
        failed,
    });
    (done.collect(), highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_told_in_ranges_each_failure_by_itself_with_the_highest_attempt() {
        let output = |index, attempt, status| -> Frame<Pieces> {
            Outputs::single(index, attempt, status, b"x").in_pieces()
        };
        let frames = [
            output(3, 1, Status::Value),
            output(9, 4, Status::Failure),
            output(4, 1, Status::Value),
            output(5, 2, Status::Exception),
        ];
        let done = |first, count, failed| Done { first, count, failed };
        assert_eq!(summary(&frames), (vec![done(3, 2, 0), done(5, 1, 1), done(9, 1, 1)], 4));
    }
}
