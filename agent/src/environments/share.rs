//! Built environments of other hosts: taken from the gateway, and given to it, as one archive each.
//!
//! An archive holds folders, files and links, nothing else, and is unpacked only after its hash was right, into the folder of one
//! build, from which nothing in it leads out. It is an uncompressed tar: the gateway is near, and compression would cost what the build
//! costs. What it says of modification times stays, as compiled modules name those of their sources.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use muster_wire::message::BlobRef;
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;

use super::Environment;
use super::cache::Building;
use crate::data::{Data, DataError};
use crate::link::{Client, ClientError};

const ARCHIVE: &str = "archive";
const TARGET: &str = "fetched";
/// Of an answer that names a blob, in bytes.
const ANSWER: usize = 4096;
/// Bytes that are read and sent at once.
const PIECE: usize = 256 << 10;

/// Why an environment was not taken, or not given.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The gateway could not be asked, or refused: it may be full.
    #[error("the gateway could not be asked about an environment")]
    Gateway(#[source] ClientError),
    /// What it named did not come.
    #[error("an environment could not be fetched")]
    Data(#[source] DataError),
    /// It is larger than may be kept here.
    #[error("an environment of {0} bytes is more than is kept here")]
    TooLarge(u64),
    /// Packing, unpacking, or the gateway's answer.
    #[error("the archive of an environment could not be read or written")]
    Disk(#[source] io::Error),
}

/// The folder of an environment that another host has built, below `building`; none if none has, or it is more than `bound` bytes.
pub async fn find(
    data: &Data,
    key: &str,
    building: &Building,
    bound: u64,
    say: impl Fn(String),
) -> Result<Option<PathBuf>, ShareError> {
    let request = ask(Method::GET, key, Bytes::new());
    let answer = match data.client().ask(request).await {
        Ok(answer) => answer,
        Err(ClientError::Refused { status: 404, .. }) => return Ok(None),
        Err(error) => return Err(ShareError::Gateway(error)),
    };
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    let body = body.map_err(|error| ShareError::Disk(io::Error::other(error)))?.to_bytes();
    let blob: BlobRef =
        serde_json::from_slice(&body).map_err(|error| ShareError::Disk(error.into()))?;
    if blob.size > bound {
        return Err(ShareError::TooLarge(blob.size));
    }
    say("another host has built it".into());
    let archive = data.of_hosts(building.path(), &blob, say).await.map_err(ShareError::Data)?;
    let target = building.path().join(TARGET);
    let (to, from) = (target.clone(), archive);
    blocking(move || {
        unpack(&from, &to)?;
        std::fs::remove_file(&from)
    })
    .await?;
    Ok(Some(target))
}

/// Puts what was built here at the gateway, for the other hosts. `folder` is for the archive.
pub async fn give(
    client: &Client,
    key: &str,
    environment: Arc<Environment>,
    folder: &Building,
) -> Result<(), ShareError> {
    let archive = folder.path().join(ARCHIVE);
    let to = archive.clone();
    let (id, size) = blocking(move || pack((*environment).as_ref(), &to)).await?;
    let file = tokio::fs::File::open(&archive).await.map_err(ShareError::Disk)?;
    let body = StreamBody::new(ReaderStream::with_capacity(file, PIECE).map_ok(Frame::data));
    let mut request = Request::new(body);
    *request.method_mut() = Method::PUT;
    *request.uri_mut() = format!("/v1/blobs/{id}").parse().unwrap_or_default();
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    let answer = client.send(request).await.map_err(ShareError::Gateway)?;
    if !answer.status().is_success() {
        let (status, code, said) = (answer.status().as_u16(), String::new(), String::new());
        let headers = Box::new(answer.headers().clone());
        return Err(ShareError::Gateway(ClientError::Refused { status, code, said, headers }));
    }
    if answer.status() == StatusCode::ACCEPTED {
        return Err(ShareError::Disk(io::ErrorKind::UnexpectedEof.into()));
    }
    let named = Bytes::from(serde_json::json!({ "blob": id }).to_string());
    client.ask(ask(Method::PUT, key, named)).await.map(drop).map_err(ShareError::Gateway)
}

fn ask(method: Method, key: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = format!("/v1/environments/{key}").parse().unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    request
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ShareError> {
    // It does not panic, and is not aborted.
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(ShareError::Disk)
}

/// Writes a folder into one file; its SHA-256 and size.
fn pack(folder: &Path, to: &Path) -> io::Result<(String, u64)> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(PIECE, File::create_new(to)?));
    archive.follow_symlinks(false);
    archive.append_dir_all("", folder)?;
    archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let (mut hasher, mut file) = (Sha256::new(), File::open(to)?);
    let size = io::copy(&mut file, &mut hasher)?;
    Ok((hex::encode(hasher.finalize()), size))
}

/// The other way round; refuses what an environment never has.
fn unpack(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(PIECE, File::open(from)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let inside = match kind.is_file() || kind.is_dir() || kind.is_symlink() {
            true => entry.unpack_in(to)?,
            false => false,
        };
        if !inside {
            let what = format!("{} does not belong into an environment", entry.path()?.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn what_was_packed_comes_out_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, archive, to) =
            (dir.path().join("from"), dir.path().join("archive"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("bin")).expect("ours");
        std::fs::write(from.join("bin/tool"), "#!").expect("ours");
        let runs = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(from.join("bin/tool"), runs).expect("ours");
        symlink("tool", from.join("bin/other")).expect("ours");
        let name = "long/".repeat(50);
        std::fs::create_dir_all(from.join(&name)).expect("ours");
        std::fs::write(from.join(&name).join("file"), vec![7; 100_000]).expect("ours");
        let (id, size) = pack(&from, &archive).expect("packed");
        let bytes = std::fs::read(&archive).expect("there");
        assert_eq!((id, size), (hex::encode(Sha256::digest(&bytes)), bytes.len() as u64));
        unpack(&archive, &to).expect("unpacked");
        let tool = std::fs::metadata(to.join("bin/other")).expect("there");
        assert_eq!(tool.permissions().mode() & 0o7777, 0o755);
        let before = std::fs::metadata(from.join("bin/tool")).expect("there");
        assert_eq!(tool.mtime(), before.mtime());
        assert_eq!(std::fs::read(to.join(&name).join("file")).expect("there"), vec![7; 100_000]);
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let attempts: [(&str, tar::EntryType, &str); 3] = [
            ("../outside", tar::EntryType::Regular, ""),
            ("pipe", tar::EntryType::Fifo, ""),
            ("link", tar::EntryType::Link, "/etc/passwd"),
        ];
        for (at, (name, kind, link)) in attempts.into_iter().enumerate() {
            let archive = dir.path().join(format!("archive{at}"));
            let mut builder = tar::Builder::new(File::create(&archive).expect("ours"));
            let mut head = tar::Header::new_gnu();
            head.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
            head.set_entry_type(kind);
            head.as_gnu_mut().expect("gnu").linkname[..link.len()].copy_from_slice(link.as_bytes());
            head.set_size(0);
            head.set_cksum();
            builder.append(&head, io::empty()).expect("ours");
            builder.finish().expect("ours");
            let refused = unpack(&archive, &dir.path().join(format!("to{at}")));
            assert!(refused.is_err(), "{name}");
            assert!(!dir.path().join("outside").exists());
        }
    }

    #[test]
    fn a_link_that_leads_out_is_not_written_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let (archive, out) = (dir.path().join("archive"), dir.path().join("out"));
        std::fs::create_dir(&out).expect("ours");
        let mut builder = tar::Builder::new(File::create(&archive).expect("ours"));
        let mut head = tar::Header::new_gnu();
        head.set_entry_type(tar::EntryType::Symlink);
        head.set_size(0);
        builder.append_link(&mut head, "way", &out).expect("ours");
        let mut head = tar::Header::new_gnu();
        head.set_size(2);
        builder.append_data(&mut head, "way/file", &b"no"[..]).expect("ours");
        builder.finish().expect("ours");
        assert!(unpack(&archive, &dir.path().join("to")).is_err());
        assert_eq!(std::fs::read_dir(&out).expect("ours").count(), 0);
    }
}
