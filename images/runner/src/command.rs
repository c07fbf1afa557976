//! The runner of commands: for each input one process, its stdout and stderr ours, and one record of how it ended.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Decoder, Kind};
use muster_wire::message::{CallSpec, ExceptionHead, Hello, from_json, json_frame};
use muster_wire::results::Record;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::frames::{self, invalid};
use crate::input::Input;
use crate::outbox::Outbox;
use crate::page::Page;
use crate::process::{self, Ended};
use crate::signals::Signals;
use crate::sys;

/// The value of a command that exited with 0.
const VALUE: &[u8] = br#"{"exit_code": 0}"#;

/// Runs inputs until the agent closes the channel, or a signal says stop.
pub fn run() -> io::Result<()> {
    let (mut channel, page) = sys::inherited();
    // Not for the processes of user code.
    fcntl(&channel, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(&page, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let hello = Hello { role: "command".into(), version: 1, python: None };
    frames::write(&mut channel, &json_frame(Kind::Hello, &hello))?;
    let mut decoder = Decoder::default();
    let Some(spec) = read_spec(&mut channel, &mut decoder)? else { return Ok(()) };
    let signals = Signals::new()?;
    let mut runner =
        Runner { channel, page: Page::new(page), outbox: Outbox::new(), spec, signals };
    while let Some(frame) = frames::read(&mut runner.channel, &mut decoder)? {
        match frame.kind {
            Kind::Secrets => {
                let secrets: BTreeMap<String, String> =
                    from_json("SECRETS", &frame.body).map_err(invalid)?;
                runner.spec.env.extend(secrets);
            }
            Kind::Inputs => {
                let batch = Inputs::decode(frame.body).map_err(invalid)?;
                if runner.batch(&batch)? == Next::Stop {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

struct Runner {
    channel: UnixStream,
    page: Page,
    outbox: Outbox,
    spec: CallSpec,
    signals: Signals,
}

impl Runner {
    fn batch(&mut self, batch: &Inputs) -> io::Result<Next> {
        self.outbox.begin();
        for (index, item) in batch.iter() {
            let start = self.page.written(&io::stdout(), &io::stderr())?;
            self.page.begin(index, start)?;
            let (status, item) = match self.input(index, batch.attempt, item)? {
                Ended::Well => (Status::Value, Bytes::from_static(VALUE)),
                Ended::Failed(head) => (Status::Exception, head.to_item()),
                Ended::Stopped => return Ok(Next::Stop),
            };
            let end = self.page.written(&io::stdout(), &io::stderr())?;
            let record = Record::single(index, end.out, end.err, status, item);
            self.outbox.push(&record, &mut self.page, &mut self.channel)?;
            self.page.end(index, end)?;
        }
        self.outbox.flush(&mut self.page, &mut self.channel)?;
        Ok(Next::GoOn)
    }

    fn input(&self, index: u64, attempt: u32, item: Bytes) -> io::Result<Ended> {
        let input = match Input::read(self.spec.encoding, item) {
            Ok(input) => input,
            Err(message) => {
                let kind = "CommandFailed".into();
                return Ok(Ended::Failed(ExceptionHead { kind, message, ..Default::default() }));
            }
        };
        let mut arguments = self.spec.command.clone();
        arguments.extend(input.args);
        let mut variables: BTreeMap<String, String> = self.spec.env.clone();
        variables.insert("MUSTER_CALL_ID".into(), self.spec.call.clone());
        variables.insert("MUSTER_INPUT_INDEX".into(), index.to_string());
        variables.insert("MUSTER_ATTEMPT".into(), attempt.to_string());
        process::run(&arguments, &input.stdin, &variables, &self.signals, &self.channel)
    }
}

fn read_spec(channel: &mut UnixStream, decoder: &mut Decoder) -> io::Result<Option<CallSpec>> {
    match frames::read(channel, decoder)? {
        Some(frame) if frame.kind == Kind::Spec => {
            Ok(Some(from_json("SPEC", &frame.body).map_err(invalid)?))
        }
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a call begins with SPEC")),
        None => Ok(None),
    }
}
