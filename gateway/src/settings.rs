//! Settings: each is a flag and an environment variable of one name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::address::without_port;
use crate::blobs::BlobsConfig;
use crate::calls::{CallsConfig, LogConfig};
use crate::tls::TlsConfig;

/// The Muster gateway: takes calls over HTTP and spreads them over the hosts that dial it.
#[derive(Debug, Parser)]
#[command(
    name = "muster-gateway",
    version,
    after_help = "Commands on the gateway's machine: muster-gateway token create|list|revoke, join-string create, host list|expel (each has --help)."
)]
pub struct Settings {
    /// Where to listen, `address:port`; port 0 takes a free one. On an address that others can reach the gateway speaks TLS.
    #[arg(long, env = "MUSTER_GATEWAY_LISTEN", default_value = "127.0.0.1:8470")]
    pub listen: SocketAddr,

    /// Listen without TLS on an address that others can reach.
    #[arg(long, env = "MUSTER_GATEWAY_INSECURE_LISTEN")]
    pub insecure_listen: bool,

    /// Speak TLS on loopback too.
    #[arg(long, env = "MUSTER_GATEWAY_TLS")]
    pub tls: bool,

    /// PEM file with the gateway's certificate and those above it, instead of one that it makes; read again every ten minutes.
    #[arg(long, env = "MUSTER_GATEWAY_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the key of --tls-cert.
    #[arg(long, env = "MUSTER_GATEWAY_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Name or address, with a port if it is another, by which clients and hosts reach the gateway: in service.json, join strings and the certificate it makes. Default: where it listens.
    #[arg(long, env = "MUSTER_GATEWAY_ADVERTISE")]
    pub advertise: Option<String>,

    /// A further name or address for the certificate that the gateway makes; may be given several times.
    #[arg(long, env = "MUSTER_GATEWAY_TLS_NAME", value_delimiter = ',')]
    pub tls_name: Vec<String>,

    /// How long a host's credential is good; it is renewed at half of that. A host that was away for longer joins again.
    #[arg(long, env = "MUSTER_GATEWAY_HOST_CREDENTIAL_LIFE", default_value = "30days", value_parser = humantime::parse_duration)]
    pub host_credential_life: Duration,

    /// Folder for tokens, the files that clients and agents find the gateway by, background calls, shared data, and spilled data.
    #[arg(long, env = "MUSTER_GATEWAY_STATE_DIR")]
    pub state_dir: PathBuf,

    /// File of the key that seals secrets and what background calls say of themselves; made at the first start. Keep it apart from the state folder, and from copies of that. Default: the state folder's name with `.key` added, beside it.
    #[arg(long, env = "MUSTER_GATEWAY_SECRETS_KEY")]
    pub secrets_key: Option<PathBuf>,

    /// How much spilled data there may be in all, for example 50GiB; past it, calls that have to spill wait, and say so.
    #[arg(long, env = "MUSTER_GATEWAY_SPILL_LIMIT", default_value = "50GiB", value_parser = bytes)]
    pub spill_limit: u64,

    /// How many bytes of waiting inputs one call holds in memory before more is spilled.
    #[arg(long, env = "MUSTER_GATEWAY_QUEUE_MEMORY", default_value = "4MiB", value_parser = bytes)]
    pub queue_memory: u64,

    /// How many bytes of large waiting inputs (16 KiB and more) all calls together hold in memory beyond that.
    #[arg(long, env = "MUSTER_GATEWAY_SPARE_MEMORY", default_value = "48MiB", value_parser = bytes)]
    pub spare_memory: u64,

    /// How many bytes of events one call holds in memory before older ones are spilled.
    #[arg(long, env = "MUSTER_GATEWAY_LOG_MEMORY", default_value = "8MiB", value_parser = bytes)]
    pub log_memory: u64,

