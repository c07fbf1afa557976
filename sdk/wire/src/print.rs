//! PRINT: bytes one input wrote to stdout or stderr.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::frame::{Frame, Kind};
use crate::{WireError, malformed};

const FIXED: usize = 16;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// Bytes that one attempt of one input wrote, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    /// The input.
    pub index: u64,
    /// Its attempt.
    pub attempt: u32,
    /// Where it wrote them.
    pub stream: Stream,
    /// What it wrote.
    pub bytes: Bytes,
}

impl Print {
    /// Reads the body of a PRINT frame.
    pub fn decode(mut body: Bytes) -> Result<Print, WireError> {
        if body.len() < FIXED {
            return Err(malformed("PRINT", "shorter than its fixed part"));
        }
        let index = body.get_u64_le();
        let attempt = body.get_u32_le();
        let stream = match body.get_u8() {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(malformed("PRINT", "unknown stream")),
        };
        body.advance(3);
        Ok(Print { index, attempt, stream, bytes: body })
    }

    /// The PRINT frame.
    pub fn to_frame(&self) -> Frame {
        let mut body = BytesMut::with_capacity(FIXED + self.bytes.len());
        body.put_u64_le(self.index);
        body.put_u32_le(self.attempt);
        body.put_u8(self.stream as u8);
        body.put_bytes(0, 3);
        body.put_slice(&self.bytes);
        Frame::new(Kind::Print, body.freeze())
    }
}
