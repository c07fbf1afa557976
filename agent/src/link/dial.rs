//! Dialling: one HTTP/1.1 request that turns the connection over to us; joining before that, and renewing after it.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use muster_wire::AGENT_PROTOCOL;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::identity::{self, Credential, IdentityError, JoinString, Kept, unix_s};
use super::socket::{Connection, connect};
use super::tls;

/// For the name, the connection and the answer together.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer with a credential.
const CREDENTIAL: usize = 64 << 10;
/// A refusal longer than this is cut.
pub(super) const SAID: usize = 4096;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody there.
    #[error("the gateway cannot be reached")]
    Unreachable(#[source] std::io::Error),
    /// No answer in time.
    #[error("the gateway did not answer within {DEADLINE:?}")]
    Late,
    /// Not the gateway's answer.
    #[error("what answers at the gateway's address does not speak HTTP")]
    Http(#[from] hyper::Error),
    /// Our credential is not good, or the gateway does not know this kind of request.
    #[error(
        "the gateway refused this host ({status}): {said}; if it is to join again, make a join string for it \
         (`muster-gateway join-string create --host NAME`) and give that to the agent (--join-file)"
    )]
    Unwanted {
        /// HTTP status.
        status: u16,
        /// The gateway's own words.
        said: String,
    },
    /// Another agent has our name.
    #[error(
        "the gateway refused this host: {said}; stop the other agent of this name, or give this one another \
         --host-name"
    )]
    Taken {
        /// The gateway's own words.
        said: String,
    },
    /// There is no credential, and no join string to get one by.
    #[error(
        "this host has not joined a gateway: make a join string (`muster-gateway join-string create`) and give it to the \
         agent (--join-file or --join)"
    )]
    NotJoined,
    /// The credential cannot be made, kept or used.
    #[error("this host's credential cannot be used")]
    Identity(#[from] IdentityError),
    /// Any other answer.
    #[error("the gateway answered {status}: {said}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// The gateway's own words.
        said: String,
    },
    /// The settings cannot be put into a request.
    #[error("the gateway's address or the credential has characters that no request can carry")]
    Request(#[from] http::Error),
}

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

#[derive(Serialize)]
struct Asked<'a> {
    host: &'a str,
    csr: Option<String>,
}

#[derive(Deserialize)]
struct Given {
    certificate: Option<String>,
    token: Option<String>,
    expires_in: u64,
}

/// Asks for a credential.
async fn ask(
    gateway: &str,
    tls: &Arc<ClientConfig>,
    path: &str,
    bearer: Option<&str>,
    body: &Asked<'_>,
) -> Result<Given, DialError> {
    let address = gateway.parse().map_err(http::Error::from)?;
    let stream = connect(&address, tls).await.map_err(DialError::Unreachable)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::post(path)
        .header(header::HOST, authority(gateway)?)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = bearer {
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(http::Error::from)?;
        request = request.header(header::AUTHORIZATION, bearer);
    }
    let body = serde_json::to_vec(body).expect("two strings always serialise");
    let request = request.body(Full::<Bytes>::from(body))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), CREDENTIAL).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        if !status.is_success() {
            return Err(refused(status, words(&body)));
        }
        serde_json::from_slice(&body)
            .map_err(|_| DialError::Answer { status: status.as_u16(), said: words(&body) })
    };
    driven(connection, exchange).await
}

/// Drives a connection beside what is said on it.
async fn driven<T>(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    exchange: impl Future<Output = T>,
) -> T {
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            done = &mut exchange => return done,
            // Its errors reach the exchange too.
            _ = &mut connection, if open => open = false,
        }
    }
}

fn refused(status: StatusCode, said: String) -> DialError {
    let status = status.as_u16();
    match status {
        401 | 403 => DialError::Unwanted { status, said },
        409 => DialError::Taken { said },
        _ => DialError::Answer { status, said },
    }
}

async fn within<T>(asking: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
    tokio::time::timeout(DEADLINE, asking).await.map_err(|_| DialError::Late)?
}

fn authority(gateway: &str) -> Result<String, DialError> {
    let uri: http::Uri = gateway.parse().map_err(http::Error::from)?;
    Ok(uri.authority().map(|authority| authority.to_string()).unwrap_or_default())
}

/// Good for so long from now, and renewed at half of that.
fn dated(kept: Kept, expires_in: u64) -> Kept {
    let now = unix_s();
    Kept { renew_unix_s: now + expires_in / 2, expires_unix_s: now + expires_in, ..kept }
}

/// The gateway's words: the `detail` of a problem document, or the text as it is.
pub(super) fn words(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let detail = problem.and_then(|problem| {
        let text = problem.get("detail").or_else(|| problem.get("title"))?;
        text.as_str().map(str::to_string)
    });
    detail.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_string())
}