    /// How many bytes of prints are kept for one call; what was read already makes room for more.
    #[arg(long, env = "MUSTER_GATEWAY_PRINT_LIMIT", default_value = "1GiB", value_parser = bytes)]
    pub print_limit: u64,

    /// How large one blob of shared data may be, for example 16GiB.
    #[arg(long, env = "MUSTER_GATEWAY_BLOB_LIMIT", default_value = "16GiB", value_parser = bytes)]
    pub blob_limit: u64,

    /// How much shared data there may be in all; past it, uploads are refused.
    #[arg(long, env = "MUSTER_GATEWAY_BLOBS_LIMIT", default_value = "100GiB", value_parser = bytes)]
    pub blobs_limit: u64,

    /// How long shared data is kept after its last use.
    #[arg(long, env = "MUSTER_GATEWAY_KEEP_BLOBS", default_value = "7days", value_parser = humantime::parse_duration)]
    pub keep_blobs: Duration,

    /// How many calls there may be at once; more are refused.
    #[arg(long, env = "MUSTER_GATEWAY_MAX_CALLS", default_value_t = 10_000)]
    pub max_calls: usize,

    /// How long a foreground call goes on when nobody reads its events, for example 5min.
    #[arg(long, env = "MUSTER_GATEWAY_GRACE", default_value = "5min", value_parser = humantime::parse_duration)]
    pub grace: Duration,

    /// How long the events of a foreground call are kept after its end, and after they were last read.
    #[arg(long, env = "MUSTER_GATEWAY_KEEP_FOREGROUND", default_value = "1h", value_parser = humantime::parse_duration)]
    pub keep_foreground: Duration,

    /// How many ended foreground calls are kept; older ones go first.
    #[arg(long, env = "MUSTER_GATEWAY_KEEP_FOREGROUND_CALLS", default_value_t = 1_000)]
    pub keep_foreground_calls: usize,

    /// How long the events of a background call are kept after its end.
    #[arg(long, env = "MUSTER_GATEWAY_KEEP_BACKGROUND", default_value = "7days", value_parser = humantime::parse_duration)]
    pub keep_background: Duration,

    /// How long the record of a call is kept after its end: how it ended stays known when its outputs have gone. At most 100,000 records are kept.
    #[arg(long, env = "MUSTER_GATEWAY_KEEP_RECORDS", default_value = "30days", value_parser = humantime::parse_duration)]
    pub keep_records: Duration,

    /// How long a background call whose inputs are not closed waits for more of them before it is cancelled; until then its client can go on under the same key.
    #[arg(long, env = "MUSTER_GATEWAY_UPLOAD_GRACE", default_value = "1day", value_parser = humantime::parse_duration)]
    pub upload_grace: Duration,

    /// How many bytes the inputs and events of background calls may take on the disk, for example 50GiB; past it the oldest that have ended go, and then new ones are refused.
    #[arg(long, env = "MUSTER_GATEWAY_STORE_LIMIT", default_value = "50GiB", value_parser = bytes)]
    pub store_limit: u64,

    /// How deep calls may be nested that functions make: 0 for none at all.
    #[arg(long, env = "MUSTER_GATEWAY_NESTED_DEPTH", default_value_t = 4)]
    pub nested_depth: u32,

    /// How many calls that one call's functions made may run at once.
    #[arg(long, env = "MUSTER_GATEWAY_NESTED_CALLS", default_value_t = 1_000)]
    pub nested_calls: usize,

    /// How long open answers may go on after the gateway was asked to stop.
    #[arg(long, env = "MUSTER_GATEWAY_STOP_GRACE", default_value = "5s", value_parser = humantime::parse_duration)]
    pub stop_grace: Duration,

    /// Print the settings and exit.
    #[arg(long)]
    pub print_config: bool,
}

