//! The table of all calls: by number, in the order they came; by id; by owner and idempotency key. It only finds them: who may be in it, and for how long, is said elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::calls::CallHandle;

#[derive(Debug, Default)]
pub(super) struct Table {
    next: u64,
    pub by_number: BTreeMap<u64, Entry>,
    pub by_id: HashMap<String, u64>,
    by_key: HashMap<(String, String), u64>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub handle: CallHandle,
    key: Option<(String, String)>,
    /// How old the store was when it ended, as far as that was noticed.
    pub ended: Option<Duration>,
    /// The same of when a foreground call was last seen with a reader after that.
    pub read: Option<Duration>,
}

impl Table {
    /// Puts a call in, and gives its number.
    pub fn insert(
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
        self.by_number.insert(number, Entry { handle, key, ended, read: None });
        number
    }

    /// Takes a call out.
    pub fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.by_number.remove(&number)?;
        self.by_id.remove(entry.handle.id());
        if let Some(key) = &entry.key {
            self.by_key.remove(key);
        }
        Some(entry)
    }

    /// The call with this owner and idempotency key.
    pub fn by_key(&self, key: &(String, String)) -> Option<CallHandle> {
        let number = self.by_key.get(key)?;
        self.by_number.get(number).map(|kept| kept.handle.clone())
    }
}
