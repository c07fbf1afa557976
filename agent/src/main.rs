//! The agent's program: settings, logs, signals, exit codes.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use muster_agent::doctor::DoctorFlags;
use muster_agent::serve::{Agent, BuildError, Stopped};
use muster_agent::settings::{Flags, Machine, Settings};
use tokio::signal::unix::{SignalKind, signal};

/// What the exit code says (`sysexits.h` where it has a name).
#[derive(Debug, Clone, Copy)]
enum Exit {
    /// Stopped as asked, or nothing is weak.
    Done = 0,
    /// `doctor` found something weak.
    Weak = 1,
    /// The settings are wrong.
    Settings = 64,
    /// The engine, the network or the state directory cannot be used.
    Unavailable = 69,
    /// A part of the agent failed; that is a bug.
    Broken = 70,
    /// Another agent of this name runs here.
    Taken = 75,
    /// A second signal came while stopping.
    Hurried = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == "doctor") {
        return doctor().into();
    }
    let settings = match settings() {
        Ok(Some(settings)) => settings,
        Ok(None) => return Exit::Done.into(),
        Err(exit) => return exit.into(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MUSTER_AGENT_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(settings)).into(),
        Err(error) => {
            tracing::error!(%error, "threads not started");
            Exit::Unavailable.into()
        }
    }
}

/// `muster-agent doctor`: says what is weak about this host.
fn doctor() -> Exit {
    let flags = match DoctorFlags::try_parse_from(std::env::args_os().skip(1)) {
        Ok(flags) => flags,
        Err(error) => return said(&error),
    };
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return Exit::Unavailable };
    let examined = runtime.block_on(muster_agent::doctor::examine(&flags));
    // A folder whose server is gone may hang a thread for ever.
    runtime.shutdown_background();
    match examined {
        Ok((report, weak)) => {
            print!("{report}");
            if weak { Exit::Weak } else { Exit::Done }
        }
        Err(error) => {
            eprintln!("muster-agent doctor: {}", muster_agent::chain(&error));
            Exit::Unavailable
        }
    }
}

/// Prints what clap says, which may be help that was asked for.
fn said(error: &clap::Error) -> Exit {
    // Nothing is left to tell if the terminal is gone.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Settings,
    }
}

/// The settings, or `None` when only a question was to be answered.
fn settings() -> Result<Option<Settings>, Exit> {
    let flags = Flags::try_parse().map_err(|error| said(&error))?;
    let machine = Machine::this().map_err(|error| {
        eprintln!("this machine cannot be looked at: {error}");
        Exit::Unavailable
    })?;
    let settings = Settings::from_flags(&flags, &machine).map_err(|error| {
        eprint!("{error}");
        Exit::Settings
    })?;
    if flags.print_config {
        print!("{}", settings.describe());
        return Ok(None);
    }
    Ok(Some(settings))
}

async fn run(settings: Settings) -> Exit {
    let (mut term, mut int) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(term), Ok(int)) => (term, int),
            _ => return Exit::Unavailable,
        };
    let mut next = async || {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    let agent = match Agent::build(&settings).await {
        Ok(agent) => agent,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "agent not started");
            return match error {
                BuildError::Taken { .. } => Exit::Taken,
                _ => Exit::Unavailable,
            };
        }
    };
    let (asked, stop) = tokio::sync::oneshot::channel::<()>();
    let mut running = std::pin::pin!(agent.run(async {
        // A sender that is gone asks for a stop too.
        let _ = stop.await;
    }));
    tokio::select! {
        stopped = &mut running => return code(stopped),
        () = next() => {}
    }
    drop(asked);
    tokio::select! {
        stopped = &mut running => code(stopped),
        () = next() => Exit::Hurried,
    }
}

fn code(stopped: Stopped) -> Exit {
    match stopped {
        Stopped::Asked => Exit::Done,
        Stopped::Broken => Exit::Broken,
    }
}
