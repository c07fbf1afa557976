//! One simulated host: the agent's link, status and rooms, with simulated workers.

use std::sync::Arc;
use std::time::Duration;

use muster_agent::capacity::Capacity;
use muster_agent::container::Rooms;
use muster_agent::link::identity::JoinString;
use muster_agent::link::{Connect, Dial, JoinBy, Link, Source};
use muster_agent::status::Board;
use muster_agent::tasks::Tasks;
use muster_wire::message::Image;

use crate::tally::Tally;
use crate::worker::SimulatedWorkers;

/// The image that most hosts have.
pub const IMAGE: &str = "muster/python:3.11";
/// The image of the host that calls wait for.
pub const BUSY_IMAGE: &str = "busy:1";
/// Its Python.
pub const PYTHON: &str = "3.11";

/// How large each host is, and how its workers start.
#[derive(Debug, Clone, Copy)]
pub struct HostConfig {
    /// Cores.
    pub cores: usize,
    /// Memory, in bytes.
    pub ram_bytes: u64,
    /// How long a worker takes to start.
    pub start: Duration,
    /// Its one image.
    pub image: &'static str,
}

/// A host that dials its gateway until it is dropped.
#[derive(Debug)]
pub struct Host {
    board: Board,
    links: Tasks,
    calls: Tasks,
}

impl Host {
    /// Joins, dials, and serves.
    pub fn start(join: &JoinString, name: &str, config: HostConfig, tally: &Tally) -> Host {
        let join = Some(JoinBy::String(join.clone()));
        Host::over(Dial::new(name, Source { join, ..Source::default() }), config, tally)
    }

    /// The same over any network.
    pub fn over(dial: impl Connect, config: HostConfig, tally: &Tally) -> Host {
        let board = Board::of(dial.host(), config.cores, config.ram_bytes, false);
        board.images(vec![Image { name: config.image.into(), python: Some(PYTHON.into()) }]);
        let rooms = Rooms::new(Capacity::new(0..config.cores, config.ram_bytes), board.clone());
        let workers = SimulatedWorkers { rooms, tally: tally.clone(), start: config.start };
        let (links, calls) = (Tasks::new(), Tasks::new());
        let link = Link::new(Arc::new(dial), board.clone(), workers, links.clone(), calls.clone());
        links.spawn_critical("link", link.run());
        Host { board, links, calls }
    }

    /// Has it take nothing new, as an agent that is stopping does.
    pub fn drain(&self) {
        self.board.drain();
    }

    /// How many workers calls have here.
    pub fn workers(&self) -> u32 {
        self.board.watch().borrow().workers
    }

    /// How many tasks its calls have.
    pub fn call_tasks(&self) -> usize {
        self.calls.len()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.calls.stop();
        self.links.stop();
    }
}
