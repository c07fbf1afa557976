//! Shared data on this host: blobs of the gateway, fetched once, kept in a folder for all calls that read them.
//!
//! The problem: sixty-four inputs of one call, and the next call too, read the same gigabyte; it should cross the network once
//! and lie in memory once. Transfers break, disks fill up, and nothing that a worker has mapped may go.
//!
//! ```text
//!   wanted ──▶ fetching (one transfer, any number of waiters) ──hash is right──▶ kept ◀──▶ held by workers
//!                 │ broken off: goes on where it was, 5 times without progress         │ not held, and room is needed:
//!                 └──▶ failed: every waiter is told, nothing stays                     └──▶ removed, the longest unused first
//! ```
//!
//! Who owns what: [`Data`] owns the folder. [`shelf`] decides, purely, what there is, what fits and what goes; `transfer` brings
//! one blob. A file is written under another name, hashed as it comes, brought to the disk, and only then gets its own name: what
//! has a blob's name is that blob, after a crash too; and what an earlier agent left is hashed again before its first use. A [`Kept`] blob stays as long as somebody holds it.
//!
//! Who may read what is the gateway's to say: the blobs of a call's SPEC were checked when it was made; for one that a function
//! asks for later the gateway is asked, though the file may be here ([`Data::may`]).
//!
//! When parts fail: nobody waits any more: the transfer ends. The call that began it ends before others that wait: one of those
//! begins again. The disk is full, or the blob is larger than the folder may be: the waiters get an error that says so.
//!
//! Not here: how workers see a blob ([`crate::container`]), what is in it (the SDK's own affair).

mod shelf;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderValue, Method, Request};
use http_body_util::Empty;
use muster_wire::message::{BlobRef, CallError};
use tokio::sync::watch;

use crate::link::{Client, ClientError};
use crate::tasks::Tasks;

use shelf::{Shelf, Want};
use transfer::Transfer;

/// Why a blob is not here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DataError {
    /// The gateway has it no more, or it is not the call's to read.
    #[error("shared data {id} is not at the gateway")]
    Unknown {
        /// Which.
        id: String,
    },
    /// It does not fit beside what is in use.
    #[error(
        "shared data of {size} bytes does not fit on this host, whose cache may hold {limit} bytes, {held} of them in use"
    )]
    NoRoom {
        /// What was wanted.
        size: u64,
        /// What there may be.
        limit: u64,
        /// What cannot go.
        held: u64,
    },
    /// What came is not what was asked for.
    #[error("shared data {id} came damaged")]
    Damaged {
        /// Which.
        id: String,
    },
    /// The gateway could not be asked, again and again.
    #[error("shared data could not be fetched")]
    Gateway(#[source] Arc<ClientError>),
    /// The folder failed.
    #[error("shared data could not be kept in {}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The agent stops.
    #[error("this host is stopping")]
    Stopping,
}

impl DataError {
    /// Whether every other try, on this host, ends the same way.
    pub fn is_final(&self) -> bool {
        !matches!(self, DataError::Gateway(_) | DataError::Stopping)
    }

    /// What the user is told: a code of `docs/errors.md`, what is wrong, what to do.
    pub fn to_call_error(&self) -> CallError {
        let (code, action) = match self {
            DataError::Unknown { .. } => ("unknown_blob", "put it again (muster.put)"),
            DataError::NoRoom { .. } => (
                "no_room_for_data",
                "share less at once, or raise --cache-limit of the agent on this host",
            ),
            DataError::Stopping => ("host_stopping", "try again, or on another host"),
            _ => ("data_failed", "look at the agent's log on this host"),
        };
        let message = crate::chain(self);
        CallError { code: code.into(), message, action: action.into() }
    }
}

/// A blob on this host; it stays as long as somebody holds this.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
}

impl AsRef<Path> for Kept {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// How a transfer goes.
#[derive(Debug, Clone)]
enum Progress {
    Bytes(u64),
    Kept(Arc<Kept>),
    Failed(DataError),
}

/// The shared data of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Data {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    folder: PathBuf,
    shelf: Mutex<Shelf>,
    tasks: Tasks,
}

impl Data {
    /// Keeps at most `limit` bytes below `cache`; what an earlier agent has left there counts and is used, if it still is what it was.
    pub fn new(client: Client, cache: &Path, limit: u64, tasks: Tasks) -> Data {
        let folder = cache.join("data");
        let shelf = Mutex::new(Shelf::new(limit, left(&folder)));
        Data { shared: Arc::new(Shared { client, folder, shelf, tasks }) }
    }

    /// The way to the gateway.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// A blob that a call may read, here; fetched if it is not yet. Says meanwhile how far that is.
    pub async fn get(
        &self,
        call: &str,
        blob: &BlobRef,
        say: impl Fn(String),
    ) -> Result<Arc<Kept>, DataError> {
        loop {
            let (mut progress, mine) = match self.want(call, blob)? {
                Found::Here(kept) => return Ok(kept),
                Found::Coming { progress, mine } => (progress, mine),
            };
            loop {
                match progress.borrow_and_update().clone() {
                    Progress::Kept(kept) => return Ok(kept),
                    Progress::Failed(error) if mine => return Err(error),
                    // Another call's transfer failed, perhaps because that call has ended.
                    Progress::Failed(_) => break,
                    Progress::Bytes(count) => say(told(blob, count)),
                }
                if progress.changed().await.is_err() {
                    return Err(DataError::Stopping);
                }
            }
        }
    }

