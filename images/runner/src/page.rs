//! The runner's side of the shared page (PROTOCOL.md section 6.3), through reads and writes of its descriptor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use bytes::Buf;
use muster_wire::page as at;

use crate::sys;

/// How far the two pipes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub out: u64,
    pub err: u64,
}

/// The shared page.
pub struct Page {
    file: File,
    state_seq: u64,
    epoch: u64,
}

impl Page {
    pub fn new(file: File) -> Page {
        Page { file, state_seq: 0, epoch: 0 }
    }

    /// How many bytes were written into the two pipes since they were made: what the agent has read, and what still waits.
    pub fn written(&self, out: &impl AsRawFd, err: &impl AsRawFd) -> io::Result<Written> {
        loop {
            let [seq, out_read, err_read] = self.counts()?;
            let written = Written {
                out: out_read + sys::waiting_bytes(out)?,
                err: err_read + sys::waiting_bytes(err)?,
            };
            if seq.is_multiple_of(2) && self.counts()?[0] == seq {
                return Ok(written);
            }
            // The agent is in the middle of a read, which takes microseconds.
            std::thread::yield_now();
        }
    }

    /// Says that this input runs from now on.
    pub fn begin(&mut self, index: u64, start: Written) -> io::Result<()> {
        self.state([index, start.out, start.err, 1])
    }

    /// Says that no input runs.
    pub fn end(&mut self, index: u64, end: Written) -> io::Result<()> {
        self.state([index, end.out, end.err, 0])
    }

    /// Adds bytes to pending, which has `len` bytes so far.
    pub fn append_pending(&self, len: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, (at::PENDING + len) as u64)?;
        self.put(at::PENDING_LEN, &[(len + bytes.len()) as u64])
    }

    /// Empties pending.
    pub fn clear_pending(&mut self) -> io::Result<()> {
        self.epoch += 1;
        self.put(at::PENDING_EPOCH, &[self.epoch, 0])
    }

    fn state(&mut self, words: [u64; 4]) -> io::Result<()> {
        self.put(at::STATE_SEQ, &[self.state_seq + 1])?;
        self.put(at::INDEX, &words)?;
        self.state_seq += 2;
        self.put(at::STATE_SEQ, &[self.state_seq])
    }

    fn counts(&self) -> io::Result<[u64; 3]> {
        let mut bytes = [0; 24];
        self.file.read_exact_at(&mut bytes, at::READ_SEQ as u64)?;
        let mut words = &bytes[..];
        Ok([words.get_u64_le(), words.get_u64_le(), words.get_u64_le()])
    }

    fn put(&self, offset: usize, words: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.file.write_all_at(&bytes, offset as u64)
    }
}
