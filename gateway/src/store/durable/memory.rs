//! Calls in maps, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{
    Answer, Batch, CallStore, Change, Chunk, CreatedCall, Events, Payload, StoredCall, StoredChunk,
    StoredExchange, StoredRecord,
};
use crate::store::StoreError;

/// Keeps calls as long as it lives.
#[derive(Debug, Default)]
pub struct MemoryCallStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// The newest last.
    records: Vec<StoredRecord>,
    age_s: u64,
}

#[derive(Debug)]
struct Call {
    created: CreatedCall,
    total: Option<u64>,
    chunks: BTreeMap<u64, Chunk>,
    events: BTreeMap<u64, Events>,
    exchanges: BTreeMap<u64, StoredExchange>,
    end: Option<(Bytes, u64)>,
}

impl MemoryCallStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        call: &str,
        what: u64,
        read: impl FnOnce(&Call) -> Option<T>,
    ) -> Result<T, StoreError> {
        let state = self.lock();
        let call = state.calls.iter().find(|kept| kept.created.call == call);
        call.and_then(read).ok_or(StoreError::Damaged(what))
    }
}

impl State {
    fn apply(&mut self, change: &Change) {
        let id = match change {
            Change::Create(created) => {
                self.calls.push(Call {
                    created: created.clone(),
                    total: None,
                    chunks: BTreeMap::new(),
                    events: BTreeMap::new(),
                    exchanges: BTreeMap::new(),
                    end: None,
                });
                return;
            }
            Change::Age(age_s) => {
                self.age_s = *age_s;
                return;
            }
            Change::Delete { call } => {
                self.calls.retain(|kept| kept.created.call != *call);
                return;
            }
            Change::Expire(record) => {
                self.calls.retain(|kept| kept.created.call != record.call);
                self.records.retain(|kept| kept.call != record.call);
                self.records.push(record.clone());
                return;
            }
            Change::Forget { ended_before_s, at_most } => {
                self.records.retain(|kept| kept.ended_s >= *ended_before_s);
                let past = self.records.len().saturating_sub(*at_most as usize);
                self.records.drain(..past);
                return;
            }
            Change::Chunk(Chunk { call, .. })
            | Change::Events(Events { call, .. })
            | Change::Exchange(StoredExchange { call, .. })
            | Change::ExchangeEnd { call, .. }
            | Change::Close { call, .. }
            | Change::End { call, .. } => call,
        };
        let Some(call) = self.calls.iter_mut().find(|kept| kept.created.call == *id) else {
            return;
        };
        match change {
            Change::Chunk(chunk) => {
                call.chunks.insert(chunk.first, chunk.clone());
            }
            Change::Events(events) => {
                call.events.insert(events.first_seq, events.clone());
            }
            Change::Exchange(exchange) => {
                call.exchanges.insert(exchange.exchange, exchange.clone());
            }
            Change::ExchangeEnd { exchange, .. } => {
                call.exchanges.remove(exchange);
            }
            Change::Close { total, .. } => call.total = Some(*total),
            Change::End { record, age_s, .. } => {
                call.chunks.clear();
                call.exchanges.clear();
                call.end = Some((record.clone(), *age_s));
            }
            Change::Create(_)
            | Change::Delete { .. }
            | Change::Expire(_)
            | Change::Forget { .. }
            | Change::Age(_) => {}
        }
    }
}

impl Call {
    fn stored(&self) -> StoredCall {
        let live = self.end.is_none();
        let mut created = self.created.clone();
        if !live {
            created.function = Payload::new(vec![Bytes::new()]);
        }
        let chunk_bytes: usize = self.chunks.values().map(|chunk| chunk.payload.len()).sum();
        let event_bytes: usize = self.events.values().map(|events| events.payload.len()).sum();
        StoredCall {
            damaged: false,
            total: self.total,
            chunks: self
                .chunks
                .values()
                .map(|chunk| StoredChunk {
                    first: chunk.first,
                    count: chunk.count,
                    digest: chunk.digest,
                })
                .collect(),
            done: match live {
                true => self.events.values().flat_map(|events| events.done.clone()).collect(),
                false => Vec::new(),
            },
            exchanges: self.exchanges.values().cloned().collect(),
            last_seq: self.events.values().map(|events| events.last_seq).max().unwrap_or(0),
            attempt: self.events.values().map(|events| events.attempt).max().unwrap_or(0),
            end: self.end.clone(),
            bytes: (self.created.function.len() + chunk_bytes + event_bytes) as u64,
            created,
        }
    }

    fn events_after(&self, seq: u64, bytes: usize) -> Vec<Batch> {
        let mut sum = 0;
        let mut found = Vec::new();
        for events in self.events.values().filter(|events| events.last_seq > seq) {
            sum += events.payload.len();
            if !found.is_empty() && sum > bytes {
                break;
            }
            found.push(Batch::Whole(events.payload.joined()));
        }
        found
    }
}

impl CallStore for MemoryCallStore {
    fn commit<'a>(&'a self, changes: &'a [Change]) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.lock();
            changes.iter().for_each(|change| state.apply(change));
            Ok(())
        })
    }

    fn load(&self) -> Answer<'_, (Vec<StoredCall>, u64)> {
        let state = self.lock();
        let loaded = (state.calls.iter().map(Call::stored).collect(), state.age_s);
        Box::pin(async move { Ok(loaded) })
    }

    fn function<'a>(&'a self, call: &'a str) -> Answer<'a, Bytes> {
        let found = self.with(call, 0, |call| Some(call.created.function.joined()));
        Box::pin(async move { found })
    }

    fn chunk<'a>(&'a self, call: &'a str, first: u64) -> Answer<'a, Bytes> {
        let found = self.with(call, first, |call| Some(call.chunks.get(&first)?.payload.joined()));
        Box::pin(async move { found })
    }

    fn events<'a>(&'a self, call: &'a str, seq: u64, bytes: usize) -> Answer<'a, Vec<Batch>> {
        let found = self.with(call, seq, |call| Some(call.events_after(seq, bytes)));
        Box::pin(async move { found })
    }

    fn record<'a>(&'a self, call: &'a str) -> Answer<'a, Option<StoredRecord>> {
        let found = self.lock().records.iter().find(|kept| kept.call == call).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn records<'a>(
        &'a self,
        owner: Option<&'a str>,
        at_most: u32,
    ) -> Answer<'a, Vec<StoredRecord>> {
        let state = self.lock();
        let theirs = state.records.iter().rev();
        let theirs = theirs.filter(|kept| owner.is_none_or(|owner| kept.owner == owner));
        let found = theirs.take(at_most as usize).cloned().collect();
        Box::pin(async move { Ok(found) })
    }
}
