//! The host's cores and memory: [`crate::capacity`] behind a lock that is never held across an await, and guards that give
//! back what they hold however a claim ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{oneshot, watch};

use crate::capacity::{Capacity, Millis, Room, Ticket, Want};
use crate::status::Board;

/// A cheap handle to the host's cores and memory.
#[derive(Debug, Clone)]
pub struct Rooms {
    shared: Arc<Mutex<Shared>>,
    board: Board,
}

#[derive(Debug)]
struct Shared {
    capacity: Capacity,
    waiters: HashMap<Ticket, oneshot::Sender<RoomGuard>>,
    held: u32,
    /// Those of them whose cores are lent.
    waiting: u32,
}

/// Room for one worker; goes back when it is dropped.
#[derive(Debug)]
pub struct RoomGuard {
    room: Option<Room>,
    /// Whether its cores are lent.
    lent: AtomicBool,
    rooms: Rooms,
}

impl Rooms {
    /// All of it free.
    pub fn new(capacity: Capacity, board: Board) -> Rooms {
        let shared = Shared { capacity, waiters: HashMap::new(), held: 0, waiting: 0 };
        Rooms { shared: Arc::new(Mutex::new(shared)), board }
    }

    /// What an empty host has, if that is too little for this want.
    pub fn too_little_for(&self, want: &Want) -> Option<Want> {
        let shared = self.lock();
        (!shared.capacity.fits_ever(want)).then(|| shared.capacity.total())
    }

    /// Waits until there is room, and says meanwhile how little there is. Dropping the future leaves the queue.
    pub async fn take(&self, want: Want, waiting: &watch::Sender<Option<String>>) -> RoomGuard {
        let (sender, mut receiver) = oneshot::channel();
        let ticket = {
            let mut shared = self.lock();
            let ticket = shared.capacity.enter(want);
            shared.waiters.insert(ticket, sender);
            ticket
        };
        let place = Place { rooms: self, ticket };
        self.serve();
        let mut changes = self.board.watch();
        loop {
            if let Ok(guard) = receiver.try_recv() {
                return guard;
            }
            let (free, total) = self.lock().capacity.slots(&want);
            say(waiting, format!("{free} of {total} slots free"));
            tokio::select! {
                biased;
                granted = &mut receiver => match granted {
                    Ok(guard) => { drop(place); return guard; }
                    Err(_) => unreachable!("the sender is kept until it has sent or its place is left"),
                },
                _ = changes.changed() => {}
            }
        }
    }

    /// Gives room to whoever waits, as far as there is any.
    fn serve(&self) {
        let granted: Vec<_> = {
            let mut shared = self.lock();
            let granted = shared.capacity.grant();
            shared.held += granted.len() as u32;
            granted
                .into_iter()
                .map(|(ticket, room)| (shared.waiters.remove(&ticket), room))
                .collect()
        };
        for (waiter, room) in granted {
            let guard =
                RoomGuard { room: Some(room), lent: AtomicBool::new(false), rooms: self.clone() };
            // Whoever left in this very moment lets the guard fall, which gives the room to the next.
            if let Some(waiter) = waiter {
                let _ = waiter.send(guard);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let (free, lent, waiting, held) = {
            let shared = self.lock();
            (shared.capacity.free(), shared.capacity.lent(), shared.waiting, shared.held)
        };
        self.board.free(cores(free.cpu), (cores(lent), waiting), free.ram, held);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl RoomGuard {
    /// What was taken.
    pub fn room(&self) -> &Room {
        self.room.as_ref().expect("it is only taken out when the guard is dropped")
    }

    /// Its worker only waits: others may have its cores.
    pub fn lend(&self) {
        if !self.lent.swap(true, Ordering::Relaxed) {
            {
                let mut shared = self.rooms.lock();
                shared.waiting += 1;
                shared.capacity.lend(self.room());
            }
            self.rooms.serve();
        }
    }

    /// Its worker goes on.
    pub fn take_back(&self) {
        if self.lent.swap(false, Ordering::Relaxed) {
            {
                let mut shared = self.rooms.lock();
                shared.waiting -= 1;
                shared.capacity.take_back(self.room());
            }
            self.rooms.serve();
        }
    }
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        self.take_back();
        if let Some(room) = self.room.take() {
            {
                let mut shared = self.rooms.lock();
                shared.held -= 1;
                shared.capacity.give_back(room);
            }
            self.rooms.serve();
        }
    }
}

/// A place in the queue, left when the claim is dropped; leaving after having been served changes nothing.
struct Place<'a> {
    rooms: &'a Rooms,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut shared = self.rooms.lock();
        shared.capacity.leave(self.ticket);
        shared.waiters.remove(&self.ticket);
    }
}

fn cores(cpu: Millis) -> f64 {
    cpu as f64 / 1000.0
}

/// Tells a reader why it waits; only a change wakes it.
pub fn say(waiting: &watch::Sender<Option<String>>, why: String) {
    waiting.send_if_modified(|now| {
        let changed = now.as_ref() != Some(&why);
        *now = Some(why);
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rooms(cores: usize) -> Rooms {
        let settings = crate::settings::for_tests(cores);
        let board = Board::new(&settings);
        Rooms::new(Capacity::new(settings.cpus.iter().copied(), settings.ram_bytes), board)
    }

    #[tokio::test]
    async fn room_goes_to_the_next_when_it_comes_back() {
        let rooms = rooms(1);
        let (waiting, mut why) = watch::channel(None);
        let want = Want::new(1.0, 1);
        let first = rooms.take(want, &waiting).await;
        assert_eq!(first.room().cores, vec![0]);
        let other = rooms.clone();
        let second =
            crate::tasks::Tasks::new().spawn(async move { other.take(want, &waiting).await });
        let said = tokio::time::timeout(Duration::from_secs(5), why.wait_for(|why| why.is_some()))
            .await
            .expect("in time")
            .expect("the sender lives")
            .clone();
        assert_eq!(said.as_deref(), Some("0 of 1 slots free"));
        drop(first);
        let second = tokio::time::timeout(Duration::from_secs(5), second).await.expect("in time");
        assert_eq!(second.expect("no panic").room().cores, vec![0]);
    }

    #[tokio::test]
    async fn a_dropped_claim_leaves_the_queue() {
        let rooms = rooms(1);
        let (waiting, _why) = watch::channel(None);
        let first = rooms.take(Want::new(1.0, 1), &waiting).await;
        {
            let claim = rooms.take(Want::new(1.0, 1), &waiting);
            let _ = tokio::time::timeout(Duration::from_millis(1), claim).await;
        }
        assert_eq!(rooms.lock().capacity.waiting(), 0);
        drop(first);
        let shared = rooms.lock();
        assert_eq!(shared.capacity.free(), shared.capacity.total());
    }
}
