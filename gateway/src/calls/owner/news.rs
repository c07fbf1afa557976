//! What hosts say, and what becomes of inputs by it.

use std::borrow::Cow;
use std::time::Duration;

use muster_wire::batch::{Outputs, Status};
use muster_wire::message::{CallKind, ExceptionHead, Failure, WorkerStatus, from_json, to_json};
use muster_wire::receipt::Receipt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Owner;
use crate::calls::machine::{Fault, LinkId, Range, Verdict};
use crate::calls::{CallState, EndError, OnError, receipt};
use crate::link::{LinkEvent, News};

/// News taken in before leases, the log and the record are seen to.
const AT_ONCE: usize = 64;
/// How long after the end of an exchange another is opened with the same host.
const REOPEN: Duration = Duration::from_millis(500);

impl Owner {
    pub(super) fn hear_all(&mut self, news: News, inbox: &mut mpsc::Receiver<News>) {
        self.hear(news);
        for _ in 0..AT_ONCE {
            if self.shared.log.is_over_budget() {
                break;
            }
            let Ok(news) = inbox.try_recv() else { break };
            self.hear(news);
        }
    }

    fn hear(&mut self, News { link, event, place, .. }: News) {
        self.hosts.took(link, place);
        match event {
            LinkEvent::Demand(inputs, bytes) => {
                if let Some(host) = self.hosts.stir(link) {
                    host.demand = (inputs, bytes);
                }
            }
            LinkEvent::Workers(status) => self.note_workers(link, status),
            LinkEvent::Print(print, frame) => {
                if self.hosts.has(link) && print.index < self.machine.received() {
                    self.runs();
                    self.shared.log.append_print(frame);
                }
            }
            LinkEvent::Receipt(receipt) => self.note_receipt(link, receipt),
            LinkEvent::Outputs(outputs) => self.take_outputs(link, outputs),
            LinkEvent::Held(held) => {
                if let Some(held) = self.hosts.holds(link, &held) {
                    self.machine.link_holds(link, &held);
                }
            }
            LinkEvent::Broken if self.hosts.breaks(link) => {}
            LinkEvent::Refused => {
                self.machine.link_holds(link, &[]);
                self.lose(link);
            }
            LinkEvent::Broken | LinkEvent::Ended => self.lose(link),
        }
    }

    /// Says what inputs cost, before their outputs: after the last of those nothing is said any more.
    fn note_receipt(&mut self, link: LinkId, receipt: Receipt) {
        let end = receipt.first.saturating_add(u64::from(receipt.count));
        if end > self.machine.received() {
            return;
        }
        if self.hosts.has(link) {
            self.runs();
        }
        if let Some(host) = self.hosts.name(link) {
            let event = receipt::event(&receipt, host, self.age_before + self.begun.elapsed());
            self.shared.log.append(event);
        }
    }

    /// Inputs are being run. A host says so late, or not at all if they are short: what comes of them says it too.
    fn runs(&mut self) {
        if self.state == CallState::Queued {
            self.state = CallState::Running;
            self.say_state();
        }
    }

    fn note_workers(&mut self, link: LinkId, status: WorkerStatus) {
        if status.running > 0 {
            self.runs();
        }
        if let Some(error) = status.error.clone() {
            self.hosts.remove(link);
            self.lose_leases(link);
            self.stop(CallState::Failed, Some(EndError::Call(error)));
        } else {
            self.hosts.note(link, status);
        }
    }

    fn take_outputs(&mut self, link: LinkId, mut outputs: Outputs) {
        // What it holds changes.
        if self.hosts.stir(link).is_some() {
            self.runs();
        }
        while !outputs.is_empty() {
            let values = outputs.leading_values();
            if values > 0 {
                self.take_values(link, outputs.split_to(values));
            } else {
                self.take_fault(link, outputs.split_to(1));
            }
        }
    }

    fn take_values(&mut self, link: LinkId, mut outputs: Outputs) {
        for (first, end) in self.machine.values(link, outputs.first, outputs.end(), outputs.attempt)
        {
            outputs.split_to((first - outputs.first) as usize);
            let part = outputs.split_to((end - first) as usize);
            self.note_exit_code(&part);
            self.shared.log.append(part.in_pieces());
            self.queue.done(first, end);
            self.progress = Instant::now();
        }
    }

    fn take_fault(&mut self, link: LinkId, outputs: Outputs) {
        let Some((index, status, item)) = outputs.iter().next() else { return };
        let failure: Option<Failure> = match status {
            Status::Failure => from_json("failure", &item).ok(),
            _ => None,
        };
        let fault = match failure.as_ref().map(|failure| failure.code.as_str()) {
            None => Fault::Raised,
            Some("worker_died" | "out_of_memory" | "timeout") => Fault::Killed,
            Some("lost") => Fault::Lost,
            Some(_) => Fault::Permanent,
        };
        match self.machine.fault(link, index, outputs.attempt, fault) {
            Verdict::Late | Verdict::Again => {}
            Verdict::Commit => self.commit_fault(index, outputs.clone()),
            Verdict::Poison => {
                let mut failure = failure.unwrap_or_default();
                failure.message =
                    format!("the input ended its worker 3 times, at last so: {}", failure.message);
                failure.code = "poison".to_owned();
                let item = to_json(&failure);
                let poison = Outputs::single(index, outputs.attempt, Status::Failure, &item);
                self.commit_fault(index, poison);
            }
        }
    }

    pub(super) fn commit_fault(&mut self, index: u64, output: Outputs) {
        self.note_exit_code(&output);
        self.shared.log.append(output.in_pieces());
        self.queue.done(index, index + 1);
        self.stop_at_failure(index);
    }

    pub(super) fn stop_at_failure(&mut self, index: u64) {
        if self.shared.options.on_error == OnError::Stop {
            let code = Cow::Borrowed("input_failed");
            self.stop(CallState::Failed, Some(EndError::Input { code, index }));
        }
    }

    /// Keeps the exit code of a command that has one input, for the record.
    fn note_exit_code(&mut self, outputs: &Outputs) {
        if self.shared.spec.kind != CallKind::Command || outputs.first != 0 {
            return;
        }
        if let Some((_, status, item)) = outputs.iter().next() {
            self.exit_code = match status {
                Status::Value => Some(0),
                Status::Exception => {
                    ExceptionHead::of_item(&item).ok().and_then(|head| head.exit_code)
                }
                Status::Failure => None,
            };
        }
    }

    /// An exchange has ended. If its host stays in the placement, another is opened after a pause.
    fn lose(&mut self, link: LinkId) {
        self.hosts.remove(link);
        self.lose_leases(link);
        self.reopen_at = Some(Instant::now() + REOPEN);
    }

    fn lose_leases(&mut self, link: LinkId) {
        for Range { first, attempt, .. } in self.machine.link_lost(link) {
            let failure = Failure {
                code: "lost".to_owned(),
                message: "the hosts that ran this input were lost 5 times".to_owned(),
                ..Failure::default()
            };
            let item = to_json(&failure);
            self.commit_fault(first, Outputs::single(first, attempt, Status::Failure, &item));
        }
    }

    /// Asks hosts that are back for what they hold; what others held waits again.
    pub(super) fn look_for_hosts(&mut self) {
        let links = self.claim.links.clone();
        let returned = self.hosts.look_for(&links.borrow(), &self.shared, &self.news);
        for (before, link) in returned.moved {
            self.machine.link_moved(before, link);
        }
        for link in returned.lost {
            self.lose(link);
        }
    }
}
