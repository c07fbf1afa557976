//! What the engine's refusals are called, and the deadline of each request.

use std::future::Future;
use std::time::Duration;

/// What the engine would not or could not do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers.
    #[error(
        "the container engine at {at} does not answer; is Docker running, and may this user use it?"
    )]
    Unreachable {
        /// Where it should be.
        at: String,
        /// What the client said.
        #[source]
        source: bollard::errors::Error,
    },
    /// It is not there.
    #[error("{what} is not there")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The engine refused.
    #[error("{doing}: the container engine answered {status}: {message}")]
    Refused {
        /// What we were doing.
        doing: String,
        /// HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// No answer in time.
    #[error("{doing}: no answer within {after:?}")]
    Late {
        /// What we were doing.
        doing: String,
        /// The deadline.
        after: Duration,
    },
    /// Anything else.
    #[error("{doing} failed")]
    Internal {
        /// What we were doing.
        doing: String,
        /// What the client said.
        #[source]
        source: bollard::errors::Error,
    },
}

/// The answer to a request, within `deadline`.
pub(super) async fn within<T>(
    doing: &str,
    deadline: Duration,
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(deadline, request).await {
        Ok(answer) => answer.map_err(|source| named(doing, source)),
        Err(_) => Err(EngineError::Late { doing: doing.to_string(), after: deadline }),
    }
}

/// A refusal, or what else went wrong while `doing`.
pub(super) fn named(doing: &str, source: bollard::errors::Error) -> EngineError {
    let doing = doing.to_string();
    match source {
        bollard::errors::Error::DockerResponseServerError { status_code: 404, message } => {
            EngineError::NotFound { what: format!("{doing}: {message}") }
        }
        bollard::errors::Error::DockerResponseServerError { status_code, message } => {
            EngineError::Refused { doing, status: status_code, message }
        }
        bollard::errors::Error::DockerStreamError { error } => {
            EngineError::Refused { doing, status: 500, message: error }
        }
        source => EngineError::Internal { doing, source },
    }
}
