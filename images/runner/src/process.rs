//! Runs one process to its end.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use muster_wire::message::ExceptionHead;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::signals::Signals;
use crate::sys;

/// Where commands run; it is writable in every container.
const FOLDER: &str = "/tmp";
/// Exit codes that shells give when a command could not be started.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// How a process ended.
pub enum Ended {
    /// With exit code 0.
    Well,
    /// Otherwise.
    Failed(ExceptionHead),
    /// We were told to stop while it ran.
    Stopped,
}

/// Runs a process with these arguments, stdin and variables. What it leaves in its process group is killed.
pub fn run(
    arguments: &[String],
    stdin: &[u8],
    variables: &BTreeMap<String, String>,
    signals: &Signals,
    channel: &UnixStream,
) -> io::Result<Ended> {
    let Some((name, rest)) = arguments.split_first() else {
        return Ok(failed("the command is empty".into(), Some(NOT_FOUND), None));
    };
    let mut command = Command::new(name);
    command.args(rest).envs(variables).stdin(input(stdin)?).process_group(0);
    if Path::new(FOLDER).is_dir() {
        command.current_dir(FOLDER);
    }
    sys::prepare_command(&mut command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(failed(format!("command not found: {name}"), Some(NOT_FOUND), None));
        }
        Err(error) => {
            return Ok(failed(format!("cannot run {name}: {error}"), Some(NOT_STARTED), None));
        }
    };
    let stopped = wait(&child, signals, channel)?;
    // Before the process is taken in, so that its group's number cannot belong to anyone else.
    let _ = killpg(group(&child), Signal::SIGKILL);
    let status = child.wait()?;
    Ok(if stopped { Ended::Stopped } else { ended(name, status) })
}

/// Waits until the process has ended; whether we were told to stop meanwhile.
fn wait(child: &Child, signals: &Signals, channel: &UnixStream) -> io::Result<bool> {
    let mut stopped = false;
    loop {
        for signal in signals.take() {
            stopped |= signal == Signal::SIGTERM;
            let _ = killpg(group(child), signal);
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(group(child)), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            // Errors too: a signal that has no name of ours ended it.
            _ => return Ok(stopped),
        }
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            // Asks for nothing, so that only the end of the channel shows.
            PollFd::new(channel.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ready[1].any() == Some(true) {
            stopped = true;
            let _ = killpg(group(child), Signal::SIGKILL);
        }
    }
}

/// A file in memory with these bytes: whether the process reads them or not, nobody waits.
fn input(bytes: &[u8]) -> io::Result<Stdio> {
    const NAME: &CStr = c"stdin";
    if bytes.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = File::from(memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn ended(name: &str, status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well,
        (Some(code), _) => failed(format!("{name} exited with code {code}"), Some(code), None),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            let title = Signal::try_from(signal).map_or("unnamed", Signal::as_str);
            failed(format!("{name} was ended by signal {signal} ({title})"), None, Some(signal))
        }
    }
}

fn failed(message: String, exit_code: Option<i32>, signal: Option<i32>) -> Ended {
    let kind = "CommandFailed".into();
    Ended::Failed(ExceptionHead { kind, message, exit_code, signal, ..ExceptionHead::default() })
}
