//! The network between one host and the gateway. Bytes of each way travel in order, after the way's delay, and wait while it is held, as they do in TCP when the network drops every packet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use muster_agent::link::{Connect, DialError};
use muster_gateway::fleet::Fleet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Bytes that the network and both kernels hold, each way.
const BUFFER: usize = 256 << 10;
/// As the agent's own.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the host to the gateway.
    Up,
    /// From the gateway to the host.
    Down,
    /// Both.
    Both,
}

#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    delay: Duration,
    held: bool,
}

/// One host's way to the gateway; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Path(Arc<Ways>);

#[derive(Debug, Default)]
struct Ways {
    up: watch::Sender<Traffic>,
    down: watch::Sender<Traffic>,
    cut: Mutex<CancellationToken>,
}

impl Path {
    fn change(&self, way: Way, change: impl Fn(&mut Traffic)) {
        if way != Way::Down {
            self.0.up.send_modify(&change);
        }
        if way != Way::Up {
            self.0.down.send_modify(&change);
        }
    }

    /// Nothing arrives on this way until it is released.
    pub fn hold(&self, way: Way) {
        self.change(way, |traffic| traffic.held = true);
    }

    /// What was held arrives.
    pub fn release(&self, way: Way) {
        self.change(way, |traffic| traffic.held = false);
    }

    /// Everything takes so long.
    pub fn slow(&self, delay: Duration) {
        self.change(Way::Both, |traffic| traffic.delay = delay);
    }

    /// Breaks the connection there is: both ends see its end at once.
    pub fn cut(&self) {
        let mut cut = self.0.cut.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *cut).cancel();
    }

    async fn round_trip(&self) {
        travel(&self.0.up).await;
        travel(&self.0.down).await;
    }

    /// A connection over this path: its two ends.
    fn connect(&self) -> (DuplexStream, DuplexStream) {
        let (host, near) = duplex(BUFFER);
        let (far, gateway) = duplex(BUFFER);
        let path = self.clone();
        let cut = self.0.cut.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::spawn(async move {
            let (near_out, near_in) = split(near);
            let (far_out, far_in) = split(far);
            let up = carry(near_out, far_in, &path.0.up);
            let down = carry(far_out, near_in, &path.0.down);
            tokio::select! {
                () = cut.cancelled() => {}
                _ = async { tokio::join!(up, down) } => {}
            }
        });
        (host, gateway)
    }
}

async fn travel(way: &watch::Sender<Traffic>) {
    let delay = way.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    // The sender is the path's own.
    let _ = way.subscribe().wait_for(|traffic| !traffic.held).await;
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: &watch::Sender<Traffic>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        travel(way).await;
        // An end that is gone is seen by the other one when the news arrives there.
        let gone = read == 0 || to.write_all(&buffer[..read]).await.is_err();
        if gone {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// Dials over a simulated path.
#[derive(Debug)]
pub struct Dialler {
    /// The host's name.
    pub name: String,
    /// Which start of its agent this is.
    pub epoch: u64,
    /// The way there.
    pub path: Path,
    /// Whom it reaches, if it is there.
    pub gateway: watch::Receiver<Option<Fleet>>,
}

impl Connect for Dialler {
    type Io = TokioIo<DuplexStream>;

    async fn connect(&self) -> Result<Self::Io, DialError> {
        let there = tokio::time::timeout(DIAL_DEADLINE, self.path.round_trip()).await;
        there.map_err(|_| DialError::Late)?;
        let fleet = self.gateway.borrow().clone();
        let refused = || DialError::Unreachable(std::io::ErrorKind::ConnectionRefused.into());
        let seat = fleet.ok_or_else(refused)?.reserve(&self.name, self.epoch);
        let seat = seat.map_err(|taken| DialError::Taken { said: taken.to_string() })?;
        let (host, gateway) = self.path.connect();
        seat.run(gateway);
        Ok(TokioIo::new(host))
    }

    fn gateway(&self) -> &str {
        "simulated"
    }

    fn host(&self) -> &str {
        &self.name
    }
}
