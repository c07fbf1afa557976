//! The events of one call, numbered by `seq`, for any number of readers from any point.
//!
//! One writer (the call's owner task) appends; events go into segments of about 256 KiB. The newest segments lie in memory; past the memory budget the oldest are written to the spill by
//! [`Log::settle`], which the owner awaits, so that a disk slower than the workers, or full, slows the workers and nothing grows. Readers take events from wherever they lie.
//!
//! Everything is written in the end: a reader may come back for it, or come late. But what a live reader takes from memory need not be read back, and that
//! saves as much as writing costs; so `settle` waits for a reader that keeps up to pass a segment before it is
//! written, as long as it goes at a pace. One that is slower is not waited for again until it has caught up: it never slows the workers for long.
//!
//! The log of a background call is [`kept`](Log::kept): its events become visible to readers when the store has them, and what leaves memory is read from there. Nothing of it is forgotten.
//!
//! Prints have a budget. When it is used up, whole segments that every reader at work has read are forgotten (a live reader may thus pass any number of prints
//! through); if that does not help, new prints are dropped, and an event says how many bytes. Outputs are never dropped.

mod kept;
mod read;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use muster_wire::frame::{Frame, Kind};
use muster_wire::pieces::Pieces;
use serde_json::json;
use tokio::sync::{Notify, watch};

pub use self::read::{READ_BYTES, Read};
use crate::store::{Blob, Spill, StoreError};

const SEGMENT_BYTES: usize = 256 << 10;

/// What a log may hold.
#[derive(Debug, Clone, Copy)]
pub struct LogConfig {
    /// Bytes of events in memory before the oldest are spilled.
    pub memory_bytes: usize,
    /// Bytes of prints kept.
    pub print_bytes: u64,
}

/// The log of one call; shared by its writer and its readers.
#[derive(Debug)]
pub struct Log {
    state: Mutex<State>,
    end: watch::Sender<LogEnd>,
    /// A reader has gone on.
    passed: Notify,
    spill: Spill,
    config: LogConfig,
}

/// How far a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The last event's `seq`; 0 when there is none.
    pub seq: u64,
    /// Whether no event will follow.
    pub closed: bool,
}

#[derive(Debug, Default)]
struct State {
    segments: VecDeque<Segment>,
    last_seq: u64,
    closed: bool,
    memory: usize,
    /// Readers see events up to this one; in the log of a foreground call, all.
    visible: u64,
    /// The store keeps the events: bytes that it does not have yet, and whether the last event is among them.
    kept: Option<kept::Unsaved>,
    prints: u64,
    dropped: u64,
    forgotten: u64,
    readers: HashMap<u64, u64>,
    next_reader: u64,
    /// No reader kept up, and none has caught up since.
    behind: bool,
    /// What should have been spilled could not be: the disk is full.
    stuck: bool,
}

#[derive(Debug)]
struct Segment {
    last_seq: u64,
    bytes: usize,
    prints: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Memory(Arc<Vec<Frame<Pieces>>>),
    Spilled(Blob),
}

impl Log {
    /// An empty log.
    pub fn new(config: LogConfig, spill: Spill) -> Log {
        let end = watch::Sender::new(LogEnd { seq: 0, closed: false });
        Log { state: Mutex::default(), end, passed: Notify::new(), spill, config }
    }

    /// Appends a frame; an OUTPUTS frame counts as many events as it has outputs.
    pub fn append(&self, frame: impl Into<Frame<Pieces>>) {
        let mut state = self.lock();
        state.flush_dropped();
        state.push(frame);
        let end = state.end();
        drop(state);
        self.end.send_replace(end);
    }

    /// Appends a PRINT frame, unless the budget for prints is used up.
    pub fn append_print(&self, frame: impl Into<Frame<Pieces>>) {
        let frame = frame.into();
        let mut state = self.lock();
        let bytes = frame.body.len() as u64;
        if state.prints + bytes > self.config.print_bytes && state.kept.is_none() {
            state.forget_read();
        }
        if state.prints + bytes > self.config.print_bytes {
            state.dropped += bytes;
            return;
        }
        state.flush_dropped();
        state.push(frame);
        let end = state.end();
        drop(state);
        self.end.send_replace(end);
    }

    /// Appends the last event; readers end after it.
    pub fn close(&self, frame: impl Into<Frame<Pieces>>) {
        let mut state = self.lock();
        state.flush_dropped();
        state.push(frame);
        match &mut state.kept {
            Some(unsaved) => unsaved.close(),
            None => state.closed = true,
        }
        let end = state.end();
        drop(state);
        self.end.send_replace(end);
    }

