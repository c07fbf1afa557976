//! How the gateway is reached: over the network, or as a simulation does it.

use std::future::Future;

use hyper::upgrade::Upgraded;

use super::{Dial, DialError};

/// Makes connections to one gateway, on which it then calls us.
pub trait Connect: Send + Sync + 'static {
    /// A connection.
    type Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static;

    /// Connects once.
    fn connect(&self) -> impl Future<Output = Result<Self::Io, DialError>> + Send;

    /// The gateway's address, for logs.
    fn gateway(&self) -> &str;

    /// This host's name.
    fn host(&self) -> &str;
}

impl Connect for Dial {
    type Io = Upgraded;

    async fn connect(&self) -> Result<Upgraded, DialError> {
        Dial::connect(self).await
    }

    fn gateway(&self) -> &str {
        Dial::gateway(self)
    }

    fn host(&self) -> &str {
        Dial::host(self)
    }
}
