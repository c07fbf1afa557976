//! Bytes that came in pieces and are passed on as they came.
//!
//! A batch with large items crosses a daemon without ever lying in one buffer: joining its pieces would cost a copy of every byte, and fresh
//! memory for it, which costs as much again. Small pieces are the other way round: keeping them apart costs more than
//! copying them, and a small piece may hold on to a large buffer. So [`Gather`] joins the small and leaves the large alone.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// A piece of at least this many bytes stays as it is; a smaller one is copied to its neighbours.
pub const SMALL: usize = 16 << 10;
/// Small pieces are joined up to this many bytes.
const JOINED: usize = 64 << 10;

/// Bytes in pieces: a queue that is cut at its front without copying.
#[derive(Clone, Default)]
pub struct Pieces {
    /// Empty only where all is.
    first: Bytes,
    rest: VecDeque<Bytes>,
    len: usize,
}

impl Pieces {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        if self.first.is_empty() {
            self.first = piece;
        } else if !piece.is_empty() {
            self.rest.push_back(piece);
        }
    }

    /// Takes the first `len` bytes off (all, if there are fewer).
    pub fn split_to(&mut self, len: usize) -> Pieces {
        let mut head = Pieces::default();
        while head.len < len && !self.is_empty() {
            let piece = self.first.split_to(self.first.len().min(len - head.len));
            self.len -= piece.len();
            head.push(piece);
            self.refill();
        }
        head
    }

    /// Takes the first `len` bytes off in one buffer: copied where they lie in several pieces.
    pub fn cut(&mut self, len: usize) -> Bytes {
        match len <= self.first.len() {
            true => {
                let taken = self.first.split_to(len);
                self.len -= len;
                self.refill();
                taken
            }
            false => self.split_to(len).joined(),
        }
    }

    /// All in one buffer: copied where there are several pieces.
    pub fn joined(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        let mut all = BytesMut::with_capacity(self.len);
        self.iter().for_each(|piece| all.extend_from_slice(piece));
        all.freeze()
    }

    /// Takes the first piece off; empty where there is none.
    pub fn next_piece(&mut self) -> Bytes {
        self.cut(self.first.len())
    }

    /// Puts a piece back.
    pub fn push_front(&mut self, piece: Bytes) {
        self.len += piece.len();
        let second = std::mem::replace(&mut self.first, piece);
        if !second.is_empty() {
            self.rest.push_front(second);
        }
    }

    /// The pieces, in order, none of them empty.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).filter(|piece| !piece.is_empty()).chain(&self.rest)
    }

    fn refill(&mut self) {
        if self.first.is_empty()
            && let Some(next) = self.rest.pop_front()
        {
            self.first = next;
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "no more than there is");
        if count < self.first.len() {
            self.first.advance(count);
            self.len -= count;
        } else {
            self.split_to(count);
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        assert!(len <= self.len, "no more than there is");
        self.cut(len)
    }
}

impl<T: Into<Bytes>> From<T> for Pieces {
    fn from(whole: T) -> Pieces {
        let first = whole.into();
        Pieces { len: first.len(), first, rest: VecDeque::new() }
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = std::iter::Chain<
        std::option::IntoIter<Bytes>,
        std::collections::vec_deque::IntoIter<Bytes>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        let first = (!self.first.is_empty()).then_some(self.first);
        first.into_iter().chain(self.rest)
    }
}

/// The same bytes, however they are cut.
impl PartialEq for Pieces {
    fn eq(&self, other: &Pieces) -> bool {
        self.len == other.len && self.joined() == other.joined()
    }
}

impl Eq for Pieces {}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Bytes as they come: large pieces stay as they are, small ones are copied together.
#[derive(Debug, Default)]
pub struct Gather {
    pieces: Pieces,
    /// What follows `pieces`.
    tail: BytesMut,
}

impl Gather {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.pieces.len() + self.tail.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes, kept as they are where they are many.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SMALL {
            self.copy(&bytes);
        } else {
            self.seal();
            self.pieces.push(bytes);
        }
    }

    /// Adds bytes by copying them.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        if self.tail.len() >= JOINED {
            self.seal();
        }
    }

    /// Room for `len` bytes at the end, for readers that read straight into it; what is there is not moved unless it is small.
    pub fn room(&mut self, len: usize) -> &mut BytesMut {
        if self.tail.len() >= SMALL && self.tail.capacity() - self.tail.len() < len {
            self.seal();
        }
        self.tail.reserve(len);
        &mut self.tail
    }

    /// The first `len` bytes, if there are so many, are in pieces that can be taken.
    pub fn first(&mut self, len: usize) -> Option<&mut Pieces> {
        if self.len() < len {
            return None;
        }
        if self.pieces.len() < len {
            self.seal();
        }
        Some(&mut self.pieces)
    }

    /// All of it.
    pub fn finish(mut self) -> Pieces {
        self.seal();
        self.pieces
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_give_the_bytes_that_came_however_they_are_cut(
            sizes in prop::collection::vec(prop_oneof![0usize..40, SMALL - 1..SMALL + 2], 0..8),
            cuts in prop::collection::vec((0usize..3, 0usize..SMALL * 2), 0..12),
        ) {
            let mut gather = Gather::default();
            let mut whole = Vec::new();
            for (size, number) in sizes.iter().zip(1u8..) {
                let piece: Vec<u8> = (0..*size).map(|at| number ^ at as u8).collect();
                whole.extend_from_slice(&piece);
                gather.push(piece.into());
            }
            prop_assert_eq!(gather.len(), whole.len());
            let mut pieces = gather.finish();
            prop_assert_eq!(&pieces.joined()[..], &whole[..]);
            let mut at = 0;
            for (way, cut) in cuts {
                let cut = cut.min(pieces.len());
                let taken = match way {
                    0 => pieces.split_to(cut).joined(),
                    1 => pieces.cut(cut),
                    _ => {
                        pieces.advance(cut);
                        Bytes::copy_from_slice(&whole[at..at + cut])
                    }
                };
                prop_assert_eq!(&taken[..], &whole[at..at + cut]);
                at += cut;
                prop_assert_eq!(pieces.len(), whole.len() - at);
                prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
            }
            prop_assert_eq!(&pieces.joined()[..], &whole[at..]);
        }
    }

    #[test]
    fn large_pieces_are_not_copied_and_small_ones_do_not_pile_up() {
        let large = Bytes::from(vec![1; SMALL]);
        let mut gather = Gather::default();
        for _ in 0..10_000 {
            gather.push(Bytes::from_static(b"tiny"));
        }
        gather.push(large.clone());
        let pieces = gather.finish();
        assert!(pieces.iter().count() < 4);
        assert_eq!(pieces.iter().last().map(|piece| piece.as_ptr()), Some(large.as_ptr()));
    }

    #[test]
    fn room_is_made_without_moving_what_is_there() {
        let mut gather = Gather::default();
        gather.room(SMALL).extend_from_slice(&[7; SMALL]);
        let before = gather.tail.as_ptr();
        gather.room(1 << 20).extend_from_slice(&[8; 10]);
        let pieces = gather.finish();
        assert_eq!(pieces.iter().next().map(|piece| piece.as_ptr()), Some(before));
        assert_eq!(pieces.len(), SMALL + 10);
    }
}
