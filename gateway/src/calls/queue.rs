//! The bytes of a call's inputs, from their arrival until each has its output.
//!
//! Inputs lie in the chunks they came in. While little waits, chunks stay in memory; past the budget of the call new chunks go to the spill and are read back
//! when their turn comes, so that ten million inputs that wait take no more memory than a hundred thousand. A chunk is dropped when all its inputs are done, so an
//! input that must run again is always still here. Large inputs are a few chunks that many workers hold: for them the calls share some memory beyond their budgets,
//! and the owner of a call whose inputs are being taken at pace rather waits for [`Queue::has_room`] than has them written to a disk and read back.

use std::collections::BTreeMap;

use muster_wire::batch::Inputs;

use crate::store::durable::Journal;
use crate::store::{Blob, Spare, Spill, StoreError};

/// Chunks whose inputs have at least so many bytes each, on average, may lie in the memory that calls share.
const LARGE: usize = 16 << 10;

/// Inputs of one call.
#[derive(Debug)]
pub struct Queue {
    chunks: BTreeMap<u64, Chunk>,
    /// Bytes in memory, and how many of these take spare memory.
    memory: usize,
    shared: usize,
    budget: usize,
    spill: Spill,
    /// Where chunks lie anyway: nothing of this call is spilled.
    kept: Option<Kept>,
    /// The chunk that should have been spilled, when the disk was full.
    stuck: Option<u64>,
}

/// A call whose chunks the store keeps, and where to read them.
#[derive(Debug)]
struct Kept {
    call: String,
    journal: Journal,
}

#[derive(Debug)]
struct Chunk {
    end: u64,
    left: u64,
    /// In memory, whole.
    inputs: Option<Inputs>,
    /// The part of `inputs` never taken yet, so that taking in order does not count from the start.
    rest: Option<Inputs>,
    blob: Option<Blob>,
    /// The memory it takes, where that is not of the call's own budget.
    spare: Option<Spare>,
}

impl Queue {
    /// An empty queue that holds at most about `budget` bytes of waiting inputs in memory.
    pub fn new(budget: usize, spill: Spill) -> Queue {
        Queue {
            chunks: BTreeMap::new(),
            memory: 0,
            shared: 0,
            budget,
            spill,
            kept: None,
            stuck: None,
        }
    }

    /// The same for a call whose chunks are in the store before they come here: what does not fit into memory is read again from there.
    pub fn kept(budget: usize, spill: Spill, call: &str, journal: Journal) -> Queue {
        let kept = Kept { call: call.to_owned(), journal };
        Queue { kept: Some(kept), ..Queue::new(budget, spill) }
    }

    /// A chunk that an earlier gateway left in the store; its inputs are read when their turn comes.
    pub fn restore(&mut self, first: u64, count: u64) {
        let (end, left) = (first + count, count);
        self.chunks
            .insert(first, Chunk { end, left, inputs: None, rest: None, blob: None, spare: None });
    }

    /// Adds inputs that follow the last ones. Where they should be spilled and the disk is full they stay in memory, and no more should come while the queue [`is_stuck`](Queue::is_stuck).
    pub async fn push(&mut self, inputs: Inputs) -> Result<(), StoreError> {
        if inputs.is_empty() {
            return Ok(());
        }
        let (first, end, left) = (inputs.first, inputs.end(), inputs.len() as u64);
        let cost = cost(&inputs);
        let mut chunk = Chunk { end, left, inputs: None, rest: None, blob: None, spare: None };
        let own = self.memory - self.shared + cost <= self.budget || self.chunks.is_empty();
        if !own {
            chunk.spare = self.spare(&inputs);
        }
        if !own && chunk.spare.is_none() && self.kept.is_some() {
            // It is in the store.
        } else if !own && chunk.spare.is_none() {
            match self.spill.put(inputs.in_pieces().body.into_iter().collect()).await {
                Err(StoreError::Full) => {
                    self.stuck = Some(first);
                    self.memory += cost;
                    chunk.rest = Some(inputs.clone());
                    chunk.inputs = Some(inputs);
                }
                stored => chunk.blob = Some(stored?),
            }
        } else {
            self.memory += cost;
            self.shared += if own { 0 } else { cost };
            chunk.rest = Some(inputs.clone());
            chunk.inputs = Some(inputs);
        }
        self.chunks.insert(first, chunk);
        Ok(())
    }

