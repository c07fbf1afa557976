//! Which input is where. Pure: no bytes, no clock, no I/O.
//!
//! ```text
//!            receive                 lease                    commit / final failure
//!  client ───────────▶ waiting ───────────────▶ leased ───────────────────────────▶ done
//!                         ▲   (fresh, or again)    │ retry, or its link is lost: attempt + 1
//!                         └────────────────────────┘ it never came there: as it was
//! ```
//!
//! A host that is back after its connection broke says what it holds: it keeps that, at the attempt it says, also where this machine comes back from the store and knows of no leases ([`Machine::link_holds`]).
//!
//! Inputs are held as ranges, so ten million of them cost as much as ten. What a link holds is in `leases`; what counts against an input that failed in `strikes`, the only place where one has an entry of its own.

mod leases;
mod strikes;

use std::collections::{BTreeMap, HashMap};

use self::leases::Leases;
use self::strikes::Strikes;
use super::PushError;

/// Names one connection of one host; a host that comes back has another.
pub type LinkId = u64;

/// How an input failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The user's code raised.
    Raised,
    /// It ended its worker, or had to be stopped: `worker_died`, `out_of_memory`, `timeout`.
    Killed,
    /// The host, agent or engine failed.
    Lost,
    /// Trying again cannot help.
    Permanent,
}

/// What becomes of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the input's output.
    Commit,
    /// The input killed too many workers: its output is the failure `poison`.
    Poison,
    /// The input is tried again.
    Again,
    /// The link does not hold this input at this attempt.
    Late,
}

/// A range of inputs with the attempt they are at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First index.
    pub first: u64,
    /// One past the last.
    pub end: u64,
    /// Attempt, from 1.
    pub attempt: u32,
}

/// The inputs of one call.
#[derive(Debug)]
pub struct Machine {
    retries: u32,
    received: u64,
    total: Option<u64>,
    fresh: u64,
    /// The attempt that inputs begin with.
    first_attempt: u32,
    again: BTreeMap<u64, (u64, u32)>,
    again_count: u64,
    leases: HashMap<LinkId, Leases>,
    strikes: Strikes,
    done: u64,
    failed: u64,
    late: u64,
}

impl Machine {
    /// A call without inputs yet, whose inputs are tried again up to `retries` times.
    pub fn new(retries: u32) -> Machine {
        Machine {
            retries,
            received: 0,
            total: None,
            fresh: 0,
            first_attempt: 1,
            again: BTreeMap::new(),
            again_count: 0,
            leases: HashMap::new(),
            strikes: Strikes::default(),
            done: 0,
            failed: 0,
            late: 0,
        }
    }

    /// The same for a call of an earlier gateway, which received `received` inputs and knows of some how they ended. The others begin at `first_attempt`, which should be higher than any attempt that was told of; what was held against them is forgotten.
    pub fn restored(
        retries: u32,
        received: u64,
        done: impl IntoIterator<Item = (u64, u64)>,
        failed: u64,
        first_attempt: u32,
    ) -> Machine {
        let mut machine = Machine { first_attempt, failed, ..Machine::new(retries) };
        let mut done: Vec<(u64, u64)> = done.into_iter().collect();
        done.sort_unstable();
        for (first, end) in done {
            machine.received = machine.received.max(first);
            machine.skip(end.saturating_sub(machine.received));
        }
        machine.received = machine.received.max(received);
        machine
    }

    /// The next `count` inputs have their outputs already, elsewhere.
    pub fn skip(&mut self, count: u64) {
        if self.fresh < self.received {
            // Only what comes last is fresh; what came before waits like inputs that are tried again.
            let (first, end, attempt) = (self.fresh, self.received, self.first_attempt);
            self.put_back(Range { first, end, attempt });
        }
        self.received += count;
        self.fresh = self.received;
        self.done += count;
    }

