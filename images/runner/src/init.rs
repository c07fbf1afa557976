//! Pid 1 of a container: starts the runner that the agent asks for, passes signals on, reaps, and says how it ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::message::{Exit, Hello, Mode, Start, from_json, json_frame};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::frames::{self, invalid};
use crate::signals::Signals;
use crate::sys;

/// What the agent sends to pid 1 is small.
const MAX_FRAME: usize = 64 << 10;
/// Names of Python in an image, best first.
const PYTHONS: [&str; 2] = ["python3", "python"];
/// Imports the runner from the folder in `argv`, whatever the image's own paths are.
const PYTHON_START: &str = "import sys; sys.path.insert(0, sys.argv.pop()); from muster._runner import main; sys.exit(main())";

/// Runs until the agent is gone, or somebody stops the container once the runner has ended. `root` is where the agent has mounted our folder.
pub fn run(root: &Path) -> io::Result<()> {
    // Descriptors 3 and 4 are the runner's, so nothing of ours may get these numbers (see `sys::prepare_runner`).
    let placeholders = [File::open("/dev/null")?, File::open("/dev/null")?];
    // User code has our uid: without this it could trace us and read what we hold.
    nix::sys::prctl::set_dumpable(false)?;
    let signals = Signals::new()?;
    let stream = UnixStream::connect(root.join("socket/agent.sock"))?;
    let mut init = Init {
        root: root.to_owned(),
        stream,
        decoder: Decoder::new(MAX_FRAME),
        fds: Vec::new(),
        child: None,
        placeholders: Some(placeholders),
    };
    let hello = Hello { role: "init".into(), version: 1, python: None };
    frames::write(&mut init.stream, &json_frame(Kind::Hello, &hello))?;
    let result = init.serve(&signals);
    init.kill_all();
    if let Ok(Some(exit)) = &result {
        frames::write(&mut init.stream, &json_frame(Kind::Exit, exit))?;
        init.stay(&signals)?;
    }
    result.map(|_| ())
}

struct Init {
    root: PathBuf,
    stream: UnixStream,
    decoder: Decoder,
    fds: Vec<OwnedFd>,
    child: Option<Pid>,
    placeholders: Option<[File; 2]>,
}

impl Init {
    /// How the runner ended, or `None` when the agent's connection has.
    fn serve(&mut self, signals: &Signals) -> io::Result<Option<Exit>> {
        loop {
            let from_agent = self.wait(signals)?;
            for signal in signals.take() {
                match self.child {
                    Some(_) => self.forward(signal),
                    // Nothing runs yet: whoever stops the container need not wait.
                    None => return Ok(None),
                }
            }
            if let Some(exit) = self.reap() {
                return Ok(Some(exit));
            }
            if from_agent {
                let mut buffer = [0; 4096];
                match sys::receive(&self.stream, &mut buffer, &mut self.fds) {
                    Ok(0) => return Ok(None),
                    Ok(count) => self.decoder.push(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Ok(None),
                }
                while let Some(frame) = self.decoder.next_frame().map_err(invalid)? {
                    if let Some(exit) = self.handle(&frame)? {
                        return Ok(Some(exit));
                    }
                }
            }
        }
    }

    /// Until the agent has hung up, or somebody stops the container: with it goes its cgroup, where the agent reads what the
    /// runner died of.
    fn stay(&self, signals: &Signals) -> io::Result<()> {
        loop {
            let from_agent = self.wait(signals)?;
            if !signals.take().is_empty() {
                return Ok(());
            }
            if from_agent {
                match sys::receive(&self.stream, &mut [0; 4096], &mut Vec::new()) {
                    Ok(0) => return Ok(()),
                    // Said before it knew.
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Ok(()),
                }
            }
        }
    }

    /// Waits for the agent, or for a signal; whether it was the agent.
    fn wait(&self, signals: &Signals) -> io::Result<bool> {
        let readable = PollFlags::POLLIN;
        let mut ready =
            [PollFd::new(self.stream.as_fd(), readable), PollFd::new(signals.as_fd(), readable)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [from_agent, _] = ready.map(|fd| fd.any().unwrap_or(false));
        Ok(from_agent)
    }

    fn handle(&mut self, frame: &Frame) -> io::Result<Option<Exit>> {
        match frame.kind {
            Kind::Start if self.child.is_none() => {
                let start: Start = from_json("START", &frame.body).map_err(invalid)?;
                let fds = std::mem::take(&mut self.fds);
                let fds: [OwnedFd; 4] = fds.try_into().map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, "START without its four descriptors")
                })?;
                match self.start(start.mode, fds) {
                    Ok(child) => self.child = Some(child),
                    Err(why) => return Ok(Some(Exit { error: Some(why), ..Exit::default() })),
                }
            }
            Kind::Signal => {
                let number = frame.as_u32().map_err(invalid)?;
                if let Ok(signal) = Signal::try_from(number as i32) {
                    self.forward(signal);
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Starts the runner, or says for people why it cannot be.
    fn start(&mut self, mode: Mode, fds: [OwnedFd; 4]) -> Result<Pid, String> {
        let [channel, out, err, page] = fds;
        let why = |error: io::Error| format!("starting the runner: {error}");
        let runner = self.root.join("runner");
        match mode {
            Mode::Command => {
                let mut command = Command::new(runner.join("bin/muster-runner"));
                command.arg("command");
                command.stdin(Stdio::null()).stdout(out).stderr(err);
                sys::prepare_runner(&mut command, channel, page);
                let child = command.spawn().map_err(why)?;
                self.placeholders = None;
                Ok(Pid::from_raw(child.id() as i32))
            }
            Mode::Python => {
                let copy = |fd: &OwnedFd| fd.try_clone().map_err(why);
                for python in PYTHONS {
                    let mut command = Command::new(python);
                    command.args(["-c", PYTHON_START]).arg(runner.join("python"));
                    command.stdin(Stdio::null()).stdout(copy(&out)?).stderr(copy(&err)?);
                    sys::prepare_runner(&mut command, copy(&channel)?, copy(&page)?);
                    match command.spawn() {
                        Ok(child) => {
                            self.placeholders = None;
                            return Ok(Pid::from_raw(child.id() as i32));
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(format!("starting {python}: {error}")),
                    }
                }
                Err("no python3 in the image".into())
            }
        }
    }

    fn forward(&self, signal: Signal) {
        if let Some(child) = self.child {
            // It fails only where the child has ended, which we are about to see.
            let _ = killpg(child, signal);
        }
    }

    /// Takes in every process that has ended; how the runner did, if it is among them.
    fn reap(&self) -> Option<Exit> {
        let mut exit = None;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if Some(pid) == self.child => {
                    exit = Some(Exit { exit_code: Some(code), ..Exit::default() });
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == self.child => {
                    exit = Some(Exit { signal: Some(signal as i32), ..Exit::default() });
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return exit,
                Err(Errno::EINTR) | Ok(_) => {}
                // A signal without a name of ours, for example a real-time one.
                Err(_) => return exit,
            }
        }
    }

    /// Ends what is left in the container and waits for it, so that nothing is printed after EXIT.
    fn kill_all(&self) {
        if std::process::id() == 1 {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
        } else if let Some(child) = self.child {
            // Not in a container of its own (tests): everyone else's processes are none of our business.
            let _ = killpg(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        }
    }
}
