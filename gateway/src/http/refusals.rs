//! What a call, or inputs, that were not taken are told.

use super::problem::{Code, Problem};
use crate::calls::{AdmitError, PushError};

impl From<AdmitError> for Problem {
    fn from(error: AdmitError) -> Problem {
        const IMAGES: &str =
            "Name one of those images, or make this one on a host (`make images`, `docker pull`).";
        match error {
            AdmitError::NoHosts => Problem::new(
                Code::NoHosts,
                "No host is connected to this gateway.",
                "Start an agent that dials this gateway, then send the call again.",
            )
            .retry_after(5),
            AdmitError::TooLarge { asked_cpu, asked_ram, largest } => Problem::new(
                Code::DoesNotFit,
                match largest {
                    Some((host, cpu, ram)) => format!(
                        "A worker of {asked_cpu} cores and {} fits on no host; the largest, `{host}`, has {cpu} cores and {}.",
                        gb(asked_ram),
                        gb(ram)
                    ),
                    None => format!(
                        "A worker of {asked_cpu} cores and {} fits on no host.",
                        gb(asked_ram)
                    ),
                },
                "Ask for fewer cores or less memory for one worker (`cpu`, `ram`), or connect a larger host.",
            ),
            AdmitError::NoSuchImage { image, there } => Problem::new(
                Code::NoSuchImage,
                format!("No host has the image `{image}`. There {}.", listed(&there)),
                IMAGES,
            ),
            AdmitError::NoSuchRuntime { runtime, there } => Problem::new(
                Code::NoSuchRuntime,
                format!(
                    "No host lets calls choose the runtime `{runtime}`. There {}.",
                    listed(&there)
                ),
                "Name one of these, leave `runtime` out, or start an agent with --allow-runtime on a host whose engine has it.",
            ),
            AdmitError::NoImageForPython { python, there } => Problem::new(
                Code::NoImageForPython,
                format!("No host has an image with Python {python}. There {}.", listed(&there)),
                "Name an image with this Python, make one (`make images`), or run the client with a Python that is there.",
            ),
            AdmitError::PythonMismatch { image, has, wants, fitting } => Problem::new(
                Code::PythonMismatch,
                format!(
                    "The image `{image}` has Python {has}, and the function was pickled by Python {wants}. Of those that fit, there {}.",
                    listed(&fitting)
                ),
                "Name an image with this Python, or run the client with the image's Python.",
            ),
            AdmitError::NoSuchShare(missing) => super::shares::missing(&missing),
            AdmitError::UnknownSecrets { names } => super::secrets::unknown(&names),
            AdmitError::TooDeep { limit } => Problem::new(
                Code::NestedTooDeep,
                format!("A function made a call, whose function made a call, and so on: {limit} deep is the bound."),
                "Make the calls from fewer levels, or raise the gateway's --nested-depth.",
            ),
            AdmitError::TooManyChildren { limit } => Problem::new(
                Code::TooManyNested,
                format!("The functions of this call have {limit} calls running, which is the bound."),
                "Give one call more inputs instead of making more calls, or raise the gateway's --nested-calls.",
            )
            .retry_after(1),
            AdmitError::Full => Problem::new(
                Code::Full,
                "The gateway holds as many calls as it can.",
                "Send the call again after the time in `Retry-After`.",
            )
            .retry_after(1),
            AdmitError::NoSpace => Problem::disk_full(),
            AdmitError::Stopping => Problem::stopping(),
        }
    }
}

impl From<PushError> for Problem {
    fn from(error: PushError) -> Problem {
        match error {
            PushError::Gap { expected } => Problem::new(
                Code::InputsGap,
                format!(
                    "These inputs do not follow the ones that are there: the next is {expected}."
                ),
                format!("Send the inputs from index {expected} on."),
            ),
            PushError::Closed => Problem::new(
                Code::InputsClosed,
                "The inputs of this call were closed; it takes no more.",
                "Create another call; to keep inputs open, create it with `\"more_inputs\": true`.",
            ),
            PushError::Ended => Problem::new(
                Code::CallEnded,
                "The call has ended; it takes no more inputs.",
                "Read its record or its events for how it ended.",
            ),
            PushError::Differs { first } => Problem::new(
                Code::InputsDiffer,
                format!("A batch of as many inputs from {first} on came before, with other bytes."),
                "Send the same inputs again, or create another call under another key.",
            ),
            PushError::Background => Problem::new(
                Code::BadFrame,
                "A SKIP frame came for a background call, which runs all its inputs.",
                "Send its inputs; those that are there already are not run twice.",
            ),
            PushError::NoSpace => Problem::disk_full(),
            PushError::Stopping => Problem::stopping(),
        }
    }
}

fn gb(bytes: u64) -> String {
    let gb = bytes as f64 / (1u64 << 30) as f64;
    format!("{} GB", (gb * 100.0).round() / 100.0)
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "are none at all".to_owned(),
        [one] => format!("is `{one}`"),
        many => format!("are `{}`", many.join("`, `")),
    }
}
