//! Pure: what the gateway may ask for again. The bytes of a response that it has not taken for good, and the inputs that it gave and has no answer to.
//!
//! Bytes are kept as they went out, uncopied, by their place in the response. On the way in, frames are looked at as far as it takes to know which inputs an OUTPUTS frame answers, so that what is *held* can be told for any place up to which the gateway says it has taken them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use muster_wire::frame::{HEADER, Kind};
use muster_wire::message::Held;

/// Bytes kept while the gateway is away; past this its call waits.
const ROOM: u64 = 16 << 20;
/// What is looked at of an OUTPUTS frame: first, attempt and count.
const LOOK: usize = 16;

/// One call's part of it.
#[derive(Debug, Default)]
pub struct Retained {
    /// Before this, nothing is kept.
    begin: u64,
    end: u64,
    /// Each with its place.
    chunks: VecDeque<(u64, Bytes)>,
    frames: Frames,
    /// Answers, each with the place where its frame ends.
    answers: VecDeque<(u64, Range)>,
    held: Ranges,
    inputs: u64,
    bytes: u64,
}

/// Inputs `first .. end` at an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    end: u64,
    attempt: u32,
}

impl Retained {
    /// Inputs came.
    pub fn given(&mut self, first: u64, count: u64, attempt: u32, bytes: u64) {
        self.inputs += count;
        self.bytes += bytes;
        self.held.insert(Range { first, end: first + count, attempt });
    }

    /// More of the response goes out.
    pub fn push(&mut self, chunk: Bytes) {
        for (at, answer) in self.frames.find(&chunk) {
            self.answers.push_back((self.end + at, answer));
        }
        let place = self.end;
        self.end += chunk.len() as u64;
        self.chunks.push_back((place, chunk));
    }

    /// The gateway has taken everything before this place, which is the end of a frame.
    pub fn taken(&mut self, place: u64) {
        while let Some((begin, chunk)) = self.chunks.front()
            && begin + chunk.len() as u64 <= place
        {
            self.begin += chunk.len() as u64;
            self.chunks.pop_front();
        }
        while let Some(&(end, answer)) = self.answers.front()
            && end <= place
        {
            self.answers.pop_front();
            self.held.remove(answer);
        }
    }

    /// The next bytes at this place, if they are there.
    pub fn at(&self, place: u64) -> Option<Bytes> {
        if place >= self.end {
            return None;
        }
        let next = self.chunks.partition_point(|&(begin, _)| begin <= place);
        let (begin, chunk) = self.chunks.get(next.checked_sub(1)?)?;
        Some(chunk.slice((place - begin) as usize..))
    }

    /// Whether everything from this place on is there.
    pub fn has(&self, place: u64) -> bool {
        (self.begin..=self.end).contains(&place)
    }

    /// Whether no more should be kept.
    pub fn is_full(&self) -> bool {
        self.end - self.begin >= ROOM
    }

    /// What it was given, and what of that the gateway has no answer to, as far as it has taken them.
    pub fn held(&self) -> Held {
        let ranges = self.held.0.iter().map(|(&first, &(end, attempt))| (first, end, attempt));
        Held { inputs: self.inputs, bytes: self.bytes, ranges: ranges.collect() }
    }
}

/// Ranges that do not overlap, by their first index.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, (u64, u32)>);

impl Ranges {
    /// What comes under an index later is what counts: the gateway has taken an answer to what was there before.
    fn insert(&mut self, range: Range) {
        self.cut(range, |_| true);
        self.0.insert(range.first, (range.end, range.attempt));
    }

    /// An answer at another attempt is none to what is there now.
    fn remove(&mut self, range: Range) {
        self.cut(range, |attempt| attempt == range.attempt);
    }

    fn cut(&mut self, Range { first, end, .. }: Range, which: impl Fn(u32) -> bool) {
        let before = self.0.range(..first).next_back().map_or(first, |(&from, _)| from);
        let found: Vec<(u64, (u64, u32))> =
            self.0.range(before..end).map(|(&from, &range)| (from, range)).collect();
        for (from, (until, attempt)) in found {
            if until <= first || !which(attempt) {
                continue;
            }
            self.0.remove(&from);
            if from < first {
                self.0.insert(from, (first, attempt));
            }
            if end < until {
                self.0.insert(end, (until, attempt));
            }
        }
    }
}

/// Finds the OUTPUTS in a row of bytes, however it is cut.
#[derive(Debug, Default)]
struct Frames {
    /// Of a header and what comes after it, as far as it is looked at.
    head: Vec<u8>,
    /// Bytes of the body that were not seen yet, once the header was.
    left: usize,
}