    /// Inputs `first .. first + count` are offered: how many of them, from the first on, were taken before.
    pub fn known(&self, first: u64, count: u64) -> Result<u64, PushError> {
        if first > self.received {
            return Err(PushError::Gap { expected: self.received });
        }
        let known = count.min(self.received - first);
        if known < count && self.total.is_some() {
            return Err(PushError::Closed);
        }
        Ok(known)
    }

    /// Inputs `first .. first + count` have come: whether they are new. A batch that was taken before is not, and is no error.
    pub fn receive(&mut self, first: u64, count: u64) -> Result<bool, PushError> {
        if first < self.received && first + count <= self.received {
            return Ok(false);
        }
        if first != self.received {
            return Err(PushError::Gap { expected: self.received });
        }
        if self.total.is_some() && count > 0 {
            return Err(PushError::Closed);
        }
        self.received += count;
        Ok(true)
    }

    /// No more inputs; `total`, where given, must be how many came.
    pub fn close(&mut self, total: Option<u64>) -> Result<(), PushError> {
        if total.is_some_and(|total| total != self.received) {
            return Err(PushError::Gap { expected: self.received });
        }
        self.total = Some(self.received);
        Ok(())
    }

    /// The range that [`lease`](Machine::lease) would begin with.
    pub fn next(&self) -> Option<Range> {
        match self.again.first_key_value() {
            Some((&first, &(end, attempt))) => Some(Range { first, end, attempt }),
            None if self.fresh < self.received => {
                Some(Range { first: self.fresh, end: self.received, attempt: self.first_attempt })
            }
            None => None,
        }
    }

    /// Leases the first `count` inputs of [`next`](Machine::next) to a link.
    pub fn lease(&mut self, link: LinkId, count: u64) -> Option<Range> {
        let next = self.next()?;
        let range = Range { end: next.end.min(next.first + count), ..next };
        if self.again.remove(&range.first).is_some() {
            self.again_count -= range.end - range.first;
            if range.end < next.end {
                self.again.insert(range.end, (next.end, next.attempt));
            }
        } else {
            self.fresh = range.end;
        }
        self.leases.entry(link).or_default().insert(range);
        Some(range)
    }

    /// Values for `first .. end` came from a link: the parts of it that count. The rest is late.
    pub fn values(&mut self, link: LinkId, first: u64, end: u64, attempt: u32) -> Vec<(u64, u64)> {
        let parts = self.take(link, first, end, attempt);
        let count: u64 = parts.iter().map(|(first, end)| end - first).sum();
        self.done += count;
        self.late += end - first - count;
        for &(first, end) in &parts {
            self.strikes.forget(first, end);
        }
        parts
    }

    /// An exception or failure for one input came from a link.
    pub fn fault(&mut self, link: LinkId, index: u64, attempt: u32, fault: Fault) -> Verdict {
        if self.take(link, index, index + 1, attempt).is_empty() {
            self.late += 1;
            return Verdict::Late;
        }
        self.judge(index, attempt, fault)
    }

    /// A link has ended: its inputs are waiting again. Gives those that were lost too often, which are failures now.
    pub fn link_lost(&mut self, link: LinkId) -> Vec<Range> {
        let mut given_up = Vec::new();
        for Range { first, end, attempt } in
            self.leases.remove(&link).unwrap_or_default().into_ranges()
        {
            for index in first..end {
                if self.judge(index, attempt, Fault::Lost) == Verdict::Commit {
                    given_up.push(Range { first: index, end: index + 1, attempt });
                }
            }
        }
        given_up
    }

    /// A host goes on over another link: what the old one held is the new one's.
    pub fn link_moved(&mut self, from: LinkId, to: LinkId) {
        if let Some(leases) = self.leases.remove(&from) {
            self.leases.insert(to, leases);
        }
    }

