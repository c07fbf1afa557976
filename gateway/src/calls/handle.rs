use std::sync::Arc;

use bytes::Bytes;
use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallError, CallSpec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::family::Family;
use super::kept::{Kept, digest};
use super::log::Log;
use super::{CallOptions, CallRecord, NewCall, PushError};
use crate::store::StoreError;
use crate::store::durable::Digest;

/// Commands that wait for the owner task.
const COMMANDS: usize = 16;

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
}

/// The EVENT frame with this JSON.
pub(super) fn event(json: serde_json::Value) -> Frame {
    Frame::new(Kind::Event, json.to_string())
}
