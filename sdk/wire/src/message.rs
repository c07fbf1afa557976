//! The JSON messages between parts of ours. What users send is the gateway's own affair.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::WireError;
use crate::frame::{Frame, Kind};

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallKind {
    /// A pickled Python function.
    Pickle,
    /// Python source with an entry name.
    Source,
    /// A command.
    Command,
}

/// How inputs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Python pickles.
    Pickle,
    /// JSON texts.
    Json,
    /// The bytes are a command's stdin.
    Raw,
}

/// SPEC as an agent and a runner get it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallSpec {
    /// The call's id.
    pub call: String,
    /// What is called.
    pub kind: CallKind,
    /// How inputs are written.
    pub encoding: Encoding,
    /// Image of the containers.
    pub image: String,
    /// How the engine starts its containers, where not as the host does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Minor version of Python that the pickles need.
    #[serde(default)]
    pub python: Option<String>,
    /// Cores of one worker.
    pub cpu: f64,
    /// Memory of one worker, in bytes.
    pub ram_bytes: u64,
    /// Environment of the user's code.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long one input may run, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Name of the function in the source.
    #[serde(default)]
    pub entry: Option<String>,
    /// Argument vector of a command.
    #[serde(default)]
    pub command: Vec<String>,
    /// Packages that the function needs beside those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<Packages>,
    /// Names of its owner's secrets that its workers have in their environment; the values come in SECRETS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Shared data that its workers read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<BlobRef>,
    /// Shared folders of the host, by name, and where its workers see them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, String>,
}

/// Packages of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Packages {
    /// Requirements as `requirements.txt` has them, one each.
    pub requirements: Vec<String>,
    /// These are all that is needed: nothing is added for what they require themselves.
    #[serde(default)]
    pub exact: bool,
}

/// A blob of shared data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// SHA-256 of its bytes, 64 lower-case hexadecimal digits.
    pub id: String,
    /// How many they are.
    pub size: u64,
}

/// Where there is an error of a whole call: a code of `docs/errors.md`, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub action: String,
}

/// WORKER_STATUS: the workers of a call on one host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Workers being made ready.
    pub starting: u32,
    /// Workers that take inputs.
    pub running: u32,
    /// Why none runs, for people.
    #[serde(default)]
    pub waiting: Option<String>,
    /// The call cannot run on this host.
    #[serde(default)]
    pub error: Option<CallError>,
}

/// An image on a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Image {
    /// Name with tag.
    pub name: String,
    /// Minor version of its Python, where known.
    #[serde(default)]
    pub python: Option<String>,
}

/// A shared folder of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Share {
    /// What calls name it by.
    pub name: String,
    /// Whether workers may write to it.
    #[serde(default)]
    pub writable: bool,
    /// Whether the folder is there now.
    pub there: bool,
}

/// HOST_STATUS: a host's capacity, slots and images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The host's name.
    pub host: String,
    /// Version of its agent.
    pub version: String,
    /// Cores it gives to workers.
    pub cores: f64,
    /// Memory it gives to workers, in bytes.
    pub ram_bytes: u64,
    /// Cores no worker of a call holds.
    pub free_cores: f64,
    /// Cores of workers that only wait for calls of their own; they count as more cores for those.
    #[serde(default)]
    pub lent_cores: f64,
    /// How many workers those are.
    #[serde(default)]
    pub waiting_workers: u32,
    /// Memory no worker of a call holds, in bytes.
    pub free_ram_bytes: u64,
    /// Workers of calls.
    pub workers: u32,
    /// Warm workers.
    pub warm: u32,
    /// Workers that calls have claimed since the agent began and that were warm.
    #[serde(default)]
    pub warm_claims: u64,
    /// Those that had to be started first.
    #[serde(default)]
    pub cold_claims: u64,
    /// Takes nothing new.
    #[serde(default)]
    pub draining: bool,
    /// May pull images that are not there.
    #[serde(default)]
    pub pull: bool,
    /// Images that are there.
    #[serde(default)]
    pub images: Vec<Image>,
    /// Runtimes that calls may ask for; the first is that of calls that ask for none.
    #[serde(default)]
    pub runtimes: Vec<String>,
    /// Shared folders of its settings, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
}

