//! The one way into a container: a folder of its own with one unix socket, owned by the container's uid. It is listened on
//! before the container starts and closed after the first good connection, so a container can connect once.
//!
//! Who connects is checked by the kernel's word, not by theirs: the peer's pid must be in the cgroup that carries the
//! container's id. Anything else is dropped without a byte.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::process::Process;

/// Where the folders of all workers are, below the state directory.
pub const FOLDERS: &str = "w";

/// A worker's folder on the host. Removing it is part of removing the worker; what a crash leaves, the reaper finds.
#[derive(Debug)]
pub struct SocketFolder {
    path: PathBuf,
    /// On which the function may ask us, once its worker is claimed.
    calls: Option<UnixListener>,
}

impl SocketFolder {
    /// Makes the folder for the container's uid, and listens in it.
    pub fn create(
        state_dir: &Path,
        short: &str,
        uid: u32,
    ) -> io::Result<(SocketFolder, UnixListener)> {
        let path = state_dir.join(FOLDERS).join(short);
        std::fs::create_dir_all(&path)?;
        let mut folder = SocketFolder { path, calls: None };
        let (socket, calls) = (folder.path.join("agent.sock"), folder.path.join("call.sock"));
        let listener = UnixListener::bind(&socket)?;
        folder.calls = Some(UnixListener::bind(&calls)?);
        for (path, mode) in [(&socket, 0o600), (&calls, 0o600), (&folder.path, 0o700)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
            chown(path, Some(uid), Some(uid))?;
        }
        Ok((folder, listener))
    }

    /// The listener for the function's own requests; once.
    pub fn take_calls(&mut self) -> Option<UnixListener> {
        self.calls.take()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.path.display(), %error, "socket folder not removed");
        }
    }
}

/// Waits for pid 1 of this container. The caller sets the deadline.
pub async fn accept(
    listener: UnixListener,
    container_id: &str,
) -> io::Result<(UnixStream, Process)> {
    loop {
        let (stream, _) = listener.accept().await?;
        match peer(&stream, container_id) {
            Ok(process) => return Ok((stream, process)),
            Err(error) => {
                tracing::warn!(container_id, %error, "stranger on a worker's socket dropped")
            }
        }
    }
}

fn peer(stream: &UnixStream, container_id: &str) -> io::Result<Process> {
    let pid = stream.peer_cred()?.pid().ok_or_else(|| io::Error::other("a peer without a pid"))?;
    let pid = u32::try_from(pid).map_err(io::Error::other)?;
    // Held first: the cgroup read next is that of the process we hold, or the process is gone and we see that.
    let process = Process::open(pid)?;
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let inside = cgroup.lines().any(|line| {
        line.rsplit('/').next().is_some_and(|last| {
            last == container_id
                || last.strip_prefix("docker-").and_then(|rest| rest.strip_suffix(".scope"))
                    == Some(container_id)
        })
    });
    if !inside || !process.is_alive() {
        return Err(io::Error::other(format!("process {pid} is not in the container's cgroup")));
    }
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_stranger_is_dropped_and_the_folder_goes_with_its_owner() {
        let state = tempfile::tempdir().expect("a directory");
        let uid = nix::unistd::getuid().as_raw();
        let (folder, listener) = SocketFolder::create(state.path(), "ab12", uid).expect("a folder");
        let path = folder.path().to_path_buf();
        let accepting = crate::tasks::Tasks::new()
            .spawn(async move { accept(listener, &"f".repeat(64)).await });
        let stranger = UnixStream::connect(path.join("agent.sock")).await.expect("connected");
        let closed = async {
            let mut byte = [0];
            loop {
                stranger.readable().await.expect("readable");
                match stranger.try_read(&mut byte) {
                    Ok(read) => return read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return 0,
                }
            }
        };
        let read = tokio::time::timeout(Duration::from_secs(10), closed).await.expect("closed");
        assert_eq!(read, 0);
        assert!(!accepting.is_finished());
        accepting.abort();
        drop(folder);
        assert!(!path.exists());
    }
}
