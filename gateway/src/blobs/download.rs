//! One download: a blob's bytes, piece by piece, so that a slow reader holds little memory. Its last piece is given only when the hash of all of them is right.

use std::collections::VecDeque;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{BlobError, Blobs, Key, Pin};

/// The most that is read at once.
const PIECE: u64 = 64 << 10;

/// Gives the bytes of one blob, and keeps it meanwhile.
#[derive(Debug)]
pub struct Download {
    blobs: Blobs,
    key: Key,
    /// Offset and size of each object that is still to come, the one that is being read among them.
    parts: VecDeque<(u64, u64)>,
    /// Where the next piece begins.
    at: u64,
    size: u64,
    /// `None` where it does not begin at the blob's first byte: the reader has the rest, and its hash.
    hasher: Option<Sha256>,
    _pin: Pin,
}

impl Download {
    pub(super) fn new(blobs: Blobs, key: Key, sizes: Vec<u64>, from: u64, pin: Pin) -> Download {
        let mut size = 0;
        let mut parts = VecDeque::new();
        for part in sizes {
            if size + part > from {
                parts.push_back((size, part));
            }
            size += part;
        }
        let hasher = (from == 0).then(Sha256::new);
        Download { blobs, key, parts, at: from, size, hasher, _pin: pin }
    }

    /// Bytes of the whole blob.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Bytes, BlobError>> {
        let &(offset, size) = self.parts.front()?;
        let start = self.at - offset;
        let end = size.min(start + PIECE);
        if end == size {
            self.parts.pop_front();
        }
        self.at = offset + end;
        let read = self.blobs.shared.parts.read(&self.key, offset, start..end).await;
        let checked = match read {
            Ok(bytes) => self.checked(bytes),
            Err(error) => Err(error),
        };
        if checked.is_err() {
            self.parts.clear();
            self.blobs.lock().spoiled(&self.key);
            self.blobs.remove_objects(vec![self.key.clone()]).await;
        }
        Some(checked)
    }

    fn checked(&mut self, bytes: Bytes) -> Result<Bytes, BlobError> {
        metrics::counter!("muster_blob_bytes_total", "way" => "out").increment(bytes.len() as u64);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
            let is_last = self.parts.is_empty();
            if is_last && hex::encode(hasher.clone().finalize()) != self.key.id.as_str() {
                return Err(BlobError::Mismatch(self.key.id.clone()));
            }
        }
        Ok(bytes)
    }
}
