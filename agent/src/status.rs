//! What this host looks like from outside: one HOST_STATUS in a watch channel, written by whoever owns a part of it.

use muster_wire::message::{HostStatus, Image, Share};
use tokio::sync::watch;

use crate::settings::Settings;

/// What a claim found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A warm worker.
    Warm,
    /// None; one had to be started, or was being started.
    Cold,
}

/// A cheap handle to the host's status.
#[derive(Debug, Clone)]
pub struct Board {
    status: watch::Sender<HostStatus>,
}

impl Board {
    /// A host on which nothing runs.
    pub fn new(settings: &Settings) -> Board {
        let pull = settings.pull == crate::settings::Pull::Missing;
        Board::of(&settings.host_name, settings.cpus.len(), settings.ram_bytes, pull)
    }

    /// A host of this size, without images.
    pub fn of(host: &str, cores: usize, ram_bytes: u64, pull: bool) -> Board {
        let cores = cores as f64;
        let status = HostStatus {
            host: host.to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            cores,
            ram_bytes,
            free_cores: cores,
            lent_cores: 0.0,
            waiting_workers: 0,
            free_ram_bytes: ram_bytes,
            workers: 0,
            warm: 0,
            warm_claims: 0,
            cold_claims: 0,
            draining: false,
            pull,
            images: Vec::new(),
            runtimes: Vec::new(),
            shares: Vec::new(),
        };
        Board { status: watch::Sender::new(status) }
    }

    /// The status now and its changes.
    pub fn watch(&self) -> watch::Receiver<HostStatus> {
        self.status.subscribe()
    }

    /// What calls left free or lent, and how many workers they have.
    pub fn free(
        &self,
        cores: f64,
        (lent_cores, waiting): (f64, u32),
        ram_bytes: u64,
        workers: u32,
    ) {
        self.change(|status| {
            status.free_cores = cores;
            status.lent_cores = lent_cores;
            status.waiting_workers = waiting;
            status.free_ram_bytes = ram_bytes;
            status.workers = workers;
        });
    }

    /// How many warm workers there are.
    pub fn warm(&self, warm: u32) {
        self.change(|status| status.warm = warm);
    }

    /// A call claimed a worker.
    pub fn claimed(&self, found: Found) {
        self.change(|status| match found {
            Found::Warm => status.warm_claims += 1,
            Found::Cold => status.cold_claims += 1,
        });
    }

    /// Which images are there.
    pub fn images(&self, images: Vec<Image>) {
        self.change(|status| status.images = images);
    }

    /// Which runtimes calls may ask for, the default first.
    pub fn runtimes(&self, runtimes: Vec<String>) {
        self.change(|status| status.runtimes = runtimes);
    }

    /// Which folders calls may mount, and which of them are there.
    pub fn shares(&self, shares: Vec<Share>) {
        self.change(|status| status.shares = shares);
    }

    /// Nothing new is taken from now on.
    pub fn drain(&self) {
        self.change(|status| status.draining = true);
    }

    /// Readers are only woken by a real change.
    fn change(&self, write: impl FnOnce(&mut HostStatus)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            write(status);
            *status != before
        });
    }
}
