//! Plain requests of this host to its gateway: what is not said over the link, because we begin it, or because it is large.
//!
//! Each request has a connection of its own, made like the link's and with the same credential: such requests are rare, and a
//! download must not hold up the link.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::ask::{DialError, SAID, words};
use super::dial::Dial;
use crate::tasks::Tasks;

/// For the connection, and for the head of the answer once the request is sent.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why the gateway gave no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection.
    #[error("the gateway cannot be asked")]
    Unreachable(#[source] DialError),
    /// The connection failed.
    #[error("the gateway's answer broke off")]
    Http(#[source] hyper::Error),
    /// Nothing came.
    #[error("the gateway did not answer within {DEADLINE:?}")]
    Late,
    /// It refused.
    #[error("the gateway answered {status}: {said}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code of its problem document, empty where it sent none.
        code: String,
        /// Its own words.
        said: String,
        /// Its headers.
        headers: Box<HeaderMap>,
    },
}

/// Asks the gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    dial: Arc<Dial>,
    tasks: Tasks,
}

impl Client {
    /// Asks the gateway that is dialled; `tasks` drive the connections.
    pub fn new(dial: Arc<Dial>, tasks: Tasks) -> Client {
        Client { dial, tasks }
    }

    /// Sends a request, to which it adds who asks; the answer's head has come, whatever it says.
    pub async fn send<B>(&self, mut request: Request<B>) -> Result<Response<Incoming>, ClientError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let credential = self.dial.credential().await.map_err(ClientError::Unreachable)?;
        let headers = request.headers_mut();
        self.dial.introduce(&credential, headers).map_err(ClientError::Unreachable)?;
        let open = tokio::time::timeout(DEADLINE, self.dial.open(&credential));
        let stream =
            open.await.map_err(|_| ClientError::Late)?.map_err(ClientError::Unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Http)?;
        let stop = self.tasks.token();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // Its errors reach whoever reads the answer.
                _ = connection => {}
            }
        });
        sender.send_request(request).await.map_err(ClientError::Http)
    }

    /// The same for requests that are answered soon; an answer that is no success is an error.
    pub async fn ask<B>(&self, request: Request<B>) -> Result<Response<Incoming>, ClientError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let sent = tokio::time::timeout(DEADLINE, self.send(request));
        let response = sent.await.map_err(|_| ClientError::Late)??;
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body: Bytes = match Limited::new(body, SAID).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        Err(ClientError::Refused {
            status: head.status.as_u16(),
            code: code(&body),
            said: words(&body),
            headers: Box::new(head.headers),
        })
    }
}

/// The code of a problem document.
fn code(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let code = problem.as_ref().and_then(|problem| problem.get("code")?.as_str());
    code.unwrap_or_default().to_owned()
}
