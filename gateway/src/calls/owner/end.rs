//! How a call comes to its end, and what is told of it then.

use muster_wire::message::CallError;

use super::{Broken, Owner};
use crate::calls::hosts::Hosts;
use crate::calls::saver::Saver;
use crate::calls::{CallState, EndError, damage, registry};
use crate::tasks::Tasks;

impl Owner {
    /// A call that goes on where an earlier gateway left it may have come to its end already.
    pub(super) fn begin(&mut self, failed: Option<u64>, damaged: bool) {
        if damaged {
            self.stop(CallState::Failed, Some(EndError::Call(damage::of_function())));
        } else if let Some(index) = failed {
            self.stop_at_failure(index);
        } else if self.machine.is_complete() {
            self.stop(CallState::Succeeded, None);
        }
    }

    /// The client may submit what has no output to the next gateway.
    pub(super) fn stop_with_gateway(&mut self) {
        let error = CallError {
            code: "stopping".to_owned(),
            message: "the gateway stopped".to_owned(),
            action: "submit what has no output again, to the next gateway".to_owned(),
        };
        self.stop(CallState::Cancelled, Some(EndError::Call(error)));
    }

    pub(super) fn give_up_upload(&mut self) {
        let error = CallError {
            code: "upload_stopped".to_owned(),
            message: "the client of this background call gave no more inputs, nor closed them, for too long".to_owned(),
            action: "submit the call again; with the same key it would have gone on before".to_owned(),
        };
        self.stop(CallState::Cancelled, Some(EndError::Call(error)));
    }

    pub(super) fn stop(&mut self, state: CallState, error: Option<EndError>) {
        if self.end.is_none() {
            self.end = Some((state, error));
        }
    }

    pub(super) fn break_down(&mut self, broken: &Broken) {
        let error = crate::chain(broken);
        tracing::error!(
            call = self.shared.spec.call,
            error,
            "call ended: its inputs or events could not be kept"
        );
        self.end = None;
        self.stop(
            CallState::Failed,
            Some(EndError::Call(CallError {
                code: "internal".to_owned(),
                message: "the gateway could not keep the inputs or events of this call".to_owned(),
                action: "look into the gateway's log, and submit again".to_owned(),
            })),
        );
    }

    pub(super) async fn finish(mut self, saver: Option<Saver>, tasks: &Tasks) {
        let (state, error) = self.end.take().unwrap_or((CallState::Cancelled, None));
        self.state = state;
        self.publish();
        let mut last = self.shared.record.borrow().clone();
        last.ended = Some(registry::now());
        (last.workers, last.hosts, last.waiting) = (0, 0, None);
        last.exit_code = if last.total == Some(1) { last.exit_code } else { None };
        last.error = error;
        let end = damage::end_of(&last);
        let release = |hosts: Hosts| {
            for host in hosts.into_all() {
                if state == CallState::Succeeded {
                    host.finish(self.machine.received());
                }
            }
        };
        match saver {
            Some(saver) => {
                self.shared.log.close(end);
                release(self.hosts);
                let seq = self.shared.log.last_seq();
                last.seq = seq;
                if !saver.end(&last, || tasks.is_stopping()).await {
                    // The next gateway ends it.
                    return self.shared.log.suspend();
                }
                self.shared.record.send_replace(last);
                drop(self.live);
                self.shared.log.saved(seq);
            }
            None => {
                self.shared.record.send_replace(last);
                // Who sees the end may count on the room for another call.
                drop(self.live);
                self.shared.log.close(end);
                release(self.hosts);
            }
        }
        // Who waits for the end goes first.
        tokio::task::yield_now().await;
        let call = &self.shared.spec.call;
        let (done, failed, late) =
            (self.machine.done(), self.machine.failed(), self.machine.late());
        tracing::info!(call, ?state, done, failed, late, "call ended");
    }
}
