//! Logs that the store keeps.

use muster_wire::frame::Frame;
use muster_wire::pieces::Pieces;

use super::{Data, Log, LogConfig, State, last_seq};
use crate::store::Spill;

/// What the store does not have yet.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    bytes: usize,
    /// The last event has been appended.
    closing: bool,
}

impl Unsaved {
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    pub(super) fn close(&mut self) {
        self.closing = true;
    }
}

impl Log {
    /// A log that the store keeps, with events up to `last_seq` in it already; `closed` if those are all.
    pub fn kept(config: LogConfig, spill: Spill, last_seq: u64, closed: bool) -> Log {
        let log = Log::new(config, spill);
        let mut state = log.lock();
        *state = State {
            last_seq,
            visible: last_seq,
            closed,
            kept: Some(Unsaved::default()),
            ..State::default()
        };
        let end = state.end();
        drop(state);
        log.end.send_replace(end);
        log
    }

    /// The events that the store does not have yet.
    pub fn unsaved(&self) -> Vec<Frame<Pieces>> {
        let state = self.lock();
        let at = state.segments.partition_point(|segment| segment.last_seq <= state.visible);
        let rest = state.segments.range(at..).filter_map(|segment| match &segment.data {
            Data::Memory(frames) => Some(frames.iter()),
            Data::Spilled(_) => None,
        });
        rest.flatten().filter(|frame| frame.seq > state.visible).cloned().collect()
    }

    /// The store has the events up to this one: readers may see them.
    pub fn saved(&self, last: u64) {
        let mut state = self.lock();
        state.visible = last;
        let left = state.segments.iter().rev().take_while(|segment| segment.last_seq > last);
        let left: usize = left
            .filter_map(|segment| match &segment.data {
                Data::Memory(frames) => Some(frames),
                Data::Spilled(_) => None,
            })
            .flat_map(|frames| frames.iter().rev().take_while(|frame| last_seq(frame) > last))
            .map(Frame::wire_len)
            .sum();
        let last_seq = state.last_seq;
        let closed = state.kept.as_mut().is_some_and(|unsaved| {
            unsaved.bytes = left;
            unsaved.closing && last == last_seq
        });
        state.closed |= closed;
        let end = state.end();
        drop(state);
        self.end.send_replace(end);
    }

    /// The last event's number, saved or not.
    pub fn last_seq(&self) -> u64 {
        self.lock().last_seq
    }

    /// Whether more waits to be saved, or spilled, than should be in memory: nothing should be added that can wait.
    pub fn is_clogged(&self) -> bool {
        let state = self.lock();
        match &state.kept {
            Some(unsaved) => unsaved.bytes > self.config.memory_bytes,
            None => state.stuck,
        }
    }

    /// This gateway stops, the call does not: readers end here, to come back to the next gateway.
    pub fn suspend(&self) {
        let mut state = self.lock();
        state.closed = true;
        let end = state.end();
        drop(state);
        self.end.send_replace(end);
    }

    /// Drops from memory what the store has and does not fit the budget; whether this is a log that the store keeps.
    pub(super) fn trim(&self) -> bool {
        let mut state = self.lock();
        if state.kept.is_none() {
            return false;
        }
        while state.memory > self.config.memory_bytes
            && let Some(oldest) = state.segments.front()
            && oldest.last_seq <= state.visible
        {
            state.memory -= oldest.bytes;
            state.segments.pop_front();
        }
        true
    }
}
