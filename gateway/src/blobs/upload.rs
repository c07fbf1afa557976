//! One upload: bytes in as they come, objects out, and the hash of all of them.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{BlobError, Blobs, Key, Look, PART};

/// Takes the bytes of one blob. Dropping it leaves what was stored, for whoever goes on.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    key: Key,
    stored: u64,
    total: u64,
    hasher: Sha256,
    /// Of what is stored.
    hashed: Sha256,
    /// What is not stored yet, less than [`PART`].
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    /// The index knows how it ended.
    ended: bool,
}

impl Upload {
    pub(super) fn new(blobs: Blobs, key: Key, stored: u64, total: u64) -> Upload {
        Upload {
            blobs,
            key,
            stored,
            total,
            hasher: Sha256::new(),
            hashed: Sha256::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            ended: false,
        }
    }

    /// Goes on with the hash of what an earlier request has left, or hashes that again.
    pub(super) async fn resume(mut self) -> Result<Upload, BlobError> {
        if let Some(hasher) = self.blobs.shared.hashers.take(&self.key, self.stored) {
            (self.hasher, self.hashed) = (hasher.clone(), hasher);
            return Ok(self);
        }
        let parts = self.blobs.lock().parts(&self.key);
        let mut offset = 0;
        for size in parts {
            let bytes = self.blobs.shared.parts.read(&self.key, offset, 0..size).await?;
            self.hasher.update(&bytes);
            tokio::task::yield_now().await;
            offset += size;
        }
        self.hashed = self.hasher.clone();
        Ok(self)
    }

    /// Takes more bytes; an error where there are more than the blob has.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        if self.stored + (self.waiting_bytes + bytes.len()) as u64 > self.total {
            return self.spoil().await;
        }
        metrics::counter!("muster_blob_bytes_total", "way" => "in").increment(bytes.len() as u64);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PART - self.waiting_bytes));
            self.hasher.update(&piece);
            self.waiting_bytes += piece.len();
            self.waiting.push(piece);
            if self.waiting_bytes == PART {
                self.store().await?;
            }
        }
        Ok(())
    }

    /// Nothing more comes, now. If that was all of it, the blob is whole, or was not what it should have been.
    pub async fn finish(mut self) -> Result<Look, BlobError> {
        self.store().await?;
        if self.stored < self.total {
            return Ok(Look::Partial { have: self.stored });
        }
        let found = hex::encode(self.hasher.clone().finalize());
        if found != self.key.id.as_str() {
            return self.spoil().await.map(|()| Look::Partial { have: 0 });
        }
        self.blobs.shared.parts.mark_whole(&self.key).await?;
        self.end(true);
        Ok(Look::Whole { size: self.total })
    }

    async fn store(&mut self) -> Result<(), BlobError> {
        if self.waiting_bytes == 0 {
            return Ok(());
        }
        let (bytes, offset) = (std::mem::take(&mut self.waiting), self.stored);
        let size = std::mem::take(&mut self.waiting_bytes) as u64;
        self.blobs.shared.parts.write(&self.key, offset, bytes).await?;
        self.stored += size;
        self.hashed = self.hasher.clone();
        self.blobs.lock().stored(&self.key, size, Instant::now());
        Ok(())
    }

    /// What came is not the blob: all of it goes.
    async fn spoil(&mut self) -> Result<(), BlobError> {
        self.ended = true;
        self.blobs.lock().spoiled(&self.key);
        self.blobs.remove_objects(vec![self.key.clone()]).await;
        Err(BlobError::Mismatch(self.key.id.clone()))
    }

    fn end(&mut self, whole: bool) {
        if !std::mem::replace(&mut self.ended, true) {
            if !whole {
                self.blobs.shared.hashers.keep(&self.key, self.stored, self.hashed.clone());
            }
            self.blobs.lock().finished(&self.key, whole, Instant::now());
            self.blobs.count();
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.end(false);
    }
}
