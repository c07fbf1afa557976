//! What runs inside every container: pid 1 (`muster-runner init`) and the runner of commands (`muster-runner command`).
//!
//! The problem: a call may use any image, so this program must need nothing of it: it is linked statically, asks no name
//! service, and does with a few system calls what an init does. See `sdk/wire/PROTOCOL.md`, section 6.
//!
//! ```text
//!   init:    connect ──HELLO──▶ wait ──START──▶ child runs ──child ended──▶ kill the rest ──EXIT──▶ stay
//!                                 └── the agent's connection ends: kill everything, end ──┘
//!   command: HELLO ──SPEC──▶ wait for INPUTS ──▶ each input: run, account, record ──▶ RESULTS ──▶ wait ...
//! ```
//!
//! Who owns what: `init` owns the connection to the agent and every process of the container; the runner owns the data
//! channel (descriptor 3) and the shared page (descriptor 4). Both are single-threaded and wait in one place each.
//!
//! When parts fail: the agent goes: everything ends. The runner dies: `init` says how, and stays until the agent
//! hangs up, so that the kernel still knows what the container used. `init` dies: the kernel ends the
//! container. User code is hostile to both: it can kill the runner, which costs its own call a worker, and cannot trace pid 1.
//!
//! Not here: the Python runner (`muster._runner`, in `sdk/python`), and any decision about inputs.

mod command;
mod frames;
mod init;
mod input;
mod outbox;
mod page;
mod process;
mod signals;
mod sys;

use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code of wrong arguments.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next();
    let root = arguments.next().map_or_else(|| PathBuf::from("/.muster"), PathBuf::from);
    let result = match role.as_ref().and_then(|role| role.to_str()) {
        Some("init") => init::run(&root),
        Some("command") => command::run(),
        _ => {
            eprintln!("usage: muster-runner init [FOLDER] | muster-runner command");
            return ExitCode::from(USAGE);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-runner: {error}");
            ExitCode::FAILURE
        }
    }
}
