//! Batches of inputs and outputs: many small items in one body (PROTOCOL.md, INPUTS and OUTPUTS).
//!
//! A batch is split and joined without touching its items: lengths lie in one shared buffer, items in the pieces they came in.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::frame::{Frame, Kind};
use crate::pieces::{Gather, Pieces, SMALL};
use crate::{MAX_ITEM, WireError, malformed};

const FIXED: usize = 16;

/// The inputs `first .. first + count`, in order, all at one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Index of the first input.
    pub first: u64,
    /// The attempt of all of them, from 1; 0 from a client.
    pub attempt: u32,
    lengths: Bytes,
    items: Pieces,
}

impl Inputs {
    /// A batch made of these items.
    pub fn from_items<T: AsRef<[u8]>>(first: u64, attempt: u32, list: &[T]) -> Inputs {
        let mut lengths = BytesMut::with_capacity(list.len() * 4);
        let mut items = BytesMut::with_capacity(list.iter().map(|item| item.as_ref().len()).sum());
        for item in list {
            lengths.put_u32_le(item.as_ref().len() as u32);
            items.put_slice(item.as_ref());
        }
        Inputs { first, attempt, lengths: lengths.freeze(), items: items.freeze().into() }
    }

    /// One input, its bytes uncopied.
    pub fn single(index: u64, attempt: u32, item: Bytes) -> Inputs {
        let lengths = Bytes::copy_from_slice(&(item.len() as u32).to_le_bytes());
        Inputs { first: index, attempt, lengths, items: item.into() }
    }

    /// Reads the body of an INPUTS frame.
    pub fn decode(body: impl Into<Pieces>) -> Result<Inputs, WireError> {
        const WHAT: &str = "INPUTS";
        let mut body = body.into();
        if body.len() < FIXED {
            return Err(malformed(WHAT, "shorter than its fixed part"));
        }
        let first = body.get_u64_le();
        let attempt = body.get_u32_le();
        let count = body.get_u32_le() as usize;
        let lengths = take_lengths(WHAT, &mut body, count, 4)?;
        check_sum(WHAT, &lengths, body.len())?;
        if first.checked_add(count as u64).is_none() {
            return Err(malformed(WHAT, "indexes past 2^64"));
        }
        Ok(Inputs { first, attempt, lengths, items: body })
    }

    /// The INPUTS frame, in one buffer.
    pub fn to_frame(&self) -> Frame {
        self.in_pieces().joined()
    }

    /// The INPUTS frame; items that are many bytes are not copied.
    pub fn in_pieces(&self) -> Frame<Pieces> {
        let mut head = BytesMut::with_capacity(FIXED + self.lengths.len() + copied(&self.items));
        head.put_u64_le(self.first);
        head.put_u32_le(self.attempt);
        head.put_u32_le(self.len() as u32);
        head.put_slice(&self.lengths);
        Frame { kind: Kind::Inputs, seq: 0, body: followed_by(head, &self.items) }
    }

    /// How many inputs.
    pub fn len(&self) -> usize {
        self.lengths.len() / 4
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// One past the last index.
    pub fn end(&self) -> u64 {
        self.first + self.len() as u64
    }

    /// Bytes of the items.
    pub fn item_bytes(&self) -> usize {
        self.items.len()
    }

    /// Bytes of the longest item.
    pub fn longest(&self) -> usize {
        read_lengths(&self.lengths).max().unwrap_or(0)
    }

    /// Takes the first `count` inputs off (all, if there are fewer).
    pub fn split_to(&mut self, count: usize) -> Inputs {
        let count = count.min(self.len());
        let lengths = self.lengths.split_to(count * 4);
        let bytes = read_lengths(&lengths).sum();
        let items = self.items.split_to(bytes);
        let head = Inputs { first: self.first, attempt: self.attempt, lengths, items };
        self.first += count as u64;
        head
    }

    /// How many inputs from the front have at most `bytes` together; at least one, if there is one.
    pub fn count_within(&self, bytes: usize) -> usize {
        let mut sum = 0;
        for (count, length) in read_lengths(&self.lengths).enumerate() {
            sum += length;
            if sum > bytes {
                return count.max(1);
            }
        }
        self.len()
    }

    /// Joins batches that follow one another at one attempt, if they do.
    pub fn join(list: &[Inputs]) -> Option<Inputs> {
        let head = list.first()?;
        let mut next = head.first;
        let mut lengths = BytesMut::new();
        let mut items = Gather::default();
        for batch in list {
            if batch.first != next || batch.attempt != head.attempt {
                return None;
            }
            next = batch.end();
            lengths.put_slice(&batch.lengths);
            batch.items.iter().for_each(|piece| items.push(piece.clone()));
        }
        Some(Inputs {
            first: head.first,
            attempt: head.attempt,
            lengths: lengths.freeze(),
            items: items.finish(),
        })
    }

    /// The same inputs at another attempt.
    pub fn at_attempt(mut self, attempt: u32) -> Inputs {
        self.attempt = attempt;
        self
    }

    /// The items with their indexes, each in one buffer.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Bytes)> + '_ {
        let mut items = self.items.clone();
        read_lengths(&self.lengths)
            .enumerate()
            .map(move |(n, length)| (self.first + n as u64, items.cut(length)))
    }
}

