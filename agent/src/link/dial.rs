//! Dialling: one HTTP/1.1 request that turns the connection over to us; joining before that, and renewing after it.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use muster_wire::AGENT_PROTOCOL;

use super::ask::{Asked, DialError, SAID, ask, authority, driven, refused, within, words};
use super::identity::{self, Credential, JoinString, Kept, unix_s};
use super::socket::{Connection, connect};
use super::tls;

/// What is needed to dial.
pub struct Dial {
    gateway: String,
    host: String,
    epoch: u64,
    source: Source,
    /// The credential in use, once there is one.
    credential: RwLock<Option<Arc<Credential>>>,
    /// One joins at a time, whoever wants to.
    joining: tokio::sync::Semaphore,
}

/// Where a host's credential comes from, and is kept.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// How to join.
    pub join: Option<JoinBy>,
    /// Where the gateway is, if elsewhere than the join string or what is kept says.
    pub gateway: Option<String>,
    /// Where the credential is kept; in memory alone, if nowhere.
    pub folder: Option<PathBuf>,
}

/// A join string, or the file it is in, which is read whenever it is needed.
#[derive(Debug, Clone)]
pub enum JoinBy {
    /// The string.
    String(JoinString),
    /// The file.
    File(PathBuf),
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dial({} as {}, epoch {})", self.gateway(), self.host, self.epoch)
    }
}

impl Dial {
    /// With a credential of this host's own, which it gets by joining. Its epoch is its own, so that the gateway can tell this start of the
    /// agent from any other.
    pub fn new(host: &str, source: Source) -> Dial {
        let dial = Dial {
            gateway: String::new(),
            host: host.to_owned(),
            // Numbers in JSON are exact up to 53 bits.
            epoch: rand::random::<u64>() >> 11,
            source,
            credential: RwLock::new(None),
            joining: tokio::sync::Semaphore::new(1),
        };
        let joined = || dial.join_string().ok().map(|join| join.gateway);
        let kept = || dial.kept().ok().flatten().map(|found| found.kept.gateway);
        let gateway = dial.source.gateway.clone().or_else(joined).or_else(kept);
        Dial { gateway: gateway.unwrap_or_else(|| "unknown".to_owned()), ..dial }
    }

    /// The gateway's address, for people.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// This host's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Dials once; the connection is then the gateway's to call us on. A credential that the gateway does not take, or takes no longer, is
    /// replaced by joining, where there is a join string.
    pub async fn connect(&self) -> Result<Upgraded, DialError> {
        let credential = self.credential().await?;
        match within(self.try_connect(&credential)).await {
            Err(DialError::Unwanted { status: 401, said }) => {
                let refused = DialError::Unwanted { status: 401, said };
                if self.join_string().is_err() {
                    return Err(refused);
                }
                let fresh = self.join().await?;
                within(self.try_connect(&fresh)).await
            }
            other => other,
        }
    }

    /// The credential in use, the one that is kept, or a new one.
    pub(super) async fn credential(&self) -> Result<Arc<Credential>, DialError> {
        if let Some(found) = self.current().filter(|found| found.is_good(unix_s())) {
            return Ok(found);
        }
        let _turn = self.joining.acquire().await;
        if let Some(found) = self.current().filter(|found| found.is_good(unix_s())) {
            return Ok(found);
        }
        match self.kept()? {
            Some(kept) => Ok(self.put(kept)),
            None => self.join().await,
        }
    }

    /// Asks for a new certificate, or for more time, with the credential in use.
    pub async fn renew(&self) -> Result<(), DialError> {
        let credential = self.credential().await?;
        let old = &credential.kept;
        let request = old.key.as_deref().map(identity::signing_request).transpose()?;
        let body = Asked { host: &self.host, csr: request };
        let bearer = old.token.as_deref();
        let given =
            within(ask(&old.gateway, &credential.tls, "/v1/hosts/renew", bearer, &body)).await?;
        let kept = Kept {
            token: given.token.or_else(|| old.token.clone()),
            certificate: given.certificate.or_else(|| old.certificate.clone()),
            ..dated(old.clone(), given.expires_in)
        };
        self.keep(kept)?;
        Ok(())
    }

    /// How long until the credential in use is to be renewed.
    pub fn until_renewal(&self) -> Option<Duration> {
        self.current().map(|credential| credential.until_renewal(unix_s()))
    }

