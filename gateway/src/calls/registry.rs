use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rand::RngCore;
use tokio::sync::mpsc;

use super::handle::{Command, Shared};
use super::kept::{Age, Kept};
use super::log::{Log, LogConfig};
use super::machine::Machine;
use super::owner::{self, Begun, Start};
use super::queue::Queue;
use super::{CallHandle, CallRecord, CallState, NewCall, restore};
use crate::blobs::Blobs;
use crate::fleet::{Fleet, Need};
use crate::images;
use crate::secrets::{Secrets, SecretsError};
use crate::shares;
use crate::store::durable::{Change, Journal};
use crate::store::{Spill, StoreError};
use crate::tasks::Tasks;

/// How often calls that were kept long enough are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// How often the age of the store is written down.
const AGE_EVERY: Duration = Duration::from_secs(60);

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
    /// How long a foreground call is kept after its end.
    pub keep_foreground: Duration,
    /// How many foreground calls are kept after their end.
    pub keep_foreground_calls: usize,
    /// How long a background call is kept after its end.
    pub keep_background: Duration,
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

#[derive(Debug, Default)]
struct Table {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
    by_id: HashMap<String, u64>,
    by_key: HashMap<(String, String), u64>,
}

#[derive(Debug)]
struct Entry {
    handle: CallHandle,
    key: Option<(String, String)>,
    /// How old the store was then.
    ended: Option<Duration>,
}

/// What became of a request for a call.
#[derive(Debug, Clone)]
pub enum Created {
    /// A new call.
    New(CallHandle),
    /// There is a call under this idempotency key already.
    Existing(CallHandle),
}

/// Why a call was not admitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AdmitError {
    /// No host is connected.
    #[error("no host is connected")]
    NoHosts,
    /// No host has its shares.
    #[error("no host has the shares of the call")]
    NoSuchShare(shares::Missing),
    /// One worker is larger than any host.
    #[error("no host has {asked_cpu} cores and {asked_ram} bytes of memory")]
    TooLarge {
        /// Cores asked for.
        asked_cpu: f64,
        /// Memory asked for, in bytes.
        asked_ram: u64,
        /// The largest host: name, cores, bytes of memory.
        largest: Option<(String, f64, u64)>,
    },
    /// No host has the image, and none may pull it.
    #[error("no host has the image {image}")]
    NoSuchImage {
        /// The image asked for.
        image: String,
        /// The images there are.
        there: Vec<String>,
    },
    /// No host lets calls choose the runtime.
    #[error("no host starts containers with {runtime}")]
    NoSuchRuntime {
        /// The runtime asked for.
        runtime: String,
        /// Those that calls may ask for.
        there: Vec<String>,
    },
    /// No default image has the Python that the pickles need.
    #[error("no image has Python {python}")]
    NoImageForPython {
        /// The minor version asked for.
        python: String,
        /// The images there are.
        there: Vec<String>,
    },
    /// The image's Python is not the one that the pickles need.
    #[error("the image {image} has Python {has}, the call needs {wants}")]
    PythonMismatch {
        /// The image asked for.
        image: String,
        /// The minor version it has.
        has: String,
        /// The minor version asked for.
        wants: String,
        /// Images that fit.
        fitting: Vec<String>,
    },
    /// The owner has no such secrets.
    #[error("there is no secret {}", names.join(", "))]
    UnknownSecrets {
        /// Their names.
        names: Vec<String>,
    },
    /// A function made a call too deep.
    #[error("calls of functions may be nested {limit} deep")]
    TooDeep {
        /// What may be.
        limit: u32,
    },
    /// A call's functions made too many calls.
    #[error("functions of one call may have {limit} calls running")]
    TooManyChildren {
        /// What may be.
        limit: usize,
    },
    /// There are as many calls as may be.
    #[error("the gateway has as many calls as it takes")]
    Full,
    /// A background call cannot be kept.
    #[error("no space left to keep calls")]
    NoSpace,
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

