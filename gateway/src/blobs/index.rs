//! What blobs there are, what fits beside them, and what goes. Pure: no bytes, no clock, no I/O.

use std::collections::BTreeMap;
use std::fmt;

use tokio::time::Instant;

use super::{BlobError, BlobsConfig, HOSTS, KEEP_PARTIAL, NOTE_USE_EVERY};

/// The SHA-256 of a blob's bytes, 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(String);

impl BlobId {
    /// The id that a text is, if it is one.
    pub fn parse(text: &str) -> Option<BlobId> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(digit)).then(|| BlobId(text.to_owned()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a blob is found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Whose it is.
    pub owner: String,
    /// What is in it.
    pub id: BlobId,
}

/// What there is of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing, or its first bytes.
    Partial {
        /// How many bytes.
        have: u64,
    },
    /// All of it.
    Whole {
        /// How many bytes.
        size: u64,
    },
}

/// What an upload begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing is wanted; it has so many bytes.
    Whole(u64),
    /// It may go on; these blobs make room, and their objects are to be removed.
    Upload {
        /// Oldest first.
        evicted: Vec<Key>,
    },
}

#[derive(Debug)]
struct Entry {
    /// Bytes of each object.
    parts: Vec<u64>,
    have: u64,
    /// Bytes it takes up, or will.
    total: u64,
    whole: bool,
    uploading: bool,
    /// Its objects are being removed; nobody sees it any more.
    going: bool,
    pins: u32,
    used: Instant,
    /// The last use that the store knows of.
    noted: Instant,
}

/// All blobs.
#[derive(Debug)]
pub struct Index {
    config: BlobsConfig,
    entries: BTreeMap<Key, Entry>,
    used_bytes: u64,
}

impl Index {
    /// None yet.
    pub fn new(config: BlobsConfig) -> Index {
        Index { config, entries: BTreeMap::new(), used_bytes: 0 }
    }

    /// A blob, or a part of one, that was there before.
    pub fn found(&mut self, key: Key, parts: Vec<u64>, whole: bool, used: Instant) {
        let have = parts.iter().sum();
        self.used_bytes += have;
        let entry = Entry {
            parts,
            have,
            total: have,
            whole,
            uploading: false,
            going: false,
            pins: 0,
            used,
            noted: used,
        };
        self.entries.insert(key, entry);
    }

    /// What there is of a blob.
    pub fn look(&self, key: &Key) -> Look {
        match self.seen(key) {
            None => Look::Partial { have: 0 },
            Some(entry) if entry.whole => Look::Whole { size: entry.have },
            Some(entry) => Look::Partial { have: entry.have },
        }
    }