/// How an input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It returned.
    Value = 0,
    /// The user's code raised.
    Exception = 1,
    /// It failed in a way that we name.
    Failure = 2,
}

impl Status {
    /// The status with this number.
    pub fn from_u8(number: u8) -> Option<Status> {
        Some(match number {
            0 => Status::Value,
            1 => Status::Exception,
            2 => Status::Failure,
            _ => return None,
        })
    }
}

/// The outputs of `first .. first + count`, in order, all of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// Index of the first output.
    pub first: u64,
    /// The attempt that gave them.
    pub attempt: u32,
    lengths: Bytes,
    status: Bytes,
    items: Pieces,
}

impl Outputs {
    /// Reads the body of an OUTPUTS frame.
    pub fn decode(body: impl Into<Pieces>) -> Result<Outputs, WireError> {
        const WHAT: &str = "OUTPUTS";
        let mut body = body.into();
        if body.len() < FIXED {
            return Err(malformed(WHAT, "shorter than its fixed part"));
        }
        let first = body.get_u64_le();
        let attempt = body.get_u32_le();
        let count = body.get_u32_le() as usize;
        let lengths = take_lengths(WHAT, &mut body, count, 5)?;
        let status = body.cut(count);
        if status.iter().any(|&number| Status::from_u8(number).is_none()) {
            return Err(malformed(WHAT, "unknown status"));
        }
        check_sum(WHAT, &lengths, body.len())?;
        if first.checked_add(count as u64).is_none() {
            return Err(malformed(WHAT, "indexes past 2^64"));
        }
        Ok(Outputs { first, attempt, lengths, status, items: body })
    }

    /// One output.
    pub fn single(index: u64, attempt: u32, status: Status, item: &[u8]) -> Outputs {
        let mut builder = OutputsBuilder::new(index, attempt);
        builder.push(status, item);
        builder.finish()
    }

    /// The OUTPUTS frame, in one buffer.
    pub fn to_frame(&self) -> Frame {
        self.in_pieces().joined()
    }

    /// The OUTPUTS frame; items that are many bytes are not copied.
    pub fn in_pieces(&self) -> Frame<Pieces> {
        let fixed = FIXED + self.lengths.len() + self.status.len();
        let mut head = BytesMut::with_capacity(fixed + copied(&self.items));
        head.put_u64_le(self.first);
        head.put_u32_le(self.attempt);
        head.put_u32_le(self.len() as u32);
        head.put_slice(&self.lengths);
        head.put_slice(&self.status);
        Frame { kind: Kind::Outputs, seq: 0, body: followed_by(head, &self.items) }
    }

    /// How many outputs from the front are values.
    pub fn leading_values(&self) -> usize {
        self.status.iter().take_while(|&&status| status == Status::Value as u8).count()
    }

    /// How many outputs.
    pub fn len(&self) -> usize {
        self.status.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.status.is_empty()
    }

    /// One past the last index.
    pub fn end(&self) -> u64 {
        self.first + self.len() as u64
    }

    /// How each ended.
    pub fn statuses(&self) -> impl Iterator<Item = Status> + '_ {
        self.status.iter().map(|&status| Status::from_u8(status).expect("checked when decoded"))
    }

    /// Whether all are values.
    pub fn all_values(&self) -> bool {
        self.status.iter().all(|&status| status == 0)
    }

    /// Bytes of the items.
    pub fn item_bytes(&self) -> usize {
        self.items.len()
    }

    /// The outputs with their indexes, each item in one buffer.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Status, Bytes)> + '_ {
        let mut items = self.items.clone();
        read_lengths(&self.lengths).zip(self.status.iter()).enumerate().map(
            move |(n, (length, &status))| {
                let item = items.cut(length);
                let status = Status::from_u8(status).expect("checked when decoded");
                (self.first + n as u64, status, item)
            },
        )
    }

    /// Takes the first `count` outputs off (all, if there are fewer).
    pub fn split_to(&mut self, count: usize) -> Outputs {
        let count = count.min(self.len());
        let lengths = self.lengths.split_to(count * 4);
        let bytes = read_lengths(&lengths).sum();
        let head = Outputs {
            first: self.first,
            attempt: self.attempt,
            lengths,
            status: self.status.split_to(count),
            items: self.items.split_to(bytes),
        };
        self.first += count as u64;
        head
    }
}

