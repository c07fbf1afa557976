//! Pid 1 of a container, held by a descriptor: it cannot be mistaken for a later process with the same number, it tells
//! when the container is dead, and it kills without asking the engine. When pid 1 is gone the kernel has killed everything
//! in the container.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process of ours, gone or not.
#[derive(Debug)]
pub struct Process {
    fd: AsyncFd<OwnedFd>,
    pid: u32,
}

impl Process {
    /// Takes hold of it. What else is known about this pid must be checked after this, not before.
    pub fn open(pid: u32) -> io::Result<Process> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("not a pid"))?;
        let fd = pidfd_open(raw, PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "sound for an OwnedFd: nobody else can close it under the reactor"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Process { fd, pid })
    }

    /// Its number on the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL; harmless when it is gone.
    pub fn kill(&self) {
        // The only error is that there is nothing left to kill.
        let _ = pidfd_send_signal(self.fd.get_ref(), Signal::KILL);
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        let mut poll =
            [rustix::event::PollFd::new(self.fd.get_ref(), rustix::event::PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(0))
    }

    /// Ends when it has ended.
    pub async fn exited(&self) {
        // An error of the reactor means that the runtime is going down; the process is then the reaper's.
        let _ = self.fd.readable().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_killed_process_is_seen_to_end() {
        let mut child = tokio::process::Command::new("sleep")
            .arg("1000")
            .kill_on_drop(true)
            .spawn()
            .expect("sleep is everywhere");
        let process = Process::open(child.id().expect("it runs")).expect("it runs");
        assert!(process.is_alive());
        process.kill();
        tokio::time::timeout(Duration::from_secs(10), process.exited()).await.expect("it ends");
        assert!(!process.is_alive());
        process.kill();
        child.wait().await.expect("reaped");
    }

    #[tokio::test]
    async fn a_pid_that_is_not_there_cannot_be_held() {
        assert!(Process::open(0).is_err());
        assert!(Process::open(u32::MAX).is_err());
    }
}
