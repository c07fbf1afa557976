//! Which host has which name, and whether it is heard. Pure: time comes in, monotonic.
//!
//! ```text
//!  reserve ──▶ heard ──8 s of silence──▶ suspect ──55 s of silence──▶ given up: its connection is closed
//!                ▲                         │   │
//!                └──────── heard ──────────┘   └── another start of this host dials: it gets the seat, and this epoch is fenced
//! ```
//!
//! A name belongs to one start of one agent, its epoch. The same epoch that dials again replaces its own connection, which may be half dead. Another epoch is refused as long as the seat's host is heard: two machines with one identity do not take each
//! other's work. Where the host is suspect, the other is most likely the same machine started anew, and gets the seat; the epoch that had it is *fenced*: it is not let in again as long as the seat is held.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::calls::machine::LinkId;

/// Silence after which a host gets nothing new. An agent says something every 5 s.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(8);
/// Silence after which what a host holds is given to others: with the time it takes to see that and to lease, within 60 s.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(55);
/// Fenced epochs that are remembered for a name.
const FENCED: usize = 16;

/// All names.
#[derive(Debug, Default)]
pub struct Seats {
    next: LinkId,
    taken: HashMap<String, Seat>,
}

#[derive(Debug)]
struct Seat {
    epoch: u64,
    link: LinkId,
    heard: Instant,
    suspect: bool,
    fenced: Vec<u64>,
}

/// A name was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Names the new connection.
    pub link: LinkId,
    /// The connection that had the name.
    pub replaces: Option<LinkId>,
}

/// What has become of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is silent: it gets nothing new.
    Suspected,
    /// It is heard again, and goes on as if nothing had been.
    Back,
    /// It was silent for too long: others get what it has.
    GivenUp,
}

impl Seats {
    /// Gives a name to a connection of this epoch; `None` when the name is another's.
    pub fn reserve(&mut self, name: &str, epoch: u64, now: Instant) -> Option<Reserved> {
        let before = self.taken.get(name);
        let mut fenced = Vec::new();
        if let Some(seat) = before {
            fenced.clone_from(&seat.fenced);
            if seat.epoch != epoch {
                if !seat.suspect || fenced.contains(&epoch) {
                    return None;
                }
                fenced.truncate(FENCED - 1);
                fenced.insert(0, seat.epoch);
            }
        }
        let replaces = before.map(|seat| seat.link);
        self.next += 1;
        let link = self.next;
        let seat = Seat { epoch, link, heard: now, suspect: false, fenced };
        self.taken.insert(name.to_owned(), seat);
        Some(Reserved { link, replaces })
    }

    /// Looks at a host that was heard since the last look, or was not.
    pub fn look(&mut self, name: &str, link: LinkId, heard: bool, now: Instant) -> Option<Change> {
        let seat = self.taken.get_mut(name).filter(|seat| seat.link == link)?;
        if heard {
            seat.heard = now;
            return std::mem::take(&mut seat.suspect).then_some(Change::Back);
        }
        let silence = now.saturating_duration_since(seat.heard);
        if silence >= GIVE_UP_AFTER {
            return Some(Change::GivenUp);
        }
        let suspected = silence >= SUSPECT_AFTER && !seat.suspect;
        seat.suspect |= suspected;
        suspected.then_some(Change::Suspected)
    }

