//! TLS, on without work: a certificate authority of the gateway's own, made at the first start, or the operator's certificate.
//!
//! **Problem.** Tokens and payloads go over networks, and nobody sets up certificates before the first call. So the gateway makes what it
//! needs, and what clients and hosts need to trust it, one hash, travels in the token or join string that they are handed anyway.
//!
//! **What there is.** The [`authority`]: `ca.pem` and `ca.key` in the state folder. It signs the gateway's certificate, unless the
//! operator gave one, and the certificates of hosts. Its *pin* is the SHA-256 of its certificate. The gateway's [`certificate`] is short:
//! it is made anew, or read anew from the operator's files, every few minutes, so that new addresses and renewed files count without
//! a restart.
//!
//! **Who owns what.** One task makes certificates; connections take the latest. Keys of hosts never come here: a host sends a signing request.
//!
//! **Who is who.** A client shows no certificate, a host shows its own; one that is not ours, or has ended, ends the handshake. Which host it is, and
//! whether it still is one, is decided by [`crate::auth`] for every request.
//!
//! **Failures.** A certificate that cannot be made or read leaves the last one in place, and is said in the log. A handshake has the
//! deadline of a request's first bytes.

mod authority;
mod certificate;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::authority::{Authority, HostKey};
use self::certificate::{Latest, Source};
use crate::tasks::Tasks;

/// How often the gateway's certificate is made or read anew.
const RENEW: Duration = Duration::from_secs(600);

/// What TLS is made of.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// The operator's certificate chain and key, PEM files.
    pub own: Option<(PathBuf, PathBuf)>,
    /// Names and addresses by which the gateway is reached, beyond those it finds out.
    pub names: Vec<String>,
}

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority's files cannot be read, written or understood.
    #[error("could not open the certificate authority in {path}")]
    Authority {
        /// The state folder.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operator's files cannot be used.
    #[error("could not use the certificate {path} and its key")]
    Own {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate could not be made.
    #[error("could not make a certificate")]
    Make(#[from] rcgen::Error),
    /// A signing request makes no sense.
    #[error("the signing request is not one for a key that can be certified")]
    Request(#[source] rcgen::Error),
    /// rustls does not take what it was given.
    #[error("could not set up TLS")]
    Rustls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Speaks TLS on connections. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    authority: Arc<Authority>,
    latest: Latest,
    config: Arc<ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({:?})", self.latest)
    }
}

impl Tls {
    /// Opens or makes the authority in the state folder, and the gateway's certificate for where it listens.
    pub fn open(state_dir: &Path, listen: SocketAddr, config: TlsConfig) -> Result<Tls, TlsError> {
        let authority = Arc::new(Authority::open(state_dir)?);
        let source = match config.own {
            Some((chain, key)) => Source::Own { chain, key },
            None => Source::Made { authority: authority.clone(), listen, names: config.names },
        };
        let latest = Latest::new(source)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let rustls = |error: Box<dyn std::error::Error + Send + Sync>| TlsError::Rustls(error);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate()).map_err(|error| rustls(error.into()))?;
        let hosts = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls(error.into()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| rustls(error.into()))?
            .with_client_cert_verifier(hosts)
            .with_cert_resolver(Arc::new(latest.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls { authority, latest, config: Arc::new(config) })
    }

    /// Keeps the gateway's certificate fresh, until the tasks are asked to stop.
    pub async fn renew(self, tasks: Tasks) {
        loop {
            tokio::select! {
                biased;
                () = tasks.stopping() => return,
                () = tokio::time::sleep(RENEW) => {}
            }
            if let Err(error) = self.latest.renew() {
                tracing::error!(error = crate::chain(&error), "the gateway's certificate is old");
            }
        }
    }

    /// The handshake on a new connection, and the host at its other end, if it is one.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<HostKey>)> {
        let stream = TlsAcceptor::from(self.config.clone()).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let host = shown.and_then(|certificate| HostKey::of(certificate));
        Ok((stream, host))
    }

    /// What clients and hosts know the gateway by; `None` where they know its certificate's issuer from elsewhere.
    pub fn pin(&self) -> Option<&str> {
        self.latest.is_made().then(|| self.authority.pin())
    }

    /// The authority that signs hosts' certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

#[cfg(test)]
mod tests;
