//! Inputs given as JSON: kept as they are written, checked for the shape their kind of call needs.

use bytes::Bytes;
use muster_wire::message::CallKind;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::describe;
use super::problem::{Code, Problem};

/// The inputs of a JSON array, as JSON texts.
pub fn of_list(kind: CallKind, list: &[&RawValue]) -> Result<Vec<Bytes>, Problem> {
    list.iter()
        .enumerate()
        .map(|(index, raw)| {
            check(kind, index as u64, raw)?;
            Ok(Bytes::copy_from_slice(raw.get().as_bytes()))
        })
        .collect()
}

/// The input on one line of NDJSON; `line` counts from 1 in its request, `index` in the call.
pub fn of_line(kind: CallKind, line: u64, index: u64, text: &[u8]) -> Result<(), Problem> {
    let raw: &RawValue = serde_json::from_slice(text).map_err(|error| {
        Problem::new(
            Code::BadJson,
            format!("Line {line} (input {index}) is not JSON: {error}."),
            "Send one JSON text on each line; the inputs before this one were taken.",
        )
    })?;
    check(kind, index, raw)
}

fn check(kind: CallKind, index: u64, raw: &RawValue) -> Result<(), Problem> {
    if kind != CallKind::Command || serde_json::from_str::<CommandInput>(raw.get()).is_ok() {
        return Ok(());
    }
    Err(Problem::bad_field(
        &format!("inputs[{index}]"),
        format!("is {}, which is not what a command takes", describe(raw)),
        "Give an array of strings (arguments), a string (stdin), or {\"args\": [...], \"stdin\": \"...\"}.",
    ))
}

/// The shapes of a command's input. Only matched, never used: the runner reads them again.
#[derive(Deserialize)]
#[serde(untagged)]
enum CommandInput {
    Stdin(#[allow(dead_code, reason = "matched only")] String),
    Args(#[allow(dead_code, reason = "matched only")] Vec<String>),
    Both(#[allow(dead_code, reason = "matched only")] Both),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Both {
    #[serde(default)]
    #[allow(dead_code, reason = "matched only")]
    args: Vec<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "matched only")]
    stdin: Option<String>,
}
