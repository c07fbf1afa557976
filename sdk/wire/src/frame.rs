//! Frames: a 16-byte header and a body (PROTOCOL.md section 2).
//!
//! A `Frame` has its body in one buffer; a `Frame<Pieces>` has it as it came, for those who pass it on.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::WireError;
use crate::pieces::{Gather, Pieces};

/// Bytes of a frame's header.
pub const HEADER: usize = 16;

/// What a frame is (PROTOCOL.md section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// JSON: the call.
    Spec = 1,
    /// The function's bytes.
    Function = 2,
    /// A batch of inputs.
    Inputs = 3,
    /// No inputs at or past an index.
    InputsEnd = 4,
    /// A batch of outputs.
    Outputs = 5,
    /// Bytes an input wrote to stdout or stderr.
    Print = 6,
    /// JSON: an event of a call that is neither output nor print.
    Event = 7,
    /// Inputs whose outputs the client has.
    Skip = 8,
    /// How many workers a call may have on this host.
    Workers = 16,
    /// How much the agent is willing to have received.
    Demand = 17,
    /// JSON: the workers of a call on this host.
    WorkerStatus = 18,
    /// JSON: a host's capacity, slots and images.
    HostStatus = 19,
    /// What inputs cost.
    Receipt = 20,
    /// JSON: secrets of the call's owner, by name.
    Secrets = 21,
    /// How many bytes of a call's response the gateway has taken for good.
    Taken = 22,
    /// JSON: what an agent holds of a call whose connection broke.
    Held = 23,
    /// JSON: who speaks.
    Hello = 32,
    /// JSON: start a runner; carries descriptors.
    Start = 33,
    /// JSON: how the runner ended.
    Exit = 34,
    /// A signal for the runner.
    Signal = 35,
    /// Records of results from a runner.
    Results = 36,
}

impl Kind {
    /// The kind with this number, if this version knows it.
    pub fn from_u8(number: u8) -> Option<Kind> {
        use Kind::*;
        Some(match number {
            1 => Spec,
            2 => Function,
            3 => Inputs,
            4 => InputsEnd,
            5 => Outputs,
            6 => Print,
            7 => Event,
            8 => Skip,
            16 => Workers,
            17 => Demand,
            18 => WorkerStatus,
            19 => HostStatus,
            20 => Receipt,
            21 => Secrets,
            22 => Taken,
            23 => Held,
            32 => Hello,
            33 => Start,
            34 => Exit,
            35 => Signal,
            36 => Results,
            _ => return None,
        })
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<B = Bytes> {
    /// What it is.
    pub kind: Kind,
    /// Number of its first event, or 0 outside an event log.
    pub seq: u64,
    /// Its body.
    pub body: B,
}

impl<B: Buf> Frame<B> {
    /// The header's bytes; a sender that can write vectors sends these and then the body, uncopied.
    pub fn header(&self) -> [u8; HEADER] {
        header(self.kind, self.seq, self.body.remaining())
    }

    /// Bytes of the frame on the wire.
    pub fn wire_len(&self) -> usize {
        HEADER + self.body.remaining()
    }
}

impl Frame<Pieces> {
    /// The same frame with its body in one buffer.
    pub fn joined(&self) -> Frame {
        Frame { kind: self.kind, seq: self.seq, body: self.body.joined() }
    }

    /// Appends header and body to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.wire_len());
        out.put_slice(&self.header());
        self.body.iter().for_each(|piece| out.put_slice(piece));
    }
}

impl From<Frame> for Frame<Pieces> {
    fn from(Frame { kind, seq, body }: Frame) -> Frame<Pieces> {
        Frame { kind, seq, body: body.into() }
    }
}

impl Frame {
    /// A frame outside an event log.
    pub fn new(kind: Kind, body: impl Into<Bytes>) -> Frame {
        Frame { kind, seq: 0, body: body.into() }
    }

