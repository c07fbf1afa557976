//! Dialling: one HTTP/1.1 request that turns the connection over to us.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use muster_wire::AGENT_PROTOCOL;
use rustls::ClientConfig;

use super::socket::{Connection, connect};
use super::tls;

/// For the name, the connection and the answer together.
const DEADLINE: Duration = Duration::from_secs(10);
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
    /// Our token is not good, or the gateway does not know this kind of request.
    #[error(
        "the gateway refused this host ({status}): {said}; give the agent the gateway's current join token \
         (--join-file or --token)"
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
    /// Any other answer.
    #[error("the gateway answered {status}: {said}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// The gateway's own words.
        said: String,
    },
    /// The settings cannot be put into a request.
    #[error("the gateway's address or the token has characters that no request can carry")]
    Request(#[from] http::Error),
}

/// What is needed to dial.
pub struct Dial {
    gateway: String,
    token: String,
    tls: Arc<ClientConfig>,
    host: String,
    epoch: u64,
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dial({} as {}, epoch {})", self.gateway, self.host, self.epoch)
    }
}

impl Dial {
    /// With an epoch of its own, so that the gateway can tell this start of the agent from any other.
    pub fn new(gateway: &str, token: &str, host: &str) -> Dial {
        let (token, pin) = split_pin(token);
        let tls = tls::config(pin, None).expect("the defaults of rustls fit its own provider");
        Dial {
            gateway: gateway.to_owned(),
            token: token.to_owned(),
            tls: Arc::new(tls),
            host: host.to_owned(),
            // Numbers in JSON are exact up to 53 bits.
            epoch: rand::random::<u64>() >> 11,
        }
    }

    /// The gateway's address.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// This host's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Dials once; the connection is then the gateway's to call us on.
    pub async fn connect(&self) -> Result<Upgraded, DialError> {
        tokio::time::timeout(DEADLINE, self.try_connect()).await.map_err(|_| DialError::Late)?
    }

    /// A connection to the gateway, on which nothing was said yet.
    pub(super) async fn open(&self) -> Result<Connection, DialError> {
        let gateway = self.gateway.parse().map_err(http::Error::from)?;
        connect(&gateway, &self.tls).await.map_err(DialError::Unreachable)
    }

    /// What every request of this host to its gateway carries: whom it asks, and who asks.
    pub(super) fn introduce(&self, headers: &mut HeaderMap) -> Result<(), DialError> {
        let value = |text: String| HeaderValue::try_from(text).map_err(http::Error::from);
        let mut bearer = value(format!("Bearer {}", self.token))?;
        bearer.set_sensitive(true);
        headers.insert(header::HOST, value(self.authority()?)?);
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert("muster-host", value(self.host.clone())?);
        headers.insert("muster-epoch", HeaderValue::from(self.epoch));
        Ok(())
    }

    fn authority(&self) -> Result<String, DialError> {
        let uri: http::Uri = self.gateway.parse().map_err(http::Error::from)?;
        Ok(uri.authority().map(|authority| authority.to_string()).unwrap_or_default())
    }

    async fn try_connect(&self) -> Result<Upgraded, DialError> {
        let request = self.request()?;
        let stream = self.open().await?;
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
            let status = status.as_u16();
            Err(match status {
                401 | 403 => DialError::Unwanted { status, said },
                409 => DialError::Taken { said },
                _ => DialError::Answer { status, said },
            })
        };
        // The connection is driven beside the exchange, and hands itself over when the roles turn.
        let mut connection = std::pin::pin!(connection.with_upgrades());
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

    fn request(&self) -> Result<Request<Empty<Bytes>>, DialError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri("/v1/hosts/connect")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, AGENT_PROTOCOL)
            .header(header::CONTENT_LENGTH, 0)
            .body(Empty::new())?;
        self.introduce(request.headers_mut())?;
        Ok(request)
    }
}

/// The part of a token that is sent, and the pin that may follow it.
fn split_pin(token: &str) -> (&str, Option<&str>) {
    match token.match_indices('_').nth(2) {
        Some((at, _)) => (&token[..at], Some(&token[at + 1..])),
        None => (token, None),
    }
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
