//! `muster-agent doctor`: what is weak about this host, and what to do.
//!
//! The walls around containers are built of what the host has: an engine without known holes, seccomp, cgroup controllers,
//! firewall rules. [`facts`] asks the host, [`rules`] judge, purely, over the table of [`advisories`]. Of each
//! folder that it is given as the agent is (`--share`), it says what calls would find there ([`shares`]). It changes nothing, needs
//! no gateway and no running agent; where one runs, it looks at the rules that agent made.
//!
//! Versions are judged by their numbers: a distribution that mends a hole keeps the number, so a finding says where to look.

mod advisories;
mod facts;
mod rules;
mod shares;

use clap::Parser;

use crate::engine::EngineError;
use crate::settings::{Network, ShareFlags};

pub use facts::{Facts, Firewall};
pub use rules::{Finding, Level, findings};
pub use shares::SharedFolder;

/// The flags of `muster-agent doctor`.
#[derive(Debug, Parser)]
#[command(
    name = "muster-agent doctor",
    version,
    about = "Says what is weak about this host, and what to do"
)]
pub struct DoctorFlags {
    /// Address of the Docker engine, unix:///PATH or tcp://HOST:PORT [default: DOCKER_HOST or the local socket]
    #[arg(long, env = "MUSTER_AGENT_DOCKER_HOST")]
    pub docker_host: Option<String>,
    /// What containers are to reach
    #[arg(long, env = "MUSTER_AGENT_NETWORK", default_value = "internet", value_enum)]
    pub network: Network,
    /// What the agent is told to share; each folder is looked at.
    #[command(flatten)]
    pub shares: ShareFlags,
}

/// What is found, for people; and whether anything is weak.
pub async fn examine(flags: &DoctorFlags) -> Result<(String, bool), EngineError> {
    let found = findings(&Facts::gather(flags).await?);
    let weak = found.iter().any(|finding| finding.level > Level::Note);
    Ok((report(&found), weak))
}

fn report(found: &[Finding]) -> String {
    let mut text = String::new();
    for finding in found {
        let level = match finding.level {
            Level::Danger => "DANGER",
            Level::Weak => "weak",
            Level::Note => "note",
        };
        text += &format!("{level}: {}\n    {}\n", finding.what, finding.remedy);
    }
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    text += &format!("{} dangers, {} weak points\n", count(Level::Danger), count(Level::Weak));
    text
}
