//! Keeps what was spilled and will hardly be read again out of the machine's memory.
//!
//! **Problem.** What is written to a file lies in the page cache until the kernel needs the memory. A call with 1 GiB of outputs so
//! takes 1 GiB from the files that programs on this machine read again and again, and memory that nobody had touched for a while is
//! slow: on a virtual machine whose host had taken it back, it took two thirds of the time of such a call.
//!
//! **What is done.** A thread asks the kernel to begin to write a file out, and when [`BEHIND`] more bytes have come, or nothing for
//! [`REST`], to drop it. `POSIX_FADV_DONTNEED` does both: it drops what is on the disk, and begins to write what is not.
//!
//! **When it fails.** Nobody waits for the thread. Where the disk is slower than the calls, files it has no room for, or that are not on
//! the disk by then, stay in memory as long as the kernel likes. A file that was removed meanwhile takes no memory any more.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// How much is being written out, in bytes, before the oldest of it is dropped.
const BEHIND: u64 = 32 << 20;
/// After so long without another file all are dropped.
const REST: Duration = Duration::from_secs(1);
/// Files that wait for the thread.
const QUEUE: usize = 1024;

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub struct DropBehind(SyncSender<PathBuf>);

impl DropBehind {
    /// Starts the thread.
    pub fn start() -> io::Result<DropBehind> {
        let (sender, files) = sync_channel(QUEUE);
        thread::Builder::new().name("drop-behind".into()).spawn(move || run(&files))?;
        Ok(DropBehind(sender))
    }

    /// This file, which is written, need not stay in memory. Returns at once.
    pub fn file(&self, path: PathBuf) {
        // Without room for it, it stays as it is.
        let _ = self.0.try_send(path);
    }
}

fn run(files: &Receiver<PathBuf>) {
    let mut behind = VecDeque::new();
    let mut bytes = 0;
    loop {
        let next = match behind.is_empty() {
            true => files.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => files.recv_timeout(REST),
        };
        let most = match next {
            Ok(path) => {
                if let Ok((file, length)) = begin(&path) {
                    behind.push_back((file, length));
                    bytes += length;
                }
                BEHIND
            }
            Err(RecvTimeoutError::Timeout) => 0,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while bytes > most
            && let Some((file, length)) = behind.pop_front()
        {
            bytes -= length;
            not_needed(&file);
        }
    }
}

/// The file and its length, on its way to the disk.
fn begin(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    not_needed(&file);
    Ok((file, length))
}

fn not_needed(file: &File) {
    // Advice: a file system that does not take it keeps the file in memory.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
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
        drop_behind.file(folder.path().join("removed"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_in_memory(&seldom) {
            assert!(Instant::now() < deadline, "it is still in memory");
            drop_behind.file(seldom.clone());
            thread::sleep(REST + Duration::from_millis(100));
        }
        assert!(is_in_memory(&soon));
        assert_eq!(std::fs::read(&seldom).expect("on the disk"), vec![7; 1 << 20]);
    }
}
