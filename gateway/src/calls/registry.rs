use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rand::RngCore;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handle::Shared;
use super::log::{Log, LogConfig};
use super::owner::{self, Start};
use super::{CallHandle, CallRecord, CallState, NewCall};
use crate::fleet::{Fleet, Need};
use crate::images;
use crate::store::Spill;
use crate::tasks::Tasks;

/// How often calls that were kept long enough are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// What calls may use, and how long they are kept.
#[derive(Debug, Clone, Copy)]
pub struct CallsConfig {
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
}

/// All calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    shared: Arc<Registry>,
}

#[derive(Debug)]
struct Registry {
    config: CallsConfig,
    fleet: Fleet,
    spill: Spill,
    tasks: Tasks,
    calls: Mutex<Table>,
    /// One clone for each call that has not ended.
    live: Arc<()>,
    refusing: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    by_number: BTreeMap<u64, Kept>,
    by_id: HashMap<String, u64>,
    by_key: HashMap<(String, String), u64>,
}

#[derive(Debug)]
struct Kept {
    handle: CallHandle,
    key: Option<(String, String)>,
    ended: Option<Instant>,
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
    /// There are as many calls as may be.
    #[error("the gateway has as many calls as it takes")]
    Full,
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

impl Calls {
    /// No calls yet; starts the task that forgets old ones.
    pub fn start(config: CallsConfig, fleet: Fleet, spill: Spill, tasks: &Tasks) -> Calls {
        let shared = Arc::new(Registry {
            config,
            fleet,
            spill,
            tasks: tasks.clone(),
            calls: Mutex::default(),
            live: Arc::new(()),
            refusing: AtomicBool::new(false),
        });
        let calls = Calls { shared };
        tasks.spawn_critical("forget calls", calls.clone().forget());
        calls
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
        let need = Need {
            image: new.spec.image.clone(),
            cpu: new.spec.cpu,
            ram_bytes: new.spec.ram_bytes,
        };
        let config = &self.shared.config;
        let (commands, inbox) = mpsc::channel(16);
        let handle = CallHandle {
            shared: Arc::new(Shared {
                record: watch::Sender::new(first_record(&new)),
                log: Log::new(config.log, self.shared.spill.clone()),
                spec: new.spec,
                options: new.options,
                owner: new.owner,
                function: new.function,
                commands,
                cancel: CancellationToken::new(),
                readers: watch::Sender::new(0),
                turn: Arc::new(Semaphore::new(1)),
            }),
        };
        let (number, live) = {
            let mut table = self.lock();
            if let Some(existing) = key.as_ref().and_then(|key| table.by_key(key)) {
                return Ok(Created::Existing(existing));
            }
            if self.live() >= config.max_calls {
                return Err(AdmitError::Full);
            }
            (table.insert(handle.clone(), key), self.shared.live.clone())
        };
        let start = Start {
            shared: handle.shared.clone(),
            commands: inbox,
            claim: self.shared.fleet.claim(number, need).await,
            spill: self.shared.spill.clone(),
            queue_bytes: config.queue_bytes,
            grace: config.grace,
            tasks: self.shared.tasks.clone(),
            live,
            pin: new.pin,
        };
        self.shared.tasks.spawn(owner::run(start));
        metrics::counter!("muster_calls_admitted_total").increment(1);
        Ok(Created::New(handle))
    }

    /// Admits no more calls.
    pub fn refuse(&self) {
        self.shared.refusing.store(true, Ordering::Relaxed);
    }

    /// Waits until every call has ended.
    pub async fn idle(&self) {
        for call in self.handles() {
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

    /// Whether the call can run on the hosts there are; gives its image.
    fn admit(&self, new: &NewCall) -> Result<String, AdmitError> {
        let hosts = self.shared.fleet.kinds();
        if hosts.is_empty() {
            return Err(AdmitError::NoHosts);
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
        loop {
            tokio::select! {
                biased;
                () = self.shared.tasks.stopping() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            self.lock().forget(&self.shared.config, Instant::now());
            metrics::gauge!("muster_calls_live").set(self.live() as f64);
            metrics::gauge!("muster_spilled_bytes").set(self.shared.spill.used() as f64);
        }
    }
}

impl Table {
    fn insert(&mut self, handle: CallHandle, key: Option<(String, String)>) -> u64 {
        self.next += 1;
        let number = self.next;
        self.by_id.insert(handle.id().to_owned(), number);
        if let Some(key) = key.clone() {
            self.by_key.insert(key, number);
        }
        self.by_number.insert(number, Kept { handle, key, ended: None });
        number
    }

    fn by_key(&self, key: &(String, String)) -> Option<CallHandle> {
        let number = self.by_key.get(key)?;
        self.by_number.get(number).map(|kept| kept.handle.clone())
    }

    /// Forgets calls that ended long enough ago and that nobody reads.
    fn forget(&mut self, config: &CallsConfig, now: Instant) {
        let mut gone = Vec::new();
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
            if shared.log.readers() == 0 && (many || now.duration_since(ended) >= keep) {
                gone.push(number);
            }
        }
        for number in gone {
            let Some(kept) = self.by_number.remove(&number) else { continue };
            self.by_id.remove(kept.handle.id());
            if let Some(key) = &kept.key {
                self.by_key.remove(key);
            }
        }
    }
}

fn first_record(new: &NewCall) -> CallRecord {
    CallRecord {
        id: new.spec.call.clone(),
        name: new.options.name.clone(),
        kind: new.spec.kind,
        state: CallState::Queued,
        image: new.spec.image.clone(),
        cpu: new.spec.cpu,
        ram: new.spec.ram_bytes as f64 / f64::from(1 << 30),
        background: new.options.background,
        created: now(),
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
