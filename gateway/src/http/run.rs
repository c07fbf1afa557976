//! `POST /v1/run`: one command for curl. The body is its stdin, the answer its stdout as it comes, its exit code a trailer.
//!
//! The answer begins when something of the command is there to answer with: it runs, it printed, or it ended. What goes
//! wrong before that is a problem with its own status. Nobody can come back to such an answer, so a client that goes away
//! cancels the call.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame as BodyFrame;
use http_body_util::StreamBody;
use muster_wire::MAX_ITEM;
use muster_wire::batch::Inputs;
use muster_wire::message::{CallKind, CallSpec, Encoding};

use super::call_request as checks;
use super::problem::Problem;
use super::query::Query;
use super::request_body::Arrival;
use super::run_output::{RunOutput, Step};
use super::{Front, events, records, request_body, secrets, shares};
use crate::auth::Identity;
use crate::calls::{CallHandle, CallOptions, Created, EventReader, NewCall, OnError};

const EXIT_CODE: HeaderName = HeaderName::from_static("muster-exit-code");
const STDIN: &str = "The body";
const LESS_STDIN: &str = "Send less stdin, or create a call and send it as several inputs.";
const ERROR: HeaderName = HeaderName::from_static("muster-error");

/// Runs one command.
pub async fn run(front: &Front, who: Identity, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let wanted = Wanted::parse(parts.uri.query())?;
    shares::may_use(&who, &wanted.spec.shares)?;
    request_body::check_length(&body, STDIN, MAX_ITEM, LESS_STDIN)?;
    let new = NewCall {
        spec: wanted.spec,
        options: CallOptions {
            max_parallelism: None,
            retries: 0,
            on_error: OnError::Continue,
            background: false,
            name: None,
            share_limit: who.share_limit().map(<[String]>::to_vec),
        },
        key: None,
        owner: who.owner,
        function: Bytes::new(),
        pin: None,
        parent: None,
    };
    let (Created::New(call) | Created::Existing(call)) = front.calls.create(new).await?;
    let mut running = Running {
        reader: call.events(0),
        output: RunOutput::new(wanted.merge_stderr),
        ready: VecDeque::new(),
        ended: false,
        call,
    };
    // The call is there before its stdin: what cannot run is refused unread, and workers start meanwhile.
    let stdin = request_body::whole(body, STDIN, MAX_ITEM, LESS_STDIN, Arrival::Pausing).await;
    let stdin = Inputs::single(0, 0, stdin.map_err(|problem| running.refused(problem))?);
    running.call.push(stdin).await.map_err(|error| running.refused(error.into()))?;
    running.call.end_inputs(Some(1)).await.map_err(|error| running.refused(error.into()))?;
    running.begin().await?;
    Ok(running.into_response())
}

struct Wanted {
    spec: CallSpec,
    merge_stderr: bool,
}

impl Wanted {
    fn parse(query: Option<&str>) -> Result<Wanted, Problem> {
        const ONCE: &[&str] = &["image", "runtime", "cpu", "ram", "timeout", "cmd", "stderr"];
        let query = Query::parse(query, ONCE, &["arg", "env", "secret", "share"])?;
        let image = query.get("image").map(str::to_owned).map(checks::image).transpose()?;
        let timeout = query.number("timeout", "Give seconds, for example 60.")?;
        let spec = CallSpec {
            call: String::new(),
            kind: CallKind::Command,
            encoding: Encoding::Raw,
            image: image.unwrap_or_default(),
            runtime: query.get("runtime").map(str::to_owned).map(checks::runtime).transpose()?,
            python: None,
            cpu: checks::cores(query.number("cpu", "Give cores, for example 1.")?.unwrap_or(1.0))?,
            ram_bytes: checks::ram_bytes(
                query.number("ram", "Give GB, for example 4.")?.unwrap_or(4.0),
            )?,
            env: environment(&query)?,
            timeout_ms: timeout.map(checks::timeout_ms).transpose()?,
            entry: None,
            command: command(&query)?,
            packages: None,
            secrets: secrets::wanted("secret", query.all("secret").map(str::to_owned).collect())?,
            data: Vec::new(),
            shares: shares::of_query(query.all("share"))?,
        };
        secrets::refuse_both(&spec.env, &spec.secrets)?;
        Ok(Wanted {
            spec,
            merge_stderr: match query.get("stderr") {
                None => false,
                Some("merge") => true,
                Some(other) => {
                    return Err(Problem::bad_field(
                        "stderr",
                        format!("is {other:?}"),
                        "Give \"merge\" to have stderr among stdout, or leave it out.",
                    ));
                }
            },
        })
    }
}

