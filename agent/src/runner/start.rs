//! How a runner is started: pid 1's HELLO, START with the four descriptors, the runner's HELLO.

use std::time::Duration;

use muster_wire::frame::Kind;
use muster_wire::message::{Hello, Mode, from_json};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::answers::Answers;
use super::attribution::Attribution;
use super::channel::Channel;
use super::control::Control;
use super::exchange::Looks;
use super::page::Page;
use super::pipes::Pipes;
use super::{Runner, RunnerError};

/// How long pid 1 may take to say HELLO once it is connected.
const INIT_DEADLINE: Duration = Duration::from_secs(10);
/// How long the runner may take to say HELLO: a Python on a busy machine takes seconds.
const RUNNER_DEADLINE: Duration = Duration::from_secs(60);
/// The version of the protocol that we speak with containers.
const VERSION: u32 = 1;

impl Runner {
    /// Starts the runner. `control` is pid 1's connection, accepted and authenticated, whose HELLO was not read yet; `uid` is
    /// whom the pipes are to belong to, so that user code can open `/dev/stdout` again.
    pub async fn start(control: UnixStream, mode: Mode, uid: u32) -> Result<Runner, RunnerError> {
        let mut control = Control::new(control);
        let hello = timeout(INIT_DEADLINE, control.next())
            .await
            .map_err(|_| RunnerError::Late { what: "the HELLO of pid 1" })??;
        match hello {
            Some(frame) if frame.kind == Kind::Hello => {
                check(&from_json("HELLO", &frame.body)?, "init")?;
            }
            Some(_) => return Err(RunnerError::Hostile { why: "pid 1 did not begin with HELLO" }),
            None => return Err(RunnerError::Ended(Default::default())),
        }
        let setup = RunnerError::io("making the runner's channel, pipes and page");
        let made = || Ok((Channel::new()?, Pipes::new(uid)?, Page::new()?));
        let (channel, pipes, page) = made().map_err(setup)?;
        let ((mut channel, channel_fd), (pipes, out_fd, err_fd), (page, page_fd)) =
            (channel, pipes, page);
        control.start(mode, [channel_fd, out_fd, err_fd, page_fd]).await?;
        let hello = timeout(RUNNER_DEADLINE, wait_for_hello(&mut control, &mut channel, mode))
            .await
            .map_err(|_| RunnerError::Late { what: "the HELLO of the runner" })??;
        Ok(Runner {
            control,
            channel,
            pipes,
            page,
            python: hello.python,
            attribution: Attribution::default(),
            answers: Answers::default(),
            looks: Looks::default(),
        })
    }
}

async fn wait_for_hello(
    control: &mut Control,
    channel: &mut Channel,
    mode: Mode,
) -> Result<Hello, RunnerError> {
    let frame = tokio::select! {
        biased;
        frame = channel.next() => frame?,
        exit = control.exited() => {
            return Err(match exit.error {
                Some(why) => RunnerError::NotStarted { why },
                None => RunnerError::Ended(exit),
            });
        }
    };
    let Some(frame) = frame else {
        // It has closed the channel; pid 1 tells how it ended.
        let exit = control.exited().await;
        return Err(match exit.error {
            Some(why) => RunnerError::NotStarted { why },
            None => RunnerError::Ended(exit),
        });
    };
    if frame.kind != Kind::Hello {
        return Err(RunnerError::Hostile { why: "the runner did not begin with HELLO" });
    }
    let hello: Hello = from_json("HELLO", &frame.body.joined())?;
    check(&hello, if mode == Mode::Python { "python" } else { "command" })?;
    Ok(hello)
}

fn check(hello: &Hello, role: &str) -> Result<(), RunnerError> {
    if hello.role != role {
        return Err(RunnerError::Hostile { why: "HELLO names another role" });
    }
    if hello.version != VERSION {
        return Err(RunnerError::Hostile { why: "HELLO names another version" });
    }
    Ok(())
}
