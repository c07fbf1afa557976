//! The key, and what it seals: XChaCha20-Poly1305 with a nonce drawn anew each time, in front of the sealed bytes. What a text is
//! for is sealed with it, so that one sealed text cannot be put in the place of another.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::RngCore;
use zeroize::Zeroizing;

use super::SecretsError;
use crate::files;

const KEY: usize = 32;
const NONCE: usize = 24;

/// What seals and opens.
pub(super) struct Sealer(XChaCha20Poly1305);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// By the key in this file; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Sealer>, SecretsError> {
        let failed = |source| SecretsError::Key { path: path.to_owned(), source };
        let bad = |why| SecretsError::BadKey { path: path.to_owned(), why };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(bad("can be read by others; see who has read it, then `chmod 600` it"));
        }
        let mut text = Zeroizing::new(String::new());
        // More than a key has, so that a longer file is not taken for one.
        file.take(4 * KEY as u64).read_to_string(&mut text).map_err(failed)?;
        let mut key = Zeroizing::new([0; KEY]);
        hex::decode_to_slice(text.trim(), &mut key[..])
            .map_err(|_| bad("is not a key (64 hexadecimal digits); bring back the right file"))?;
        Ok(Some(Sealer(XChaCha20Poly1305::new((&*key).into()))))
    }

    /// By a new key, which is written to this file.
    pub fn make(path: &Path) -> Result<Sealer, SecretsError> {
        let failed = |source| SecretsError::Key { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut key = Zeroizing::new([0; KEY]);
        rand::rng().fill_bytes(&mut key[..]);
        let text = Zeroizing::new(hex::encode(&key[..]) + "\n");
        files::replace(path, text.as_bytes()).map_err(failed)?;
        Ok(Sealer(XChaCha20Poly1305::new((&*key).into())))
    }

    /// Seals a text for a purpose.
    pub fn seal(&self, purpose: &str, text: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: text, aad: purpose.as_bytes() };
        let sealed = self.0.encrypt(XNonce::from_slice(&nonce), payload);
        [&nonce[..], &sealed.expect("texts are far below the cipher's 256 GiB")].concat()
    }

    /// Opens what was sealed for this purpose by this key.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        self.0.decrypt(XNonce::from_slice(nonce), payload).ok().map(Zeroizing::new)
    }
}