fn command(query: &Query) -> Result<Vec<String>, Problem> {
    const ACTION: &str =
        "Give `arg` once for each part of the argument vector, or `cmd` for a shell.";
    let list: Vec<String> = query.all("arg").map(str::to_owned).collect();
    let command = match (list.is_empty(), query.get("cmd")) {
        (false, None) => list,
        (true, Some(line)) => vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()],
        (true, None) => return Err(Problem::bad_field("arg", "is missing", ACTION)),
        (false, Some(_)) => {
            return Err(Problem::bad_field("cmd", "does not go with `arg`", ACTION));
        }
    };
    checks::argument_vector(&command)?;
    Ok(command)
}

fn environment(query: &Query) -> Result<BTreeMap<String, String>, Problem> {
    query
        .all("env")
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| Problem::bad_field("env", "has no `=`", "Give `env=NAME=VALUE`."))?;
            checks::variable(name, value)?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// A command that runs, and what of it goes to the client. Cancels its call when it is dropped before the end.
struct Running {
    call: CallHandle,
    reader: EventReader,
    output: RunOutput,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.call.cancel();
        }
    }
}

impl Running {
    /// Waits for what commits us to an answer of 200.
    async fn begin(&mut self) -> Result<(), Problem> {
        while let Some(entry) = self.reader.next().await {
            match self.output.step(entry) {
                Step::Nothing => {}
                Step::Begun => return Ok(()),
                Step::Bytes(bytes) => {
                    self.ready.push_back(bytes);
                    return Ok(());
                }
                Step::Failed(error) => {
                    let problem = Problem::of_call(error.code, error.message, error.action);
                    return Err(self.refused(problem));
                }
            }
        }
        self.ended = true;
        Ok(())
    }

    fn refused(&self, problem: Problem) -> Problem {
        problem.with_call(self.call.id())
    }

    fn into_response(self) -> Response {
        let id = self.call.id().to_owned();
        let pieces = stream::unfold(Some(self), |running| async move {
            let mut running = running?;
            let frame = match running.next().await {
                Some(bytes) => (BodyFrame::data(bytes), Some(running)),
                None => (BodyFrame::trailers(running.trailers()), None),
            };
            Some((Ok::<_, Infallible>(frame.0), frame.1))
        });
        let mut response = Response::new(Body::new(StreamBody::new(pieces)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(TRAILER, HeaderValue::from_static("muster-exit-code, muster-error"));
        events::not_to_be_kept(headers);
        records::name_call(headers, &id);
        response
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.ready.pop_front() {
            return Some(bytes);
        }
        while !self.ended {
            match self.reader.next().await {
                None => self.ended = true,
                Some(entry) => {
                    if let Step::Bytes(bytes) = self.output.step(entry) {
                        return Some(bytes);
                    }
                }
            }
        }
        None
    }

    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        if let Some(code) = self.output.exit_code() {
            trailers.insert(EXIT_CODE, HeaderValue::from(code));
        }
        let error = self.output.error().and_then(|code| HeaderValue::from_str(code).ok());
        if let Some(code) = error {
            trailers.insert(ERROR, code);
        }
        trailers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Result<Wanted, String> {
        Wanted::parse(Some(query)).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_command_is_an_argument_vector_or_a_line_for_the_shell() {
        let wanted = parsed("arg=wc&arg=-c&cpu=0.5&ram=1&env=A=b=c&timeout=2.5").expect("good");
        assert_eq!(wanted.spec.command, ["wc", "-c"]);
        assert_eq!((wanted.spec.cpu, wanted.spec.ram_bytes), (0.5, 1 << 30));
        assert_eq!(wanted.spec.env["A"], "b=c");
        assert_eq!(wanted.spec.timeout_ms, Some(2500));
        assert!(!wanted.merge_stderr);
        let wanted = parsed("cmd=echo%20hi%20%7C%20wc&stderr=merge").expect("good");
        assert_eq!(wanted.spec.command, ["sh", "-c", "echo hi | wc"]);
        assert!(wanted.merge_stderr);
    }

    #[test]
    fn mistakes_name_their_parameter() {
        for (query, name) in [
            ("", "arg"),
            ("image=x", "arg"),
            ("arg=", "command"),
            ("arg=a&cmd=b", "cmd"),
            ("arg=a&cpu=0", "cpu"),
            ("arg=a&cpu=NaN", "cpu"),
            ("arg=a&ram=-1", "ram"),
            ("arg=a&ram=inf", "ram"),
            ("arg=a&timeout=x", "timeout"),
            ("arg=a&env=A", "env"),
            ("arg=a&env==b", "env"),
            ("arg=a&stderr=drop", "stderr"),
            ("arg=a&image=a%20b", "image"),
            ("arg=a%00", "command[0]"),
            ("arg=a&image=x&image=y", "image"),
            ("arg=a&imag=x", "imag"),
        ] {
            let detail = parsed(query).err().expect(query);
            assert!(detail.contains(&format!("`{name}`")), "{query}: {detail}");
        }
    }
}
