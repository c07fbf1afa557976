//! Whether claims are being made: what can wait (removing dead containers) waits until they are not,
//! because the engine's work competes with the functions for the same cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// No claim for this long is quiet.
const PAUSE: Duration = Duration::from_millis(50);

/// A cheap handle to the time of the last claim.
#[derive(Debug, Clone)]
pub struct Quiet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    last: Mutex<Instant>,
    open: AtomicUsize,
}

/// A claim under way.
#[derive(Debug)]
pub struct Claiming(Quiet);

impl Default for Quiet {
    fn default() -> Quiet {
        let shared = Shared { last: Mutex::new(Instant::now()), open: AtomicUsize::new(0) };
        Quiet { shared: Arc::new(shared) }
    }
}

impl Quiet {
    /// A claim begins; it ends when the guard is dropped.
    pub fn claim(&self) -> Claiming {
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        Claiming(self.clone())
    }

    /// Ends when there has been no claim for a moment, at the latest after `most`.
    pub async fn wait(&self, most: Duration) {
        let deadline = Instant::now() + most;
        while let Some(pause) = self.left() {
            let now = Instant::now();
            if now >= deadline {
                return;
            }
            tokio::time::sleep_until((now + pause).min(deadline)).await;
        }
    }

    /// How long until it may be quiet; `None` when it is.
    fn left(&self) -> Option<Duration> {
        if self.shared.open.load(Ordering::Relaxed) > 0 {
            return Some(PAUSE);
        }
        let last = *self.shared.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        PAUSE.checked_sub(last.elapsed()).filter(|left| !left.is_zero())
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let mut last = self.0.shared.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *last = Instant::now();
        self.0.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quiet_comes_a_moment_after_the_last_claim() {
        let quiet = Quiet::default();
        let claim = quiet.claim();
        let start = Instant::now();
        quiet.wait(Duration::from_secs(1)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        drop(claim);
        let start = Instant::now();
        quiet.wait(Duration::from_secs(1)).await;
        assert_eq!(start.elapsed(), PAUSE);
        let start = Instant::now();
        quiet.wait(Duration::from_secs(1)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
