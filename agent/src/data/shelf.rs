//! Which blobs are here, which are coming, and which go to make room. Pure but for what holds a blob.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use muster_wire::message::BlobRef;
use tokio::sync::watch;

use super::{DataError, Kept, Progress};

/// What to do about a blob that is wanted.
#[derive(Debug)]
pub enum Want {
    /// Somebody holds it.
    Kept(Arc<Kept>),
    /// It is here, and nobody holds it yet.
    Here,
    /// It is being fetched.
    Coming(watch::Receiver<Progress>),
    /// It has to be fetched, or looked through where an earlier agent left it; these go for it.
    Fetch {
        /// The longest unused first.
        evicted: Vec<String>,
    },
}

#[derive(Debug)]
struct Entry {
    size: u64,
    /// When it was wanted last, as a number that rises.
    wanted: u64,
    held: Weak<Kept>,
    /// Whether this agent has seen that it is what its name says.
    seen: bool,
    coming: Option<watch::Receiver<Progress>>,
}

/// All blobs of this host.
#[derive(Debug)]
pub struct Shelf {
    limit: u64,
    entries: HashMap<String, Entry>,
    wants: u64,
}

impl Shelf {
    /// What is there at the start, the longest unused first.
    pub fn new(limit: u64, left: Vec<(String, u64)>) -> Shelf {
        let mut shelf = Shelf { limit, entries: HashMap::new(), wants: 0 };
        for (id, size) in left {
            shelf.wants += 1;
            let (wanted, held) = (shelf.wants, Weak::new());
            let entry = Entry { size, wanted, held, seen: false, coming: None };
            shelf.entries.insert(id, entry);
        }
        shelf
    }

    /// A blob is wanted.
    pub fn want(&mut self, blob: &BlobRef) -> Result<Want, DataError> {
        self.wants += 1;
        if let Some(entry) = self.entries.get_mut(&blob.id) {
            entry.wanted = self.wants;
            return Ok(match (&entry.coming, entry.held.upgrade()) {
                (Some(coming), _) => Want::Coming(coming.clone()),
                (None, Some(kept)) => Want::Kept(kept),
                (None, None) if entry.seen => Want::Here,
                (None, None) => Want::Fetch { evicted: Vec::new() },
            });
        }
        let evicted = self.make_room(blob.size)?;
        Ok(Want::Fetch { evicted })
    }

    fn make_room(&mut self, size: u64) -> Result<Vec<String>, DataError> {
        let used: u64 = self.entries.values().map(|entry| entry.size).sum();
        let mut excess = (used + size).saturating_sub(self.limit);
        let may_go = |entry: &&Entry| entry.coming.is_none() && entry.held.strong_count() == 0;
        let free: u64 = self.entries.values().filter(may_go).map(|entry| entry.size).sum();
        if excess > free {
            return Err(DataError::NoRoom { size, limit: self.limit, held: used - free });
        }
        let mut idle: Vec<(u64, String)> = self
            .entries
            .iter()
            .filter(|(_, entry)| may_go(entry))
            .map(|(id, entry)| (entry.wanted, id.clone()))
            .collect();
        idle.sort();
        let mut evicted = Vec::new();
        for (_, id) in idle {
            if excess == 0 {
                break;
            }
            let entry = self.entries.remove(&id);
            excess = excess.saturating_sub(entry.map_or(0, |entry| entry.size));
            evicted.push(id);
        }
        Ok(evicted)
    }

    /// Its transfer has begun; its room is taken.
    pub fn fetching(&mut self, blob: &BlobRef, coming: watch::Receiver<Progress>) {
        let (size, wanted) = (blob.size, self.wants);
        let entry = Entry { size, wanted, held: Weak::new(), seen: false, coming: Some(coming) };
        self.entries.insert(blob.id.clone(), entry);
    }

    /// It has come.
    pub fn fetched(&mut self, id: &str, kept: &Arc<Kept>) {
        if let Some(entry) = self.entries.get_mut(id) {
            (entry.held, entry.coming, entry.seen) = (Arc::downgrade(kept), None, true);
        }
    }

    /// It has not, and its room is free.
    pub fn failed(&mut self, id: &str) {
        self.entries.remove(id);
    }

    /// Somebody holds it from now on.
    pub fn hold(&mut self, id: &str, kept: &Arc<Kept>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.held = Arc::downgrade(kept);
        }
    }
}
