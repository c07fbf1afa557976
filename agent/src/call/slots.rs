//! The workers of a call on this host, and what each of them is at. Orders are given here, and never waited for.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::batching::{self, Pace};
use super::driver::Order;
use super::queue::Queue;

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Slots {
    slots: BTreeMap<u64, Slot>,
    ids: u64,
}

#[derive(Debug)]
struct Slot {
    orders: mpsc::Sender<Order>,
    state: State,
    /// How many inputs its last batch had.
    last: usize,
}

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being claimed.
    Starting,
    /// Takes inputs.
    Idle,
    /// Runs some.
    Busy,
    /// Busy, and to stop after its batch.
    Retiring,
    /// Told to stop.
    Leaving,
}

/// Counts against what is wanted.
pub fn is_active(state: State) -> bool {
    matches!(state, State::Starting | State::Idle | State::Busy)
}

/// Takes inputs, or runs some.
pub fn is_running(state: State) -> bool {
    matches!(state, State::Idle | State::Busy | State::Retiring)
}

impl Slots {
    /// One more worker that starts: its number, and where it gets its orders from.
    pub fn add(&mut self) -> (u64, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(1);
        self.ids += 1;
        self.slots.insert(self.ids, Slot { orders, state: State::Starting, last: 0 });
        (self.ids, receiver)
    }

    /// Its last report has come.
    pub fn remove(&mut self, id: u64) {
        self.slots.remove(&id);
    }

    /// How many are at this.
    pub fn count(&self, of: impl Fn(State) -> bool) -> usize {
        self.slots.values().filter(|slot| of(slot.state)).count()
    }

    /// A worker that is at `from` is at `to` now.
    pub fn set(&mut self, id: u64, from: State, to: State) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.state == from
        {
            slot.state = to;
        }
    }

    /// Tells a worker that is at this to stop.
    pub fn stop(&mut self, id: u64, state: State) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.state == state
        {
            slot.state = State::Leaving;
            // Full or closed: it is ending already.
            let _ = slot.orders.try_send(Order::Stop);
        }
    }

    /// Tells every worker to stop.
    pub fn stop_all(&self) {
        for slot in self.slots.values() {
            // A driver whose orders are full, or closed, is ending already.
            let _ = slot.orders.try_send(Order::Stop);
        }
    }

    /// No more workers than are wanted: the youngest go first, and busy ones last and after their batch.
    pub fn shrink(&mut self, wanted: usize) {
        for state in [State::Starting, State::Idle, State::Busy] {
            while self.count(is_active) > wanted {
                let last = self.slots.iter().rev().find(|(_, slot)| slot.state == state);
                let Some(id) = last.map(|(id, _)| *id) else { break };
                if state == State::Busy {
                    self.set(id, State::Busy, State::Retiring);
                } else {
                    self.stop(id, state);
                }
            }
        }
    }

    /// A batch for each worker that has none.
    pub fn hand_out(&mut self, queue: &mut Queue, pace: &Pace) {
        let workers = self.count(is_running);
        let waiting = queue.len();
        for slot in self.slots.values_mut().filter(|slot| slot.state == State::Idle) {
            let size = pace.batch(slot.last, waiting, workers);
            let Some(batch) = queue.take(size, batching::MAX_BYTES) else { return };
            slot.last = batch.len();
            match slot.orders.try_send(Order::Run(Box::new(batch))) {
                Ok(()) => slot.state = State::Busy,
                // It died while it was idle; its report is on the way.
                Err(mpsc::error::TrySendError::Closed(Order::Run(batch)))
                | Err(mpsc::error::TrySendError::Full(Order::Run(batch))) => {
                    slot.state = State::Leaving;
                    queue.put_back(*batch);
                }
                Err(_) => slot.state = State::Leaving,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_wire::batch::Inputs;

    fn queue(inputs: usize) -> Queue {
        let mut queue = Queue::default();
        queue.push(Inputs::from_items(0, 1, &vec![b"x"; inputs]));
        queue
    }

    fn idle(slots: &mut Slots) -> (u64, mpsc::Receiver<Order>) {
        let (id, orders) = slots.add();
        slots.set(id, State::Starting, State::Idle);
        (id, orders)
    }

    #[test]
    fn the_youngest_go_first_and_busy_ones_last_and_after_their_batch() {
        let mut slots = Slots::default();
        let (_, mut busy) = idle(&mut slots);
        slots.hand_out(&mut queue(1), &Pace::default());
        let (_, mut idle) = idle(&mut slots);
        let (_, mut starting) = slots.add();
        assert!(matches!(busy.try_recv(), Ok(Order::Run(_))));
        slots.shrink(2);
        assert!(matches!(starting.try_recv(), Ok(Order::Stop)) && idle.try_recv().is_err());
        slots.shrink(1);
        assert!(matches!(idle.try_recv(), Ok(Order::Stop)));
        slots.shrink(0);
        assert!(busy.try_recv().is_err(), "it has a batch to end");
        assert_eq!((slots.count(is_active), slots.count(is_running)), (0, 1));
    }

    #[test]
    fn what_a_worker_that_has_died_was_given_is_there_for_another() {
        let mut slots = Slots::default();
        let (_, dead) = idle(&mut slots);
        drop(dead);
        let mut inputs = queue(1);
        slots.hand_out(&mut inputs, &Pace::default());
        assert_eq!((inputs.len(), slots.count(is_active)), (1, 0));
        let (_, mut alive) = idle(&mut slots);
        slots.hand_out(&mut inputs, &Pace::default());
        assert!(matches!(alive.try_recv(), Ok(Order::Run(batch)) if batch.len() == 1));
    }
}
