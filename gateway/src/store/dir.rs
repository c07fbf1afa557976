use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;

use super::drop_behind::DropBehind;
use super::{Store, StoreError};

/// One file per blob, with a checksum at its end.
#[derive(Debug)]
pub struct DirStore {
    folder: PathBuf,
    drop_behind: DropBehind,
}

impl DirStore {
    /// Makes the folder, readable by this user only, and empties it of what an earlier gateway left.
    pub fn open(folder: PathBuf) -> io::Result<DirStore> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&folder)?;
        Ok(DirStore { folder, drop_behind: DropBehind::start()? })
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id:016x}"))
    }
}

impl Store for DirStore {
    fn put(&self, id: u64, parts: &[Bytes]) -> Result<(), StoreError> {
        let path = self.path(id);
        let write = || -> io::Result<()> {
            let mut file = File::create(&path)?;
            let mut hasher = crc32fast::Hasher::new();
            for part in parts {
                hasher.update(part);
                file.write_all(part)?;
            }
            file.write_all(&hasher.finalize().to_le_bytes())
        };
        write().map_err(|error| {
            self.remove(id);
            StoreError::of_io(error)
        })
    }

    fn get(&self, id: u64) -> Result<Bytes, StoreError> {
        let whole = match fs::read(self.path(id)) {
            Ok(whole) => Bytes::from(whole),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged(id));
            }
            Err(error) => return Err(StoreError::Io(error)),
        };
        let (body, sum) = whole.split_last_chunk::<4>().ok_or(StoreError::Damaged(id))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(StoreError::Damaged(id));
        }
        Ok(whole.slice(..body.len()))
    }

    fn set_aside(&self, id: u64, bytes: u64) {
        self.drop_behind.file(self.path(id), bytes);
    }

    fn remove(&self, id: u64) {
        if let Err(error) = fs::remove_file(self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(blob = id, %error, "spilled blob could not be removed");
        }
    }
}
