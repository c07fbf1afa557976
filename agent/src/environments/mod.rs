//! Environments: the packages that a call needs beside those of its image, built once per host and mounted into its workers.
//!
//! The problem: a function that imports numpy wants it there in every container, at once, in exactly the version of its
//! client; an image per set of packages would be minutes of somebody's work, an installation per container minutes of
//! everybody's; and what installs must neither reach the host nor hand the index's credentials to user code.
//!
//! ```text
//!   claim ─▶ image + requirements known? ──yes──────────────────────────────────────▶ environment, or none needed
//!                  │ no (many claims wait for one task)                                   │ held as long as mounted
//!                  ▼                                                                      ▼
//!            what the image has ─▶ left over, hashed ─▶ built already? ─yes─▶ used   /.muster/mnt/packages
//!                  (probe)              (plan)             │ no
//!                                                          ▼
//!                     build container: uv installs wheels into a folder ─▶ synced, renamed into the cache
//! ```
//!
//! Who owns what: [`Environments`] the tasks in flight and the map from requests to environments; [`cache`] the folders, their
//! sizes and ages. [`plan`] (what is left to install, and its hash) and [`said`] (what the installer's output means) are pure.
//! [`build`] runs commands in a container of the call's own image, made for that with the calls' hardening, with one folder that it
//! can write. An [`Environment`] is an `Arc`: while anybody else holds it, it is in use and stays.
//!
//! What one host has built the others of the fleet need not build: [`share`] packs it and puts it at the gateway, under its key,
//! and asks there before anything is built; hosts of a fleet believe each other in this.
//!
//! Only wheels are installed: nothing of a package runs before it runs in a call's container, so nothing sees the index's
//! credentials but the installer. What has no wheel is refused, and says so.
//!
//! When parts fail: the installer fails: every claim that waits gets its words, the folder is removed, the next call tries
//! again. The gateway has no environment, or no whole one: it is built here; it takes none: nobody else gets it. The claims go away: the build goes on, and the next call finds it. The agent is killed: the folder of a build is
//! swept at the next start; what was renamed into the cache was complete. The disk is full: the build fails; the cache gives
//! up what is oldest and not in use before it takes more than its bound.
//!
//! Not here: which packages a function needs (the client's), how a mount reaches a container ([`crate::container`]).

mod build;
mod cache;
mod error;
mod plan;
mod said;
mod settings;
mod share;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use muster_wire::message::Packages;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore, watch};

pub use error::EnvironmentError;
pub use settings::{PackageFlags, PackageNetwork, PackageSettings};

use crate::container::Containers;
use crate::tasks::Tasks;
use cache::Cache;
use plan::{ImageFacts, Plan};

/// Requests whose environments are remembered.
const REMEMBERED: usize = 10_000;

/// A folder of packages, complete.
#[derive(Debug)]
pub struct Environment {
    path: PathBuf,
}

impl AsRef<Path> for Environment {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// What a request came to; none where the image has all of it.
type Answer = Result<Option<Arc<Environment>>, Arc<EnvironmentError>>;

/// The hash of an image's content id and of what is wanted beside it, which may be long.
type Request = [u8; 32];

#[derive(Debug, Clone)]
enum Progress {
    Doing(String),
    Done(Answer),
}

/// A cheap handle to the environments of this host.
#[derive(Debug, Clone)]
pub struct Environments {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: PackageSettings,
    containers: Containers,
    tasks: Tasks,
    cache: Cache,
    /// One build at a time: it takes the network and the disk to itself, and finds what the one before it built.
    builds: Semaphore,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    images: HashMap<String, Arc<OnceCell<ImageFacts>>>,
    /// The key of each request's environment; none where nothing is to be installed.
    known: HashMap<Request, Option<String>>,
    making: HashMap<Request, watch::Receiver<Progress>>,
}

impl Environments {
    /// Finds what earlier agents built, and removes what they left unfinished. `tasks` are those that the stop waits for.
    pub fn open(settings: PackageSettings, containers: Containers, tasks: Tasks) -> Environments {
        let cache = Cache::open(&settings.cache_dir, settings.cache_bytes);
        let (builds, shared) = (Semaphore::new(1), Mutex::default());
        let inner = Inner { settings, containers, tasks, cache, builds, shared };
        Environments { inner: Arc::new(inner) }
    }

    /// The environment for these packages in this image (its content id); none where the image has them all. While it is being
    /// built, says so in `waiting`.
    pub async fn get(
        &self,
        image: &str,
        packages: &Packages,
        waiting: &watch::Sender<Option<String>>,
    ) -> Answer {
        let request = request(image, packages);
        let mut progress = {
            let mut shared = self.lock();
            match shared.known.get(&request) {
                Some(None) => return Ok(None),
                Some(Some(key)) => {
                    if let Some(environment) = self.inner.cache.get(key) {
                        return Ok(Some(environment));
                    }
                }
                None => {}
            }
            match shared.making.get(&request) {
                Some(progress) => progress.clone(),
                None => self.make(request, image, packages, &mut shared),
            }
        };
        loop {
            match &*progress.borrow_and_update() {
                Progress::Done(answer) => return answer.clone(),
                Progress::Doing(what) => crate::container::say(waiting, what.clone()),
            }
            if progress.changed().await.is_err() {
                return Err(Arc::new(EnvironmentError::Stopping));
            }
        }
    }

