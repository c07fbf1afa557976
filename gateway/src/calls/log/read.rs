//! How readers take events from wherever they lie, and how far they are.

use std::time::Duration;

use bytes::Bytes;
use muster_wire::frame::{Decoder, Frame};
use muster_wire::pieces::Pieces;
use tokio::time::Instant;

use super::{Data, Log, last_seq};
use crate::store::{Blob, StoreError};

/// What a reader that is waited for has to take, in bytes a second, after a pause of at most so long.
const PACE: usize = 64 << 20;
const PAUSE: Duration = Duration::from_millis(100);
/// How many bytes of events a reader takes at once: what it holds of the log's memory while its client is slow.
pub const READ_BYTES: usize = 64 << 10;

/// What [`Log::read`] found.
#[derive(Debug)]
pub enum Read {
    /// Events, in order; the first may begin before the asked `seq` where an OUTPUTS frame spans it.
    Frames(Vec<Frame<Pieces>>),
    /// A spilled segment that holds the next events, up to its last.
    Spilled {
        /// Where they lie.
        blob: Blob,
        /// The last of them.
        last_seq: u64,
    },
    /// The next events are in the store.
    Stored,
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
    /// What comes after `seq`.
    pub fn read(&self, seq: u64) -> Read {
        let mut state = self.lock();
        if seq >= state.visible {
            state.behind = false;
            return if state.closed { Read::Closed } else { Read::Nothing };
        }
        let at = state.segments.partition_point(|segment| segment.last_seq <= seq);
        let Some(segment) = state.segments.get(at) else {
            return if state.kept.is_some() { Read::Stored } else { Read::Nothing };
        };
        match &segment.data {
            Data::Spilled(blob) => Read::Spilled { blob: blob.clone(), last_seq: segment.last_seq },
            Data::Memory(frames) => {
                if let Some(first) = frames.first()
                    && first.seq > seq + 1
                {
                    if state.kept.is_some() {
                        return Read::Stored;
                    }
                    return Read::Forgotten { seq: first.seq - 1, bytes: state.forgotten };
                }
                Read::Frames(after(frames, seq, state.visible, READ_BYTES))
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

    /// The next frames after `seq` of what was spilled or stored, about `most` bytes; they hold no more memory than they are long.
    pub fn decode_next(
        stored: Vec<Bytes>,
        seq: u64,
        most: usize,
    ) -> Result<Vec<Frame<Pieces>>, StoreError> {
        let all: usize = stored.iter().map(Bytes::len).sum();
        let decoded = stored.into_iter().map(|bytes| Log::decode(bytes, seq));
        let decoded = decoded.collect::<Result<Vec<_>, _>>()?.concat();
        let mut frames = after(&decoded, seq, u64::MAX, most);
        let taken: usize = frames.iter().map(Frame::wire_len).sum();
        if taken < all / 2 {
            for frame in &mut frames {
                frame.body = Bytes::copy_from_slice(&frame.body.joined()).into();
            }
        }
        Ok(frames)
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

    /// Waits until a reader that keeps up has passed a segment. Whether all readers there are have: then hardly anybody will read it again.
    pub(super) async fn let_pass(&self, last_seq: u64, bytes: usize) -> bool {
        let deadline = Instant::now()
            + PAUSE
            + Duration::from_secs(1) * (bytes >> 10) as u32 / (PACE >> 10) as u32;
        loop {
            let passed = self.passed.notified();
            let mut passed = std::pin::pin!(passed);
            passed.as_mut().enable();
            {
                let state = self.lock();
                let passed = state.readers.values().filter(|seq| **seq >= last_seq).count();
                if state.behind || state.readers.is_empty() || passed > 0 {
                    return passed > 0 && passed == state.readers.len();
                }
            }
            if tokio::time::timeout_at(deadline, passed).await.is_err() {
                self.lock().behind = true;
                return false;
            }
        }
    }
}

fn after(frames: &[Frame<Pieces>], seq: u64, visible: u64, most: usize) -> Vec<Frame<Pieces>> {
    let at = frames.partition_point(|frame| last_seq(frame) <= seq);
    let mut bytes = 0;
    frames[at..]
        .iter()
        .take_while(|frame| {
            let fits = bytes < most && frame.seq <= visible;
            bytes += frame.wire_len();
            fits
        })
        .cloned()
        .collect()
}
