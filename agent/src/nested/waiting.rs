//! Whether a worker waits for its children: as long as it has a stream of one open, its cores are lent.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::container::RoomGuard;

/// Counts a worker's open streams.
#[derive(Debug, Clone)]
pub struct Waiting {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    streams: Mutex<usize>,
    /// Gone with the worker, and then there is nothing to lend.
    room: Weak<RoomGuard>,
}

/// One open stream; dropping it ends its wait.
#[derive(Debug)]
pub struct Wait {
    waiting: Waiting,
}

impl Waiting {
    /// A worker without streams.
    pub fn new(room: Weak<RoomGuard>) -> Waiting {
        Waiting { shared: Arc::new(Shared { streams: Mutex::new(0), room }) }
    }

    /// It opens a stream.
    pub fn begin(&self) -> Wait {
        self.count(|streams| {
            *streams += 1;
            (*streams == 1).then_some(RoomGuard::lend)
        });
        Wait { waiting: self.clone() }
    }

    /// Lends and takes back in the order in which streams begin and end.
    fn count(&self, change: impl FnOnce(&mut usize) -> Option<fn(&RoomGuard)>) {
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let then = change(&mut streams);
        if let (Some(then), Some(room)) = (then, self.shared.room.upgrade()) {
            then(&room);
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waiting.count(|streams| {
            *streams -= 1;
            (*streams == 0).then_some(RoomGuard::take_back)
        });
    }
}