impl Frames {
    /// The answers in this chunk, each with how far into it their frame ends, which may be behind its end.
    fn find(&mut self, chunk: &[u8]) -> Vec<(u64, Range)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < chunk.len() {
            let wanted = self.wanted();
            if self.head.len() < wanted {
                let part = (wanted - self.head.len()).min(chunk.len() - at);
                let is_body = self.head.len() >= HEADER;
                self.head.extend_from_slice(&chunk[at..at + part]);
                at += part;
                if is_body {
                    self.left -= part;
                } else if self.head.len() == HEADER {
                    self.left = u32::from_le_bytes(word(&self.head, 0)) as usize;
                }
                if self.head.len() == HEADER + LOOK && self.kind() == Kind::Outputs as u8 {
                    found.push(((at + self.left) as u64, self.answer()));
                }
            } else {
                let part = self.left.min(chunk.len() - at);
                self.left -= part;
                at += part;
            }
            if self.head.len() >= HEADER && self.left == 0 {
                self.head.clear();
            }
        }
        found
    }

    /// How much of the frame is looked at.
    fn wanted(&self) -> usize {
        match self.head.len() >= HEADER && self.kind() == Kind::Outputs as u8 {
            true => HEADER + LOOK,
            false => HEADER,
        }
    }

    fn kind(&self) -> u8 {
        self.head[4]
    }

    fn answer(&self) -> Range {
        let body = &self.head[HEADER..];
        let low = u64::from(u32::from_le_bytes(word(body, 0)));
        let first = low | u64::from(u32::from_le_bytes(word(body, 4))) << 32;
        let attempt = u32::from_le_bytes(word(body, 8));
        let count = u64::from(u32::from_le_bytes(word(body, 12)));
        Range { first, end: first + count, attempt }
    }
}

fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use muster_wire::batch::{OutputsBuilder, Status};
    use muster_wire::frame::Frame;
    use proptest::prelude::*;

    fn outputs(first: u64, attempt: u32, lengths: &[usize]) -> Frame {
        let mut builder = OutputsBuilder::new(first, attempt);
        lengths.iter().for_each(|&length| builder.push(Status::Value, &vec![7; length]));
        builder.finish().to_frame()
    }

    #[test]
    fn an_input_that_is_tried_again_here_is_held_until_its_last_attempt_is_answered() {
        let mut retained = Retained::default();
        retained.given(0, 4, 1, 40);
        let mut bytes = BytesMut::new();
        outputs(2, 1, &[1]).encode(&mut bytes);
        retained.push(bytes.split().freeze());
        retained.given(2, 1, 2, 10);
        retained.taken(retained.end);
        let ranges = vec![(0, 2, 1), (2, 3, 2), (3, 4, 1)];
        assert_eq!(retained.held(), Held { inputs: 5, bytes: 50, ranges });
    }

    proptest! {
        /// However the response is cut and as far as it is taken, what is asked for again is what was sent, and what is held is what was given and not answered before that place.
        #[test]
        fn what_is_not_taken_can_be_had_again_and_its_inputs_are_held(
            frames in proptest::collection::vec((1usize..5, 0usize..40, any::<bool>()), 1..20),
            cuts in proptest::collection::vec(1usize..70, 1..30),
            taken in 0usize..20,
        ) {
            let (mut retained, mut bytes, mut ends) = (Retained::default(), BytesMut::new(), Vec::new());
            let mut first = 0;
            for &(count, length, is_outputs) in &frames {
                match is_outputs {
                    true => outputs(first, 1, &vec![length; count]).encode(&mut bytes),
                    false => Frame::new(Kind::Print, vec![Kind::Outputs as u8; length]).encode(&mut bytes),
                }
                first += if is_outputs { count as u64 } else { 0 };
                ends.push((bytes.len() as u64, first));
            }
            retained.given(0, first + 3, 1, 0);
            let all = bytes.freeze();
            let (mut rest, mut cuts) = (all.clone(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let part = cuts.next().unwrap_or(1).min(rest.len());
                retained.push(rest.split_to(part));
            }
            let (place, answered) = ends[taken % ends.len()];
            retained.taken(place);
            prop_assert!(retained.has(place));
            let (mut at, mut again) = (place, Vec::new());
            while let Some(chunk) = retained.at(at) {
                at += chunk.len() as u64;
                again.extend_from_slice(&chunk);
            }
            prop_assert_eq!(&again[..], &all[place as usize..]);
            prop_assert_eq!(retained.held().ranges, vec![(answered, first + 3, 1)]);
        }
    }
}
