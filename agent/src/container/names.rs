//! Names and uids of workers, and which of them are alive. A name is entered before anything is made under it and left
//! when all of it is gone: what carries our label but is not here is a leftover.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// Uids of workers start here, far above any user of a host.
const FIRST_UID: u32 = 600_000;
/// Workers of one agent at once; agents of one machine take different blocks of uids, as far as their names tell.
const BLOCK: u32 = 4096;
const BLOCKS: u32 = 256;
/// A label of a host name is no longer (RFC 1035).
const HOST_NAME_BYTES: usize = 63;

/// A cheap handle to the names in use.
#[derive(Debug, Clone)]
pub struct Names {
    host_name: String,
    first_uid: u32,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    shorts: HashSet<String>,
    uids: BTreeSet<u32>,
}

/// A name and a uid, free again when this is dropped.
#[derive(Debug)]
pub struct Name {
    short: String,
    uid: u32,
    names: Names,
}

impl Names {
    /// None in use.
    pub fn new(host_name: &str) -> Names {
        let hash = host_name.bytes().fold(2_166_136_261_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
        });
        let first_uid = FIRST_UID + hash % BLOCKS * BLOCK;
        Names { host_name: host_name.to_string(), first_uid, shared: Arc::default() }
    }

    /// A new name, or `None` when all uids are taken.
    pub fn take(&self) -> Option<Name> {
        let mut shared = self.lock();
        let uid =
            (self.first_uid..self.first_uid + BLOCK).find(|uid| !shared.uids.contains(uid))?;
        let short = loop {
            let short = format!("{:08x}", rand::random::<u32>());
            if shared.shorts.insert(short.clone()) {
                break short;
            }
        };
        shared.uids.insert(uid);
        Some(Name { short, uid, names: self.clone() })
    }

    /// Whether a container of this name, or a folder of this short name, belongs to a worker.
    pub fn owns(&self, name: &str) -> bool {
        let short = name.strip_prefix(&self.full("")).unwrap_or(name);
        self.lock().shorts.contains(short)
    }

    fn full(&self, short: &str) -> String {
        format!("muster-{}-{short}", self.host_name)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Name {
    /// The container's name.
    pub fn full(&self) -> String {
        self.names.full(&self.short)
    }

    /// What the container calls itself: its name, by which the engine finds it, unless that is longer than a host's may be.
    pub fn host_name(&self) -> String {
        let full = self.full();
        if full.len() <= HOST_NAME_BYTES { full } else { self.short.clone() }
    }

    /// The part that is unique on this host.
    pub fn short(&self) -> &str {
        &self.short
    }

    /// The uid the container runs as.
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut shared = self.names.lock();
        shared.shorts.remove(&self.short);
        shared.uids.remove(&self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_uids_are_unique_while_held() {
        let names = Names::new("node-1");
        let first = names.take().expect("free");
        let second = names.take().expect("free");
        assert_ne!(first.full(), second.full());
        assert_ne!(first.uid(), second.uid());
        assert!(first.uid() >= FIRST_UID);
        assert!(names.owns(&first.full()) && names.owns(first.short()));
        let (full, uid) = (first.full(), first.uid());
        drop(first);
        assert!(!names.owns(&full));
        assert_eq!(names.take().expect("free").uid(), uid);
    }

    #[test]
    fn a_container_calls_itself_as_the_engine_does_where_that_fits() {
        let name = Names::new("node-1").take().expect("free");
        assert_eq!(name.host_name(), name.full());
        let long = Names::new(&"n".repeat(63)).take().expect("free");
        assert_eq!(long.host_name(), long.short());
    }

    #[test]
    fn uids_run_out_rather_than_being_shared() {
        let names = Names::new("node-1");
        let all: Vec<_> = std::iter::from_fn(|| names.take()).collect();
        assert_eq!(all.len(), BLOCK as usize);
    }
}
