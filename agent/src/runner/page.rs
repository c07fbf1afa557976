//! The page shared with a runner (PROTOCOL.md section 6.3). The only file of the agent with unsafe code.
//!
//! The other side is hostile: it may write any word at any time. So every access is atomic, no length is believed, and a
//! look that does not settle is given up. The memory cannot shrink under us: its size is sealed.

#![allow(unsafe_code, reason = "shared memory is a raw pointer; `word` proves every access")]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;
use muster_wire::page as at;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

/// How often a look is tried before it is given up.
const TRIES: usize = 1000;

/// What the runner says it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Changes with every input.
    pub seq: u64,
    /// The input; `None` between inputs.
    pub index: Option<u64>,
}

/// One runner's page.
#[derive(Debug)]
pub struct Page {
    map: MmapRaw,
    out_read: u64,
    err_read: u64,
}

impl Page {
    /// A page, and the descriptor that the runner gets.
    pub fn new() -> std::io::Result<(Page, OwnedFd)> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(c"muster-page", flags)?;
        ftruncate(&fd, at::SIZE as i64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        let map = MmapRaw::map_raw(&fd)?;
        Ok((Page { map, out_read: 0, err_read: 0 }, fd))
    }

    /// Makes a read and counts it, so that the runner never sees the one without the other. `read` says how many bytes it
    /// took from stdout and from stderr.
    pub fn count<R>(&mut self, read: impl FnOnce() -> (R, u64, u64)) -> R {
        let seq = self.word(at::READ_SEQ).load(Ordering::Relaxed) | 1;
        self.word(at::READ_SEQ).store(seq.to_le(), Ordering::SeqCst);
        let (result, out, err) = read();
        self.out_read += out;
        self.err_read += err;
        self.word(at::OUT_READ).store(self.out_read.to_le(), Ordering::SeqCst);
        self.word(at::ERR_READ).store(self.err_read.to_le(), Ordering::SeqCst);
        self.word(at::READ_SEQ).store(seq.wrapping_add(1).to_le(), Ordering::SeqCst);
        result
    }

    /// What runs now; `None` when no consistent look was possible.
    pub fn running(&self) -> Option<Running> {
        for _ in 0..TRIES {
            let seq = self.read(at::STATE_SEQ);
            let index = self.read(at::INDEX);
            let running = self.read(at::RUNNING);
            if seq.is_multiple_of(2) && self.read(at::STATE_SEQ) == seq {
                return Some(Running { seq, index: (running == 1).then_some(index) });
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The records in pending, one after another: all of them, for where new ones begin cannot be known for sure while the
    /// runner empties it. `None` when there are none or no consistent look was possible.
    pub fn pending(&self) -> Option<Vec<u8>> {
        for _ in 0..TRIES {
            let epoch = self.read(at::PENDING_EPOCH);
            let len = usize::try_from(self.read(at::PENDING_LEN)).ok()?;
            if len == 0 || len > at::SIZE - at::PENDING {
                return None;
            }
            let bytes = self.copy(at::PENDING, len);
            if self.read(at::PENDING_EPOCH) == epoch {
                return Some(bytes);
            }
        }
        None
    }

    fn copy(&self, offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        for word in (offset..offset + len).step_by(8) {
            bytes.extend_from_slice(&self.word(word).load(Ordering::Relaxed).to_ne_bytes());
        }
        // Orders these loads before the second look at the epoch.
        std::sync::atomic::fence(Ordering::SeqCst);
        bytes.truncate(len);
        bytes
    }

    fn read(&self, offset: usize) -> u64 {
        u64::from_le(self.word(offset).load(Ordering::SeqCst))
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= at::SIZE, "offsets are inside the page");
        // SAFETY: the map is `SIZE` bytes long for as long as `self` lives (the file is sealed against shrinking, so no
        // access can fault), it begins at a page boundary and `offset` is a multiple of 8 (alignment), the assertion keeps
        // the word inside, and all accesses of ours are atomic. The other process is no Rust code; whatever it writes, a
        // `u64` has no invalid value.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast::<u64>()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn page() -> (Page, File) {
        let (page, fd) = Page::new().expect("memfd works");
        (page, File::from(fd))
    }

    fn put(file: &File, offset: usize, value: u64) {
        file.write_all_at(&value.to_le_bytes(), offset as u64).expect("write to a memfd");
    }

    #[test]
    fn reads_are_counted_where_the_runner_looks() {
        let (mut page, file) = page();
        page.count(|| ((), 5, 0));
        page.count(|| ((), 2, 9));
        let mut bytes = [0; 24];
        file.read_exact_at(&mut bytes, 0).expect("read a memfd");
        let word = |n: usize| u64::from_le_bytes(bytes[n..n + 8].try_into().expect("8 bytes"));
        assert_eq!((word(0) % 2, word(8), word(16)), (0, 7, 9));
    }

    #[test]
    fn a_state_that_never_settles_is_given_up() {
        let (page, file) = page();
        put(&file, at::STATE_SEQ, 3);
        assert_eq!(page.running(), None);
        put(&file, at::STATE_SEQ, 4);
        assert_eq!(page.running(), Some(Running { seq: 4, index: None }));
        put(&file, at::INDEX, 12);
        put(&file, at::RUNNING, 1);
        assert_eq!(page.running(), Some(Running { seq: 4, index: Some(12) }));
    }

    #[test]
    fn pending_is_copied_and_no_length_is_believed() {
        let (page, file) = page();
        assert_eq!(page.pending(), None);
        file.write_all_at(b"0123456789abc", at::PENDING as u64).expect("write");
        put(&file, at::PENDING_LEN, 13);
        assert_eq!(page.pending().as_deref(), Some(&b"0123456789abc"[..]));
        put(&file, at::PENDING_LEN, (at::SIZE - at::PENDING) as u64);
        assert_eq!(page.pending().map(|bytes| bytes.len()), Some(at::SIZE - at::PENDING));
        for len in [(at::SIZE - at::PENDING + 1) as u64, u64::MAX] {
            put(&file, at::PENDING_LEN, len);
            assert_eq!(page.pending(), None);
        }
    }

    #[test]
    fn the_runner_cannot_shrink_the_page() {
        let (_page, file) = page();
        assert!(file.set_len(10).is_err());
    }
}
