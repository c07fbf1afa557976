//! A cancel that holds over a restart.

use std::time::Duration;

use tokio::time::timeout;

use super::CallHandle;

/// How long the store may take to have the end of a call.
const KEPT_WITHIN: Duration = Duration::from_secs(10);

/// Why the next gateway may go on with a call that was cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The store does not take its end, as its disk is full.
    #[error("the end of the call could not be kept")]
    NoSpace,
    /// The gateway stops before its end is kept.
    #[error("the gateway is stopping")]
    Stopping,
}

impl CallHandle {
    /// Cancels the call; one that has ended stays as it is. The store has the end of a background call then.
    pub async fn cancel_for_good(&self) -> Result<(), CancelError> {
        self.cancel();
        if self.shared.kept.is_none() {
            return Ok(());
        }
        let mut record = self.shared.record.subscribe();
        // The owner says when the call ended once the store has it, and goes without a word where the gateway stops.
        let kept = async {
            tokio::select! {
                biased;
                _ = record.wait_for(|record| record.ended.is_some()) => {}
                () = self.shared.commands.closed() => {}
            }
        };
        timeout(KEPT_WITHIN, kept).await.map_err(|_| CancelError::NoSpace)?;
        let ended = self.shared.record.borrow().ended.is_some();
        if ended { Ok(()) } else { Err(CancelError::Stopping) }
    }
}