    /// A frame whose body is one little-endian `u32` (WORKERS, SIGNAL).
    pub fn of_u32(kind: Kind, value: u32) -> Frame {
        Frame::new(kind, value.to_le_bytes().to_vec())
    }

    /// A frame whose body is one little-endian `u64` (INPUTS_END, TAKEN).
    pub fn of_u64(kind: Kind, value: u64) -> Frame {
        Frame::new(kind, value.to_le_bytes().to_vec())
    }

    /// The DEMAND frame: inputs and bytes of inputs, both counted since the stream began.
    pub fn demand(inputs: u64, bytes: u64) -> Frame {
        let mut body = BytesMut::with_capacity(16);
        body.put_u64_le(inputs);
        body.put_u64_le(bytes);
        Frame::new(Kind::Demand, body.freeze())
    }

    /// The body as one `u32`.
    pub fn as_u32(&self) -> Result<u32, WireError> {
        let bytes: [u8; 4] = self.body[..]
            .try_into()
            .map_err(|_| crate::malformed("number", "the body is not 4 bytes"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The body as one `u64`.
    pub fn as_u64(&self) -> Result<u64, WireError> {
        let bytes: [u8; 8] = self.body[..]
            .try_into()
            .map_err(|_| crate::malformed("number", "the body is not 8 bytes"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The body as two numbers: DEMAND (inputs, bytes) and SKIP (first, count).
    pub fn as_two_u64(&self) -> Result<(u64, u64), WireError> {
        if self.body.len() != 16 {
            return Err(crate::malformed("DEMAND or SKIP", "the body is not 16 bytes"));
        }
        let mut body = &self.body[..];
        Ok((body.get_u64_le(), body.get_u64_le()))
    }

    /// Appends header and body to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(HEADER + self.body.len());
        out.put_slice(&self.header());
        out.put_slice(&self.body);
    }

    /// Header and body in one buffer.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER + self.body.len());
        self.encode(&mut out);
        out.freeze()
    }
}

/// The header of a frame with a body of `len` bytes.
pub fn header(kind: Kind, seq: u64, len: usize) -> [u8; HEADER] {
    let len = u32::try_from(len).expect("bodies are checked against MAX_ITEM where they are made");
    let mut out = [0; HEADER];
    out[..4].copy_from_slice(&len.to_le_bytes());
    out[4] = kind as u8;
    out[8..].copy_from_slice(&seq.to_le_bytes());
    out
}

/// Cuts a stream of bytes into frames. Feed it with [`push`](Decoder::push), then take frames until there is none.
#[derive(Debug)]
pub struct Decoder {
    buffer: Gather,
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    len: usize,
    number: u8,
    seq: u64,
}

/// What a reader reads at once: at least, and where more is known to come, at most.
const READ: usize = 64 << 10;
const READ_MORE: usize = 512 << 10;

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new(crate::MAX_FRAME)
    }
}

impl Decoder {
    /// A decoder that refuses bodies over `limit` bytes.
    pub fn new(limit: usize) -> Decoder {
        Decoder { buffer: Gather::default(), limit }
    }

    /// Adds bytes as they came, by copying them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.copy(bytes);
    }

    /// Adds bytes as they came; many are not copied.
    pub fn give(&mut self, bytes: Bytes) {
        self.buffer.push(bytes);
    }

    /// Room at the end, for readers that read straight into it: as much as is of use.
    pub fn room(&mut self) -> &mut BytesMut {
        let wanted = self.head().map_or(0, |head| HEADER + head.len);
        let missing = wanted.saturating_sub(self.buffer.len());
        self.buffer.room(missing.clamp(READ, READ_MORE))
    }

    /// Whether the stream may end here: nothing of a frame is left over.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What is left over.
    pub fn rest(self) -> Bytes {
        self.buffer.finish().joined()
    }

    /// The next whole frame, in one buffer; `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        Ok(self.next_in_pieces()?.map(|frame| frame.joined()))
    }

