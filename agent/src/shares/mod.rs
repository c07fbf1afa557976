//! Shared folders: what of this host calls may mount, by the names that the settings give it, and nothing else.
//!
//! The problem: data lies on NFS, Ceph or a local disk, and every function is to read it where it lies; but whoever may name a
//! folder of a host owns the host. So a call names a share and a place in its container. The share's folder comes from the
//! settings alone, and whether it may be written to as well ([`Shares::mounts`], pure).
//!
//! ```text
//!   settings ──▶ there ──folder gone, moved, or its file system unmounted──▶ absent ──▶ there
//!                  └── HOST_STATUS says so: calls are placed where their shares are
//! ```
//!
//! A container is made with its shares and gets none later: the call starts its containers cold, and no other ever has them,
//! because a container belongs to one call from its start. A share is mounted alone, without what is mounted below it (a
//! read-only mount would leave that writable), and without later mounts spreading either way.
//!
//! The path was resolved when the agent started. A folder that is reached through a link since then is absent: somebody has
//! moved what the operator meant. Those who may write to the parents of a share can still replace it between the look and the
//! mount, so the parents are the operator's to keep; of shares in shares the settings let the outer one be read only.
//!
//! Who owns what: one task looks at all shares every few seconds, each in a thread of its own, because a folder of a server that
//! is gone may never answer; a look that does not is an absent share. Claims look again, and wait while a share is absent:
//! meanwhile the gateway takes the call elsewhere.
//!
//! Not here: who may use which share (the gateway's tokens), and user ids on the file system: a container's user is none of the
//! host's, so a share must be open to everybody, to read or to write.

mod access;
mod look;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_wire::share::{self, ShareError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::container::say;
use crate::status::Board;

use look::Sight;

pub use access::{Access, access};

/// How often the folders are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A folder that does not answer for so long is not there.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A folder of this host that calls may mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What calls name it by.
    pub name: String,
    /// Where it is, without links.
    pub path: PathBuf,
    /// Whether calls may write to it.
    pub writable: bool,
}

/// A share as a container has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareMount {
    /// The folder of the host.
    pub source: PathBuf,
    /// Where the container sees it.
    pub target: String,
    /// Whether it may write to it.
    pub writable: bool,
}

/// Something of the host that no share may let calls at.
#[derive(Debug)]
pub struct Taken {
    /// Where it is, without links as far as it is there.
    pub path: PathBuf,
    is_folder: bool,
}

/// Why a call cannot have its shares here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SharesError {
    /// The settings name no such share.
    #[error("this host has no share {0:?}")]
    Unknown(String),
    /// They cannot be mounted so.
    #[error("the call {0}")]
    Wrong(ShareError),
}

/// The shares of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shares {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    list: Vec<Share>,
    sights: Mutex<HashMap<String, Arc<Sight>>>,
    /// Which of the list are there.
    there: watch::Sender<Vec<bool>>,
    board: Board,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.writable { "rw" } else { "ro" };
        write!(f, "{}={}:{mode}", self.name, self.path.display())
    }
}

impl Taken {
    /// A folder with all that is in it.
    pub fn folder(path: &Path) -> Taken {
        Taken { path: look::resolved(path), is_folder: true }
    }

    /// A file.
    pub fn file(path: &Path) -> Taken {
        Taken { path: look::resolved(path), is_folder: false }
    }

    /// Whether sharing this folder would let calls at it.
    pub fn forbids(&self, folder: &Path) -> bool {
        self.path.starts_with(folder) || (self.is_folder && folder.starts_with(&self.path))
    }
}

impl Shares {
    /// Those of the settings, all there as far as anybody knows; tells the board.
    pub fn new(list: Vec<Share>, board: Board) -> Shares {
        let there = watch::Sender::new(vec![true; list.len()]);
        let shares =
            Shares { shared: Arc::new(Shared { list, sights: Mutex::default(), there, board }) };
        shares.tell();
        shares
    }

    /// The first share whose folder would let calls at this, if there is one.
    pub fn reaching(&self, taken: &Taken) -> Option<&Share> {
        self.shared.list.iter().find(|share| taken.forbids(&share.path))
    }

    /// What a container gets for the shares of a call: folders and modes of the settings, places of the call.
    pub fn mounts(
        &self,
        wanted: &BTreeMap<String, String>,
    ) -> Result<Vec<ShareMount>, SharesError> {
        share::check(wanted).map_err(SharesError::Wrong)?;
        let mount = |(name, target): (&String, &String)| {
            let share = self.find(name).map(|at| &self.shared.list[at]);
            let share = share.ok_or_else(|| SharesError::Unknown(name.clone()))?;
            Ok(ShareMount {
                source: share.path.clone(),
                target: target.clone(),
                writable: share.writable,
            })
        };
        wanted.iter().map(mount).collect()
    }

    /// The same, when all of them are there. Until then says in `waiting` which is not.
    pub async fn ready(
        &self,
        wanted: &BTreeMap<String, String>,
        waiting: &watch::Sender<Option<String>>,
    ) -> Result<Vec<ShareMount>, SharesError> {
        let mounts = self.mounts(wanted)?;
        let mut there = self.shared.there.subscribe();
        loop {
            there.borrow_and_update();
            let mut absent = None;
            for name in wanted.keys() {
                if let Some(at) = self.find(name)
                    && !self.look(at).await
                {
                    absent = Some(name);
                }
            }
            let Some(name) = absent else { return Ok(mounts) };
            say(
                waiting,
                format!("waiting: the folder of share {name} is gone from a host; is it mounted?"),
            );
            // The sender is ours, so it is there; and where nobody watches, the time passes.
            let _ = tokio::time::timeout(LOOK_EVERY, there.changed()).await;
        }
    }

    /// Looks at all of them until the stop.
    pub async fn watch(self, stop: CancellationToken) {
        if self.shared.list.is_empty() {
            return stop.cancelled().await;
        }
        let round = async {
            loop {
                for at in 0..self.shared.list.len() {
                    self.look(at).await;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = round => {}
        }
    }

    /// Whether a share is there now; what has changed is told.
    async fn look(&self, at: usize) -> bool {
        let share = &self.shared.list[at];
        let sight = {
            let mut sights = self.shared.sights.lock().unwrap_or_else(PoisonError::into_inner);
            sights.entry(share.name.clone()).or_default().clone()
        };
        let is_there = sight.look(&share.path, ANSWER_WITHIN).await;
        let changed = self.shared.there.send_if_modified(|there| {
            let before = std::mem::replace(&mut there[at], is_there);
            before != is_there
        });
        if changed {
            match is_there {
                true => tracing::info!(%share, "share is there"),
                false => tracing::warn!(%share, "share is absent: no call is given it here"),
            }
            self.tell();
        }
        is_there
    }

    fn tell(&self) {
        let there = self.shared.there.borrow().clone();
        let told =
            self.shared.list.iter().zip(there).map(|(share, there)| muster_wire::message::Share {
                name: share.name.clone(),
                writable: share.writable,
                there,
            });
        self.shared.board.shares(told.collect());
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.shared.list.iter().position(|share| share.name == name)
    }
}

#[cfg(test)]
mod tests;
