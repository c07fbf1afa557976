//! What a user asks for: the object of PROTOCOL.md 4.1, read field by field so that each mistake is named with the field,
//! what is wrong with it, and what to do. Pure: bytes in, a request or a problem out.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_wire::message::{CallKind, CallSpec, Encoding};
use serde_json::value::RawValue;

use super::fields::{Fields, check_text};
use super::problem::{Code, Problem};
use super::{json_inputs, packages, secrets, shares};
use crate::blobs::BlobId;
use crate::calls::{CallOptions, OnError};

/// Where the object came from, which decides what may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON body: function and inputs are in the object.
    Json,
    /// A SPEC frame: function and inputs are in frames of their own.
    Frames,
}

/// A call as a user asks for it.
#[derive(Debug)]
pub struct CallRequest {
    /// As agents get it; `call` is empty, `image` where the user named none, and `packages` may name nothing.
    pub spec: CallSpec,
    /// What the scheduler wants to know.
    pub options: CallOptions,
    /// Python source, in a JSON body.
    pub source: Option<String>,
    /// The inputs of a JSON body, as JSON texts.
    pub inputs: Vec<Bytes>,
    /// Whether further inputs follow by `/inputs`.
    pub more_inputs: bool,
    /// Shared data that the call reads.
    pub data: Vec<BlobId>,
}

/// Bytes in a GB as users give it.
pub const GB: f64 = (1u64 << 30) as f64;

const KNOWN: &[&str] = &[
    "kind",
    "source",
    "entry",
    "command",
    "inputs",
    "more_inputs",
    "python",
    "packages",
    "image",
    "runtime",
    "cpu",
    "ram",
    "env",
    "secrets",
    "shares",
    "timeout",
    "retries",
    "max_parallelism",
    "on_error",
    "background",
    "name",
    "data",
];
const MIN_CPU: f64 = 0.01;
const MIN_RAM: f64 = 1.0 / 64.0;
const MAX_RETRIES: u32 = 1000;
const MAX_NAME: usize = 200;
const MAX_DATA: usize = 1000;

/// Reads the object.
pub fn parse(body: &[u8], form: Form) -> Result<CallRequest, Problem> {
    let fields = Fields::parse("The call", body, KNOWN)?;
    let kind = kind_of(&fields, form)?;
    refuse_strangers(&fields, kind, form)?;
    let spec = CallSpec {
        call: String::new(),
        kind,
        encoding: if kind == CallKind::Pickle { Encoding::Pickle } else { Encoding::Json },
        image: fields
            .text("image", "Name an image with its tag, for example \"muster/python:3.11\".")?
            .map(image)
            .transpose()?
            .unwrap_or_default(),
        runtime: fields.text("runtime", RUNTIME)?.map(runtime).transpose()?,
        python: fields.text("python", PYTHON)?.map(python).transpose()?,
        cpu: cores(fields.number("cpu", CPU)?.unwrap_or(1.0))?,
        ram_bytes: ram_bytes(fields.number("ram", RAM)?.unwrap_or(4.0))?,
        env: env_of(&fields)?,
        timeout_ms: fields.number("timeout", TIMEOUT)?.map(timeout_ms).transpose()?,
        entry: entry_of(&fields, kind)?,
        command: command_of(&fields, kind)?,
        packages: packages::of(&fields)?,
        secrets: secrets::of(&fields)?,
        data: Vec::new(),
        shares: shares::of(&fields)?,
    };
    secrets::refuse_both(&spec.env, &spec.secrets)?;
    let options = CallOptions {
        max_parallelism: max_parallelism(&fields)?,
        retries: fields.whole("retries", 0, MAX_RETRIES, RETRIES)?.unwrap_or(0),
        on_error: on_error(&fields)?,
        background: fields.flag("background")?.unwrap_or(false),
        name: name_of(&fields)?,
        share_limit: None,
    };
    let more_inputs = fields.flag("more_inputs")?.unwrap_or(false);
    Ok(CallRequest {
        source: fields.text("source", "Give the Python source as one string.")?,
        inputs: inputs_of(&fields, kind, form, more_inputs)?,
        data: data_of(&fields)?,
        spec,
        options,
        more_inputs,
    })
}

const CPU: &str =
    "Give the cores of one worker as a number of at least 0.01, for example 1 or 0.5.";
const RAM: &str = "Give the memory of one worker in GB (2^30 bytes) as a number of at least 0.015625, for example 4 or 0.5.";
const TIMEOUT: &str = "Give the seconds that one input may run as a number greater than 0.";
const PYTHON: &str = "Give the minor version as a string, for example \"3.11\".";
const RUNTIME: &str = "Name one of the engine's runtimes that the hosts allow, for example \"runsc\"; `GET /v1/hosts` lists them.";
const RETRIES: &str = "Give a whole number from 0 to 1000.";
const ENV: &str = "Give an object of strings, for example {\"DEBUG\": \"1\"}.";
const COMMAND: &str =
    "Give the argument vector as an array of strings, for example [\"wc\", \"-c\"].";