    /// How large a blob is, if the call may read it.
    pub async fn may(&self, call: &str, id: &str) -> Result<BlobRef, DataError> {
        let request = request(Method::HEAD, Some(call), id);
        let answer = self.shared.client.ask(request).await.map_err(|error| of_client(id, error))?;
        let length = answer.headers().get(http::header::CONTENT_LENGTH);
        let size = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let size = size.ok_or_else(|| DataError::Unknown { id: id.into() })?;
        Ok(BlobRef { id: id.into(), size })
    }

    fn want(&self, call: &str, blob: &BlobRef) -> Result<Found, DataError> {
        let mut shelf = self.lock();
        let evicted = match shelf.want(blob)? {
            Want::Kept(kept) => return Ok(Found::Here(kept)),
            Want::Here => {
                let kept = Arc::new(Kept { path: self.shared.folder.join(&blob.id) });
                shelf.hold(&blob.id, &kept);
                return Ok(Found::Here(kept));
            }
            Want::Coming(progress) => return Ok(Found::Coming { progress, mine: false }),
            Want::Fetch { evicted } => evicted,
        };
        let (sender, progress) = watch::channel(Progress::Bytes(0));
        shelf.fetching(blob, progress.clone());
        drop(shelf);
        for id in evicted {
            // Its name is free again even where the file stays: it is written anew.
            let _ = std::fs::remove_file(self.shared.folder.join(id));
        }
        let transfer = Transfer::new(&self.shared.client, &self.shared.folder, Some(call), blob);
        self.shared.tasks.spawn(self.clone().fetch(transfer, blob.clone(), sender));
        Ok(Found::Coming { progress, mine: true })
    }

    /// A blob that hosts made for each other, fetched into a folder of the caller's; says meanwhile how far that is.
    pub async fn of_hosts(
        &self,
        folder: &Path,
        blob: &BlobRef,
        say: impl Fn(String),
    ) -> Result<PathBuf, DataError> {
        let transfer = Transfer::new(&self.shared.client, folder, None, blob);
        transfer.run(|count| say(told(blob, count))).await
    }

    async fn fetch(self, transfer: Transfer, blob: BlobRef, progress: watch::Sender<Progress>) {
        let fetched = tokio::select! {
            biased;
            () = self.shared.tasks.cancelled() => Err(DataError::Stopping),
            // The shelf holds one receiver itself, which it gives away when nobody else waits.
            () = self.abandoned(&progress) => Err(DataError::Stopping),
            fetched = transfer.run(|count| drop(progress.send_replace(Progress::Bytes(count)))) => fetched,
        };
        let mut shelf = self.lock();
        let end = match fetched {
            Ok(path) => {
                let kept = Arc::new(Kept { path });
                shelf.fetched(&blob.id, &kept);
                Progress::Kept(kept)
            }
            Err(error) => {
                tracing::warn!(
                    blob = blob.id,
                    error = &error as &dyn std::error::Error,
                    "data not fetched"
                );
                shelf.failed(&blob.id);
                Progress::Failed(error)
            }
        };
        drop(shelf);
        progress.send_replace(end);
    }

    /// Ends when nobody waits any more but the shelf.
    async fn abandoned(&self, progress: &watch::Sender<Progress>) {
        let mut tick = tokio::time::interval(transfer::LOOK_EVERY);
        loop {
            tick.tick().await;
            if progress.receiver_count() <= 1 {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shared.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Found {
    Here(Arc<Kept>),
    Coming { progress: watch::Receiver<Progress>, mine: bool },
}

/// Under which name a worker sees a blob.
pub fn mount_name(id: &str) -> String {
    format!("data-{id}")
}

/// The request for a blob of a call; without one, for a blob of the hosts'.
fn request(method: Method, call: Option<&str>, id: &str) -> Request<Empty<bytes::Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    // Ids are checked where they come in; one that is no path asks for nothing.
    *request.uri_mut() = format!("/v1/blobs/{id}").parse().unwrap_or_default();
    if let Some(Ok(call)) = call.map(HeaderValue::from_str) {
        request.headers_mut().insert("muster-call", call);
    }
    request
}

fn of_client(id: &str, error: ClientError) -> DataError {
    match error {
        ClientError::Refused { status: 404, .. } => DataError::Unknown { id: id.into() },
        error => DataError::Gateway(Arc::new(error)),
    }
}

/// `data 3f2a: 40 % of 2.0 GB`.
fn told(blob: &BlobRef, count: u64) -> String {
    let percent = (count * 100).checked_div(blob.size).unwrap_or(100);
    let id: String = blob.id.chars().take(4).collect();
    let (size, unit) = match blob.size {
        size if size >= 1_000_000_000 => (size as f64 / 1e9, "GB"),
        size if size >= 1_000_000 => (size as f64 / 1e6, "MB"),
        size => (size as f64 / 1e3, "kB"),
    };
    format!("data {id}: {percent} % of {size:.1} {unit}")
}

/// Blobs that are in the folder already, the longest unused first; what is left of broken transfers goes.
fn left(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let whole = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        match entry.metadata() {
            Ok(facts) if whole => found.push((facts.modified().ok(), name, facts.len())),
            _ => drop(std::fs::remove_file(entry.path())),
        }
    }
    found.sort();
    found.into_iter().map(|(_, name, size)| (name, size)).collect()
}

#[cfg(test)]
mod tests;
