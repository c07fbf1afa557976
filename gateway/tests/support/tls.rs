//! TLS to a gateway of the tests.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Gateway;

/// A certificate with its key.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A TLS connection to the gateway that trusts its authority alone.
pub async fn connect(
    gateway: &Gateway,
    alpn: &[&[u8]],
    shown: Option<Shown>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let pem = std::fs::read(gateway.folder.path().join("ca.pem")).expect("an authority");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a key"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(gateway.address).await.expect("a connection");
    let name = ServerName::from(gateway.address.ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