    /// Spills the oldest segments until the rest fits the memory budget. Where the disk is full they stay, and the log is [clogged](Log::is_clogged) until this is called again when there is room.
    pub async fn settle(&self) -> Result<(), StoreError> {
        if self.trim() {
            return Ok(());
        }
        while let Some((last_seq, frames)) = self.oldest_in_memory() {
            let bytes = frames.iter().map(Frame::wire_len).sum();
            let passed = self.let_pass(last_seq, bytes).await;
            let parts: Vec<Bytes> = frames
                .iter()
                .flat_map(|frame| {
                    let header = Bytes::copy_from_slice(&frame.header());
                    std::iter::once(header).chain(frame.body.iter().cloned())
                })
                .collect();
            drop(frames);
            let blob = match self.spill.put(parts).await {
                Err(StoreError::Full) => {
                    self.lock().stuck = true;
                    return Ok(());
                }
                stored => stored?,
            };
            if passed {
                blob.set_aside();
            }
            let mut state = self.lock();
            let at = state.segments.partition_point(|segment| segment.last_seq < last_seq);
            let freed = match state.segments.get_mut(at) {
                Some(segment) if segment.last_seq == last_seq => {
                    segment.data = Data::Spilled(blob);
                    segment.bytes
                }
                _ => 0,
            };
            state.memory -= freed;
        }
        self.lock().stuck = false;
        Ok(())
    }

    /// Whether more is in memory than should stay there.
    pub fn is_over_budget(&self) -> bool {
        self.lock().memory > self.config.memory_bytes
    }

    fn oldest_in_memory(&self) -> Option<(u64, Arc<Vec<Frame<Pieces>>>)> {
        let state = self.lock();
        if state.memory <= self.config.memory_bytes {
            return None;
        }
        let sealed = state.segments.len().saturating_sub(1);
        state.segments.iter().take(sealed).find_map(|segment| match &segment.data {
            Data::Memory(frames) => Some((segment.last_seq, frames.clone())),
            Data::Spilled(_) => None,
        })
    }

    /// How far the log goes; changes wake its waiters.
    pub fn end(&self) -> watch::Receiver<LogEnd> {
        self.end.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&self) -> LogEnd {
        LogEnd { seq: self.visible, closed: self.closed }
    }

    fn push(&mut self, frame: impl Into<Frame<Pieces>>) {
        let mut frame = frame.into();
        frame.seq = self.last_seq + 1;
        self.last_seq = last_seq(&frame);
        let bytes = frame.wire_len();
        match &mut self.kept {
            Some(unsaved) => unsaved.add(bytes),
            None => self.visible = self.last_seq,
        }
        let prints = if frame.kind == Kind::Print { frame.body.len() as u64 } else { 0 };
        self.memory += bytes;
        self.prints += prints;
        if let Some(tail) = self.segments.back_mut()
            && tail.bytes < SEGMENT_BYTES
            && let Data::Memory(frames) = &mut tail.data
            && let Some(frames) = Arc::get_mut(frames)
        {
            frames.push(frame);
            tail.bytes += bytes;
            tail.prints += prints;
            tail.last_seq = self.last_seq;
            return;
        }
        let data = Data::Memory(Arc::new(vec![frame]));
        self.segments.push_back(Segment { last_seq: self.last_seq, bytes, prints, data });
    }

    /// Says how much was dropped since the last event.
    fn flush_dropped(&mut self) {
        if self.dropped > 0 {
            let event = dropped_event(std::mem::take(&mut self.dropped));
            self.push(event);
        }
    }

    /// Forgets segments that every reader has passed, if there is a reader.
    fn forget_read(&mut self) {
        let Some(&slowest) = self.readers.values().min() else { return };
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|segment| segment.last_seq <= slowest)
            && let Some(segment) = self.segments.pop_front()
        {
            self.prints -= segment.prints;
            self.forgotten += segment.bytes as u64;
            if matches!(segment.data, Data::Memory(_)) {
                self.memory -= segment.bytes;
            }
        }
    }
}

/// The event that says that bytes were dropped.
pub fn dropped_event(bytes: u64) -> Frame {
    let body = json!({"type": "dropped", "stream": "all", "bytes": bytes});
    Frame::new(Kind::Event, body.to_string())
}

/// The number of a frame's last event.
pub fn last_seq(frame: &Frame<Pieces>) -> u64 {
    // The fixed part of a batch lies in one piece: its frame was made here.
    match (frame.kind, frame.body.chunk().get(12..16)) {
        (Kind::Outputs, Some(&[a, b, c, d])) => {
            frame.seq + u64::from(u32::from_le_bytes([a, b, c, d])).max(1) - 1
        }
        _ => frame.seq,
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
