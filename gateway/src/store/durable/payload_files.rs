//! Payloads that are too large for a row, each an object of a folder per call.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, PutPayload};

use super::{Payload, checked};
use crate::store::StoreError;

/// Objects in a local folder. `object_store` writes and renames them but does not sync: [`put`](PayloadFiles::put) does.
#[derive(Debug)]
pub struct PayloadFiles {
    objects: LocalFileSystem,
    folder: PathBuf,
}

impl PayloadFiles {
    /// In this folder, which is made if it is not there.
    pub fn open(folder: PathBuf) -> Result<PayloadFiles, StoreError> {
        std::fs::create_dir_all(&folder).map_err(StoreError::of_io)?;
        let objects = LocalFileSystem::new_with_prefix(&folder)
            .map_err(of_object)?
            .with_automatic_cleanup(true);
        Ok(PayloadFiles { objects, folder })
    }

    /// Writes one, durably: the file, its folder, and the folder of folders are synced.
    pub async fn put(&self, call: &str, name: &str, payload: &Payload) -> Result<(), StoreError> {
        let key = key(call, name);
        let body: PutPayload = payload.pieces.iter().cloned().collect();
        self.objects.put(&key, body).await.map_err(of_object)?;
        let (folder, call, name) = (self.folder.clone(), call.to_owned(), name.to_owned());
        let synced = tokio::task::spawn_blocking(move || {
            let of_call = folder.join(call);
            sync(&of_call.join(name))?;
            sync(&of_call)?;
            sync(&folder)
        });
        synced.await.map_err(io::Error::other).flatten().map_err(StoreError::of_io)
    }

    /// Reads one back, and checks it; `what` names it in an error.
    pub async fn get(
        &self,
        call: &str,
        name: &str,
        crc: u32,
        what: u64,
    ) -> Result<Bytes, StoreError> {
        let found = match self.objects.get(&key(call, name)).await {
            Err(object_store::Error::NotFound { .. }) => return Err(StoreError::Damaged(what)),
            found => found.map_err(of_object)?,
        };
        checked(found.bytes().await.map_err(of_object)?, crc, what)
    }

    /// Removes those of a call whose names begin so. What cannot be removed is removed by the next opening.
    pub async fn remove(&self, call: &str, prefix: &str) {
        let listed = self.objects.list(Some(&Key::from(call)));
        let chosen = listed.try_filter(|meta| {
            let wanted = meta.location.filename().is_some_and(|name| name.starts_with(prefix));
            futures_util::future::ready(wanted)
        });
        let removed = chosen
            .map_ok(|meta| meta.location)
            .try_for_each(|location| async move { self.objects.delete(&location).await });
        if let Err(error) = removed.await {
            tracing::warn!(
                call,
                error = crate::chain(&error),
                "payload files could not be removed"
            );
        }
    }

    /// Removes the folders of calls that are not kept.
    pub fn keep_only(&self, kept: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(&kept) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn key(call: &str, name: &str) -> Key {
    Key::from_iter([call, name])
}

fn sync(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// What `object_store` says, with a full disk told apart.
fn of_object(error: object_store::Error) -> StoreError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && StoreError::is_full(io)
        {
            return StoreError::Full;
        }
        source = error.source();
    }
    StoreError::Io(io::Error::other(error))
}