    /// A host says what it holds, at which attempts. What it was leased and does not hold never came there, and waits again as it was. What it holds
    /// and waits here, because an earlier gateway gave it, is leased to it; the rest is another's, or done: what comes of that is late.
    pub fn link_holds(&mut self, link: LinkId, held: &[Range]) {
        let mut own = Leases::default();
        let mut unknown = Vec::new();
        for &Range { first, end, attempt } in held {
            let mut at = first;
            for (first, end) in self.take(link, first, end, attempt) {
                unknown.push((at, first, attempt));
                own.insert(Range { first, end, attempt });
                at = end;
            }
            unknown.push((at, end, attempt));
        }
        for Range { first, end, attempt } in
            self.leases.remove(&link).unwrap_or_default().into_ranges()
        {
            self.put_back(Range { first, end, attempt });
        }
        for (first, end, attempt) in unknown {
            for (first, end) in self.take_waiting(first, end.min(self.received)) {
                own.insert(Range { first, end, attempt });
            }
        }
        if own.inputs() > 0 {
            self.leases.insert(link, own);
        }
    }

    /// Removes what of `first .. end` waits from what waits, and gives it.
    fn take_waiting(&mut self, first: u64, end: u64) -> Vec<(u64, u64)> {
        let mut taken = Vec::new();
        if first >= end {
            return taken;
        }
        let before = self.again.range(..first).next_back().map(|(&from, _)| from);
        let from = before.unwrap_or(first);
        let found: Vec<(u64, (u64, u32))> =
            self.again.range(from..end).map(|(&from, &range)| (from, range)).collect();
        for (from, (until, attempt)) in found {
            let (start, stop) = (from.max(first), until.min(end));
            if start >= stop {
                continue;
            }
            self.again.remove(&from);
            self.again_count -= until - from;
            if from < start {
                self.put_back(Range { first: from, end: start, attempt });
            }
            if stop < until {
                self.put_back(Range { first: stop, end: until, attempt });
            }
            taken.push((start, stop));
        }
        if end > self.fresh {
            let start = first.max(self.fresh);
            if self.fresh < start {
                let attempt = self.first_attempt;
                self.put_back(Range { first: self.fresh, end: start, attempt });
            }
            self.fresh = end;
            taken.push((start, end));
        }
        taken
    }

    fn put_back(&mut self, Range { first, end, attempt }: Range) {
        self.again_count += end - first;
        self.again.insert(first, (end, attempt));
    }

    /// Puts one input back, joined to the range before it where that is alike.
    fn wait_again(&mut self, index: u64, attempt: u32) {
        self.again_count += 1;
        if let Some((_, (end, before))) = self.again.range_mut(..index).next_back()
            && *end == index
            && *before == attempt
        {
            *end += 1;
            return;
        }
        self.again.insert(index, (index + 1, attempt));
    }

    fn judge(&mut self, index: u64, attempt: u32, fault: Fault) -> Verdict {
        let verdict = self.strikes.judge(index, fault, self.retries);
        if verdict == Verdict::Again {
            self.wait_again(index, attempt + 1);
        } else {
            self.done += 1;
            self.failed += 1;
        }
        verdict
    }

    /// Removes from a link's leases what of `first .. end` it holds at `attempt`, and gives it.
    fn take(&mut self, link: LinkId, first: u64, end: u64, attempt: u32) -> Vec<(u64, u64)> {
        let leases = self.leases.get_mut(&link);
        leases.map_or_else(Vec::new, |leases| leases.take(first, end, attempt))
    }

    /// How many inputs came.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many there are, once that is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// How many have their output.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// How many of those are exceptions or failures.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// How many outputs came too late.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// How many wait for a lease.
    pub fn waiting(&self) -> u64 {
        self.received - self.fresh + self.again_count
    }

    /// How many a link holds.
    pub fn leased_to(&self, link: LinkId) -> u64 {
        self.leases.get(&link).map_or(0, Leases::inputs)
    }

    /// How many came and have no output yet.
    pub fn outstanding(&self) -> u64 {
        self.received - self.done
    }

    /// Whether every input has its output, and no more will come.
    pub fn is_complete(&self) -> bool {
        self.total == Some(self.done)
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
