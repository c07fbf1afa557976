//! The gateway's certificate authority: one key, which signs the gateway's certificate and those of hosts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::auth::token;
use crate::files;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// Replacing an authority means handing out every token and join string again.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Extension of the gateway's certificate with the whole certificate of its authority. Some TLS libraries, Python's among them, show a client the
/// server's own certificate and nothing of the chain; so whoever has the pin finds the authority here.
const AUTHORITY_EXTENSION: &[u64] = &[2, 25, 5_873_120_946_283_117_541];
/// Clocks differ: what is made now is good a little earlier.
const SKEW: Duration = Duration::from_secs(3600);

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pin: String,
}

/// Which host a certificate of ours is for, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// The host's name.
    pub host: String,
    /// SHA-256 of its public key, in hex.
    pub key: String,
}

impl HostKey {
    /// What a certificate says; whether it is one of ours was checked by the handshake.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<HostKey> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let host = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        Some(HostKey { host, key: token::hash(parsed.public_key().raw) })
    }
}

impl Authority {
    /// Opens the one in the state folder, or makes it.
    pub fn open(state_dir: &Path) -> Result<Authority, TlsError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Authority {
            path: state_dir.to_owned(),
            source,
        };
        let (certificate, key): (PathBuf, PathBuf) =
            (state_dir.join(CERTIFICATE), state_dir.join(KEY));
        if !certificate.exists() {
            let (pem, secret) = make()?;
            // The key first: without its certificate it is made anew.
            files::replace(&key, secret.as_bytes()).map_err(|error| failed(error.into()))?;
            files::replace(&certificate, pem.as_bytes()).map_err(|error| failed(error.into()))?;
        }
        let read = |path: &Path| std::fs::read_to_string(path);
        let pem = read(&certificate).map_err(|error| failed(error.into()))?;
        let secret = read(&key).map_err(|error| failed(error.into()))?;
        let key = KeyPair::from_pem(&secret).map_err(|error| failed(error.into()))?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| failed(error.into()))?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| failed(error.into()))?;
        let pin = token::hash(&certificate);
        Ok(Authority { issuer, certificate, pin })
    }

    /// Its own certificate.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// SHA-256 of its own certificate, in hex.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// A certificate for a server of these names and addresses, and its key.
    pub fn server(
        &self,
        names: &[String],
        life: Duration,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("Muster gateway");
        valid(&mut params, life);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let authority = self.certificate.to_vec();
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(AUTHORITY_EXTENSION, authority)];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok((certificate.der().clone(), key))
    }

    /// A certificate for this host and the key of its signing request (PEM); nothing else of the request counts. Gives it as PEM, and
    /// the hash of the key.
    pub fn host(
        &self,
        request: &str,
        host: &str,
        life: Duration,
    ) -> Result<(String, HostKey), TlsError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request).map_err(TlsError::Request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(host);
        valid(&mut params, life);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let certificate = request.signed_by(&self.issuer)?;
        let key = HostKey::of(certificate.der()).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        Ok((certificate.pem(), key))
    }
}

fn make() -> Result<(String, String), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Muster gateway's authority");
    valid(&mut params, AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn valid(params: &mut CertificateParams, life: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(crate::unix_s());
    params.not_before = now - SKEW;
    params.not_after = now + life;
}
