//! The events of one call, numbered by `seq`, for any number of readers from any point.
//!
//! One writer (the call's owner task) appends; events go into segments of about a MiB. The newest segments lie in memory; past the memory budget the oldest are written to the spill by
//! [`Log::settle`], which the owner awaits, so that a disk slower than the workers slows the workers and nothing grows. Readers take events from wherever they lie.
//!
//! Everything is written in the end: a reader may come back for it, or come late. But what a live reader takes from memory need not be read back, and that
//! saves as much as writing costs; so `settle` waits for a reader that keeps up to pass a segment before it is
//! written, as long as it goes at [`PACE`]. One that is slower is not waited for again until it has caught up: it never slows the workers for long.
//!
//! Prints have a budget. When it is used up, whole segments that every reader at work has read are forgotten (a live reader may thus pass any number of prints
//! through); if that does not help, new prints are dropped, and an event says how many bytes. Outputs are never dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::pieces::Pieces;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::store::{Blob, Spill, StoreError};

const SEGMENT_BYTES: usize = 1 << 20;
/// What a reader that is waited for has to take, in bytes a second, after a pause of at most so long.
const PACE: usize = 64 << 20;
const PAUSE: Duration = Duration::from_millis(100);
/// How many bytes of events a reader takes at once.
const READ_BYTES: usize = 1 << 20;

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
    prints: u64,
    dropped: u64,
    forgotten: u64,
    readers: HashMap<u64, u64>,
    next_reader: u64,
    /// No reader kept up, and none has caught up since.
    behind: bool,
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

/// What [`Log::read`] found.
#[derive(Debug)]
pub enum Read {
    /// Events, in order; the first may begin before the asked `seq` where an OUTPUTS frame spans it.
    Frames(Vec<Frame<Pieces>>),
    /// A spilled segment that holds the next events.
    Spilled(Blob),
    /// Events up to and including `seq`, `bytes` of prints and outputs, are no longer kept.
    Forgotten {
        /// The last forgotten event.
        seq: u64,
        /// Bytes that were forgotten.
        bytes: u64,
    },
    /// Nothing yet.
    Nothing,
    /// Nothing will come.
    Closed,
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
        if state.prints + bytes > self.config.print_bytes {
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
        state.closed = true;
        let end = state.end();
        drop(state);
        self.end.send_replace(end);
    }