    async fn join(&self) -> Result<Arc<Credential>, DialError> {
        let join = self.join_string()?;
        let gateway = self.source.gateway.clone().unwrap_or(join.gateway);
        let key = gateway.starts_with("https:").then(identity::new_key).transpose()?;
        let request = key.as_deref().map(identity::signing_request).transpose()?;
        let tls = tls::config(join.pin.as_deref(), None)
            .expect("the defaults of rustls fit its own provider");
        let body = Asked { host: &self.host, csr: request };
        let bearer = Some(join.token.as_str());
        let given = within(ask(&gateway, &Arc::new(tls), "/v1/hosts/join", bearer, &body)).await?;
        let kept = Kept {
            gateway,
            pin: join.pin,
            token: given.token,
            certificate: given.certificate,
            key,
            renew_unix_s: 0,
            expires_unix_s: 0,
        };
        tracing::info!(gateway = kept.gateway, host = self.host, "joined");
        self.keep(dated(kept, given.expires_in))
    }

    /// What the folder has, if it is for the gateway we are to dial.
    fn kept(&self) -> Result<Option<Credential>, DialError> {
        let Some(folder) = &self.source.folder else { return Ok(None) };
        let Some(mut found) = Credential::read(folder)? else { return Ok(None) };
        let join = self.join_string().ok();
        let is_of_it = join.as_ref().is_none_or(|join| join.pin == found.kept.pin);
        if !is_of_it || !found.is_good(unix_s()) {
            return Ok(None);
        }
        let elsewhere = self.source.gateway.clone().or(join.map(|join| join.gateway));
        if let Some(gateway) = elsewhere {
            found.kept.gateway = gateway;
        }
        Ok(Some(found))
    }

    fn keep(&self, kept: Kept) -> Result<Arc<Credential>, DialError> {
        let credential = Credential::of(kept)?;
        if let Some(folder) = &self.source.folder {
            credential.write(folder)?;
        }
        Ok(self.put(credential))
    }

    fn put(&self, credential: Credential) -> Arc<Credential> {
        let credential = Arc::new(credential);
        let mut current = self.credential.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(credential.clone());
        credential
    }

    fn current(&self) -> Option<Arc<Credential>> {
        self.credential.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn join_string(&self) -> Result<JoinString, DialError> {
        match &self.source.join {
            Some(JoinBy::String(join)) => Ok(join.clone()),
            Some(JoinBy::File(path)) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                JoinString::parse(&text).ok_or(DialError::NotJoined)
            }
            None => Err(DialError::NotJoined),
        }
    }

    /// A connection to the gateway, on which nothing was said yet.
    pub(super) async fn open(&self, credential: &Credential) -> Result<Connection, DialError> {
        let gateway = credential.kept.gateway.parse().map_err(http::Error::from)?;
        connect(&gateway, &credential.tls).await.map_err(DialError::Unreachable)
    }

    /// What every request of this host to its gateway carries: whom it asks, and who asks.
    pub(super) fn introduce(
        &self,
        credential: &Credential,
        headers: &mut HeaderMap,
    ) -> Result<(), DialError> {
        let value = |text: String| HeaderValue::try_from(text).map_err(http::Error::from);
        if let Some(token) = &credential.kept.token {
            let mut bearer = value(format!("Bearer {token}"))?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        headers.insert(header::HOST, value(authority(&credential.kept.gateway)?)?);
        headers.insert("muster-host", value(self.host.clone())?);
        headers.insert("muster-epoch", HeaderValue::from(self.epoch));
        Ok(())
    }

    async fn try_connect(&self, credential: &Credential) -> Result<Upgraded, DialError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri("/v1/hosts/connect")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, AGENT_PROTOCOL)
            .header(header::CONTENT_LENGTH, 0)
            .body(Empty::<Bytes>::new())?;
        self.introduce(credential, request.headers_mut())?;
        let stream = self.open(credential).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(hyper::upgrade::on(response).await?);
            }
            let said = match Limited::new(response.into_body(), SAID).collect().await {
                Ok(body) => words(&body.to_bytes()),
                Err(_) => String::new(),
            };
            Err(refused(status, said))
        };
        // The connection hands itself over when the roles turn.
        driven(connection.with_upgrades(), exchange).await
    }
}

/// Good for so long from now, and renewed at half of that.
fn dated(kept: Kept, expires_in: u64) -> Kept {
    let now = unix_s();
    Kept { renew_unix_s: now + expires_in / 2, expires_unix_s: now + expires_in, ..kept }
}
