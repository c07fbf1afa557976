//! Pure: the inputs that were received and are not being run.

use std::collections::VecDeque;

use muster_wire::batch::Inputs;

/// Inputs in the order in which they are to be run.
#[derive(Debug, Default)]
pub struct Queue {
    batches: VecDeque<Inputs>,
    inputs: usize,
}

impl Queue {
    /// How many inputs wait.
    pub fn len(&self) -> usize {
        self.inputs
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.inputs == 0
    }

    /// Inputs came.
    pub fn push(&mut self, batch: Inputs) {
        if !batch.is_empty() {
            self.inputs += batch.len();
            self.batches.push_back(batch);
        }
    }

    /// Inputs came back that were not run; they are next.
    pub fn put_back(&mut self, batch: Inputs) {
        if !batch.is_empty() {
            self.inputs += batch.len();
            self.batches.push_front(batch);
        }
    }

    /// Takes up to `count` inputs with up to `bytes` bytes, but at least one. Only inputs that follow one another, at one
    /// attempt, travel together.
    pub fn take(&mut self, count: usize, bytes: usize) -> Option<Inputs> {
        let count = count.max(1);
        let mut parts: Vec<Inputs> = Vec::new();
        let (mut taken, mut taken_bytes) = (0, 0);
        while taken < count {
            let Some(front) = self.batches.front_mut() else { break };
            if let Some(last) = parts.last() {
                let follows = last.end() == front.first && last.attempt == front.attempt;
                if !follows {
                    break;
                }
            }
            let mut fitting = (count - taken).min(front.len());
            let room = bytes.saturating_sub(taken_bytes);
            if front.item_bytes() > room {
                fitting = fitting.min(front.count_within(room));
            }
            let mut rest = front.clone();
            let part = rest.split_to(fitting);
            // `count_within` gives at least one, which may be too large to travel with others.
            if taken > 0 && taken_bytes + part.item_bytes() > bytes {
                break;
            }
            taken += part.len();
            taken_bytes += part.item_bytes();
            parts.push(part);
            if rest.is_empty() {
                self.batches.pop_front();
            } else {
                *front = rest;
            }
        }
        self.inputs -= taken;
        if parts.len() > 1 { Inputs::join(&parts) } else { parts.pop() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(first: u64, attempt: u32, lengths: &[usize]) -> Inputs {
        let items: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![7; length]).collect();
        Inputs::from_items(first, attempt, &items)
    }

    fn range(batch: Option<Inputs>) -> Option<(u64, u64)> {
        batch.map(|batch| (batch.first, batch.end()))
    }

    #[test]
    fn small_batches_that_follow_one_another_are_joined() {
        let mut queue = Queue::default();
        queue.push(batch(0, 1, &[1, 1]));
        queue.push(batch(2, 1, &[1]));
        queue.push(batch(3, 1, &[1, 1]));
        assert_eq!(range(queue.take(4, 100)), Some((0, 4)));
        assert_eq!(range(queue.take(4, 100)), Some((4, 5)));
        assert_eq!(queue.take(4, 100), None);
    }

    #[test]
    fn attempts_and_gaps_are_not_mixed() {
        let mut queue = Queue::default();
        queue.push(batch(0, 1, &[1]));
        queue.push(batch(1, 2, &[1]));
        queue.push(batch(5, 2, &[1]));
        assert_eq!(range(queue.take(9, 100)), Some((0, 1)));
        assert_eq!(range(queue.take(9, 100)), Some((1, 2)));
        assert_eq!(range(queue.take(9, 100)), Some((5, 6)));
    }

    #[test]
    fn what_comes_back_is_next() {
        let mut queue = Queue::default();
        queue.push(batch(0, 1, &[1; 4]));
        let mut taken = queue.take(3, 100).expect("four are there");
        taken.split_to(1);
        queue.put_back(taken);
        assert_eq!(range(queue.take(9, 100)), Some((1, 4)));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_large_input_travels_alone() {
        let mut queue = Queue::default();
        queue.push(batch(0, 1, &[3, 50, 3]));
        queue.push(batch(3, 1, &[50]));
        let ranges: Vec<_> = std::iter::from_fn(|| range(queue.take(9, 10))).collect();
        assert_eq!(ranges, [(0, 1), (1, 2), (2, 3), (3, 4)]);
    }

    proptest! {
        #[test]
        fn every_input_is_taken_once_and_in_order(
            sizes in prop::collection::vec(prop::collection::vec(0usize..20, 0..8), 0..8),
            takes in prop::collection::vec((0usize..9, 0usize..60), 1..20),
        ) {
            let mut queue = Queue::default();
            let mut next = 0;
            for lengths in &sizes {
                queue.push(batch(next, 1, lengths));
                next += lengths.len() as u64;
            }
            prop_assert_eq!(queue.len() as u64, next);
            let mut seen = 0;
            for (count, bytes) in takes.into_iter().cycle().take(200) {
                let Some(taken) = queue.take(count, bytes) else { break };
                prop_assert_eq!(taken.first, seen);
                prop_assert!(taken.len() <= count.max(1));
                prop_assert!(taken.item_bytes() <= bytes || taken.len() == 1);
                seen = taken.end();
            }
            prop_assert_eq!((seen, queue.len()), (next, 0));
        }
    }
}