    /// Whether inputs are in memory that should not be, as the disk is full.
    pub fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Tries to spill what [is stuck](Queue::is_stuck).
    pub async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(chunk) = self.stuck.and_then(|first| self.chunks.get_mut(&first)) else {
            return Ok(());
        };
        let Some(inputs) = &chunk.inputs else { return Ok(()) };
        if self.memory - self.shared <= self.budget {
            self.stuck = None;
            return Ok(());
        }
        let parts = inputs.in_pieces().body.into_iter().collect();
        match self.spill.put(parts).await {
            Err(StoreError::Full) => {}
            stored => {
                chunk.blob = Some(stored?);
                self.memory -= cost(inputs);
                (chunk.inputs, chunk.rest, self.stuck) = (None, None, None);
            }
        }
        Ok(())
    }

    /// One past the last of the inputs that lie with input `index`.
    pub fn chunk_end(&self, index: u64) -> u64 {
        let chunk = self.chunks.range(..=index).next_back();
        chunk.map_or(index + 1, |(_, chunk)| chunk.end.max(index + 1))
    }

    /// Takes inputs from `first` on: at least one, at most `count`, and not many more bytes than `bytes`. They stay in the queue until they are
    /// [`done`](Queue::done).
    pub async fn take(
        &mut self,
        first: u64,
        count: u64,
        bytes: usize,
    ) -> Result<Inputs, StoreError> {
        let (&start, chunk) = self
            .chunks
            .range_mut(..=first)
            .next_back()
            .filter(|(_, chunk)| first < chunk.end)
            .ok_or(StoreError::Damaged(first))?;
        if chunk.inputs.is_none() {
            let bytes = match (&chunk.blob, &self.kept) {
                (Some(blob), _) => blob.get().await?,
                (None, Some(kept)) => kept.journal.store().chunk(&kept.call, start).await?,
                (None, None) => return Err(StoreError::Damaged(first)),
            };
            let inputs = Inputs::decode(bytes).map_err(|_| StoreError::Damaged(first))?;
            self.memory += cost(&inputs);
            chunk.rest = Some(inputs.clone());
            chunk.inputs = Some(inputs);
        }
        let whole = chunk.inputs.as_ref().ok_or(StoreError::Damaged(first))?;
        let in_order = chunk.rest.as_ref().is_some_and(|rest| rest.first == first);
        let mut from = match &chunk.rest {
            Some(rest) if in_order => rest.clone(),
            _ => {
                let mut from = whole.clone();
                from.split_to((first - start) as usize);
                from
            }
        };
        let within = from.count_within(bytes).min(count.min(usize::MAX as u64) as usize);
        let taken = from.split_to(within.max(1));
        if in_order {
            chunk.rest = Some(from);
        }
        Ok(taken)
    }

    /// Inputs `first .. end` have their outputs.
    pub fn done(&mut self, first: u64, end: u64) {
        let mut at = first;
        while at < end {
            let Some((&start, chunk)) = self.chunks.range_mut(..=at).next_back() else { return };
            let stop = chunk.end.min(end);
            if stop <= at {
                return;
            }
            chunk.left -= stop - at;
            if chunk.left == 0
                && let Some(chunk) = self.chunks.remove(&start)
                && let Some(inputs) = chunk.inputs
            {
                self.stuck = self.stuck.filter(|&first| first != start);
                self.memory -= cost(&inputs);
                self.shared -= chunk.spare.map_or(0, |_| cost(&inputs));
            }
            at = stop;
        }
    }

    /// Whether another chunk like the last would stay in memory.
    pub fn has_room(&self) -> bool {
        let Some((_, last)) = self.chunks.last_key_value() else { return true };
        let Some(inputs) = &last.inputs else { return false };
        let cost = cost(inputs);
        self.memory - self.shared + cost <= self.budget || self.spare(inputs).is_some()
    }

    /// Room for these in the memory that calls share.
    fn spare(&self, inputs: &Inputs) -> Option<Spare> {
        let is_large = inputs.item_bytes() >= LARGE * inputs.len();
        is_large.then(|| self.spill.spare(cost(inputs))).flatten()
    }

    /// Bytes of inputs in memory.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

