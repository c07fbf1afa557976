//! The entries as requests look them up. Pure.

use std::collections::HashMap;

use super::entry::Entry;

/// What an unknown id is compared with: the hash of nothing anybody can present.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The entries by id, and those of hosts by name.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    by_id: HashMap<String, usize>,
    by_host: HashMap<String, usize>,
}

impl Table {
    /// Of these; of several credentials of one host the last that is not revoked counts.
    pub fn of(entries: Vec<Entry>) -> Table {
        let mut table = Table { by_id: HashMap::new(), by_host: HashMap::new(), entries };
        for (at, entry) in table.entries.iter().enumerate() {
            table.by_id.insert(entry.id.clone(), at);
            if let Some(host) = entry.host.as_ref().filter(|_| entry.is_host())
                && entry.revoked_unix_s.is_none()
            {
                table.by_host.insert(host.clone(), at);
            }
        }
        table
    }

    /// The entry with this id and hash, if it is good now.
    pub fn by_id(&self, id: &str, sha256: &str, now_unix_s: u64) -> Option<&Entry> {
        let found = self.get(id);
        let same = match found {
            Some(entry) => entry.matches(sha256),
            None => super::entry::same(NOBODY, sha256),
        };
        found.filter(|entry| same && entry.is_good(now_unix_s))
    }

    /// The credential of the host with this name, if it is good now.
    pub fn by_host(&self, host: &str, now_unix_s: u64) -> Option<&Entry> {
        let entry = &self.entries[*self.by_host.get(host)?];
        entry.is_good(now_unix_s).then_some(entry)
    }

    /// The entry with this id.
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.by_id.get(id).map(|at| &self.entries[*at])
    }

    /// All entries, newest first.
    pub fn list(&self) -> Vec<Entry> {
        self.entries.iter().rev().cloned().collect()
    }
}