    /// The next whole frame, as it came; `None` when more bytes are needed.
    pub fn next_in_pieces(&mut self) -> Result<Option<Frame<Pieces>>, WireError> {
        while let Some(Head { len, number, seq }) = self.head() {
            if len > self.limit {
                return Err(WireError::TooLong { len, limit: self.limit });
            }
            let kind = Kind::from_u8(number);
            if kind.is_none() && number < 128 {
                return Err(WireError::UnknownKind(number));
            }
            let Some(bytes) = self.buffer.first(HEADER + len) else { return Ok(None) };
            bytes.advance(HEADER);
            let body = bytes.split_to(len);
            if let Some(kind) = kind {
                return Ok(Some(Frame { kind, seq, body }));
            }
        }
        Ok(None)
    }

    /// The header of the frame that is coming, not checked.
    fn head(&mut self) -> Option<Head> {
        let bytes = self.buffer.first(HEADER)?;
        let mut head = match bytes.chunk() {
            whole if whole.len() >= HEADER => whole,
            _ => &bytes.clone().cut(HEADER)[..],
        };
        let len = head.get_u32_le() as usize;
        let number = head.get_u8();
        head.advance(3);
        Some(Head { len, number, seq: head.get_u64_le() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_cut_anywhere_comes_out_whole() {
        let frame = Frame { kind: Kind::Print, seq: 7, body: Bytes::from_static(b"hello") };
        let bytes = frame.to_bytes();
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            decoder.push(&bytes[..cut]);
            if cut < bytes.len() {
                assert_eq!(decoder.next_frame(), Ok(None));
            }
            decoder.push(&bytes[cut..]);
            assert_eq!(decoder.next_frame(), Ok(Some(frame.clone())));
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_the_body_comes() {
        let mut decoder = Decoder::new(10);
        decoder.push(&header(Kind::Event, 0, 11));
        assert_eq!(decoder.next_frame(), Err(WireError::TooLong { len: 11, limit: 10 }));
    }

    #[test]
    fn unknown_kinds_are_skipped_from_128_on_and_refused_below() {
        let mut bytes = BytesMut::new();
        let mut strange = header(Kind::Event, 0, 2);
        strange[4] = 200;
        bytes.put_slice(&strange);
        bytes.put_slice(b"??");
        Frame::of_u32(Kind::Workers, 3).encode(&mut bytes);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::of_u32(Kind::Workers, 3))));
        strange[4] = 99;
        decoder.push(&strange);
        assert_eq!(decoder.next_frame(), Err(WireError::UnknownKind(99)));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_their_bytes_come(
            sizes in prop::collection::vec(prop_oneof![0usize..50, 10_000usize..80_000], 1..6),
            cuts in prop::collection::vec(1usize..40_000, 1..20),
        ) {
            let frames: Vec<Frame> = sizes
                .iter()
                .zip(1u64..)
                .map(|(&size, seq)| Frame { kind: Kind::Outputs, seq, body: vec![seq as u8; size].into() })
                .collect();
            let mut bytes = BytesMut::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            let (mut decoder, mut back, mut turn) = (Decoder::default(), Vec::new(), 0);
            let mut bytes = bytes.freeze();
            while !bytes.is_empty() {
                let part = bytes.split_to(cuts[turn % cuts.len()].min(bytes.len()));
                match turn % 3 {
                    0 => decoder.give(part),
                    1 => decoder.push(&part),
                    _ => decoder.room().extend_from_slice(&part),
                }
                turn += 1;
                while let Some(frame) = decoder.next_in_pieces().expect("own frames") {
                    back.push(frame.joined());
                }
            }
            prop_assert!(decoder.is_empty());
            prop_assert_eq!(back, frames);
        }

        #[test]
        fn any_bytes_give_frames_or_an_error_but_never_a_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(1 << 16);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
