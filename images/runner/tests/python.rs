//! The Python runner behind the real pid 1: what the agent attributes is what Python did.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use bytes::Bytes;
use muster_agent::runner::Runner;
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallKind, CallSpec, Encoding, ExceptionHead, Mode};
use support::{Home, Outcome, follow, follow_once, spec, spec_frame};

const SOURCE: &str = r#"
import os, subprocess, sys, time

def run(x):
    if x == "crash":
        print("last words", flush=True)
        os._exit(7)
    if x == "raise":
        raise ValueError("no good")
    if x == "child":
        subprocess.run(["sh", "-c", "printf child; printf err >&2"], check=True)
        return None
    if x == "wait":
        time.sleep(0.3)
    print(f"{x} runs", end="")
    sys.stderr.write("\n\n")
    return x
"#;

fn opening() -> [Frame; 2] {
    let spec =
        CallSpec { entry: Some("run".into()), ..spec(CallKind::Source, Encoding::Json, &[]) };
    [spec_frame(&spec), Frame::new(Kind::Function, Bytes::from_static(SOURCE.as_bytes()))]
}

async fn start(home: &mut Home) -> Runner {
    home.start(Mode::Python).await.expect("this machine has Python")
}

#[tokio::test]
async fn values_exceptions_and_prints_are_their_own_inputs() {
    let mut home = Home::with_python();
    let mut runner = start(&mut home).await;
    assert!(runner.python().is_some_and(|version| version.starts_with("3.")));
    let mut items: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    items[100] = "\"raise\"".into();
    items[200] = "\"child\"".into();
    let mut outcome = Outcome::default();
    runner.give(&opening(), &Inputs::from_items(0, 1, &items));
    follow(&mut runner, &mut outcome).await;
    assert_eq!(outcome.end, None, "{}", String::from_utf8_lossy(outcome.err(0)));
    assert_eq!(outcome.records.len(), 500);
    for (index, record) in outcome.records.iter().enumerate() {
        assert_eq!(record.index, index as u64);
        match index {
            100 => {
                let head = ExceptionHead::of_item(&record.items.joined()).unwrap();
                assert_eq!((head.kind.as_str(), head.message.as_str()), ("ValueError", "no good"));
            }
            200 => {
                assert_eq!((outcome.out(200), outcome.err(200)), (&b"child"[..], &b"err"[..]));
            }
            n => {
                assert_eq!(&record.items.joined()[..], n.to_string().as_bytes());
                assert_eq!(outcome.out(n as u64), format!("{n} runs").as_bytes());
                assert_eq!(outcome.err(n as u64), b"\n\n");
            }
        }
    }
}

#[tokio::test]
async fn a_crash_costs_one_input_and_keeps_its_last_words() {
    let mut home = Home::with_python();
    let mut runner = start(&mut home).await;
    let items = ["1", "2", "\"crash\"", "4"];
    let mut outcome = Outcome::default();
    runner.give(&opening(), &Inputs::from_items(20, 1, &items));
    follow(&mut runner, &mut outcome).await;
    assert_eq!(outcome.status(), [(20, Status::Value), (21, Status::Value)]);
    let (exit, running) = outcome.end.as_ref().expect("the runner is dead");
    assert_eq!((exit.exit_code, *running), (Some(7), Some(22)));
    assert_eq!(outcome.out(22), b"last words\n");
}

#[tokio::test]
async fn an_output_does_not_wait_for_a_slow_successor() {
    let mut home = Home::with_python();
    let mut runner = start(&mut home).await;
    let mut outcome = Outcome::default();
    runner.give(&opening(), &Inputs::from_items(0, 1, &["1", "\"wait\""]));
    while outcome.records.is_empty() {
        follow_once(&mut runner, &mut outcome).await;
    }
    assert_eq!(outcome.status(), [(0, Status::Value)]);
    follow(&mut runner, &mut outcome).await;
    assert_eq!(outcome.status(), [(0, Status::Value), (1, Status::Value)]);
}
