//! One question to the gateway over a connection of its own, what its answers mean, and why there may be none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::identity::IdentityError;
use super::socket::connect;

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

/// What a host asks for a credential with.
#[derive(Serialize)]
pub(super) struct Asked<'a> {
    /// Its name.
    pub host: &'a str,
    /// The request for a certificate, where the gateway speaks TLS.
    pub csr: Option<String>,
}

/// The credential it is given.
#[derive(Deserialize)]
pub(super) struct Given {
    pub certificate: Option<String>,
    pub token: Option<String>,
    /// In seconds.
    pub expires_in: u64,
}

/// Asks for a credential.
pub(super) async fn ask(
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
pub(super) async fn driven<T>(
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

/// What an answer that is no success means.
pub(super) fn refused(status: StatusCode, said: String) -> DialError {
    let status = status.as_u16();
    match status {
        401 | 403 => DialError::Unwanted { status, said },
        409 => DialError::Taken { said },
        _ => DialError::Answer { status, said },
    }
}

/// The deadline of everything that is asked.
pub(super) async fn within<T>(
    asking: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    tokio::time::timeout(DEADLINE, asking).await.map_err(|_| DialError::Late)?
}

/// Whom a request is for.
pub(super) fn authority(gateway: &str) -> Result<String, DialError> {
    let uri: http::Uri = gateway.parse().map_err(http::Error::from)?;
    Ok(uri.authority().map(|authority| authority.to_string()).unwrap_or_default())
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
