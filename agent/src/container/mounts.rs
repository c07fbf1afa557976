//! Read-only folders and files of the host that a container sees although it was started before anybody knew of them: the
//! packages of a call, its data.
//!
//! Each container is made with one mount of ours, a folder of its own, which is empty; what the agent mounts there later
//! appears in the running container. For that the folders of all containers lie on a small file system that is *shared*
//! (mounts in it spread), while the containers are its *slaves* (they receive mounts, and send none).
//!
//! ```text
//!   STATE_DIR/mnt            tmpfs, shared: only empty folders
//!     .stage                 tmpfs, private: where a mount is made read-only before anybody sees it
//!     WORKER/NAME            what a claim mounted ──── spreads to ────▶ /.muster/mnt/NAME in that container
//! ```
//!
//! A mount spreads with the flags that it has at that moment, and later changes of its flags do not; so it is made in
//! `.stage`, made read-only there, and only then moved to its place.
//!
//! When parts fail: a mount fails: the claim fails, and what was mounted goes with the worker. The container dies: its own
//! mounts go with its namespace, ours when the worker is removed. The agent is killed: the next one takes the whole tree
//! away before it makes its own.
//!
//! Not here: what is mounted, and how long its owner keeps it; a [`Source`] is held as long as a worker sees it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The folder below the state directory.
const FOLDER: &str = "mnt";
const STAGE: &str = ".stage";
/// Folders and empty files only.
const TMPFS: &str = "size=4m,mode=0755";
const READ_ONLY: MsFlags =
    MsFlags::MS_RDONLY.union(MsFlags::MS_NOSUID).union(MsFlags::MS_NODEV).union(MsFlags::MS_BIND);

/// A folder or file to mount. Held while a worker sees it, so its owner can tell that it is in use.
pub type Source = Arc<dyn AsRef<Path> + Send + Sync>;

/// Where this agent mounts what its workers are to see.
#[derive(Debug)]
pub struct Mounts {
    root: PathBuf,
}

/// One worker's folder. Dropping it unmounts what is there.
pub struct MountFolder {
    path: PathBuf,
    stage: PathBuf,
    held: Vec<Source>,
}

impl Mounts {
    /// Takes away what an earlier agent left, and makes the file system.
    pub fn open(state_dir: &Path) -> io::Result<Mounts> {
        let mounts = Mounts { root: state_dir.join(FOLDER) };
        mounts.close()?;
        std::fs::create_dir_all(&mounts.root)?;
        tmpfs(&mounts.root, MsFlags::MS_SHARED)?;
        let stage = mounts.root.join(STAGE);
        std::fs::create_dir(&stage)?;
        tmpfs(&stage, MsFlags::MS_PRIVATE)?;
        Ok(mounts)
    }

    /// Takes everything away, whoever made it.
    pub fn close(&self) -> io::Result<()> {
        loop {
            match detach(&self.root) {
                Ok(()) => {}
                // Not mounted, or not there.
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match std::fs::remove_dir(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// An empty folder for the worker of this name.
    pub fn folder(&self, short: &str) -> io::Result<MountFolder> {
        let path = self.root.join(short);
        std::fs::create_dir(&path)?;
        Ok(MountFolder { path, stage: self.root.join(STAGE), held: Vec::new() })
    }
}

impl MountFolder {
    /// Where it is on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something is mounted under this name.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Mounts `source` read-only under this name, a single path component; a container of this folder sees it at once.
    pub fn mount(&mut self, name: &str, source: Source) -> io::Result<()> {
        let from = (*source).as_ref();
        let (staged, target) = (self.stage.join(rand_name()), self.path.join(name));
        for place in [&staged, &target] {
            match from.is_dir() {
                true => std::fs::create_dir(place)?,
                false => drop(File::create_new(place)?),
            }
        }
        let made = bind(from, &staged, MsFlags::MS_BIND)
            .and_then(|()| bind(from, &staged, MsFlags::MS_REMOUNT | READ_ONLY))
            .and_then(|()| bind(&staged, &target, MsFlags::MS_MOVE));
        if made.is_err() {
            // Not mounted where the first step failed.
            let _ = detach(&staged);
        }
        remove(&staged)?;
        made?;
        self.held.push(source);
        Ok(())
    }
}

impl Drop for MountFolder {
    fn drop(&mut self) {
        let left = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let gone = left.map(|entry| entry.path()).try_for_each(|place| {
            match detach(&place) {
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(error) => return Err(error.into()),
            }
            remove(&place)
        });
        match gone.and_then(|()| std::fs::remove_dir(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.path.display(), %error, "mounts not removed");
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for MountFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountFolder")
            .field("path", &self.path)
            .field("mounted", &self.held.len())
            .finish()
    }
}

fn tmpfs(at: &Path, propagation: MsFlags) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("muster"), at, Some("tmpfs"), flags, Some(TMPFS))?;
    // A parent that is shared makes its children shared, one that is not does not.
    mount(None::<&str>, at, None::<&str>, propagation, None::<&str>)?;
    Ok(())
}

fn bind(from: &Path, to: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
}

/// Whoever still uses it keeps it; nobody finds it any more.
fn detach(at: &Path) -> nix::Result<()> {
    umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}

fn remove(place: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(place)?.is_dir() {
        true => std::fs::remove_dir(place),
        false => std::fs::remove_file(place),
    }
}

fn rand_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}