    /// Spills the oldest segments until the rest fits the memory budget.
    pub async fn settle(&self) -> Result<(), StoreError> {
        while let Some((last_seq, frames)) = self.oldest_in_memory() {
            self.let_pass(last_seq, frames.iter().map(Frame::wire_len).sum()).await;
            let parts: Vec<Bytes> = frames
                .iter()
                .flat_map(|frame| {
                    let header = Bytes::copy_from_slice(&frame.header());
                    std::iter::once(header).chain(frame.body.iter().cloned())
                })
                .collect();
            drop(frames);
            let blob = self.spill.put(parts).await?;
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
        Ok(())
    }

    /// Waits until a reader that keeps up has passed a segment.
    async fn let_pass(&self, last_seq: u64, bytes: usize) {
        let deadline = Instant::now()
            + PAUSE
            + Duration::from_secs(1) * (bytes >> 10) as u32 / (PACE >> 10) as u32;
        loop {
            let passed = self.passed.notified();
            let mut passed = std::pin::pin!(passed);
            passed.as_mut().enable();
            {
                let state = self.lock();
                let behind = |seq: &u64| *seq < last_seq;
                if state.behind || state.readers.is_empty() || !state.readers.values().all(behind) {
                    return;
                }
            }
            if tokio::time::timeout_at(deadline, passed).await.is_err() {
                self.lock().behind = true;
                return;
            }
        }
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

    /// What comes after `seq`.
    pub fn read(&self, seq: u64) -> Read {
        let mut state = self.lock();
        if seq >= state.last_seq {
            state.behind = false;
            return if state.closed { Read::Closed } else { Read::Nothing };
        }
        let at = state.segments.partition_point(|segment| segment.last_seq <= seq);
        let Some(segment) = state.segments.get(at) else { return Read::Nothing };
        match &segment.data {
            Data::Spilled(blob) => Read::Spilled(blob.clone()),
            Data::Memory(frames) => {
                if let Some(first) = frames.first()
                    && first.seq > seq + 1
                {
                    return Read::Forgotten { seq: first.seq - 1, bytes: state.forgotten };
                }
                Read::Frames(after(frames, seq))
            }
        }
    }

    /// The frames of a spilled segment that come after `seq`.
    pub fn decode(bytes: Bytes, seq: u64) -> Result<Vec<Frame<Pieces>>, StoreError> {
        let mut decoder = Decoder::default();
        decoder.give(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder
            .next_in_pieces()
            .map_err(|error| StoreError::Io(std::io::Error::other(error)))?
        {
            frames.push(frame);
        }
        let at = frames.partition_point(|frame| last_seq(frame) <= seq);
        Ok(frames.split_off(at))
    }

    /// How far the log goes; changes wake its waiters.
    pub fn end(&self) -> watch::Receiver<LogEnd> {
        self.end.subscribe()
    }

    /// Registers a reader that has everything up to `seq`.
    pub fn enter(&self, seq: u64) -> u64 {
        let mut state = self.lock();
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, seq);
        id
    }

    /// A reader has everything up to `seq`.
    pub fn passed(&self, reader: u64, seq: u64) {
        self.lock().readers.insert(reader, seq);
        self.passed.notify_waiters();
    }

    /// A reader has gone; gives how many are left.
    pub fn leave(&self, reader: u64) -> usize {
        let mut state = self.lock();
        state.readers.remove(&reader);
        self.passed.notify_waiters();
        state.readers.len()
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        self.lock().readers.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&self) -> LogEnd {
        LogEnd { seq: self.last_seq, closed: self.closed }
    }

    fn push(&mut self, frame: impl Into<Frame<Pieces>>) {
        let mut frame = frame.into();
        frame.seq = self.last_seq + 1;
        self.last_seq = last_seq(&frame);
        let bytes = frame.wire_len();
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

fn after(frames: &[Frame<Pieces>], seq: u64) -> Vec<Frame<Pieces>> {
    let at = frames.partition_point(|frame| last_seq(frame) <= seq);
    let mut bytes = 0;
    frames[at..]
        .iter()
        .take_while(|frame| {
            let fits = bytes < READ_BYTES;
            bytes += frame.wire_len();
            fits
        })
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use muster_wire::batch::{OutputsBuilder, Status};
    use muster_wire::print::{Print, Stream};

    use super::*;
    use crate::store::MemoryStore;

    fn log(memory_bytes: usize, print_bytes: u64) -> Log {
        Log::new(
            LogConfig { memory_bytes, print_bytes },
            Spill::new(MemoryStore::default(), u64::MAX),
        )
    }

    fn print(bytes: usize) -> Frame {
        let bytes = Bytes::from(vec![b'x'; bytes]);
        Print { index: 0, attempt: 1, stream: Stream::Stdout, bytes }.to_frame()
    }

    fn outputs(first: u64, count: u64) -> Frame {
        let mut builder = OutputsBuilder::new(first, 1);
        (0..count).for_each(|_| builder.push(Status::Value, b"v"));
        builder.finish().to_frame()
    }

    async fn read_all(log: &Log, mut seq: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        loop {
            let frames = match log.read(seq) {
                Read::Frames(frames) => frames,
                Read::Spilled(blob) => {
                    Log::decode(blob.get().await.expect("there"), seq).expect("own bytes")
                }
                Read::Forgotten { seq: forgotten, .. } => {
                    seq = forgotten;
                    continue;
                }
                Read::Nothing | Read::Closed => return seqs,
            };
            for frame in frames {
                seqs.extend(frame.seq..=last_seq(&frame));
                seq = last_seq(&frame);
            }
        }
    }

    #[tokio::test]
    async fn every_event_has_the_next_number_also_when_spilled() {
        let log = log(0, u64::MAX);
        for _ in 0..40 {
            log.append_print(print(100_000));
            log.append(outputs(0, 3));
            log.settle().await.expect("room");
        }
        assert_eq!(read_all(&log, 0).await, (1..=160).collect::<Vec<_>>());
        assert_eq!(read_all(&log, 100).await.last(), Some(&160));
        assert!(log.lock().memory <= SEGMENT_BYTES + 200_000, "only the tail stays in memory");
    }

    /// A reader that takes what is there every `pause`, while 30 segments are appended; how often it was sent to the spill, and how long that took.
    async fn follow(pause: Duration) -> (usize, Duration) {
        let log = Arc::new(log(0, u64::MAX));
        let begun = Instant::now();
        let reading = tokio::spawn({
            let log = log.clone();
            async move {
                let (reader, mut end) = (log.enter(0), log.end());
                let (mut seq, mut spilled) = (0, 0);
                loop {
                    let frames = match log.read(seq) {
                        Read::Frames(frames) => frames,
                        Read::Spilled(blob) => {
                            spilled += 1;
                            Log::decode(blob.get().await.expect("there"), seq).expect("own bytes")
                        }
                        Read::Closed => return spilled,
                        _ => {
                            end.changed().await.expect("a writer");
                            continue;
                        }
                    };
                    tokio::time::sleep(pause).await;
                    seq = frames.last().map_or(seq, last_seq);
                    log.passed(reader, seq);
                }
            }
        });
        tokio::task::yield_now().await;
        for _ in 0..30 {
            log.append(print(SEGMENT_BYTES));
            log.settle().await.expect("room");
        }
        let took = begun.elapsed();
        log.close(dropped_event(0));
        (reading.await.expect("it ends"), took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_keeps_up_is_waited_for_and_never_sent_to_the_spill() {
        assert_eq!(follow(Duration::from_millis(5)).await.0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for_once() {
        let (spilled, took) = follow(Duration::from_secs(10)).await;
        assert!(spilled > 20, "{spilled} of 30 segments");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test]
    async fn a_reader_that_resumes_inside_a_batch_gets_the_batch_whole() {
        let log = log(1 << 20, u64::MAX);
        log.append(outputs(0, 10));
        assert_eq!(read_all(&log, 4).await, (1..=10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_live_reader_lets_any_number_of_prints_through() {
        let log = log(1 << 30, 5 << 20);
        let reader = log.enter(0);
        for _ in 0..50 {
            log.append_print(print(1 << 20));
            log.passed(reader, log.end().borrow().seq);
        }
        assert_eq!(log.end().borrow().seq, 50, "nothing was dropped");
    }

    #[tokio::test]
    async fn without_a_reader_prints_past_the_budget_are_dropped_and_counted() {
        let log = log(1 << 30, 5 << 20);
        for _ in 0..50 {
            log.append_print(print(1 << 20));
        }
        log.append(outputs(0, 1));
        let Read::Frames(frames) = log.read(4) else { panic!("in memory") };
        let text = String::from_utf8_lossy(&frames[0].body.joined()).into_owned();
        assert!(
            text.contains("\"dropped\"") && text.contains(&(46 * ((1 << 20) + 16)).to_string()),
            "{text}"
        );
        assert_eq!(frames[1].kind, Kind::Outputs, "outputs are never dropped");
    }
}
