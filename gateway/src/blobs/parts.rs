//! The bytes of blobs, as objects: `of-OWNER/ID/OFFSET` (`hosts/...` for those of the hosts), and `of-OWNER/ID/whole`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path as FilePath;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, PutPayload};

use super::{BlobError, BlobId, HOSTS, Key};

const WHOLE: &str = "whole";
const HOSTS_FOLDER: &str = "hosts";
const OWNER_PREFIX: &str = "of-";

/// Where the objects are.
#[derive(Debug)]
pub struct Parts {
    store: Box<dyn ObjectStore>,
}

/// What was there at the start.
#[derive(Debug)]
pub struct Found {
    pub key: Key,
    pub parts: Vec<u64>,
    pub whole: bool,
    /// How long ago it was used.
    pub age: Duration,
}

#[derive(Default)]
struct Seen {
    parts: BTreeMap<u64, u64>,
    whole: bool,
    newest: Option<SystemTime>,
}

impl Parts {
    /// Objects in a local folder, which is made where it is not there.
    pub fn open(folder: &FilePath) -> Result<Parts, BlobError> {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| BlobError::Store(generic(error)))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(BlobError::Store)?;
        Ok(Parts { store: Box::new(store) })
    }

    /// Every blob there is, as far as its objects follow one another.
    pub async fn list(&self) -> Result<Vec<Found>, BlobError> {
        let mut seen: BTreeMap<Key, Seen> = BTreeMap::new();
        let mut objects = self.store.list(None);
        while let Some(object) = objects.try_next().await.map_err(BlobError::Store)? {
            let Some((key, name)) = split(&object.location) else { continue };
            let entry = seen.entry(key).or_default();
            let at = SystemTime::from(object.last_modified);
            entry.newest = entry.newest.max(Some(at));
            match u64::from_str_radix(&name, 16) {
                Ok(offset) => drop(entry.parts.insert(offset, object.size)),
                Err(_) => entry.whole |= name == WHOLE,
            }
        }
        let now = SystemTime::now();
        let found = |(key, seen): (Key, Seen)| {
            let mut parts = Vec::new();
            let mut end = 0;
            for (offset, size) in seen.parts {
                if offset != end {
                    break;
                }
                parts.push(size);
                end += size;
            }
            Found { key, parts, whole: seen.whole, age: age(seen.newest, now) }
        };
        Ok(seen.into_iter().map(found).collect())
    }

    /// Writes the object at an offset.
    pub async fn write(&self, key: &Key, offset: u64, bytes: Vec<Bytes>) -> Result<(), BlobError> {
        let payload: PutPayload = bytes.into_iter().collect();
        self.put(key, &name(offset), payload).await
    }

    /// Says that a blob is whole, and used just now.
    pub async fn mark_whole(&self, key: &Key) -> Result<(), BlobError> {
        self.put(key, WHOLE, PutPayload::new()).await
    }

    /// A range of the object at an offset.
    pub async fn read(
        &self,
        key: &Key,
        offset: u64,
        range: Range<u64>,
    ) -> Result<Bytes, BlobError> {
        let found = self.store.get_range(&path(key, &name(offset)), range).await;
        found.map_err(|error| match error {
            object_store::Error::NotFound { .. } => BlobError::Unknown(key.id.clone()),
            error => BlobError::Store(error),
        })
    }

    /// Removes all objects of a blob; first the one that says that it is whole.
    pub async fn remove(&self, key: &Key) -> Result<(), BlobError> {
        self.delete(&path(key, WHOLE)).await?;
        let folder = Path::from_iter([folder(key).as_str(), key.id.as_str()]);
        let objects: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(BlobError::Store)?;
        for object in objects {
            self.delete(&object.location).await?;
        }
        Ok(())
    }

    async fn put(&self, key: &Key, name: &str, payload: PutPayload) -> Result<(), BlobError> {
        let done = self.store.put(&path(key, name), payload).await;
        done.map(drop).map_err(|error| match is_full(&error) {
            true => BlobError::DiskFull,
            false => BlobError::Store(error),
        })
    }

    async fn delete(&self, path: &Path) -> Result<(), BlobError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::Store(error)),
        }
    }
}

/// How long ago something was written, by dates: no other clock goes on while no gateway runs. A date that is not yet is now, so that what has it expires in its time.
fn age(at: Option<SystemTime>, now: SystemTime) -> Duration {
    at.and_then(|at| now.duration_since(at).ok()).unwrap_or_default()
}

fn name(offset: u64) -> String {
    format!("{offset:016x}")
}

fn folder(key: &Key) -> String {
    match key.owner.as_str() {
        HOSTS => HOSTS_FOLDER.to_owned(),
        owner => format!("{OWNER_PREFIX}{owner}"),
    }
}

fn path(key: &Key, name: &str) -> Path {
    Path::from_iter([folder(key).as_str(), key.id.as_str(), name])
}

/// The blob an object belongs to, and its name there.
fn split(path: &Path) -> Option<(Key, String)> {
    let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    let [folder, id, name]: [String; 3] = parts.try_into().ok()?;
    let owner = match folder.as_str() {
        HOSTS_FOLDER => HOSTS.to_owned(),
        folder => folder.strip_prefix(OWNER_PREFIX)?.to_owned(),
    };
    Some((Key { owner, id: BlobId::parse(&id)? }, name))
}

/// Whether the disk is what is wrong, however deep it is wrapped.
fn is_full(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            return matches!(io.kind(), StorageFull | QuotaExceeded);
        }
        cause = error.source();
    }
    false
}

fn generic(source: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_that_is_not_yet_is_now() {
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::UNIX_EPOCH + 9 * day;
        assert_eq!(age(Some(now - day), now), day);
        assert_eq!(age(Some(now + day), now), Duration::ZERO);
        assert_eq!(age(None, now), Duration::ZERO);
    }
}