    /// Begins an upload at `offset` of a blob of `total` bytes.
    pub fn begin(
        &mut self,
        key: &Key,
        offset: u64,
        total: u64,
        now: Instant,
    ) -> Result<Begun, BlobError> {
        let (have, reserved) = match self.entries.get(key) {
            Some(entry) if entry.going || entry.uploading => {
                return Err(BlobError::Busy(key.id.clone()));
            }
            Some(entry) if entry.whole => return Ok(Begun::Whole(entry.have)),
            Some(entry) => (entry.have, entry.total),
            None => (0, 0),
        };
        if total > self.config.largest {
            return Err(BlobError::TooLarge { size: total, largest: self.config.largest });
        }
        if offset != have || offset > total {
            return Err(BlobError::Offset { id: key.id.clone(), have });
        }
        let evicted = self.make_room(total.saturating_sub(reserved))?;
        self.used_bytes = self.used_bytes - reserved + total;
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            parts: Vec::new(),
            have: 0,
            total,
            whole: false,
            uploading: true,
            going: false,
            pins: 0,
            used: now,
            noted: now,
        });
        (entry.total, entry.uploading, entry.used) = (total, true, now);
        Ok(Begun::Upload { evicted })
    }

    /// Room for so many more bytes: what hosts made for each other goes for it, the longest unused first, as they can make it again.
    fn make_room(&mut self, size: u64) -> Result<Vec<Key>, BlobError> {
        let full = BlobError::Full { size, used: self.used_bytes, limit: self.config.limit };
        let mut excess = (self.used_bytes + size).saturating_sub(self.config.limit);
        let mut cached: Vec<(&Key, &mut Entry)> = self
            .entries
            .iter_mut()
            .filter(|(key, entry)| key.owner == HOSTS && entry.may_go())
            .collect();
        cached.sort_by_key(|(_, entry)| entry.used);
        let mut chosen = Vec::new();
        for (key, entry) in cached {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(entry.total);
            chosen.push((key.clone(), entry));
        }
        if excess > 0 {
            return Err(full);
        }
        Ok(chosen
            .into_iter()
            .map(|(key, entry)| {
                entry.going = true;
                // What goes gives its room now: whoever waits for it has begun already.
                self.used_bytes -= std::mem::take(&mut entry.total);
                key
            })
            .collect())
    }

    /// One more object of an upload is stored.
    pub fn stored(&mut self, key: &Key, bytes: u64, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.parts.push(bytes);
            entry.have += bytes;
            entry.used = now;
        }
    }

    /// The upload is over: all of it is there, or the request has ended before.
    pub fn finished(&mut self, key: &Key, whole: bool, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.uploading, entry.whole) = (false, whole);
            (entry.used, entry.noted) = (now, now);
        }
    }

    /// What came was wrong: its objects are to be removed.
    pub fn spoiled(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.going, entry.uploading) = (true, false);
        }
    }

    /// Takes a blob out that nobody uses; its objects are to be removed.
    pub fn remove(&mut self, key: &Key) -> Result<(), BlobError> {
        match self.entries.get_mut(key) {
            Some(entry) if entry.uploading || entry.pins > 0 => {
                Err(BlobError::Busy(key.id.clone()))
            }
            Some(entry) if !entry.going => {
                entry.going = true;
                Ok(())
            }
            _ => Err(BlobError::Unknown(key.id.clone())),
        }
    }

    /// Its objects are gone.
    pub fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.used_bytes -= entry.total;
        }
    }

    /// Notes a use of a whole blob: whether the store should know of it.
    pub fn touch(&mut self, key: &Key, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.whole && !entry.going)
        else {
            return false;
        };
        entry.used = now;
        let due = now.saturating_duration_since(entry.noted) >= NOTE_USE_EVERY;
        if due {
            entry.noted = now;
        }
        due
    }

    /// Keeps whole blobs, all of them or none.
    pub fn pin(&mut self, keys: &[Key]) -> Result<(), BlobError> {
        let missing = |key: &&Key| !self.seen(key).is_some_and(|entry| entry.whole);
        if let Some(key) = keys.iter().find(missing) {
            return Err(BlobError::Unknown(key.id.clone()));
        }
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.pins += 1;
            }
        }
        Ok(())
    }

    /// Lets go of what was pinned.
    pub fn unpin(&mut self, keys: &[Key], now: Instant) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.pins = entry.pins.saturating_sub(1);
                entry.used = now;
            }
        }
    }

    /// What was not used for too long; from now on nobody sees it.
    pub fn expired(&mut self, now: Instant) -> Vec<Key> {
        let keep = self.config.keep;
        let mut expired = Vec::new();
        for (key, entry) in &mut self.entries {
            let keep = if entry.whole { keep } else { keep.min(KEEP_PARTIAL) };
            if entry.may_go() && now.saturating_duration_since(entry.used) >= keep {
                entry.going = true;
                expired.push(key.clone());
            }
        }
        expired
    }

    /// Bytes of each object of a blob.
    pub fn parts(&self, key: &Key) -> Vec<u64> {
        self.seen(key).map(|entry| entry.parts.clone()).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes they take up, those that were promised room counted.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    fn seen(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| !entry.going)
    }
}

impl Entry {
    fn may_go(&self) -> bool {
        self.pins == 0 && !self.uploading && !self.going
    }
}
