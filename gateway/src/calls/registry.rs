//! All calls: how one is made, found, and handed to the task that owns it.
//!
//! **Parts.** `admission`: whether a call may run at all. `table`: where calls are found. `forget`: until when. `past`: what is left of them then.
//!
//! **Owners.** The table is behind one lock that is never held over an `await`. A call is in it before it is durable, so that of two requests with one key only one makes it; the other finds it at once, and its inputs wait until it is kept. What an owner task holds of `live` counts its call until it has ended.
//!
//! **Failures.** A background call that the store does not take is out of the table again before its client hears. One whose first inputs cannot be taken is withdrawn.

mod admission;
mod forget;
mod past;
mod table;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rand::RngCore;
use tokio::sync::mpsc;

pub use self::admission::AdmitError;
pub use self::past::PastCall;
use self::table::Table;
use super::handle::{Command, Shared};
use super::kept::{Age, Kept};
use super::log::{Log, LogConfig};
use super::machine::Machine;
use super::owner::{self, Begun, Start};
use super::queue::Queue;
use super::{CallHandle, CallRecord, CallState, NewCall, restore};
use crate::blobs::Blobs;
use crate::fleet::{Fleet, Need};
use crate::secrets::Secrets;
use crate::store::durable::{Change, Journal};
use crate::store::{Spill, StoreError};
use crate::tasks::Tasks;

/// What calls may use, and how long they are kept.
#[derive(Debug, Clone, Copy)]
pub struct CallsConfig {
    /// How deep calls may be nested that functions make.
    pub nested_depth: u32,
    /// How many calls that one call's functions made may run at once.
    pub nested_calls: usize,
    /// Calls at once.
    pub max_calls: usize,
    /// Bytes of waiting inputs one call has in memory.
    pub queue_bytes: usize,
    /// What the log of one call may hold.
    pub log: LogConfig,
    /// How long a foreground call goes on without any reader.
    pub grace: Duration,
    /// How long a foreground call is kept after its end, and after it was last read.
    pub keep_foreground: Duration,
    /// How many foreground calls are kept after their end.
    pub keep_foreground_calls: usize,
    /// How long a background call is kept after its end.
    pub keep_background: Duration,
    /// How long the record of a call is kept after its end.
    pub keep_records: Duration,
    /// How long a background call waits for more inputs before it is cancelled.
    pub upload_grace: Duration,
}

/// All calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    pub(super) shared: Arc<Registry>,
}

#[derive(Debug)]
pub(super) struct Registry {
    pub config: CallsConfig,
    fleet: Fleet,
    pub secrets: Secrets,
    pub spill: Spill,
    pub journal: Journal,
    /// By which calls expire.
    pub age: Age,
    tasks: Tasks,
    calls: Mutex<Table>,
    /// One clone for each call that has not ended.
    live: Arc<()>,
    refusing: AtomicBool,
}

/// What became of a request for a call.
#[derive(Debug, Clone)]
pub enum Created {
    /// A new call.
    New(CallHandle),
    /// There is a call under this idempotency key already.
    Existing(CallHandle),
}

impl Calls {
    /// The calls that the store has: those that have not ended go on. Starts the task by which old ones expire.
    pub async fn start(
        config: CallsConfig,
        fleet: Fleet,
        spill: Spill,
        journal: Journal,
        blobs: &Blobs,
        secrets: Secrets,
        tasks: &Tasks,
    ) -> Result<Calls, StoreError> {
        let (stored, age_s) = journal.store().load().await?;
        let shared = Arc::new(Registry {
            config,
            fleet,
            secrets,
            spill,
            journal,
            age: Age::from(age_s),
            tasks: tasks.clone(),
            calls: Mutex::default(),
            live: Arc::new(()),
            refusing: AtomicBool::new(false),
        });
        let calls = Calls { shared };
        for call in stored {
            calls.restore(call, blobs).await?;
        }
        tasks.spawn_critical("expire calls", calls.clone().expire_all());
        Ok(calls)
    }

    /// Admits a call, or says why not. Its owner task has started when this returns.
    pub async fn create(&self, new: NewCall) -> Result<Created, AdmitError> {
        if self.shared.refusing.load(Ordering::Relaxed) || self.shared.tasks.is_stopping() {
            return Err(AdmitError::Stopping);
        }
        let key = new.key.clone().map(|key| (new.owner.clone(), key));
        if let Some(existing) = self.by_key(key.as_ref()) {
            return Ok(Created::Existing(existing));
        }
        let mut new = new;
        new.spec.image = self.admit(&new)?;
        new.spec.call = new_id();
        let created = now();
        let kept = new.options.background.then(|| self.kept(&new.spec.call, 0));
        let change = match &kept {
            Some(kept) => {
                let created = restore::created(&new, &created, &self.shared.secrets);
                kept.grow(created.function.len() as u64);
                Some(Change::Create(created))
            }
            None => None,
        };
        let config = &self.shared.config;
        let log = match &kept {
            Some(_) => Log::kept(config.log, self.shared.spill.clone(), 0, false),
            None => Log::new(config.log, self.shared.spill.clone()),
        };
        let machine = Machine::new(new.options.retries);
        let pin = new.pin.take();
        let (handle, inbox) = Shared::open(first_record(&new, created), new, kept, log);
        // Who comes with the same key gives no inputs before this call is kept.
        let turn = handle.turn().await;
        let (number, live) = {
            let mut table = self.lock();
            if let Some(existing) = key.as_ref().and_then(|key| table.by_key(key)) {
                return Ok(Created::Existing(existing));
            }
            if self.live() >= config.max_calls {
                return Err(AdmitError::Full);
            }
            (table.insert(handle.clone(), key, None), self.shared.live.clone())
        };
        if let Some(change) = change
            && let Err(error) = self.keep(&handle, change).await
        {
            self.lock().remove(number);
            return Err(error);
        }
        drop(turn);
        let queue = self.queue(&handle);
        self.run(number, handle.clone(), inbox, live, Begun { pin, ..Begun::new(machine, queue) })
            .await;
        metrics::counter!("muster_calls_admitted_total").increment(1);
        Ok(Created::New(handle))
    }