impl Calls {
    /// The calls that the store has: those that have not ended go on. Starts the task that forgets old ones.
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
        tasks.spawn_critical("forget calls", calls.clone().forget());
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
            self.erase(&[entry.handle]).await;
        }
    }

    /// Removes calls from the store, those that are in it. What cannot be removed now comes back, ended, at the next start.
    async fn erase(&self, calls: &[CallHandle]) {
        let kept: Vec<_> = calls.iter().filter_map(|call| call.shared.kept.as_ref()).collect();
        if kept.is_empty() {
            return;
        }
        let changes = kept.iter().map(|kept| kept.delete()).collect();
        match self.shared.journal.commit(changes).await {
            Ok(()) => kept.iter().for_each(|kept| kept.all_gone()),
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "calls could not be removed");
            }
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

    /// Whether the call's parent may have it.
    fn admit_child(&self, new: &NewCall) -> Result<(), AdmitError> {
        let Some(parent) = &new.parent else { return Ok(()) };
        let (family, config) = (&parent.shared.family, &self.shared.config);
        if family.depth >= config.nested_depth {
            return Err(AdmitError::TooDeep { limit: config.nested_depth });
        }
        if family.children() >= config.nested_calls {
            return Err(AdmitError::TooManyChildren { limit: config.nested_calls });
        }
        Ok(())
    }

    /// Whether the call can run on the hosts there are; gives its image.
    fn admit(&self, new: &NewCall) -> Result<String, AdmitError> {
        self.admit_child(new)?;
        if let Err(SecretsError::Unknown { names }) =
            self.shared.secrets.check(&new.owner, &new.spec.secrets)
        {
            return Err(AdmitError::UnknownSecrets { names });
        }
        let mut hosts = self.shared.fleet.kinds();
        if hosts.is_empty() {
            return Err(AdmitError::NoHosts);
        }
        if let Some(runtime) = &new.spec.runtime {
            let allowing: Vec<_> =
                hosts.iter().filter(|host| host.runtimes.contains(runtime)).cloned().collect();
            if allowing.is_empty() {
                let there = hosts.iter().flat_map(|host| host.runtimes.clone());
                let there = there.collect::<BTreeSet<_>>().into_iter().collect();
                return Err(AdmitError::NoSuchRuntime { runtime: runtime.clone(), there });
            }
            hosts = Arc::new(allowing);
        }
        if !new.spec.shares.is_empty() {
            let with = shares::hosts_with(&hosts, &new.spec.shares);
            hosts = Arc::new(with.map_err(AdmitError::NoSuchShare)?);
        }
        let (cpu, ram) = (new.spec.cpu, new.spec.ram_bytes);
        if !hosts.iter().any(|host| host.cores + 1e-6 >= cpu && host.ram_bytes >= ram) {
            let largest = hosts.iter().max_by(|a, b| {
                (a.cores, a.ram_bytes)
                    .partial_cmp(&(b.cores, b.ram_bytes))
                    .unwrap_or(std::cmp::Ordering::Equal)
            });
            let largest = largest.map(|host| (host.host.clone(), host.cores, host.ram_bytes));
            return Err(AdmitError::TooLarge { asked_cpu: cpu, asked_ram: ram, largest });
        }
        let python = new.spec.python.as_deref();
        if new.spec.image.is_empty() {
            return images::default_image(&hosts, python).ok_or_else(|| {
                AdmitError::NoImageForPython {
                    python: python.unwrap_or("3").to_owned(),
                    there: images::there(&hosts),
                }
            });
        }
        let image = new.spec.image.clone();
        let there = images::there(&hosts);
        if !hosts.iter().any(|host| host.pull)
            && !there.iter().any(|name| images::same(name, &image))
        {
            return Err(AdmitError::NoSuchImage { image, there });
        }
        match (python, images::python_of(&hosts, &image)) {
            (Some(wants), Some(has)) if wants != has => Err(AdmitError::PythonMismatch {
                image,
                has,
                wants: wants.to_owned(),
                fitting: images::with_python(&hosts, wants),
            }),
            _ => Ok(image),
        }
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

    async fn forget(self) {
        let mut aged = self.shared.age.now();
        loop {
            tokio::select! {
                biased;
                () = self.shared.tasks.stopping() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            let (age, journal) = (self.shared.age.now(), &self.shared.journal);
            let gone = self.lock().forget(&self.shared.config, age, journal.excess());
            self.erase(&gone).await;
            if age - aged >= AGE_EVERY && journal.used() > 0 {
                aged = age;
                // If it cannot be written, calls are kept a little longer.
                drop(journal.submit(vec![Change::Age(age.as_secs())]).await);
            }
            metrics::gauge!("muster_stored_bytes").set(journal.used() as f64);
            metrics::gauge!("muster_calls_live").set(self.live() as f64);
            metrics::gauge!("muster_spilled_bytes").set(self.shared.spill.used() as f64);
        }
    }
}

impl Table {
    fn insert(
        &mut self,
        handle: CallHandle,
        key: Option<(String, String)>,
        ended: Option<Duration>,
    ) -> u64 {
        self.next += 1;
        let number = self.next;
        self.by_id.insert(handle.id().to_owned(), number);
        if let Some(key) = key.clone() {
            self.by_key.insert(key, number);
        }
        self.by_number.insert(number, Entry { handle, key, ended });
        number
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.by_number.remove(&number)?;
        self.by_id.remove(entry.handle.id());
        if let Some(key) = &entry.key {
            self.by_key.remove(key);
        }
        Some(entry)
    }

    fn by_key(&self, key: &(String, String)) -> Option<CallHandle> {
        let number = self.by_key.get(key)?;
        self.by_number.get(number).map(|kept| kept.handle.clone())
    }

    /// Forgets calls that ended long enough ago and that nobody reads; and, of those the store keeps, the oldest, until `excess` bytes of it are free. Gives them.
    fn forget(&mut self, config: &CallsConfig, now: Duration, mut excess: u64) -> Vec<CallHandle> {
        let mut gone = Vec::new();
        for (&number, entry) in &self.by_number {
            let shared = &entry.handle.shared;
            if let Some(kept) = &shared.kept
                && excess > 0
                && shared.record.borrow().state.is_end()
                && shared.log.readers() == 0
            {
                excess = excess.saturating_sub(kept.bytes());
                gone.push(number);
            }
        }
        let mut foreground = 0;
        for (&number, kept) in self.by_number.iter_mut().rev() {
            let shared = &kept.handle.shared;
            if !shared.record.borrow().state.is_end() {
                continue;
            }
            let ended = *kept.ended.get_or_insert(now);
            let (keep, many) = if shared.options.background {
                (config.keep_background, false)
            } else {
                foreground += 1;
                (config.keep_foreground, foreground > config.keep_foreground_calls)
            };
            if shared.log.readers() == 0 && (many || now.saturating_sub(ended) >= keep) {
                gone.push(number);
            }
        }
        gone.into_iter()
            .filter_map(|number| self.remove(number))
            .map(|entry| entry.handle)
            .collect()
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