fn cost(inputs: &Inputs) -> usize {
    inputs.item_bytes() + 4 * inputs.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::store::durable::MemoryCallStore;
    use crate::tasks::Tasks;

    fn batch(first: u64, count: u64) -> Inputs {
        let items: Vec<Vec<u8>> =
            (first..first + count).map(|index| index.to_le_bytes().to_vec()).collect();
        Inputs::from_items(first, 0, &items)
    }

    #[tokio::test]
    async fn inputs_come_out_as_they_went_in_whether_spilled_or_not() {
        let spill = Spill::new(MemoryStore::default(), u64::MAX);
        let mut queue = Queue::new(200, spill.clone());
        for first in (0..100).step_by(10) {
            queue.push(batch(first, 10)).await.expect("room");
        }
        assert!(spill.used() > 0, "ten chunks of 120 bytes do not fit a budget of 200");
        let mut at = 0;
        while at < 100 {
            let taken = queue.take(at, 7, 1 << 20).await.expect("there");
            assert_eq!(taken, batch(at, taken.len() as u64));
            at = taken.end();
        }
        assert_eq!(queue.take(42, 1, 1).await.expect("kept until done"), batch(42, 1));
        queue.done(0, 100);
        assert_eq!((queue.memory(), spill.used()), (0, 0));
    }

    /// One input of this many KiB, less what a queue reckons for its length.
    fn large(index: u64, kib: usize) -> Inputs {
        Inputs::from_items(index, 0, &[vec![index as u8; (kib << 10) - 4]])
    }

    #[tokio::test]
    async fn large_inputs_use_the_memory_that_calls_share_before_the_spill_and_give_it_back() {
        let spill = Spill::with_spare(MemoryStore::default(), u64::MAX, 64 << 10);
        let mut queue = Queue::new(40 << 10, spill.clone());
        for index in 0..3 {
            assert!(queue.has_room());
            queue.push(large(index, 32)).await.expect("room");
        }
        assert_eq!((queue.memory(), spill.used()), (96 << 10, 0));
        assert!(!queue.has_room(), "one of its own, two in the shared memory");
        queue.push(large(3, 32)).await.expect("room");
        assert!(spill.used() > 0);
        queue.done(1, 2);
        assert!(spill.spare(32 << 10).is_some());
        queue.done(0, 1);
        queue.done(2, 4);
        assert_eq!((queue.memory(), spill.used()), (0, 0));
        assert!(spill.spare(64 << 10).is_some());
    }

    #[tokio::test]
    async fn small_inputs_stay_within_the_budget_of_their_call() {
        let spill = Spill::with_spare(MemoryStore::default(), u64::MAX, 1 << 20);
        let mut queue = Queue::new(200, spill.clone());
        queue.push(batch(0, 10)).await.expect("room");
        assert!(!queue.has_room());
        queue.push(batch(10, 10)).await.expect("room");
        assert_eq!(queue.memory(), 120);
        assert!(spill.used() > 0 && spill.spare(1 << 20).is_some());
    }

    #[tokio::test]
    async fn kept_inputs_are_not_read_before_their_turn_and_never_spilled() {
        let (tasks, spill) = (Tasks::new(), Spill::new(MemoryStore::default(), u64::MAX));
        let journal = Journal::start(MemoryCallStore::default(), u64::MAX, &tasks);
        let mut queue = Queue::kept(200, spill.clone(), "c-1", journal);
        (0..1000).for_each(|chunk| queue.restore(10 * chunk, 10));
        assert_eq!(queue.memory(), 0);
        queue.done(0, 9_990);
        queue.push(batch(10_000, 10)).await.expect("fits");
        queue.push(batch(10_010, 10)).await.expect("is in the store");
        assert_eq!(spill.used(), 0);
        assert_eq!(queue.take(10_000, 5, 1 << 20).await.expect("there"), batch(10_000, 5));
        assert!(
            queue.take(9_995, 1, 1).await.is_err(),
            "read from the store, which has no such call"
        );
        tasks.stop();
    }

    #[tokio::test]
    async fn a_byte_bound_never_gives_less_than_one_input() {
        let mut queue = Queue::new(1000, Spill::new(MemoryStore::default(), u64::MAX));
        queue.push(batch(0, 4)).await.expect("room");
        assert_eq!(queue.take(0, 4, 1).await.expect("there").len(), 1);
        assert_eq!(queue.take(1, 4, 16).await.expect("there").len(), 2);
    }
}
