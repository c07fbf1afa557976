use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallError, CallSpec};
use muster_wire::pieces::Pieces;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::appetite::Appetite;
use super::damage;
use super::family::Family;
use super::kept::{Kept, digest};
use super::log::{Log, LogEnd, Read, dropped_event, last_seq};
use super::{CallOptions, CallRecord, NewCall, PushError};
use crate::store::StoreError;
use crate::store::durable::{Batch, Digest, LostEvents};

/// Commands that wait for the owner task.
const COMMANDS: usize = 16;
/// Progress is sent at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// A reader hears something at least this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// One call, for everybody but its owner task. Cheap to clone; answers about a call that has ended too.
#[derive(Clone, Debug)]
pub struct CallHandle {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub spec: CallSpec,
    pub options: CallOptions,
    pub owner: String,
    /// Empty for commands, and for a call that had ended when the gateway started: then it is in the store.
    pub function: Bytes,
    /// What it has in the store, if that keeps it.
    pub kept: Option<Kept>,
    pub log: Log,
    pub record: watch::Sender<CallRecord>,
    pub commands: mpsc::Sender<Command>,
    pub cancel: CancellationToken,
    /// Rises whenever a reader comes or goes.
    pub readers: watch::Sender<u64>,
    /// Held by the request that gives inputs.
    pub turn: Arc<Semaphore>,
    /// Its parent and its children.
    pub family: Family,
}

impl Shared {
    /// A call, and where its owner task hears commands.
    pub fn open(
        record: CallRecord,
        new: NewCall,
        kept: Option<Kept>,
        log: Log,
    ) -> (CallHandle, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let shared = Shared {
            record: watch::Sender::new(record),
            log,
            spec: new.spec,
            options: new.options,
            owner: new.owner,
            function: new.function,
            kept,
            commands,
            cancel: Family::cancellation(new.parent.as_ref()),
            family: Family::of(new.parent.as_ref()),
            readers: watch::Sender::new(0),
            turn: Arc::new(Semaphore::new(1)),
        };
        (CallHandle { shared: Arc::new(shared) }, inbox)
    }
}

/// What the owner task is asked.
#[derive(Debug)]
pub(super) enum Command {
    /// Inputs will come, with this hash: how many of them, from the first on, are there already.
    Offer(std::ops::Range<u64>, Digest, oneshot::Sender<Result<u64, PushError>>),
    Skip(std::ops::Range<u64>, oneshot::Sender<Result<u64, PushError>>),
    Push(Inputs, oneshot::Sender<Result<u64, PushError>>),
    End(Option<u64>, oneshot::Sender<Result<u64, PushError>>),
    Count(oneshot::Sender<Result<u64, PushError>>),
    Fail(CallError),
}

impl CallHandle {
    /// The call's id.
    pub fn id(&self) -> &str {
        &self.shared.spec.call
    }

    /// Whose call it is.
    pub fn owner(&self) -> &str {
        &self.shared.owner
    }

    /// The call whose function made it.
    pub fn parent(&self) -> Option<&str> {
        self.shared.family.parent.as_deref()
    }

    /// Whether it was given to this host, and has not ended.
    pub fn runs_on(&self, host: &str) -> bool {
        self.shared.family.runs_on(host)
    }

    /// Ends it as failed; one that has ended stays as it is.
    pub async fn fail(&self, error: CallError) {
        let _ = self.shared.commands.send(Command::Fail(error)).await;
    }

    /// What hosts get.
    pub fn spec(&self) -> &CallSpec {
        &self.shared.spec
    }

    /// What the gateway does with it.
    pub fn options(&self) -> &CallOptions {
        &self.shared.options
    }

    /// The function's bytes.
    pub async fn function(&self) -> Result<Bytes, StoreError> {
        match &self.shared.kept {
            Some(kept) if self.shared.function.is_empty() => {
                kept.journal.store().function(self.id()).await
            }
            _ => Ok(self.shared.function.clone()),
        }
    }

    /// The call as it is now.
    pub fn record(&self) -> CallRecord {
        let mut record = self.shared.record.borrow().clone();
        record.seq = self.shared.log.end().borrow().seq;
        record
    }

    /// Bytes of payloads that the store has of it.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.shared.kept.as_ref().map_or(0, Kept::bytes)
    }

    /// Appends inputs; waits while there is no room. Gives how many inputs the call has now. Those of a background call are durable then. The caller has the [`turn`](CallHandle::turn).
    pub async fn push(&self, mut inputs: Inputs) -> Result<u64, PushError> {
        if let Some(kept) = &self.shared.kept {
            let offered = digest(&inputs);
            let range = inputs.first..inputs.end();
            let known = self.ask(|reply| Command::Offer(range, offered, reply)).await?;
            if known > 0 {
                inputs.split_to(known as usize);
            }
            if !inputs.is_empty() {
                let digest = if known == 0 { offered } else { digest(&inputs) };
                kept.write_inputs(&inputs, digest).await?;
            }
        }
        self.ask(|reply| Command::Push(inputs, reply)).await
    }

    /// Counts inputs as done whose outputs the client has.
    pub async fn skip(&self, first: u64, count: u64) -> Result<u64, PushError> {
        if self.shared.kept.is_some() {
            return Err(PushError::Background);
        }
        self.ask(|reply| Command::Skip(first..first + count, reply)).await
    }

    /// Index of the next input.
    pub async fn next_index(&self) -> u64 {
        let ended = self.shared.record.borrow().inputs;
        self.ask(Command::Count).await.unwrap_or(ended)
    }

    /// The turn to give inputs, which one request has at a time: those that were sent later wait for those that are still arriving.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        self.shared.turn.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Closes the inputs; `total`, where given, must be how many came.
    pub async fn end_inputs(&self, total: Option<u64>) -> Result<u64, PushError> {
        let total = self.ask(|reply| Command::End(total, reply)).await?;
        if let Some(kept) = &self.shared.kept {
            kept.close(total).await?;
        }
        Ok(total)
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<u64, PushError>>) -> Command,
    ) -> Result<u64, PushError> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(command(reply)).await.map_err(|_| PushError::Ended)?;
        answer.await.unwrap_or(Err(PushError::Ended))
    }

    /// Cancels the call; one that has ended stays as it is.
    pub fn cancel(&self) {
        self.shared.cancel.cancel();
    }

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

/// The EVENT frame with this JSON.
pub(super) fn event(json: serde_json::Value) -> Frame {
    Frame::new(Kind::Event, json.to_string())
}
