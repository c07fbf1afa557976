//! How this host proves itself to its gateway: a key of its own and the gateway's certificate for it, or a token where the gateway speaks no TLS.
//! Kept in a file that nobody else may read, and got by a join string.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::tls;

/// Where it is kept, in its folder.
pub const FILE: &str = "identity.json";

/// Where the gateway is, and the token by which a host may join.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinString {
    /// The gateway's address.
    pub gateway: String,
    /// The token, as it is sent.
    pub token: String,
    /// What the gateway is known by.
    pub pin: Option<String>,
}

impl JoinString {
    /// `ADDRESS#muster_ID_SECRET`, with `_PIN` after it where the gateway made its own authority.
    pub fn parse(text: &str) -> Option<JoinString> {
        let (gateway, token) = text.trim().split_once('#')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let (bare, pin) = split_pin(token);
        let is_token = bare.starts_with("muster_") && bare.matches('_').count() == 2;
        if !is_token || !token.bytes().all(plain) {
            return None;
        }
        Some(JoinString {
            gateway: address(gateway)?,
            token: bare.to_owned(),
            pin: pin.map(str::to_owned),
        })
    }
}

/// Without the token.
impl std::fmt::Debug for JoinString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinString({})", self.gateway)
    }
}

/// What is kept of a credential.
#[derive(Clone, Serialize, Deserialize)]
pub struct Kept {
    /// The gateway's address.
    pub gateway: String,
    /// What the gateway is known by.
    pub pin: Option<String>,
    /// The token, where there is no TLS.
    pub token: Option<String>,
    /// The certificate, PEM.
    pub certificate: Option<String>,
    /// Its key, PEM; made here, and never sent.
    pub key: Option<String>,
    /// From when on a new one is asked for.
    pub renew_unix_s: u64,
    /// From when on it is good no more.
    pub expires_unix_s: u64,
}

/// A credential ready for use.
pub struct Credential {
    /// What is kept of it.
    pub kept: Kept,
    /// Speaks TLS with it.
    pub tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({}, until {})", self.kept.gateway, self.kept.expires_unix_s)
    }
}

/// A credential could not be kept, read or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file.
    #[error("this host's identity in {path} could not be read or written")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or a signing request could not be made.
    #[error("a key could not be made")]
    Key(#[from] rcgen::Error),
    /// The certificate or key makes no sense.
    #[error("the certificate of this host cannot be used")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Credential {
    /// Makes ready what was kept.
    pub fn of(kept: Kept) -> Result<Credential, IdentityError> {
        let bad =
            |error: Box<dyn std::error::Error + Send + Sync>| IdentityError::Certificate(error);
        let shown = match (&kept.certificate, &kept.key) {
            (Some(certificate), Some(key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
                let certificate = certificate.map_err(|error| bad(error.into()))?;
                Some((vec![certificate], key.map_err(|error| bad(error.into()))?))
            }
            _ => None,
        };
        let tls = tls::config(kept.pin.as_deref(), shown).map_err(|error| bad(error.into()))?;
        Ok(Credential { kept, tls: Arc::new(tls) })
    }

    /// Reads what is kept in a folder, if anything is.
    pub fn read(folder: &Path) -> Result<Option<Credential>, IdentityError> {
        let path = folder.join(FILE);
        let failed = |source| IdentityError::File { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(text) => {
                let kept = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
                Credential::of(kept).map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps it in a folder: whole or not at all, for this user alone.
    pub fn write(&self, folder: &Path) -> Result<(), IdentityError> {
        let path = folder.join(FILE);
        let part = folder.join("identity.part");
        let write = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut options = std::fs::File::options();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&serde_json::to_vec(&self.kept)?)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|source| IdentityError::File { path: path.clone(), source })
    }

    /// Whether it is still good.
    pub fn is_good(&self, now_unix_s: u64) -> bool {
        now_unix_s < self.kept.expires_unix_s
    }

    /// How long until a new one is asked for.
    pub fn until_renewal(&self, now_unix_s: u64) -> Duration {
        Duration::from_secs(self.kept.renew_unix_s.saturating_sub(now_unix_s))
    }
}

/// The address of a gateway as the rest reads it: its scheme in lower case, no slash at its end; `None` if it is none.
pub fn address(text: &str) -> Option<String> {
    let parsed: http::Uri = text.parse().ok()?;
    parsed.authority()?;
    let scheme = parsed.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    Some(format!("{scheme}{}", text[scheme.len()..].trim_end_matches('/')))
}

/// The part of a token that is sent, and the pin that may follow it.
pub fn split_pin(token: &str) -> (&str, Option<&str>) {
    match token.match_indices('_').nth(2) {
        Some((at, _)) => (&token[..at], Some(&token[at + 1..])),
        None => (token, None),
    }
}

/// A new key, PEM.
pub fn new_key() -> Result<String, IdentityError> {
    Ok(KeyPair::generate()?.serialize_pem())
}

/// A signing request for a key, PEM. Whose it is, the gateway says.
pub fn signing_request(key: &str) -> Result<String, IdentityError> {
    let key = KeyPair::from_pem(key)?;
    Ok(CertificateParams::default().serialize_request(&key)?.pem()?)
}

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_join_string_is_an_address_and_a_token() {
        let joined = JoinString::parse("https://10.0.0.1:8470#muster_ab_cd_ef\n").expect("one");
        assert_eq!(joined.gateway, "https://10.0.0.1:8470");
        assert_eq!((joined.token.as_str(), joined.pin.as_deref()), ("muster_ab_cd", Some("ef")));
        assert!(!format!("{joined:?}").contains("cd"));
        let plain = JoinString::parse("http://127.0.0.1:1/#muster_ab_cd").expect("one");
        assert_eq!((plain.gateway.as_str(), plain.pin), ("http://127.0.0.1:1", None));
        let shouted = JoinString::parse("HTTPS://a:1#muster_ab_cd").expect("one");
        assert_eq!(shouted.gateway, "https://a:1");
        for text in [
            "",
            "#",
            "https://a#x",
            "ftp://a#muster_a_b",
            "https://a",
            "x#muster_a_b",
            "http://a#muster_a_b#",
        ] {
            assert_eq!(JoinString::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_private_and_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("deep");
        assert!(Credential::read(&at).expect("readable").is_none());
        let kept = Kept {
            gateway: "http://127.0.0.1:1".into(),
            pin: None,
            token: Some("muster_a_b".into()),
            certificate: None,
            key: None,
            renew_unix_s: 50,
            expires_unix_s: 100,
        };
        let credential = Credential::of(kept).expect("good");
        credential.write(&at).expect("written");
        let mode = std::fs::metadata(at.join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Credential::read(&at).expect("readable").expect("there");
        assert_eq!(again.kept.token.as_deref(), Some("muster_a_b"));
        assert!(again.is_good(99) && !again.is_good(100));
        assert_eq!(again.until_renewal(20), Duration::from_secs(30));
        assert!(!format!("{again:?}").contains("muster_"));
    }

    #[test]
    fn a_key_makes_signing_requests() {
        let key = new_key().expect("a key");
        assert!(signing_request(&key).expect("a request").contains("CERTIFICATE REQUEST"));
        assert!(signing_request("nonsense").is_err());
    }
}
