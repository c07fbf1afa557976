//! Which host gets which inputs, and how many workers it may have for them.

use muster_wire::batch::{Outputs, Status};
use muster_wire::message::to_json;

use super::{Broken, Owner};
use crate::calls::damage;
use crate::calls::machine::{Fault, LinkId, Range, Verdict};

impl Owner {
    /// How many workers the call can use. While inputs may still come it keeps what it has.
    pub(super) fn wanted(&self) -> u32 {
        let limit = self.shared.options.max_parallelism.unwrap_or(u32::MAX);
        let useful = u32::try_from(self.machine.outstanding()).unwrap_or(u32::MAX);
        let placed = self.placement.targets.iter().map(|target| target.workers).sum();
        let kept = match self.machine.total() {
            Some(_) => 0,
            None => placed,
        };
        // What its waiting workers lend is for its children.
        let limit = match self.shared.family.children() {
            0 => limit,
            _ => limit.min(placed.max(1)),
        };
        useful.max(kept).min(self.placement.slots.max(1)).min(limit)
    }

    /// Tells hosts how many workers they may have. A host keeps one while it holds inputs: none is taken from it unfinished.
    pub(super) fn tell_workers(&mut self) {
        let holds = |id| self.machine.leased_to(id) > 0;
        self.hosts.tell_workers(holds, self.machine.received());
    }

    /// Leases inputs to hosts as far as their demand goes, turn by turn.
    pub(super) async fn lease(&mut self) -> Result<(), Broken> {
        let mut from = 0;
        while self.machine.next().is_some() && !self.hosts.awaited() {
            let Some((id, _)) = self.hosts.willing_from(from) else {
                match from {
                    0 => break,
                    // The next turn.
                    _ => from = 0,
                }
                continue;
            };
            if !self.lease_to(id).await? {
                self.hosts.unwilling(id);
            }
            from = id + 1;
        }
        Ok(())
    }

    async fn lease_to(&mut self, id: LinkId) -> Result<bool, Broken> {
        let (Some(next), Some((_, host))) = (self.machine.next(), self.hosts.willing_from(id))
        else {
            return Ok(false);
        };
        let Some((wanted, bytes)) = host.allowance() else { return Ok(false) };
        let count = wanted.min(next.end - next.first);
        let inputs = match self.queue.take(next.first, count, bytes).await {
            Err(error) if error.is_loss() => {
                self.fail_damaged(id, next, &error);
                return Ok(true);
            }
            taken => taken?.at_attempt(next.attempt),
        };
        let count = inputs.len() as u64;
        if !host.give(&inputs) {
            return Ok(false);
        }
        self.machine.lease(id, count);
        Ok(true)
    }

    /// The next inputs cannot be read back: they fail without having run, in the name of the host that would have had them.
    fn fail_damaged(&mut self, id: LinkId, next: Range, broken: &Broken) {
        let count = next.end.min(self.queue.chunk_end(next.first)) - next.first;
        let (call, first, error) = (&self.shared.spec.call, next.first, crate::chain(broken));
        tracing::error!(call, first, count, error, "inputs are damaged and fail");
        let item = to_json(&damage::of_input());
        self.machine.lease(id, count);
        for index in first..first + count {
            let verdict = self.machine.fault(id, index, next.attempt, Fault::Permanent);
            debug_assert_eq!(verdict, Verdict::Commit, "it was leased just now, for good");
            self.commit_fault(index, Outputs::single(index, next.attempt, Status::Failure, &item));
        }
    }
}