    /// A connection has ended; its name is free, unless another has it already.
    pub fn leave(&mut self, name: &str, link: LinkId) {
        if self.taken.get(name).is_some_and(|seat| seat.link == link) {
            self.taken.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn ten_seconds_of_silence_are_a_suspicion_and_no_more() {
        let (mut seats, start) = (Seats::default(), Instant::now());
        let link = seats.reserve("a", 1, start).expect("free").link;
        assert_eq!(seats.look("a", link, false, start + second(7)), None);
        assert_eq!(seats.look("a", link, false, start + second(8)), Some(Change::Suspected));
        assert_eq!(seats.look("a", link, false, start + second(9)), None, "said once");
        assert_eq!(seats.look("a", link, true, start + second(10)), Some(Change::Back));
        assert_eq!(seats.look("a", link, true, start + second(11)), None);
    }

    #[test]
    fn a_host_that_stays_silent_is_given_up_within_a_minute() {
        let (mut seats, start) = (Seats::default(), Instant::now());
        let link = seats.reserve("a", 1, start).expect("free").link;
        seats.look("a", link, false, start + second(8));
        assert_eq!(seats.look("a", link, false, start + second(54)), None);
        assert_eq!(seats.look("a", link, false, start + second(55)), Some(Change::GivenUp));
        assert!(GIVE_UP_AFTER < second(60));
    }

    #[test]
    fn the_same_identity_twice_is_refused_while_the_first_is_heard() {
        let (mut seats, start) = (Seats::default(), Instant::now());
        let first = seats.reserve("a", 1, start).expect("free");
        assert_eq!(seats.reserve("a", 2, start + second(5)), None);
        let again = seats.reserve("a", 1, start + second(6)).expect("its own name");
        assert_eq!(again.replaces, Some(first.link));
        // The connection that was replaced has no say any more.
        assert_eq!(seats.look("a", first.link, false, start + second(100)), None);
        seats.leave("a", first.link);
        assert_eq!(seats.reserve("a", 2, start + second(7)), None);
        seats.leave("a", again.link);
        assert!(seats.reserve("a", 2, start + second(8)).is_some());
    }

    #[test]
    fn a_host_started_anew_gets_the_seat_of_its_silent_former_self_which_is_fenced() {
        let (mut seats, start) = (Seats::default(), Instant::now());
        let old = seats.reserve("a", 1, start).expect("free").link;
        seats.look("a", old, false, start + second(8));
        let new = seats.reserve("a", 2, start + second(9)).expect("the old one is silent");
        assert_eq!(new.replaces, Some(old));
        assert_eq!(seats.reserve("a", 1, start + second(10)), None);
        // Not even where the new one is silent too; a third start gets the seat.
        seats.look("a", new.link, false, start + second(20));
        assert_eq!(seats.reserve("a", 1, start + second(21)), None);
        assert!(seats.reserve("a", 3, start + second(21)).is_some());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Dial(u64),
        Look(bool, u64),
        Leave,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1u64..4).prop_map(Step::Dial),
            (any::<bool>(), 1u64..30).prop_map(|(heard, wait)| Step::Look(heard, wait)),
            Just(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn a_name_changes_hands_only_from_a_silent_host_and_never_back(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let (mut seats, mut now) = (Seats::default(), Instant::now());
            // The model: who has the seat, since when it is silent, and who had it before.
            let mut seat: Option<(u64, LinkId, Instant, bool)> = None;
            let mut past: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Dial(epoch) => {
                        let given = seats.reserve("a", epoch, now);
                        let may = seat.is_none_or(|(has, _, _, suspect)| {
                            has == epoch || (suspect && !past.contains(&epoch))
                        });
                        prop_assert_eq!(given.is_some(), may);
                        if let Some(given) = given {
                            prop_assert_eq!(given.replaces, seat.map(|(_, link, _, _)| link));
                            if let Some((has, ..)) = seat && has != epoch {
                                past.push(has);
                            }
                            seat = Some((epoch, given.link, now, false));
                        }
                    }
                    Step::Look(heard, wait) => {
                        now += second(wait);
                        let Some((_, link, since, suspect)) = &mut seat else { continue };
                        let change = seats.look("a", *link, heard, now);
                        if heard {
                            *since = now;
                        }
                        let silence = now - *since;
                        let expected = match (heard, *suspect) {
                            (true, true) => Some(Change::Back),
                            (true, false) => None,
                            _ if silence >= GIVE_UP_AFTER => Some(Change::GivenUp),
                            (false, false) if silence >= SUSPECT_AFTER => Some(Change::Suspected),
                            _ => None,
                        };
                        prop_assert_eq!(change, expected);
                        match change {
                            Some(Change::Back) => *suspect = false,
                            Some(Change::Suspected) => *suspect = true,
                            _ => {}
                        }
                    }
                    Step::Leave => if let Some((_, link, ..)) = seat.take() {
                        seats.leave("a", link);
                        past.clear();
                    },
                }
            }
        }
    }
}
