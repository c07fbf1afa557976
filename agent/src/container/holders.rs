//! What keeps containers alive: the engine, and the process of its own that stands above each container (the shim). Where one of them
//! dies or is stopped, containers die of that, and not of what ran in them.
//!
//! The engine tells nobody that it goes. One that is asked to stop takes no connection any more before it stops containers, so it is asked
//! when one has died. One that was killed, and starts again, ends containers before it answers; so one request stays open with it, for events
//! that never come, and ends when the engine does. An engine that only stands still keeps that open, and stops no container either.
//!
//! Not here: what becomes of the inputs ([`crate::call`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::tasks::Tasks;

use super::process::Process;

/// Between tries to reach an engine that is gone.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether the engine is there.
#[derive(Debug, Default)]
pub struct Presence {
    gone: watch::Sender<bool>,
}

impl Presence {
    /// Watches the engine until `stop`.
    pub async fn watch(&self, engine: &Engine, stop: &CancellationToken) {
        let watching = async {
            loop {
                engine.ended().await;
                self.gone.send_replace(true);
                tracing::warn!("the container engine is gone");
                while engine.facts().await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
                self.gone.send_replace(false);
                tracing::info!("the container engine is there again");
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = watching => {}
        }
    }

    /// Whether it is gone now, or stops.
    pub async fn is_gone(&self, engine: &Engine) -> bool {
        let mut gone = self.gone.subscribe();
        tokio::select! {
            biased;
            // The sender is ours, so it is there.
            _ = gone.wait_for(|gone| *gone) => true,
            answers = engine.answers() => !answers,
        }
    }
}

/// Whether the process above a container died before the container did.
#[derive(Debug, Default)]
pub struct Shim {
    died_first: Arc<AtomicBool>,
}

impl Shim {
    /// Watches the parent of pid 1 of a container until one of the two ends. Without a parent, or where it cannot be watched, nothing is noticed.
    pub fn of(pid_1: u32, tasks: &Tasks) -> Shim {
        let shim = Shim::default();
        let opened = parent(pid_1).and_then(|parent| Some((parent, Process::open(pid_1).ok()?)));
        if let Some((parent, container)) = opened {
            let died_first = shim.died_first.clone();
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = parent.exited() => died_first.store(container.is_alive(), Ordering::Relaxed),
                    () = container.exited() => {}
                }
            });
        }
        shim
    }

    /// Whether the container lived on without it.
    pub fn died_first(&self) -> bool {
        self.died_first.load(Ordering::Relaxed)
    }
}

fn parent(pid: u32) -> Option<Process> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    // That of this machine is nobody's shim.
    (parent > 1).then(|| Process::open(parent).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell, and the program that it waits for.
    fn family() -> (tokio::process::Child, u32) {
        let mut parent = tokio::process::Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let mut stdout = parent.stdout.take().expect("piped").into_owned_fd().expect("a pipe");
        let mut line = [0; 16];
        let read = nix::unistd::read(&mut stdout, &mut line).expect("a number");
        let child = std::str::from_utf8(&line[..read]).expect("text").trim().parse();
        (parent, child.expect("a number"))
    }

    async fn until(condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("in time");
    }

    #[tokio::test]
    async fn a_container_that_outlives_its_shim_is_told_from_one_that_dies_by_itself() {
        let tasks = Tasks::new();
        let (mut parent, child) = family();
        let shim = Shim::of(child, &tasks);
        let held = Process::open(child).expect("it runs");
        parent.kill().await.expect("killed");
        until(|| shim.died_first()).await;
        held.kill();

        let (mut parent, child) = family();
        let shim = Shim::of(child, &tasks);
        Process::open(child).expect("it runs").kill();
        parent.wait().await.expect("it ends after its child");
        tasks.ended(Duration::from_secs(10)).await;
        assert!(!shim.died_first());
    }
}
