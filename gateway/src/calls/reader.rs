//! Readers of a call's events: from wherever these lie, in order, each once, with word of how the call goes while nothing comes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::frame::Frame;
use muster_wire::pieces::Pieces;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::appetite::Appetite;
use super::log::{Log, LogEnd, Read, dropped_event, last_seq};
use super::{CallHandle, CallRecord, damage};
use crate::store::StoreError;
use crate::store::durable::{Batch, LostEvents};

/// Progress is sent at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// A reader hears something at least this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

impl CallHandle {
    /// The events after `after`, live until the end.
    pub fn events(&self, after: u64) -> EventReader {
        let reader = self.shared.log.enter(after);
        self.shared.readers.send_modify(|changes| *changes += 1);
        EventReader {
            end: self.shared.log.end(),
            record: self.shared.record.subscribe(),
            call: self.clone(),
            reader,
            seq: after,
            frames: VecDeque::new(),
            appetite: Appetite::default(),
            last_sent: Instant::now(),
            progress_due: false,
        }
    }
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An event of the log: OUTPUTS, PRINT or EVENT, with `seq` set.
    Logged(Frame<Pieces>),
    /// How the call goes; repeats the last `seq`.
    Progress {
        /// The last event's number.
        seq: u64,
        /// The whole JSON object of PROTOCOL.md section 4.3.
        json: Bytes,
    },
}

/// Reads the events of a call in order. While it exists the call has a reader.
#[derive(Debug)]
pub struct EventReader {
    call: CallHandle,
    end: watch::Receiver<LogEnd>,
    record: watch::Receiver<CallRecord>,
    reader: u64,
    seq: u64,
    frames: VecDeque<Frame<Pieces>>,
    appetite: Appetite,
    last_sent: Instant,
    progress_due: bool,
}

impl EventReader {
    /// The next event; `None` after the last. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.take() {
                return Some(entry);
            }
            self.end.borrow_and_update();
            match self.call.shared.log.read(self.seq) {
                Read::Frames(frames) => self.frames = frames.into(),
                Read::Spilled { blob, last_seq } => {
                    self.frames = self.read_spilled(blob, last_seq).await.into();
                }
                Read::Stored => match self.read_stored().await {
                    Some(frames) => self.frames = frames.into(),
                    None => return None,
                },
                Read::Forgotten { seq, bytes } => {
                    self.seq = seq;
                    return Some(Entry::Logged(Frame { seq, ..dropped_event(bytes).into() }));
                }
                Read::Closed => return None,
                Read::Nothing => {
                    if let Some(progress) = self.wait().await {
                        return Some(progress);
                    }
                }
            }
        }
    }

    /// An event that is there already, without waiting.
    pub fn try_next(&mut self) -> Option<Entry> {
        if self.frames.is_empty() {
            match self.call.shared.log.read(self.seq) {
                Read::Frames(frames) => self.frames = frames.into(),
                _ => return None,
            }
        }
        self.take()
    }

    /// The next event of those that were read from the log already.
    fn take(&mut self) -> Option<Entry> {
        let frame = self.frames.pop_front()?;
        self.seq = last_seq(&frame);
        self.call.shared.log.passed(self.reader, self.seq);
        Some(Entry::Logged(frame))
    }

    async fn read_spilled(
        &mut self,
        blob: crate::store::Blob,
        last_seq: u64,
    ) -> Vec<Frame<Pieces>> {
        let (seq, most) = (self.seq, self.appetite.next(Instant::now()));
        let read = blob.read(move |bytes| Log::decode_next(vec![bytes], seq, most)).await;
        read.unwrap_or_else(|error| {
            let error = crate::chain(&error);
            tracing::error!(call = self.call.id(), error, "events could not be read back");
            vec![Frame { seq: last_seq, ..damage::untold(last_seq - seq).into() }]
        })
    }

    async fn read_stored(&mut self) -> Option<Vec<Frame<Pieces>>> {
        let kept = self.call.shared.kept.as_ref()?;
        let most = self.appetite.next(Instant::now());
        let frames = match kept.journal.store().events(self.call.id(), self.seq, most).await {
            Ok(batches) => self.next_of(batches, most).await,
            Err(error) => Err(error),
        };
        match frames {
            Ok(frames) if !frames.is_empty() => Some(frames),
            Ok(_) => None,
            Err(error) => {
                let error = crate::chain(&error);
                tracing::error!(call = self.call.id(), error, "stored events could not be read");
                None
            }
        }
    }

    /// The next frames of these batches, or what stands for them.
    async fn next_of(
        &self,
        batches: Vec<Batch>,
        most: usize,
    ) -> Result<Vec<Frame<Pieces>>, StoreError> {
        let mut whole = Vec::with_capacity(batches.len());
        for batch in batches {
            match batch {
                Batch::Whole(bytes) => whole.push(bytes),
                Batch::Damaged(lost) if whole.is_empty() => return Ok(self.stand_in(&lost)),
                Batch::Damaged(_) => break,
            }
        }
        let seq = self.seq;
        // A batch may have megabytes, and many readers may come to its end in one moment.
        let decoded = tokio::task::spawn_blocking(move || Log::decode_next(whole, seq, most)).await;
        decoded.unwrap_or_else(|error| Err(StoreError::Io(std::io::Error::other(error))))
    }

    fn stand_in(&self, lost: &LostEvents) -> Vec<Frame<Pieces>> {
        let (record, end) = (self.call.record(), *self.end.borrow());
        let has_end = record.ended.is_some() && end.closed && end.seq == lost.last_seq;
        let mut frames = damage::stand_in(lost, has_end.then_some(&record));
        frames.retain(|frame| last_seq(frame) > self.seq);
        frames
    }

    /// Waits for news of the log (`None`), or until progress should be told.
    async fn wait(&mut self) -> Option<Entry> {
        let soonest = self.last_sent + PROGRESS_EVERY;
        let latest = self.last_sent + HEARTBEAT;
        let due = if self.progress_due { soonest } else { latest };
        tokio::select! {
            biased;
            changed = self.end.changed() => {
                changed.ok()?;
                None
            }
            changed = self.record.changed(), if !self.progress_due => {
                changed.ok()?;
                self.progress_due = true;
                None
            }
            () = tokio::time::sleep_until(due) => {
                self.progress_due = false;
                self.last_sent = Instant::now();
                Some(self.progress())
            }
        }
    }

    fn progress(&mut self) -> Entry {
        let record = self.record.borrow_and_update();
        let json = json!({
            "seq": self.seq, "type": "progress", "done": record.done, "total": record.total,
            "workers": record.workers, "hosts": record.hosts, "waiting": record.waiting,
        });
        Entry::Progress { seq: self.seq, json: json.to_string().into() }
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.call.shared.log.leave(self.reader);
        self.call.shared.readers.send_modify(|changes| *changes += 1);
    }
}