impl Settings {
    /// What is wrong with the settings together, if anything.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.insecure_listen && (self.tls || self.tls_cert.is_some()) {
            mistakes.push("--insecure-listen turns TLS off, and --tls or --tls-cert turns it on; give one of them".to_owned());
        }
        if self.max_calls == 0 {
            mistakes.push("--max-calls 0 would refuse every call; give at least 1".to_owned());
        }
        mistakes
    }

    /// The bounds of shared data.
    pub fn blobs(&self) -> BlobsConfig {
        BlobsConfig { largest: self.blob_limit, limit: self.blobs_limit, keep: self.keep_blobs }
    }

    /// Where the key of the secrets is.
    pub fn secrets_key(&self) -> PathBuf {
        self.secrets_key.clone().unwrap_or_else(|| {
            // Without a slash at the end, which would put it inside.
            let mut beside = self.state_dir.components().as_path().as_os_str().to_owned();
            beside.push(".key");
            beside.into()
        })
    }

    /// TLS, where the gateway is to speak it.
    pub fn tls(&self) -> Option<TlsConfig> {
        let wanted = self.tls || self.tls_cert.is_some() || !self.listen.ip().is_loopback();
        if self.insecure_listen || !wanted {
            return None;
        }
        let advertised = self.advertise.as_deref().map(|named| without_port(named).to_owned());
        Some(TlsConfig {
            own: self.tls_cert.clone().zip(self.tls_key.clone()),
            names: self.tls_name.iter().cloned().chain(advertised).collect(),
        })
    }

    /// Memory that all calls share.
    pub fn spare(&self) -> usize {
        usize::try_from(self.spare_memory).unwrap_or(usize::MAX)
    }

    /// The part that calls need.
    pub fn calls(&self) -> CallsConfig {
        CallsConfig {
            max_calls: self.max_calls,
            queue_bytes: usize::try_from(self.queue_memory).unwrap_or(usize::MAX),
            log: LogConfig {
                memory_bytes: usize::try_from(self.log_memory).unwrap_or(usize::MAX),
                print_bytes: self.print_limit,
            },
            grace: self.grace,
            nested_depth: self.nested_depth,
            nested_calls: self.nested_calls,
            keep_foreground: self.keep_foreground,
            keep_foreground_calls: self.keep_foreground_calls,
            keep_background: self.keep_background,
            keep_records: self.keep_records,
            upload_grace: self.upload_grace,
        }
    }
}

/// A size such as `200MiB`, `2GB` or `4096`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        _ => return Err(format!("{text}: unknown unit; use B, KiB, MiB, GiB, TiB, KB, MB or GB")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text}: give a size such as 200MiB"))?;
    Ok((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_units() {
        assert_eq!(bytes("200MiB"), Ok(200 << 20));
        assert_eq!(bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(bytes("12"), Ok(12));
        assert!(bytes("12 parsecs").is_err());
        assert!(bytes("MiB").is_err());
    }

    fn parsed(args: &[&str]) -> Settings {
        let args = ["gateway", "--state-dir", "/x"].iter().chain(args).copied();
        Settings::try_parse_from(args).expect("parses")
    }

    #[test]
    fn an_address_others_can_reach_speaks_tls_unless_a_flag_says_otherwise() {
        assert!(parsed(&[]).tls().is_none());
        assert!(parsed(&["--tls"]).tls().is_some());
        assert!(parsed(&["--listen", "[::1]:1"]).tls().is_none());
        assert!(parsed(&["--listen", "0.0.0.0:1"]).tls().is_some());
        assert!(parsed(&["--listen", "0.0.0.0:1", "--insecure-listen"]).tls().is_none());
        let named = parsed(&["--tls", "--advertise", "box:1", "--tls-name", "a,b"]).tls();
        assert_eq!(named.expect("TLS").names, ["a", "b", "box"]);
    }

    #[test]
    fn tls_on_and_off_at_once_is_a_mistake() {
        assert!(parsed(&["--insecure-listen"]).mistakes().is_empty());
        assert_eq!(parsed(&["--insecure-listen", "--tls"]).mistakes().len(), 1);
    }
}
