//! What of a command's events goes into the answer of `/v1/run`. Pure: an event in, a step out.

use bytes::Bytes;
use muster_wire::batch::{Outputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallError, ExceptionHead, Failure};
use muster_wire::pieces::Pieces;
use muster_wire::print::{Print, Stream};
use serde::Deserialize;

use crate::calls::Entry;

/// What an event means for the answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// The command runs.
    Begun,
    /// It wrote this.
    Bytes(Bytes),
    /// The call could not run.
    Failed(CallError),
}

/// What is known of a command so far.
#[derive(Debug)]
pub struct RunOutput {
    merge_stderr: bool,
    /// The attempt whose bytes were sent. They cannot be unsent, so those of a later one are not sent after them.
    sent: Option<u32>,
    exit_code: Option<i32>,
    error: Option<String>,
}

impl RunOutput {
    /// Nothing yet.
    pub fn new(merge_stderr: bool) -> RunOutput {
        RunOutput { merge_stderr, sent: None, exit_code: None, error: None }
    }

    /// Its exit code, or 128 and the signal that ended it, as a shell says it.
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// A failure code, if it did not end by itself or its output is not whole.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Takes an event.
    pub fn step(&mut self, entry: Entry) -> Step {
        let Entry::Logged(frame) = entry else { return Step::Nothing };
        match frame.kind {
            Kind::Print => {
                Print::decode(frame.body.joined()).map_or(Step::Nothing, |print| self.print(print))
            }
            Kind::Outputs => {
                if let Ok(outputs) = Outputs::decode(frame.body) {
                    outputs.iter().for_each(|(_, status, item)| self.output(status, &item));
                }
                Step::Begun
            }
            Kind::Event => self.event(&frame),
            _ => Step::Nothing,
        }
    }

    fn print(&mut self, print: Print) -> Step {
        if print.bytes.is_empty() || (print.stream == Stream::Stderr && !self.merge_stderr) {
            return Step::Begun;
        }
        if *self.sent.get_or_insert(print.attempt) != print.attempt {
            self.error = Some("lost".to_owned());
            return Step::Nothing;
        }
        Step::Bytes(print.bytes)
    }

    fn output(&mut self, status: Status, item: &[u8]) {
        match status {
            Status::Value => {
                let value: Result<ExitCode, _> = serde_json::from_slice(item);
                self.exit_code = Some(value.map_or(0, |value| value.exit_code));
            }
            Status::Exception => {
                let head = ExceptionHead::of_item(item).unwrap_or_default();
                self.exit_code = head.exit_code.or(head.signal.map(|signal| 128 + signal));
                if head.exit_code.is_none() {
                    self.error = Some("worker_died".to_owned());
                }
            }
            Status::Failure => {
                let failure: Failure = serde_json::from_slice(item).unwrap_or_default();
                self.exit_code = failure.exit_code.or(failure.signal.map(|signal| 128 + signal));
                self.error = Some(failure.code);
            }
        }
    }

    fn event(&mut self, frame: &Frame<Pieces>) -> Step {
        let Ok(event) = serde_json::from_slice::<Event>(&frame.body.joined()) else {
            return Step::Nothing;
        };
        match (event.kind.as_str(), event.state.as_deref()) {
            ("state", Some("running")) => Step::Begun,
            ("end", Some(state)) => {
                if let Some(error) = event.error {
                    self.error.get_or_insert(error.code.clone());
                    return Step::Failed(error);
                }
                if state == "cancelled" {
                    self.error.get_or_insert_with(|| "cancelled".to_owned());
                }
                Step::Begun
            }
            _ => Step::Nothing,
        }
    }
}

#[derive(Deserialize)]
struct ExitCode {
    exit_code: i32,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    error: Option<CallError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &'static str) -> Entry {
        Entry::Logged(Frame::new(Kind::Event, Bytes::from_static(json.as_bytes())).into())
    }

    fn print(attempt: u32, stream: Stream, bytes: &'static [u8]) -> Entry {
        let print = Print { index: 0, attempt, stream, bytes: Bytes::from_static(bytes) };
        Entry::Logged(print.to_frame().into())
    }

    fn output(status: Status, item: &[u8]) -> Entry {
        Entry::Logged(Outputs::single(0, 1, status, item).in_pieces())
    }

    #[test]
    fn the_answer_begins_when_the_command_runs() {
        let mut run = RunOutput::new(false);
        assert_eq!(run.step(event(r#"{"type":"state","state":"queued"}"#)), Step::Nothing);
        assert_eq!(run.step(event(r#"{"type":"state","state":"running"}"#)), Step::Begun);
        assert_eq!(run.step(print(1, Stream::Stdout, b"hi")), Step::Bytes("hi".into()));
        assert_eq!(run.step(print(1, Stream::Stderr, b"no")), Step::Begun);
        run.step(output(Status::Value, b"{\"exit_code\": 0}"));
        assert_eq!((run.exit_code(), run.error()), (Some(0), None));
    }

    #[test]
    fn stderr_goes_among_stdout_when_asked_for() {
        let mut run = RunOutput::new(true);
        assert_eq!(run.step(print(1, Stream::Stderr, b"oh")), Step::Bytes("oh".into()));
    }

    #[test]
    fn exit_codes_signals_and_failures_are_told_apart() {
        let end = |status, item: &[u8]| {
            let mut run = RunOutput::new(false);
            run.step(output(status, item));
            (run.exit_code(), run.error().map(str::to_owned))
        };
        let failed = ExceptionHead { exit_code: Some(3), ..Default::default() }.to_item();
        assert_eq!(end(Status::Exception, &failed), (Some(3), None));
        let killed = ExceptionHead { signal: Some(9), ..Default::default() }.to_item();
        assert_eq!(end(Status::Exception, &killed), (Some(137), Some("worker_died".into())));
        let memory = br#"{"code":"out_of_memory","message":"","limit_bytes":1}"#;
        assert_eq!(end(Status::Failure, memory), (None, Some("out_of_memory".into())));
    }

    #[test]
    fn bytes_of_a_second_attempt_do_not_follow_those_of_the_first() {
        let mut run = RunOutput::new(false);
        run.step(print(1, Stream::Stdout, b"ab"));
        assert_eq!(run.step(print(2, Stream::Stdout, b"abc")), Step::Nothing);
        assert_eq!(run.error(), Some("lost"));
    }

    #[test]
    fn a_call_that_could_not_run_says_why() {
        let mut run = RunOutput::new(false);
        let step = run.step(event(
            r#"{"type":"end","state":"failed","error":{"code":"no_such_image","message":"m","action":"a"}}"#,
        ));
        let error =
            CallError { code: "no_such_image".into(), message: "m".into(), action: "a".into() };
        assert_eq!(step, Step::Failed(error));
        let mut run = RunOutput::new(false);
        run.step(event(r#"{"type":"end","state":"cancelled","error":null}"#));
        assert_eq!(run.error(), Some("cancelled"));
    }
}
