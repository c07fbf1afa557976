//! Why a worker could not be had, and what the user is told.

use std::path::PathBuf;
use std::sync::Arc;

use muster_wire::message::CallError;

use super::cgroup::CgroupError;
use super::network::NetworkError;
use super::start::StartError;
use crate::data::DataError;
use crate::engine::EngineError;
use crate::environments::EnvironmentError;
use crate::runner::RunnerError;
use crate::shares::SharesError;

/// Why there is no worker for a call on this host.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The image is not here and could not be pulled.
    #[error("image {image} is not on this host: {why}")]
    NoSuchImage {
        /// What was asked for.
        image: String,
        /// What is there.
        there: Vec<String>,
        /// Why it could not be had.
        why: String,
    },
    /// The operator does not let calls choose it.
    #[error("containers of calls are not started with {runtime} on this host")]
    NoSuchRuntime {
        /// What was asked for.
        runtime: String,
        /// What calls may ask for.
        there: Vec<String>,
    },
    /// Functions need a Python in the image.
    #[error("image {image} has no Python that can run functions: {why}")]
    NoPython {
        /// What was asked for.
        image: String,
        /// What pid 1 said.
        why: String,
    },
    /// Pickles need the same minor version.
    #[error("image {image} has Python {has}, but the function was pickled by Python {wants}")]
    Python {
        /// What was asked for.
        image: String,
        /// Minor version in the image.
        has: String,
        /// Minor version of the client.
        wants: String,
        /// Images here that fit.
        fitting: Vec<String>,
    },
    /// An empty host has less.
    #[error(
        "one worker needs more than this host has: {cores} cores and {ram_bytes} bytes of memory"
    )]
    TooLarge {
        /// All cores of the host.
        cores: f64,
        /// All memory of the host, in bytes.
        ram_bytes: u64,
    },
    /// The engine failed.
    #[error("the container engine failed")]
    Engine(#[source] Box<EngineError>),
    /// A container was not started.
    #[error("a container of image {image} could not be started")]
    Start {
        /// What was asked for.
        image: String,
        /// Why.
        #[source]
        source: Box<StartError>,
    },
    /// The limits could not be written.
    #[error("the limits of a worker could not be set")]
    Limits(#[source] CgroupError),
    /// What the call needs could not be mounted.
    #[error("a worker could not be given {what}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Why it was not.
        #[source]
        source: std::io::Error,
    },
    /// Shared data of the call is not here.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A share of the call cannot be mounted here.
    #[error(transparent)]
    Shares(#[from] SharesError),
    /// Its packages are not there.
    #[error("the packages of the call are not on this host")]
    Environment(#[source] Arc<EnvironmentError>),
    /// What keeps containers from this host is not there.
    #[error("the firewall rules that keep containers from this host could not be made")]
    NetworkUnsafe,
    /// The agent stops.
    #[error("this host is stopping")]
    Stopping,
}

/// Why there is no container for the agent's own work.
#[derive(Debug, thiserror::Error)]
pub enum BuilderError {
    /// It was not started.
    #[error("a container could not be started")]
    Start(#[source] StartError),
    /// Its network could not be made safe.
    #[error("the containers' network could not be made safe")]
    Network(#[source] NetworkError),
    /// Its limits or its folder could not be set.
    #[error("its limits could not be set")]
    Limits(#[source] CgroupError),
    /// Its folder could not be given to it.
    #[error("its folder could not be given to it")]
    Folder(#[source] std::io::Error),
    /// What it needs could not be mounted.
    #[error("what it needs could not be mounted")]
    Mount(#[source] Box<ClaimError>),
    /// Its runner failed.
    #[error("its runner failed")]
    Runner(#[source] RunnerError),
}

impl ClaimError {
    /// Gives the failed start of a container the name that its user can act on.
    pub fn from_start(image: &str, error: StartError) -> ClaimError {
        match error {
            StartError::Runner(RunnerError::NotStarted { why }) => {
                ClaimError::NoPython { image: image.into(), why }
            }
            StartError::NetworkUnsafe => ClaimError::NetworkUnsafe,
            StartError::Engine(EngineError::NotFound { what }) => {
                ClaimError::NoSuchImage { image: image.into(), there: Vec::new(), why: what }
            }
            other => ClaimError::Start { image: image.into(), source: Box::new(other) },
        }
    }

    /// Whether every other try of the call, on this host, ends the same way.
    pub fn is_final(&self) -> bool {
        match self {
            ClaimError::Engine(_)
            | ClaimError::Start { .. }
            | ClaimError::NetworkUnsafe
            | ClaimError::Stopping => false,
            ClaimError::Data(error) => error.is_final(),
            _ => true,
        }
    }

    /// What the user is told: a code of `docs/errors.md`, what is wrong, what to do.
    pub fn to_call_error(&self) -> CallError {
        let (code, action) = match self {
            ClaimError::Data(error) => return error.to_call_error(),
            ClaimError::NoSuchImage { there, .. } => (
                "no_such_image",
                format!(
                    "use one of the images there ({}), or build or pull it on the host",
                    list(there)
                ),
            ),
            ClaimError::NoSuchRuntime { there, .. } => (
                "no_such_runtime",
                format!(
                    "ask for one of those it allows ({}), or start its agent with --allow-runtime",
                    list(there)
                ),
            ),
            ClaimError::NoPython { .. } => (
                "no_python",
                "use an image with Python 3.9 or newer as python3, or run a command".to_string(),
            ),
            ClaimError::Python { wants, fitting, .. } => (
                "python_mismatch",
                format!(
                    "use an image with Python {wants} ({}), or call from the image's Python version",
                    list(fitting)
                ),
            ),
            ClaimError::TooLarge { .. } => {
                ("no_room", "ask for fewer cores (func_cpu) or less memory (func_ram)".to_string())
            }
            ClaimError::Engine(_)
            | ClaimError::Start { .. }
            | ClaimError::Mount { .. }
            | ClaimError::Limits(_) => {
                ("engine_failed", "look at the agent's log on this host".to_string())
            }
            ClaimError::Shares(_) => (
                "no_such_share",
                "name one of the shares that `muster hosts` shows, or add it to the settings of the agent on this host (--share)"
                    .to_string(),
            ),
            ClaimError::Environment(error) => {
                let (code, action) = error.code();
                (code, action.to_string())
            }
            ClaimError::NetworkUnsafe => (
                "network_unsafe",
                "run `muster-agent doctor` on this host, or give its containers no network"
                    .to_string(),
            ),
            ClaimError::Stopping => ("host_stopping", "try again, or on another host".to_string()),
        };
        CallError { code: code.into(), message: crate::chain(self), action }
    }
}

/// The host could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory could not be made.
    #[error("the state directory {} could not be made; run as root, or choose another with --state-dir", path.display())]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The engine did not answer, or refused.
    #[error("the container engine could not be used")]
    Engine(#[from] EngineError),
    /// Nothing could be mounted for containers.
    #[error(
        "the folder that containers share with this host could not be mounted; run as root, in the mount namespace of the container engine"
    )]
    Mounts(#[source] std::io::Error),
    /// The engine cannot start containers so.
    #[error("the engine has no runtime {runtime}; it has {}", there.join(", "))]
    NoRuntime {
        /// What was asked for.
        runtime: String,
        /// What it has.
        there: Vec<String>,
    },
    /// Calls could reach what is the engine's.
    #[error("the share {share} would let calls at {}, the engine's own folder; share another folder", folder.display())]
    Share {
        /// Its name.
        share: String,
        /// The engine's folder.
        folder: PathBuf,
    },
    /// Containers could reach what they must not.
    #[error("the containers' network could not be made safe")]
    Network(#[from] NetworkError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none here".into() } else { names.join(", ") }
}
