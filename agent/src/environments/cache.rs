//! The folders of environments on this host: made beside their place, put there whole, and given up oldest first.
//!
//! ```text
//!   DIR/building/RANDOM    of one build; swept at the start
//!   DIR/KEY                complete; its time is that of its last use
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::{Environment, EnvironmentError};

const BUILDING: &str = "building";
/// Uses closer to one another than this count as one.
const USE: Duration = Duration::from_secs(60);

/// What is there.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    bound: u64,
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    environment: Arc<Environment>,
    bytes: u64,
    used: SystemTime,
}

/// The folder of one build; gone when it is dropped.
#[derive(Debug)]
pub struct Building {
    path: PathBuf,
}

impl Building {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Cache {
    /// Finds what is complete, and removes what is not.
    pub fn open(dir: &Path, bound: u64) -> Cache {
        remove(&dir.join(BUILDING));
        let mut entries = HashMap::new();
        for found in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, key) = (found.path(), found.file_name().to_string_lossy().into_owned());
            let used = found.metadata().and_then(|metadata| metadata.modified());
            let bytes = own(&path);
            if let (Ok(used), Ok(bytes)) = (used, bytes) {
                let environment = Arc::new(Environment { path });
                entries.insert(key, Entry { environment, bytes, used });
            }
        }
        Cache { dir: dir.to_path_buf(), bound, entries: Mutex::new(entries) }
    }

    /// The environment of this key, which from now on is in use as long as it is held.
    pub fn get(&self, key: &str) -> Option<Arc<Environment>> {
        let mut entries = self.lock();
        let entry = entries.get_mut(key)?;
        let now = SystemTime::now();
        if now.duration_since(entry.used).is_ok_and(|since| since >= USE) {
            entry.used = now;
            // Only for the order after a restart.
            let _ = File::open(&entry.environment.path).and_then(|folder| folder.set_modified(now));
        }
        Some(entry.environment.clone())
    }

    /// A folder to build in.
    pub fn begin(&self) -> io::Result<Building> {
        let path = self.dir.join(BUILDING).join(format!("{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path)?;
        Ok(Building { path })
    }

    /// Puts what was built, a folder in `building`, in its place: first on the disk, then under its key. What is oldest and not in
    /// use goes, until there is room for it.
    pub async fn publish(
        &self,
        key: &str,
        building: Building,
        built: PathBuf,
    ) -> Result<Arc<Environment>, EnvironmentError> {
        let from = built.clone();
        let synced = tokio::task::spawn_blocking(move || {
            let bytes = own(&from)?;
            rustix::fs::syncfs(File::open(&from)?)?;
            Ok(bytes)
        });
        // It does not panic, and is not aborted.
        let synced = synced.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let bytes = synced.map_err(EnvironmentError::storage)?;
        if bytes > self.bound {
            return Err(EnvironmentError::TooLarge { bytes, bound: self.bound });
        }
        let path = self.dir.join(key);
        std::fs::rename(&built, &path)
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(EnvironmentError::storage)?;
        let environment = Arc::new(Environment { path });
        let (used, entry) = (SystemTime::now(), environment.clone());
        let doomed = {
            let mut entries = self.lock();
            entries.insert(key.to_string(), Entry { environment: entry, bytes, used });
            evict(&mut entries, self.bound)
        };
        let removal = tokio::task::spawn_blocking(move || {
            doomed.iter().for_each(|doomed| remove(&doomed.path));
            drop(building);
        });
        // The same.
        let _ = removal.await;
        Ok(environment)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Takes out what was not used for longest and is not in use, until the rest fits.
fn evict(entries: &mut HashMap<String, Entry>, bound: u64) -> Vec<Arc<Environment>> {
    let mut doomed = Vec::new();
    while entries.values().map(|entry| entry.bytes).sum::<u64>() > bound {
        let free = entries.iter().filter(|(_, entry)| Arc::strong_count(&entry.environment) == 1);
        let Some(oldest) = free.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
        else {
            break;
        };
        doomed.extend(entries.remove(&oldest).map(|entry| entry.environment));
    }
    doomed
}

/// Makes all of it root's (a container's user wrote it, and that number will be another container's), and returns its size.
fn own(path: &Path) -> io::Result<u64> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.uid() != 0 && rustix::process::geteuid().is_root() {
        lchown(path, Some(0), Some(0))?;
    }
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += own(&entry?.path())?;
        }
    }
    Ok(bytes)
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %path.display(), %error, "folder of packages not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn build(
        cache: &Cache,
        key: &str,
        size: usize,
    ) -> Result<Arc<Environment>, EnvironmentError> {
        let building = cache.begin().expect("a folder");
        let target = building.path().join("target");
        std::fs::create_dir(&target).expect("ours");
        std::fs::write(target.join("file"), vec![1; size]).expect("ours");
        cache.publish(key, building, target).await
    }

    fn keys(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("a folder").flatten();
        let mut keys: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        keys.retain(|key| key != BUILDING);
        keys.sort();
        keys
    }

    #[tokio::test]
    async fn what_is_complete_is_found_again_and_what_is_not_is_swept() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(dir.path(), 1 << 20);
        assert!(cache.get("a").is_none());
        build(&cache, "a", 10).await.expect("built");
        let half = cache.begin().expect("a folder");
        std::fs::write(half.path().join("x"), "x").expect("ours");
        let path = half.path().to_path_buf();
        std::mem::forget(half);
        let cache = Cache::open(dir.path(), 1 << 20);
        let found = cache.get("a").expect("still there");
        assert_eq!(std::fs::read(found.path.join("file")).expect("there"), [1; 10]);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_never_one_in_use() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(dir.path(), 300 << 10);
        let first = build(&cache, "a", 100 << 10).await.expect("built");
        drop(build(&cache, "b", 100 << 10).await.expect("built"));
        drop(build(&cache, "c", 100 << 10).await.expect("built"));
        assert_eq!(keys(dir.path()), ["a", "c"]);
        assert!(cache.get("b").is_none() && cache.get("c").is_some());
        drop(first);
        drop(build(&cache, "d", 100 << 10).await.expect("built"));
        assert_eq!(keys(dir.path()), ["c", "d"]);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_whole_cache_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(dir.path(), 50 << 10);
        let error = build(&cache, "a", 100 << 10).await.expect_err("too large");
        assert!(matches!(error, EnvironmentError::TooLarge { .. }), "{error}");
        assert_eq!(keys(dir.path()), [""; 0]);
        assert_eq!(std::fs::read_dir(dir.path().join(BUILDING)).expect("ours").count(), 0);
    }
}
