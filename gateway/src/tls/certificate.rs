//! The gateway's own certificate: made for its names, or the operator's; connections take the latest.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Authority, TlsError};
use crate::address;

/// Long enough for clocks that differ, and for a gateway that could not make the next one for a while.
const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where the certificate comes from.
pub enum Source {
    /// Our authority signs it.
    Made {
        /// It.
        authority: Arc<Authority>,
        /// Where the gateway listens.
        listen: SocketAddr,
        /// Further names.
        names: Vec<String>,
    },
    /// The operator's files.
    Own {
        /// The certificate and those above it.
        chain: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// The latest certificate. Cheap to clone.
#[derive(Clone)]
pub struct Latest {
    source: Arc<Source>,
    key: Arc<RwLock<Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Latest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.source {
            Source::Made { .. } => f.write_str("made"),
            Source::Own { chain, .. } => write!(f, "{}", chain.display()),
        }
    }
}

impl Latest {
    /// With a first certificate.
    pub fn new(source: Source) -> Result<Latest, TlsError> {
        let key = Arc::new(RwLock::new(Arc::new(source.certify()?)));
        Ok(Latest { source: Arc::new(source), key })
    }

    /// Makes or reads it anew.
    pub fn renew(&self) -> Result<(), TlsError> {
        let fresh = Arc::new(self.source.certify()?);
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Whether our authority signs it.
    pub fn is_made(&self) -> bool {
        matches!(*self.source, Source::Made { .. })
    }
}

impl ResolvesServerCert for Latest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Source {
    fn certify(&self) -> Result<CertifiedKey, TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        match self {
            Source::Made { authority, listen, names } => {
                let (certificate, key) = authority.server(&address::names(*listen, names), LIFE)?;
                // The authority's own certificate comes along: whoever has the pin needs no more.
                let chain = vec![certificate, authority.certificate()];
                CertifiedKey::from_der(chain, key, &provider)
                    .map_err(|error| TlsError::Rustls(error.into()))
            }
            Source::Own { chain, key } => {
                let own = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Own {
                    path: chain.clone(),
                    source,
                };
                let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
                    .and_then(Iterator::collect)
                    .map_err(|error| own(error.into()))?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| own(error.into()))?;
                CertifiedKey::from_der(certificates, key, &provider)
                    .map_err(|error| own(error.into()))
            }
        }
    }
}