/// Cores as the user gives them, checked.
pub fn cores(cpu: f64) -> Result<f64, Problem> {
    match cpu.is_finite() && cpu >= MIN_CPU {
        true => Ok(cpu),
        false => Err(Problem::bad_field("cpu", format!("is {cpu}"), CPU)),
    }
}

/// Bytes of memory from GB as the user gives them, checked.
pub fn ram_bytes(gb: f64) -> Result<u64, Problem> {
    match gb.is_finite() && gb >= MIN_RAM {
        true => Ok((gb * GB).round() as u64),
        false => Err(Problem::bad_field("ram", format!("is {gb}"), RAM)),
    }
}

/// Milliseconds from seconds as the user gives them, checked.
pub fn timeout_ms(seconds: f64) -> Result<u64, Problem> {
    match seconds.is_finite() && seconds > 0.0 {
        true => Ok(((seconds * 1000.0).round() as u64).max(1)),
        false => Err(Problem::bad_field("timeout", format!("is {seconds}"), TIMEOUT)),
    }
}

/// The name of an image, checked.
pub fn image(name: String) -> Result<String, Problem> {
    let strange = |c: char| c.is_whitespace() || c.is_control();
    match name.is_empty() || name.len() > 255 || name.contains(strange) {
        true => Err(Problem::bad_field(
            "image",
            "is not the name of an image",
            "Name an image with its tag, for example \"muster/python:3.11\".",
        )),
        false => Ok(name),
    }
}

/// The name of a runtime, checked.
pub fn runtime(name: String) -> Result<String, Problem> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match (1..=128).contains(&name.len()) && name.chars().all(good) {
        true => Ok(name),
        false => Err(Problem::bad_field("runtime", "is not the name of a runtime", RUNTIME)),
    }
}

/// One variable of the environment, checked.
pub fn variable(name: &str, value: &str) -> Result<(), Problem> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(Problem::bad_field(
            "env",
            format!("has the name {name:?}, which no variable can have"),
            "Names are not empty and hold neither `=` nor NUL.",
        ));
    }
    check_text(&format!("env.{name}"), value)
}

/// An argument vector, checked.
pub fn argument_vector(command: &[String]) -> Result<(), Problem> {
    if command.first().is_none_or(String::is_empty) {
        return Err(Problem::bad_field("command", "names no program", COMMAND));
    }
    command.iter().enumerate().try_for_each(|(n, part)| check_text(&format!("command[{n}]"), part))
}

fn python(version: String) -> Result<String, Problem> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match version.split_once('.') {
        Some((major, minor)) if digits(major) && digits(minor) && version.len() < 10 => Ok(version),
        _ => Err(Problem::bad_field("python", format!("is {version:?}"), PYTHON)),
    }
}

fn kind_of(fields: &Fields<'_>, form: Form) -> Result<CallKind, Problem> {
    const ACTION: &str = "Give \"source\", \"command\", or (with frames only) \"pickle\".";
    let kind = match fields.text("kind", ACTION)?.as_deref() {
        Some("pickle") => CallKind::Pickle,
        Some("source") => CallKind::Source,
        Some("command") => CallKind::Command,
        Some(other) => return Err(Problem::bad_field("kind", format!("is {other:?}"), ACTION)),
        None if fields.has("command") => CallKind::Command,
        None if fields.has("source") || fields.has("entry") => CallKind::Source,
        None if form == Form::Frames => CallKind::Pickle,
        None => {
            return Err(Problem::bad_field(
                "command",
                "is missing, and `source` with `entry` too, so there is nothing to run",
                "Give `command`, or `source` and `entry`.",
            ));
        }
    };
    if kind == CallKind::Pickle && form == Form::Json {
        return Err(Problem::bad_field(
            "kind",
            "is \"pickle\", which JSON cannot carry",
            "Send application/vnd.muster.frames, or use `source` or `command`.",
        ));
    }
    Ok(kind)
}

/// Fields that mean nothing for this kind are mistakes, not decoration.
fn refuse_strangers(fields: &Fields<'_>, kind: CallKind, form: Form) -> Result<(), Problem> {
    let strangers: &[&str] = match kind {
        CallKind::Pickle => &["source", "entry", "command"],
        CallKind::Source => &["command"],
        CallKind::Command => &["source", "entry", "packages"],
    };
    for field in strangers {
        if fields.has(field) {
            let name = format!("{kind:?}").to_lowercase();
            return Err(Problem::bad_field(
                field,
                format!("does not go with a call of kind {name}"),
                "Give either `command`, or `source` and `entry`.",
            ));
        }
    }
    for field in ["source", "inputs"] {
        if form == Form::Frames && fields.has(field) {
            return Err(Problem::bad_field(
                field,
                "does not go into the SPEC frame",
                "Send the source in the FUNCTION frame and inputs in INPUTS frames.",
            ));
        }
    }
    if form == Form::Json && kind == CallKind::Source && !fields.has("source") {
        return Err(Problem::bad_field(
            "source",
            "is missing",
            "Give the Python source that defines the function `entry` names.",
        ));
    }
    Ok(())
}

