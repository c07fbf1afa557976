//! Brings one blob: from where it broke off, hashed as it comes, under its own name only when it is right.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use muster_wire::message::BlobRef;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::{DataError, of_client, request};
use crate::link::{Client, ClientError};

/// How often waiters hear how far it is, and whether there are any is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Tries in a row that bring nothing.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// How long the gateway may send nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// One blob on its way.
#[derive(Debug)]
pub struct Transfer {
    client: Client,
    folder: PathBuf,
    call: Option<String>,
    blob: BlobRef,
}

/// Why one try ended.
enum Broken {
    Final(DataError),
    /// Another try may go on.
    Again(DataError),
}

impl Transfer {
    pub fn new(client: &Client, folder: &Path, call: Option<&str>, blob: &BlobRef) -> Transfer {
        let (client, folder) = (client.clone(), folder.to_owned());
        Transfer { client, folder, call: call.map(str::to_owned), blob: blob.clone() }
    }

    /// The whole of it; where it is. What an earlier agent left under its name is looked through, and brought anew if a bit of it has changed.
    pub async fn run(&self, progress: impl Fn(u64)) -> Result<PathBuf, DataError> {
        let path = self.folder.join(&self.blob.id);
        if hash_of(&path).await.is_ok_and(|hash| hash == self.blob.id) {
            return Ok(path);
        }
        // Wrong, or not there.
        let _ = std::fs::remove_file(&path);
        let part = Part(self.folder.join(format!("{}.part", self.blob.id)));
        let disk = |source: io::Error| self.disk(source);
        tokio::fs::create_dir_all(&self.folder).await.map_err(disk)?;
        let mut file = File::create(&part.0).await.map_err(disk)?;
        let (mut hasher, mut have, mut failures) = (Sha256::new(), 0, 0);
        while have < self.blob.size {
            let before = have;
            match self.attempt(&mut file, &mut hasher, &mut have, &progress).await {
                Ok(()) => {}
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Again(error)) => {
                    failures = if have > before { 1 } else { failures + 1 };
                    if failures == TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE * failures).await;
                }
            }
        }
        if hex::encode(hasher.finalize()) != self.blob.id {
            return Err(DataError::Damaged { id: self.blob.id.clone() });
        }
        let read_only = std::fs::Permissions::from_mode(0o444);
        file.set_permissions(read_only).await.map_err(disk)?;
        file.sync_all().await.map_err(disk)?;
        tokio::fs::rename(&part.0, &path).await.map_err(disk)?;
        Ok(path)
    }

    /// As much as comes of one request.
    async fn attempt(
        &self,
        file: &mut File,
        hasher: &mut Sha256,
        have: &mut u64,
        progress: &impl Fn(u64),
    ) -> Result<(), Broken> {
        let mut request = request(Method::GET, self.call.as_deref(), &self.blob.id);
        if *have > 0 {
            let range = HeaderValue::try_from(format!("bytes={have}-"));
            request.headers_mut().extend(range.ok().map(|range| (header::RANGE, range)));
        }
        let answer = self.client.ask(request).await.map_err(|error| {
            let refused = matches!(error, ClientError::Refused { status, .. } if status < 500);
            let error = of_client(&self.blob.id, error);
            if refused { Broken::Final(error) } else { Broken::Again(error) }
        })?;
        let mut body = answer.into_body();
        let mut told = tokio::time::Instant::now();
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let failed = |error| Broken::Again(DataError::Gateway(Arc::new(error)));
            let Some(frame) = frame.map_err(|_| failed(ClientError::Late))? else { break };
            let frame = frame.map_err(|error| failed(ClientError::Http(error)))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if *have + bytes.len() as u64 > self.blob.size {
                return Err(Broken::Final(DataError::Damaged { id: self.blob.id.clone() }));
            }
            hasher.update(&bytes);
            file.write_all(&bytes).await.map_err(|source| Broken::Final(self.disk(source)))?;
            *have += bytes.len() as u64;
            if told.elapsed() >= LOOK_EVERY {
                told = tokio::time::Instant::now();
                progress(*have);
            }
        }
        file.flush().await.map_err(|source| Broken::Final(self.disk(source)))?;
        match *have < self.blob.size {
            true => Err(Broken::Again(DataError::Damaged { id: self.blob.id.clone() })),
            false => Ok(()),
        }
    }

    fn disk(&self, source: io::Error) -> DataError {
        DataError::Disk { path: self.folder.clone(), source: Arc::new(source) }
    }
}

/// The hash of what this file holds.
async fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new();
        io::copy(&mut file, &mut hasher)?;
        Ok(hex::encode(hasher.finalize()))
    });
    hashing.await.map_err(io::Error::other)?
}

/// A file that goes unless it has got its own name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Renamed, or never made.
        let _ = std::fs::remove_file(&self.0);
    }
}
