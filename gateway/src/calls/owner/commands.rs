//! What the client of a call wants: inputs taken, closed, counted.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Broken, Owner};
use crate::calls::handle::Command;
use crate::calls::{CallState, EndError, PushError};
use crate::store::durable::Digest;

impl Owner {
    pub(super) async fn obey(&mut self, command: Command) -> Result<(), Broken> {
        self.fed = Instant::now();
        let (answer, reply): (_, oneshot::Sender<_>) = match command {
            Command::Offer(range, digest, reply) => {
                let _ = reply.send(self.offer(&range, digest));
                return Ok(());
            }
            Command::Skip(range, reply) => {
                let count = range.end - range.start;
                let known = self.machine.known(range.start, count);
                (known.map(|known| self.machine.skip(count - known)), reply)
            }
            Command::Fail(error) => {
                self.stop(CallState::Failed, Some(EndError::Call(error)));
                return Ok(());
            }
            Command::Push(mut inputs, reply) => {
                let known = self.machine.known(inputs.first, inputs.len() as u64);
                if let Ok(known) = known {
                    inputs.split_to(known as usize);
                }
                if known.is_ok() && !inputs.is_empty() {
                    // It was known just now.
                    let _ = self.machine.receive(inputs.first, inputs.len() as u64);
                    self.queue.push(inputs).await?;
                }
                (known.map(drop), reply)
            }
            Command::End(total, reply) => (self.machine.close(total), reply),
            Command::Count(reply) => (Ok(()), reply),
        };
        let _ = reply.send(answer.map(|()| self.machine.received()));
        Ok(())
    }

    /// How many of these inputs are there already. A batch that came before, as a whole, must be the same again.
    fn offer(&mut self, range: &std::ops::Range<u64>, digest: Digest) -> Result<u64, PushError> {
        let count = range.end - range.start;
        let known = self.machine.known(range.start, count)?;
        match self.digests.get(&range.start) {
            Some(&(before, other)) if before == count && other != digest => {
                return Err(PushError::Differs { first: range.start });
            }
            _ => {}
        }
        if known < count {
            self.digests.insert(range.start + known, (count - known, digest));
        }
        Ok(known)
    }
}
