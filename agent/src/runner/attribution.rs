//! Pure: which bytes of the two pipes belong to which input.
//!
//! Bytes go in as they are read; boundaries go in as records come ("input 7 ended when 120 bytes had been written"), or as a
//! look at the page taken after the last read ("7 runs now"). What comes out is never taken back.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_wire::print::Stream;

/// Bytes that one input wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The input.
    pub index: u64,
    /// Where it wrote them.
    pub stream: Stream,
    /// What it wrote.
    pub bytes: Bytes,
}

/// An end of an input's prints that lies before the end of an earlier input's, or past what was read.
#[derive(Debug, PartialEq, Eq)]
pub struct BadEnd;

/// What was read from both pipes and belongs to nobody yet.
#[derive(Debug, Default)]
pub struct Attribution {
    out: Lane,
    err: Lane,
}

#[derive(Debug, Default)]
struct Lane {
    /// Offset, since the pipe was made, of the first byte held.
    start: u64,
    held: VecDeque<Bytes>,
    held_bytes: usize,
}

impl Attribution {
    /// Bytes were read from this pipe.
    pub fn read(&mut self, stream: Stream, bytes: Bytes) {
        let lane = self.lane(stream);
        lane.held_bytes += bytes.len();
        lane.held.push_back(bytes);
    }

    /// How many bytes were read from this pipe since it was made.
    pub fn offset(&self, stream: Stream) -> u64 {
        let lane = match stream {
            Stream::Stdout => &self.out,
            Stream::Stderr => &self.err,
        };
        lane.start + lane.held_bytes as u64
    }

    /// How many bytes wait for a boundary.
    pub fn held(&self) -> usize {
        self.out.held_bytes + self.err.held_bytes
    }

    /// Input `index`, the first whose record is not known, ended when this much had been written. Both pipes must have been
    /// read that far.
    pub fn ended(
        &mut self,
        index: u64,
        out_end: u64,
        err_end: u64,
        printed: &mut Vec<Printed>,
    ) -> Result<(), BadEnd> {
        for (stream, end) in [(Stream::Stdout, out_end), (Stream::Stderr, err_end)] {
            let lane = self.lane(stream);
            let length = end.checked_sub(lane.start).ok_or(BadEnd)?;
            if length > lane.held_bytes as u64 {
                return Err(BadEnd);
            }
            lane.take(length as usize, |bytes| printed.push(Printed { index, stream, bytes }));
        }
        Ok(())
    }

    /// Input `index`, the first whose record is not known, runs, and ran already when all that is held had been read.
    pub fn runs(&mut self, index: u64, printed: &mut Vec<Printed>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let lane = self.lane(stream);
            lane.take(lane.held_bytes, |bytes| printed.push(Printed { index, stream, bytes }));
        }
    }

    /// The end of what belongs to nobody, for people: a runner that dies outside of any input may say why on stderr.
    pub fn last_words(&self, at_most: usize) -> String {
        let held: Vec<u8> = self.err.held.iter().flat_map(|bytes| bytes.iter().copied()).collect();
        let tail = &held[held.len().saturating_sub(at_most)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }

    fn lane(&mut self, stream: Stream) -> &mut Lane {
        match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        }
    }
}

impl Lane {
    fn take(&mut self, mut length: usize, mut give: impl FnMut(Bytes)) {
        self.start += length as u64;
        self.held_bytes -= length;
        while length > 0 {
            let Some(front) = self.held.front_mut() else { return };
            if front.len() > length {
                give(front.split_to(length));
                return;
            }
            length -= front.len();
            give(std::mem::take(front));
            self.held.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// What one input writes: (to stderr?, bytes).
    type Writes = Vec<(bool, Vec<u8>)>;

    /// A runner that writes into two pipes, and knows what it wrote.
    #[derive(Default)]
    struct Model {
        pipes: [Vec<u8>; 2],
        read: [usize; 2],
        ends: Vec<[u64; 2]>,
        wrote: HashMap<(u64, bool), Vec<u8>>,
        out: HashMap<(u64, bool), Vec<u8>>,
        known: usize,
    }

    impl Model {
        fn read(&mut self, attribution: &mut Attribution, at_most: usize) {
            for (n, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
                let from = self.read[n];
                let to = self.pipes[n].len().min(from + at_most);
                attribution.read(stream, Bytes::copy_from_slice(&self.pipes[n][from..to]));
                self.read[n] = to;
            }
        }

        fn take(&mut self, printed: Vec<Printed>) {
            for print in printed {
                let key = (print.index, print.stream == Stream::Stderr);
                self.out.entry(key).or_default().extend_from_slice(&print.bytes);
            }
        }

        fn records(&mut self, attribution: &mut Attribution) {
            self.read(attribution, usize::MAX / 2);
            let mut printed = Vec::new();
            while self.known < self.ends.len() {
                let [out, err] = self.ends[self.known];
                attribution.ended(self.known as u64, out, err, &mut printed).expect("true ends");
                self.known += 1;
            }
            self.take(printed);
        }

        fn look(&mut self, attribution: &mut Attribution, running: u64) {
            if running == self.known as u64 {
                let mut printed = Vec::new();
                attribution.runs(running, &mut printed);
                self.take(printed);
            }
        }
    }

    proptest! {
        #[test]
        fn every_byte_goes_to_the_input_that_wrote_it(
            inputs in prop::collection::vec(
                prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..6)
                , 0..12),
            choices in prop::collection::vec((0u8..4, 1usize..30), 64),
        ) {
            let mut attribution = Attribution::default();
            let mut model = Model::default();
            let mut choices = choices.into_iter().cycle();
            let inputs: Vec<Writes> = inputs;
            for (index, writes) in inputs.into_iter().enumerate() {
                for (err, bytes) in writes {
                    model.pipes[usize::from(err)].extend_from_slice(&bytes);
                    model.wrote.entry((index as u64, err)).or_default().extend_from_slice(&bytes);
                    let (choice, amount) = choices.next().expect("endless");
                    match choice {
                        0 => model.read(&mut attribution, amount),
                        1 => model.records(&mut attribution),
                        2 => {
                            model.read(&mut attribution, amount);
                            model.look(&mut attribution, index as u64);
                        }
                        _ => {}
                    }
                }
                model.ends.push([model.pipes[0].len() as u64, model.pipes[1].len() as u64]);
            }
            model.records(&mut attribution);
            model.wrote.retain(|_, bytes| !bytes.is_empty());
            model.out.retain(|_, bytes| !bytes.is_empty());
            prop_assert_eq!(attribution.held(), 0);
            prop_assert_eq!(model.out, model.wrote);
        }
    }

    #[test]
    fn ends_that_cannot_be_true_are_refused() {
        let mut attribution = Attribution::default();
        let mut printed = Vec::new();
        attribution.read(Stream::Stdout, Bytes::from_static(b"abc"));
        assert_eq!(attribution.ended(0, 4, 0, &mut printed), Err(BadEnd));
        assert_eq!(attribution.ended(0, 2, 0, &mut printed), Ok(()));
        assert_eq!(attribution.ended(1, 1, 0, &mut printed), Err(BadEnd));
        assert_eq!(attribution.offset(Stream::Stdout), 3);
    }
}
