//! Frames over a blocking socket.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;

use muster_wire::WireError;
use muster_wire::frame::{Decoder, Frame, HEADER};

/// What one read takes at most, in bytes, unless a frame is known to be larger.
const CHUNK: usize = 64 << 10;

/// A protocol error as an I/O error: there is nobody to handle it otherwise than by ending.
pub fn invalid(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The next frame, or `None` at the end of the stream.
pub fn read(stream: &mut UnixStream, decoder: &mut Decoder) -> io::Result<Option<Frame>> {
    let mut chunk = [0; CHUNK];
    loop {
        if let Some(frame) = decoder.next_frame().map_err(invalid)? {
            return Ok(Some(frame));
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(count) => decoder.push(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a frame, its body uncopied.
pub fn write(stream: &mut UnixStream, frame: &Frame) -> io::Result<()> {
    write_parts(stream, &frame.header(), &frame.body)
}

/// Writes a header and a body.
pub fn write_parts(stream: &mut UnixStream, header: &[u8; HEADER], body: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(header), IoSlice::new(body)];
    let mut slices = &mut slices[..];
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
