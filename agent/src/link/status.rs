//! The stream of HOST_STATUS: at once, on every change, and every 5 s even without one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use muster_wire::frame::Kind;
use muster_wire::message::{HostStatus, json_frame};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// Changes within this time are told together: a burst of claims is one change to the gateway.
const TOGETHER: Duration = Duration::from_millis(5);

/// Until the reader or the agent is gone.
pub async fn stream(
    mut board: watch::Receiver<HostStatus>,
    out: mpsc::Sender<Bytes>,
    stop: CancellationToken,
) {
    loop {
        let now = encode(&board.borrow_and_update());
        if out.send(now).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // The last word: that this host takes nothing new. A reader that is gone needs none.
                let last = encode(&board.borrow());
                let _ = out.send(last).await;
                return;
            }
            () = out.closed() => return,
            // A board that is gone has no more changes, and the stop is near.
            changed = board.changed() => match changed {
                Ok(()) => tokio::time::sleep(TOGETHER).await,
                Err(_) => return,
            },
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn encode(status: &HostStatus) -> Bytes {
    let mut bytes = BytesMut::new();
    json_frame(Kind::HostStatus, status).encode(&mut bytes);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Board;

    #[tokio::test(start_paused = true)]
    async fn status_comes_at_once_on_change_and_on_a_timer() {
        let board = Board::new(&crate::settings::for_tests(2));
        let (out, mut chunks) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let streaming = crate::tasks::Tasks::new().spawn(stream(board.watch(), out, stop.clone()));
        let first = chunks.recv().await.expect("at once");
        let start = tokio::time::Instant::now();
        assert_eq!(chunks.recv().await.expect("on the timer"), first);
        assert_eq!(start.elapsed(), EVERY);
        board.drain();
        let changed = chunks.recv().await.expect("on change");
        assert!(String::from_utf8_lossy(&changed).contains(r#""draining":true"#));
        stop.cancel();
        assert_eq!(chunks.recv().await, Some(changed), "the last word");
        assert_eq!(chunks.recv().await, None);
        streaming.await.expect("no panic");
    }
}