    fn make(
        &self,
        request: Request,
        image: &str,
        packages: &Packages,
        shared: &mut Shared,
    ) -> watch::Receiver<Progress> {
        let begun = Progress::Doing("preparing packages".into());
        let (progress, receiver) = watch::channel(begun);
        shared.making.insert(request, receiver.clone());
        let (this, image, packages) = (self.clone(), image.to_owned(), packages.clone());
        self.inner.tasks.clone().spawn(async move {
            let stop = this.inner.tasks.token();
            let made = tokio::select! {
                biased;
                () = stop.cancelled() => Err(EnvironmentError::Stopping),
                made = this.prepare(request, &image, &packages, &progress) => made,
            };
            let answer = made.map_err(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "no environment");
                Arc::new(error)
            });
            this.lock().making.remove(&request);
            progress.send_replace(Progress::Done(answer));
        });
        receiver
    }

    async fn prepare(
        &self,
        request: Request,
        image: &str,
        packages: &Packages,
        progress: &watch::Sender<Progress>,
    ) -> Result<Option<Arc<Environment>>, EnvironmentError> {
        let facts = self.lock().images.entry(image.to_owned()).or_default().clone();
        let facts = facts.get_or_try_init(|| build::probe(&self.inner.containers, image)).await?;
        let plan = Plan::new(facts, packages, &self.inner.settings.source());
        let environment = match &plan {
            Some(plan) => Some(self.environment((image, facts), plan, progress).await?),
            None => None,
        };
        let mut shared = self.lock();
        if shared.known.len() >= REMEMBERED {
            shared.known.clear();
        }
        shared.known.insert(request, plan.map(|plan| plan.key));
        Ok(environment)
    }

    async fn environment(
        &self,
        image: (&str, &ImageFacts),
        plan: &Plan,
        progress: &watch::Sender<Progress>,
    ) -> Result<Arc<Environment>, EnvironmentError> {
        let inner = &*self.inner;
        if let Some(found) = inner.cache.get(&plan.key) {
            return Ok(found);
        }
        let say = &|what: String| {
            let what = format!("environment {}: {what}", plan.short());
            progress.send_replace(Progress::Doing(what));
        };
        say("waiting for another environment to be built".into());
        // Closed never.
        let _permit = inner.builds.acquire().await;
        if let Some(found) = inner.cache.get(&plan.key) {
            return Ok(found);
        }
        let data = inner.containers.data();
        let begun = tokio::time::Instant::now();
        let folder = inner.cache.begin().map_err(EnvironmentError::storage)?;
        let key = plan.short();
        match share::find(data, &plan.key, &folder, inner.settings.cache_bytes, say).await {
            Ok(Some(fetched)) => {
                let made = inner.cache.publish(&plan.key, folder, fetched).await?;
                tracing::info!(environment = key, took = ?begun.elapsed(), "environment fetched");
                return Ok(made);
            }
            Ok(None) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(environment = key, error, "environment not fetched");
            }
        }
        let uv = inner.settings.uv.as_deref().ok_or(EnvironmentError::NoInstaller)?;
        let built =
            build::install(&inner.containers, &inner.settings, uv, image, plan, &folder, say);
        let built = built.await?;
        let made = inner.cache.publish(&plan.key, folder, built).await?;
        tracing::info!(environment = key, took = ?begun.elapsed(), "environment built");
        self.share(plan, made.clone());
        Ok(made)
    }

    /// Puts what was built at the gateway, while calls use it already.
    fn share(&self, plan: &Plan, made: Arc<Environment>) {
        let (this, key) = (self.clone(), plan.key.clone());
        self.inner.tasks.spawn(async move {
            let inner = &*this.inner;
            let stop = inner.tasks.token();
            let shared = async {
                let folder = inner.cache.begin().map_err(share::ShareError::Disk)?;
                share::give(inner.containers.data().client(), &key, made, &folder).await
            };
            let shared = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                shared = shared => shared,
            };
            match shared {
                Ok(()) => tracing::info!(environment = key, "environment shared"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(environment = key, error, "environment not shared");
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.inner.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn request(image: &str, packages: &Packages) -> Request {
    let mut hash = Sha256::new();
    let requirements = packages.requirements.iter().map(String::as_str);
    let exact = if packages.exact { "exact" } else { "" };
    for part in [image, exact].into_iter().chain(requirements) {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().into()
}