/// HELD: what an agent was given of a call and has not answered, as far as the gateway has taken its answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// How many inputs it received since the exchange began.
    pub inputs: u64,
    /// How many bytes of inputs.
    pub bytes: u64,
    /// First index, one past the last, and attempt of what it holds.
    pub ranges: Vec<(u64, u64, u32)>,
}

/// HELLO of pid 1 or of a runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// `init`, `python` or `command`.
    pub role: String,
    /// Protocol version.
    pub version: u32,
    /// Minor version of the image's Python.
    #[serde(default)]
    pub python: Option<String>,
}

/// Which runner pid 1 starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Python functions.
    Python,
    /// Commands.
    Command,
}

/// START: which runner to start; four descriptors travel with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which.
    pub mode: Mode,
}

/// EXIT: how the runner ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A failure item: an output with status 2.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failure {
    /// `worker_died`, `out_of_memory`, `timeout`, `too_large`, `lost`, `poison`, `damaged` or `cancelled`.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Exit code of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The limit that was passed, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Peak memory of the worker, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Size of what was too large, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The input's time limit, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The readable head of an exception item: an output with status 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExceptionHead {
    /// Name of the exception's class, or `CommandFailed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Its text.
    pub message: String,
    /// Its traceback, as text.
    #[serde(default)]
    pub traceback: String,
    /// Exit code of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl ExceptionHead {
    /// Reads the head of an exception item; the rest of the item is Python's own.
    pub fn of_item(item: &[u8]) -> Result<ExceptionHead, WireError> {
        let bad = || crate::malformed("exception", "its head is cut short");
        let (length, rest) = item.split_first_chunk::<4>().ok_or_else(bad)?;
        let head = rest.get(..u32::from_le_bytes(*length) as usize).ok_or_else(bad)?;
        from_json("exception", head)
    }

    /// The item with this head and nothing after it.
    pub fn to_item(&self) -> Bytes {
        let head = to_json(self);
        let mut item = Vec::with_capacity(4 + head.len());
        item.extend_from_slice(&(head.len() as u32).to_le_bytes());
        item.extend_from_slice(&head);
        item.into()
    }
}

/// A frame whose body is this message as JSON.
pub fn json_frame<T: Serialize>(kind: Kind, message: &T) -> Frame {
    Frame::new(kind, to_json(message))
}

/// The message as JSON.
pub fn to_json<T: Serialize>(message: &T) -> Bytes {
    serde_json::to_vec(message).expect("messages have string keys and finite numbers").into()
}

/// Reads a JSON body; `what` is its name in PROTOCOL.md.
pub fn from_json<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(body).map_err(|error| WireError::Json { what, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_head_is_found_before_the_pickle() {
        let head =
            ExceptionHead { kind: "ValueError".into(), message: "no".into(), ..Default::default() };
        let mut item = head.to_item().to_vec();
        item.extend_from_slice(b"\x80\x05pickle");
        assert_eq!(ExceptionHead::of_item(&item), Ok(head));
    }

    #[test]
    fn a_head_longer_than_its_item_is_refused() {
        assert!(ExceptionHead::of_item(&[255, 255, 255, 255, b'{']).is_err());
        assert!(ExceptionHead::of_item(&[1]).is_err());
    }

    #[test]
    fn unknown_fields_between_our_parts_are_ignored() {
        let status: WorkerStatus =
            from_json("WORKER_STATUS", br#"{"starting":1,"running":2,"from_the_future":[]}"#)
                .expect("known fields are there");
        assert_eq!((status.starting, status.running), (1, 2));
    }
}
