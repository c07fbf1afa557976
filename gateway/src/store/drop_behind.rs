//! Keeps what was spilled and will hardly be read again out of the machine's memory.
//!
//! **Problem.** What is written to a file lies in the page cache until the kernel needs the memory. A call with 1 GiB of outputs so
//! takes 1 GiB from the files that programs on this machine read again and again, and memory that nobody had touched for a while is
//! slow: on a virtual machine whose host had taken it back, it took two thirds of the time of such a call.
//!
//! **What is done.** A thread asks the kernel to write a file out when [`LATER`] more bytes have come, and to drop it when [`WRITTEN`] more
//! are on their way to the disk; all that is left, when nothing has come for [`REST`]. So the outputs of most calls are written when the call
//! has ended. `POSIX_FADV_DONTNEED` does both: it drops what is on the disk, and begins to write what is not.
//!
//! **When it fails.** Nobody waits for the thread. Where the disk is slower than the calls, files it has no room for, or that are not on
//! the disk by then, stay in memory as long as the kernel likes. A file that was removed meanwhile takes no memory any more.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// How much stays as it was written, in bytes.
const LATER: u64 = 128 << 20;
/// How much is on its way to the disk, in bytes, before the oldest of it is dropped.
const WRITTEN: u64 = 32 << 20;
/// After so long without another file, all are written and dropped.
const REST: Duration = Duration::from_secs(1);
/// Files that wait for the thread.
const QUEUE: usize = 1024;

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub struct DropBehind(SyncSender<Written>);

/// A file.
#[derive(Debug)]
struct Written {
    path: PathBuf,
    bytes: u64,
}

/// Files, the oldest first, and how many bytes they have.
#[derive(Debug, Default)]
struct Line {
    files: VecDeque<Written>,
    bytes: u64,
}

impl DropBehind {
    /// Starts the thread.
    pub fn start() -> io::Result<DropBehind> {
        let (sender, files) = sync_channel(QUEUE);
        thread::Builder::new().name("drop-behind".into()).spawn(move || run(&files))?;
        Ok(DropBehind(sender))
    }

    /// This file of so many bytes, which is written, need not stay in memory. Returns at once.
    pub fn file(&self, path: PathBuf, bytes: u64) {
        // Without room for it, it stays as it is.
        let _ = self.0.try_send(Written { path, bytes });
    }
}

impl Line {
    fn push(&mut self, file: Written) {
        self.bytes += file.bytes;
        self.files.push_back(file);
    }

    /// The oldest, while there are more bytes than `most`.
    fn over(&mut self, most: u64) -> Option<Written> {
        let file = if self.bytes > most { self.files.pop_front() } else { None };
        self.bytes -= file.as_ref().map_or(0, |file| file.bytes);
        file
    }
}

fn run(files: &Receiver<Written>) {
    let (mut later, mut written) = (Line::default(), Line::default());
    loop {
        let next = match later.files.is_empty() && written.files.is_empty() {
            true => files.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => files.recv_timeout(REST),
        };
        let (most_later, most_written) = match next {
            Ok(file) => {
                later.push(file);
                (LATER, WRITTEN)
            }
            // What is begun now is dropped after another rest.
            Err(RecvTimeoutError::Timeout) => (0, 0),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(file) = written.over(most_written) {
            not_needed(&file);
        }
        while let Some(file) = later.over(most_later) {
            not_needed(&file);
            written.push(file);
        }
    }
}

/// Advice only: a file that is gone takes no memory, and a file system that does not take it keeps the file in memory.
fn not_needed(file: &Written) {
    let Ok(file) = File::open(&file.path) else { return };
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::path::Path;
    use std::time::Instant;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::*;

    /// Whether its first bytes are in memory.
    fn is_in_memory(path: &Path) -> bool {
        let file = File::open(path).expect("there");
        let mut byte = [0];
        let bytes = &mut [IoSliceMut::new(&mut byte)];
        match preadv2(&file, bytes, 0, ReadWriteFlags::NOWAIT) {
            Ok(count) => count == 1,
            Err(Errno::AGAIN) => false,
            Err(error) => panic!("only a file system on a disk can say: {error}"),
        }
    }

    #[test]
    fn the_oldest_files_leave_a_line_that_is_too_long() {
        let mut line = Line::default();
        let file = |name: &str, bytes| Written { path: name.into(), bytes };
        [file("a", 5), file("b", 7), file("c", 1)].into_iter().for_each(|file| line.push(file));
        let mut over = |most| line.over(most).map(|file| file.path);
        assert_eq!(over(13), None);
        assert_eq!(over(8), Some("a".into()));
        assert_eq!(over(8), None);
        assert_eq!((over(0), over(0), over(0)), (Some("b".into()), Some("c".into()), None));
    }

    #[test]
    fn a_file_leaves_memory_and_its_neighbour_stays() {
        // The folder for temporary files may itself be in memory.
        let program = std::env::current_exe().expect("this one");
        let folder = tempfile::tempdir_in(program.parent().expect("its folder")).expect("temp dir");
        let (seldom, soon) = (folder.path().join("seldom"), folder.path().join("soon"));
        for path in [&seldom, &soon] {
            std::fs::write(path, vec![7; 1 << 20]).expect("there is room");
            assert!(is_in_memory(path));
        }
        let drop_behind = DropBehind::start().expect("a thread");
        drop_behind.file(folder.path().join("removed"), 1 << 20);
        drop_behind.file(seldom.clone(), 1 << 20);
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_in_memory(&seldom) {
            assert!(Instant::now() < deadline, "it is still in memory");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(is_in_memory(&soon));
        assert_eq!(std::fs::read(&seldom).expect("on the disk"), vec![7; 1 << 20]);
    }
}