    /// Makes a new call durable.
    async fn keep(&self, handle: &CallHandle, create: Change) -> Result<(), AdmitError> {
        let journal = &self.shared.journal;
        if !journal.has_room(0) {
            return Err(AdmitError::NoSpace);
        }
        journal.commit(vec![create]).await.map_err(|error| {
            if let Some(kept) = &handle.shared.kept {
                kept.all_gone();
            }
            match error {
                StoreError::Full => AdmitError::NoSpace,
                // The writer has said why, and the gateway is stopping.
                _ => AdmitError::Stopping,
            }
        })
    }

    /// Undoes a call whose first inputs could not be taken.
    pub async fn withdraw(&self, call: &CallHandle) {
        call.cancel();
        let entry = {
            let mut table = self.lock();
            let number = table.by_id.get(call.id()).copied();
            number.and_then(|number| table.remove(number))
        };
        if let Some(entry) = entry {
            self.erase(&entry.handle).await;
        }
    }

    /// Starts the owner task of a call.
    pub(super) async fn run(
        &self,
        number: u64,
        handle: CallHandle,
        commands: mpsc::Receiver<Command>,
        live: Arc<()>,
        begun: Begun,
    ) {
        let config = &self.shared.config;
        let spec = &handle.shared.spec;
        let need = Need {
            owner: handle.shared.owner.clone(),
            image: spec.image.clone(),
            runtime: spec.runtime.clone(),
            cpu: spec.cpu,
            ram_bytes: spec.ram_bytes,
            shares: spec.shares.keys().cloned().collect(),
        };
        let start = Start {
            commands,
            claim: self.shared.fleet.claim(number, need).await,
            begun,
            secrets: self.shared.secrets.clone(),
            spill: self.shared.spill.clone(),
            grace: config.grace,
            upload_grace: config.upload_grace,
            tasks: self.shared.tasks.clone(),
            live,
            shared: handle.shared,
        };
        self.shared.tasks.spawn(owner::run(start));
    }

    /// An empty queue for a call.
    pub(super) fn queue(&self, call: &CallHandle) -> Queue {
        let (budget, spill) = (self.shared.config.queue_bytes, self.shared.spill.clone());
        match call.shared.kept {
            Some(_) => Queue::kept(budget, spill, call.id(), self.shared.journal.clone()),
            None => Queue::new(budget, spill),
        }
    }

    /// A call's part of the store, with so many bytes in it.
    pub(super) fn kept(&self, call: &str, bytes: u64) -> Kept {
        Kept::new(self.shared.journal.clone(), call, self.shared.age, bytes)
    }

    /// Puts a call into the table that the store had: its number, and what counts it as one that has not ended.
    pub(super) fn insert(
        &self,
        handle: &CallHandle,
        key: Option<(String, String)>,
        ended: Option<Duration>,
    ) -> (u64, Arc<()>) {
        (self.lock().insert(handle.clone(), key, ended), self.shared.live.clone())
    }

    /// Admits no more calls.
    pub fn refuse(&self) {
        self.shared.refusing.store(true, Ordering::Relaxed);
    }

    /// Waits until every foreground call has ended. The others go on with the next gateway.
    pub async fn idle(&self) {
        for call in self.handles().iter().filter(|call| !call.options().background) {
            let mut record = call.shared.record.subscribe();
            let _ = record.wait_for(|record| record.state.is_end()).await;
        }
    }

    /// The call with this id.
    pub fn get(&self, id: &str) -> Option<CallHandle> {
        let table = self.lock();
        table
            .by_id
            .get(id)
            .and_then(|number| table.by_number.get(number))
            .map(|kept| kept.handle.clone())
    }

    /// Records of all calls, newest first.
    pub fn list(&self) -> Vec<CallRecord> {
        self.handles().iter().map(CallHandle::record).collect()
    }

    /// All calls, newest first.
    pub fn handles(&self) -> Vec<CallHandle> {
        self.lock().by_number.values().rev().map(|kept| kept.handle.clone()).collect()
    }

    /// How many calls have not ended.
    fn live(&self) -> usize {
        Arc::strong_count(&self.shared.live) - 1
    }

    fn by_key(&self, key: Option<&(String, String)>) -> Option<CallHandle> {
        self.lock().by_key(key?)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn first_record(new: &NewCall, created: String) -> CallRecord {
    CallRecord {
        id: new.spec.call.clone(),
        name: new.options.name.clone(),
        kind: new.spec.kind,
        state: CallState::Queued,
        image: new.spec.image.clone(),
        cpu: new.spec.cpu,
        ram: new.spec.ram_bytes as f64 / f64::from(1 << 30),
        background: new.options.background,
        created,
        ended: None,
        done: 0,
        failed: 0,
        total: None,
        inputs: 0,
        workers: 0,
        hosts: 0,
        waiting: None,
        seq: 0,
        exit_code: None,
        error: None,
        expired: false,
    }
}

/// The time, as RFC 3339 in UTC.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn new_id() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 12];
    rand::rng().fill_bytes(&mut bytes);
    let letters = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    std::iter::once('c').chain(std::iter::once('-')).chain(letters).collect()
}
