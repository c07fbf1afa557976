//! Whether a folder is the one that the operator meant, and answers.
//!
//! A file system that is unmounted leaves the empty folder that it was mounted on, on the file system around it. So it is noted on which
//! file system the share was seen, by the topmost folder of that; one seen on a file system further out is absent.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

/// What was seen of one folder.
#[derive(Debug)]
pub struct Sight {
    /// The topmost folder of its file system, the innermost ever seen.
    top: Arc<Mutex<Option<PathBuf>>>,
    /// One look at a time: those that hang must not pile up.
    turn: Arc<Semaphore>,
}

impl Default for Sight {
    fn default() -> Sight {
        Sight { top: Arc::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Sight {
    /// Whether it is there, and answers within this time.
    pub async fn look(&self, path: &Path, within: Duration) -> bool {
        let look = async {
            // Never closed.
            let turn = self.turn.clone().acquire_owned().await;
            let (path, top) = (path.to_owned(), self.top.clone());
            let looking = tokio::task::spawn_blocking(move || {
                // Held by the thread, which may hang longer than anybody waits.
                let _turn = turn;
                let mut top = top.lock().unwrap_or_else(PoisonError::into_inner);
                is_there(&path, &mut top)
            });
            looking.await.unwrap_or(false)
        };
        tokio::time::timeout(within, look).await.unwrap_or(false)
    }
}

/// Whether the folder is reached without links, and on the file system that it was seen on.
fn is_there(path: &Path, seen: &mut Option<PathBuf>) -> bool {
    if path.canonicalize().is_ok_and(|resolved| resolved != path) || !path.is_dir() {
        return false;
    }
    let Some(top) = top_of(path) else { return false };
    match seen {
        Some(seen) if !top.starts_with(&*seen) => false,
        _ => {
            *seen = Some(top);
            true
        }
    }
}

/// The topmost folder of the file system that a folder is on.
fn top_of(path: &Path) -> Option<PathBuf> {
    let device = |path: &Path| path.metadata().ok().map(|facts| facts.dev());
    let own = device(path)?;
    let on_it = path.ancestors().take_while(|above| device(above) == Some(own));
    on_it.last().map(Path::to_owned)
}

/// A path without links, as far as it is there.
pub fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for above in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            // Joining nothing would add a slash.
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_gone_or_became_a_link_or_a_file_is_absent() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().canonicalize().expect("there").join("data");
        let mut seen = None;
        assert!(!is_there(&path, &mut seen));
        std::fs::create_dir(&path).expect("made");
        assert!(is_there(&path, &mut seen));
        std::fs::remove_dir(&path).expect("removed");
        std::fs::write(&path, "").expect("written");
        assert!(!is_there(&path, &mut seen));
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/etc", &path).expect("linked");
        assert!(!is_there(&path, &mut seen));
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        assert!(is_there(&path, &mut seen));
    }

    #[test]
    fn a_folder_seen_on_a_mount_is_absent_on_the_file_system_around_it() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().canonicalize().expect("there");
        let top = top_of(&path).expect("there");
        assert!(path.starts_with(&top));
        // As it is when its own mount has gone: seen further in than it is now.
        let mut seen = Some(path.join("mounted-here-before"));
        assert!(!is_there(&path, &mut seen));
        // And when one is mounted that was not at the start.
        let mut seen = Some(PathBuf::from("/"));
        assert!(is_there(&path, &mut seen));
        assert_eq!(seen, Some(top));
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_an_absent_folder_and_does_not_pile_up() {
        let sight = Sight::default();
        let hanging = sight.turn.clone().try_acquire_owned().expect("nobody looks");
        assert!(!sight.look(Path::new("/"), Duration::from_millis(10)).await);
        drop(hanging);
        assert!(sight.look(Path::new("/"), Duration::from_secs(60)).await);
    }

    #[test]
    fn what_is_not_there_is_resolved_as_far_as_it_is() {
        let place = tempfile::tempdir().expect("a folder");
        let real = place.path().canonicalize().expect("there");
        std::os::unix::fs::symlink(&real, real.join("link")).expect("linked");
        assert_eq!(resolved(&real.join("link/a/b")), real.join("a/b"));
        assert_eq!(resolved(&real.join("link")), real);
    }
}
