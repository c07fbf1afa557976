//! Why there is no environment, and what the user is told.

use crate::container::BuilderError;

/// Why the packages of a call are not there.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The index does not have it, or not for this Python and platform, or the requirements contradict one another.
    #[error("{} cannot be had: {said}", package.as_deref().unwrap_or("a package"))]
    Unavailable {
        /// The requirement, where the installer's words name one.
        package: Option<String>,
        /// The installer's own message.
        said: String,
    },
    /// The index has another file than its requirement allows, or one that no requirement has hashes of.
    #[error("{} cannot be verified: {said}", package.as_deref().unwrap_or("a package"))]
    Unverified {
        /// The requirement, where the installer's words name one.
        package: Option<String>,
        /// The installer's own message.
        said: String,
    },
    /// The installer could not do its work.
    #[error("the installer failed: {said}")]
    Failed {
        /// Its own message.
        said: String,
    },
    /// The agent was given none.
    #[error("this host has no installer for packages")]
    NoInstaller,
    /// The container that installs could not be made, or died.
    #[error("the container that installs packages failed")]
    Builder(#[source] Box<BuilderError>),
    /// It is larger than the cache may become.
    #[error("the packages take {bytes} bytes, and this host keeps at most {bound} of packages")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        bound: u64,
    },
    /// The folder of environments could not be used.
    #[error("the folder of packages on this host could not be used")]
    Storage(#[source] std::io::Error),
    /// The agent stops.
    #[error("this host is stopping")]
    Stopping,
}

impl EnvironmentError {
    /// For `map_err`.
    pub(super) fn storage(error: std::io::Error) -> EnvironmentError {
        EnvironmentError::Storage(error)
    }

    /// Code of `docs/errors.md`, and what to do.
    pub fn code(&self) -> (&'static str, &'static str) {
        match self {
            EnvironmentError::Unavailable { .. } => (
                "package_unavailable",
                "check the name and version; where there is no wheel for this Python, use another version, or an image \
                 that has the package, or leave it out (packages=[...] or packages=None)",
            ),
            EnvironmentError::Unverified { .. } => (
                "package_unverified",
                "list all that is needed with its hashes (uv pip compile --generate-hashes); where the list was right before, find \
                 out who changed the package in the index",
            ),
            EnvironmentError::NoInstaller => (
                "packages_failed",
                "install uv on the host and restart its agent (--uv), or use an image that has the packages",
            ),
            EnvironmentError::TooLarge { .. } => (
                "packages_failed",
                "ask for fewer packages (packages=[...]), raise the agent's --package-cache, or use an image that has them",
            ),
            EnvironmentError::Stopping => ("host_stopping", "try again, or on another host"),
            EnvironmentError::Failed { .. }
            | EnvironmentError::Builder(_)
            | EnvironmentError::Storage(_) => (
                "packages_failed",
                "look at the agent's log and its settings for packages (--package-index, --package-certificates, --package-network) on this host",
            ),
        }
    }
}