/// Collects outputs that follow one another.
#[derive(Debug)]
pub struct OutputsBuilder {
    first: u64,
    attempt: u32,
    lengths: BytesMut,
    status: BytesMut,
    items: BytesMut,
}

impl OutputsBuilder {
    /// An empty batch whose first output will be `first`.
    pub fn new(first: u64, attempt: u32) -> OutputsBuilder {
        OutputsBuilder {
            first,
            attempt,
            lengths: BytesMut::new(),
            status: BytesMut::new(),
            items: BytesMut::new(),
        }
    }

    /// Adds the next output.
    pub fn push(&mut self, status: Status, item: &[u8]) {
        self.push_run(status, 1, item);
    }

    /// Adds the next `count` outputs, at least one: of one status, and of one length.
    pub fn push_run(&mut self, status: Status, count: usize, items: &[u8]) {
        let length = (items.len() / count) as u32;
        self.lengths.reserve(4 * count);
        (0..count).for_each(|_| self.lengths.put_u32_le(length));
        self.status.put_bytes(status as u8, count);
        self.items.put_slice(items);
    }

    /// How many were added.
    pub fn len(&self) -> usize {
        self.status.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.status.is_empty()
    }

    /// Bytes of the items so far.
    pub fn item_bytes(&self) -> usize {
        self.items.len()
    }

    /// The batch.
    pub fn finish(self) -> Outputs {
        Outputs {
            first: self.first,
            attempt: self.attempt,
            lengths: self.lengths.freeze(),
            status: self.status.freeze(),
            items: self.items.freeze().into(),
        }
    }
}

/// How much of the items is copied behind the head of their frame.
fn copied(items: &Pieces) -> usize {
    if items.len() < SMALL { items.len() } else { 0 }
}

/// The body that begins with `head`.
fn followed_by(mut head: BytesMut, items: &Pieces) -> Pieces {
    if items.len() < SMALL {
        items.iter().for_each(|piece| head.put_slice(piece));
        return head.freeze().into();
    }
    let mut body = Pieces::from(head.freeze());
    items.iter().for_each(|piece| body.push(piece.clone()));
    body
}

fn take_lengths(
    what: &'static str,
    body: &mut Pieces,
    count: usize,
    per_item: usize,
) -> Result<Bytes, WireError> {
    if body.len() / per_item < count {
        return Err(malformed(what, "shorter than its count says"));
    }
    Ok(body.cut(count * 4))
}

fn check_sum(what: &'static str, lengths: &Bytes, available: usize) -> Result<(), WireError> {
    let mut sum = 0usize;
    for length in read_lengths(lengths) {
        if length > MAX_ITEM {
            return Err(malformed(what, "an item is over the limit"));
        }
        sum += length;
    }
    if sum != available {
        return Err(malformed(what, "the lengths do not add up to the items"));
    }
    Ok(())
}

fn read_lengths(lengths: &Bytes) -> impl Iterator<Item = usize> + '_ {
    lengths.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn inputs_survive_the_wire_and_a_split_anywhere(items: Vec<Vec<u8>>, at in 0usize..20) {
            let whole = Inputs::from_items(5, 2, &items);
            let mut rest = Inputs::decode(whole.to_frame().body).expect("own bytes");
            prop_assert_eq!(&rest, &whole);
            let head = rest.split_to(at);
            prop_assert_eq!(head.end(), rest.first);
            prop_assert_eq!(Inputs::join(&[head, rest]).expect("they follow"), whole);
        }

        #[test]
        fn outputs_survive_the_wire(items: Vec<Vec<u8>>) {
            let mut builder = OutputsBuilder::new(9, 1);
            for item in &items {
                builder.push(Status::Exception, item);
            }
            let outputs = builder.finish();
            let again = Outputs::decode(outputs.to_frame().body).expect("own bytes");
            prop_assert_eq!(&again, &outputs);
            let back: Vec<Vec<u8>> = again.iter().map(|(_, _, item)| item.to_vec()).collect();
            prop_assert_eq!(back, items);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let _ = Inputs::decode(bytes.clone());
            let _ = Outputs::decode(bytes);
        }
    }

    #[test]
    fn a_count_larger_than_the_body_takes_no_memory() {
        let mut body = BytesMut::new();
        body.put_u64_le(0);
        body.put_u32_le(1);
        body.put_u32_le(u32::MAX);
        assert_eq!(
            Inputs::decode(body.freeze()),
            Err(malformed("INPUTS", "shorter than its count says"))
        );
    }

    #[test]
    fn count_within_gives_at_least_one() {
        let batch = Inputs::from_items(0, 1, &[b"aaaa", b"bbbb", b"cccc"]);
        assert_eq!(batch.count_within(1), 1);
        assert_eq!(batch.count_within(8), 2);
        assert_eq!(batch.count_within(100), 3);
    }
}