fn entry_of(fields: &Fields<'_>, kind: CallKind) -> Result<Option<String>, Problem> {
    const ACTION: &str = "Name the function in `source` that is called with each input.";
    let entry = fields.text("entry", ACTION)?;
    let good = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c == '_' || c.is_alphanumeric())
    };
    match &entry {
        Some(name) if !good(name) => {
            Err(Problem::bad_field("entry", format!("is {name:?}, not a name in Python"), ACTION))
        }
        None if kind == CallKind::Source => Err(Problem::bad_field("entry", "is missing", ACTION)),
        _ => Ok(entry),
    }
}

fn command_of(fields: &Fields<'_>, kind: CallKind) -> Result<Vec<String>, Problem> {
    if kind != CallKind::Command {
        return Ok(Vec::new());
    }
    let Some(command) = fields.of::<Vec<String>>("command", "an array of strings", COMMAND)? else {
        return Err(Problem::bad_field("command", "is missing", COMMAND));
    };
    argument_vector(&command)?;
    Ok(command)
}

fn env_of(fields: &Fields<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let env: BTreeMap<String, String> =
        fields.unsaid("env", "an object of strings", ENV)?.unwrap_or_default();
    env.iter().try_for_each(|(name, value)| variable(name, value))?;
    Ok(env)
}

fn data_of(fields: &Fields<'_>) -> Result<Vec<BlobId>, Problem> {
    const ACTION: &str =
        "Give an array of the SHA-256 of blobs, 64 lower-case hexadecimal digits each.";
    let list: Vec<String> = fields.of("data", "an array of strings", ACTION)?.unwrap_or_default();
    if list.len() > MAX_DATA {
        return Err(Problem::bad_field(
            "data",
            format!("names over {MAX_DATA} blobs"),
            "Share fewer, larger blobs.",
        ));
    }
    let parse = |id: &String| {
        let wrong = || Problem::bad_field("data", format!("names {id:?}"), ACTION);
        BlobId::parse(id).ok_or_else(wrong)
    };
    list.iter().map(parse).collect()
}

fn max_parallelism(fields: &Fields<'_>) -> Result<Option<u32>, Problem> {
    fields.whole(
        "max_parallelism",
        1,
        u32::MAX,
        "Give a whole number of at least 1, or leave it out for no limit.",
    )
}

fn on_error(fields: &Fields<'_>) -> Result<OnError, Problem> {
    const ACTION: &str = "Give \"continue\", or \"stop\" to stop at the first input that fails.";
    match fields.text("on_error", ACTION)?.as_deref() {
        None | Some("continue") => Ok(OnError::Continue),
        Some("stop") => Ok(OnError::Stop),
        Some(other) => Err(Problem::bad_field("on_error", format!("is {other:?}"), ACTION)),
    }
}

fn name_of(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    const ACTION: &str = "Give a text of at most 200 bytes.";
    let name = fields.text("name", ACTION)?;
    match &name {
        Some(text) if text.len() > MAX_NAME => {
            Err(Problem::bad_field("name", format!("has {} bytes", text.len()), ACTION))
        }
        _ => Ok(name),
    }
}

fn inputs_of(
    fields: &Fields<'_>,
    kind: CallKind,
    form: Form,
    more_inputs: bool,
) -> Result<Vec<Bytes>, Problem> {
    if form == Form::Frames {
        return Ok(Vec::new());
    }
    const ACTION: &str = "Give a JSON array with one element for each input.";
    match fields.of::<Vec<&RawValue>>("inputs", "an array", ACTION)? {
        Some(list) => json_inputs::of_list(kind, &list),
        // Whoever names a command and nothing else wants it run.
        None if kind == CallKind::Command && !more_inputs => Ok(vec![Bytes::from_static(b"[]")]),
        None => Ok(Vec::new()),
    }
}

/// A JSON body that is not an object that can be read.
pub fn bad_json(what: &str, error: &serde_json::Error) -> Problem {
    // What is there in the place of an object may be a secret.
    let wrong = match error.classify() {
        serde_json::error::Category::Data => "not an object".to_owned(),
        _ => error.to_string(),
    };
    Problem::new(
        Code::BadJson,
        format!("{what}: {wrong}."),
        "Send one JSON object as UTF-8; `/openapi.json` describes it.",
    )
}

#[cfg(test)]
#[path = "call_request_tests.rs"]
mod tests;
