//! `muster-fleet`: a gateway, simulated hosts, one scenario, one line of JSON.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use muster_fleet::host::{HostConfig, IMAGE};
use muster_fleet::plan::Plan;
use muster_fleet::scenario::{Fleet, FleetConfig};

/// Simulated hosts against the real gateway.
#[derive(Debug, Parser)]
struct Flags {
    /// The gateway's binary; without it, the one beside this program.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// How many hosts.
    #[arg(long, default_value_t = 10)]
    hosts: usize,
    /// Cores of each.
    #[arg(long, default_value_t = 100)]
    cores: usize,
    /// Memory of each, in GB of 2^30 bytes.
    #[arg(long, default_value_t = 400)]
    ram: u64,
    /// How long a worker takes to start.
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
    start: Duration,
    /// How many calls wait in the queue meanwhile.
    #[arg(long, default_value_t = 0)]
    queued_calls: usize,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// One call with many inputs: cost of each, outputs a second, memory.
    Flow {
        /// How many inputs.
        #[arg(long, default_value_t = 1_000_000)]
        inputs: u64,
        /// How long each takes.
        #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration)]
        takes: Duration,
        /// Spread the durations exponentially around that.
        #[arg(long)]
        uneven: bool,
        /// Bytes of an output; without it, the input comes back.
        #[arg(long)]
        output_bytes: Option<usize>,
        /// Another seed, other durations.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// A call over all slots: when it began on the first and on the last.
    Spread,
    /// A second call beside one that holds every slot: when it begins, which share it gets.
    Share {
        /// How long each input takes.
        #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
        takes: Duration,
    },
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("MUSTER_FLEET_LOG")
                .unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Runtime::new()?.block_on(run(Flags::parse()))
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let binary = match flags.gateway {
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("muster-gateway"),
    };
    let config = FleetConfig {
        hosts: flags.hosts,
        host: HostConfig {
            cores: flags.cores,
            ram_bytes: flags.ram << 30,
            start: flags.start,
            image: IMAGE,
        },
        queued_calls: flags.queued_calls,
    };
    let fleet = Fleet::start(&binary, config).await?;
    let found = match flags.scenario {
        Scenario::Flow { inputs, takes, uneven, output_bytes, seed } => {
            let takes_us = takes.as_micros() as u64;
            fleet.flow(inputs, Plan { takes_us, uneven, output_bytes, seed }).await?
        }
        Scenario::Spread => fleet.spread().await?,
        Scenario::Share { takes } => fleet.share(takes).await?,
    };
    println!("{found}");
    Ok(())
}
