//! `muster-runner init` and `muster-runner command`, as the agent sees them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use muster_agent::runner::RunnerError;
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallKind, CallSpec, Encoding, ExceptionHead, Mode};
use nix::sys::signal::Signal;
use support::{Home, Outcome, follow, follow_once, run, spec, spec_frame, wait_for};

fn json(command: &[&str]) -> CallSpec {
    spec(CallKind::Command, Encoding::Json, command)
}

fn head(outcome: &Outcome, at: usize) -> ExceptionHead {
    assert_eq!(outcome.records[at].status, Status::Exception);
    ExceptionHead::of_item(&outcome.records[at].items.joined()).unwrap()
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    let inputs = Inputs::from_items(
        0,
        1,
        &[r#"["exit 0"]"#, r#"["exit 3"]"#, r#"["kill -9 $$"]"#, r#"["no-such-program-here"]"#],
    );
    let outcome = run(&json(&["sh", "-c"]), &inputs).await;
    assert_eq!(outcome.records.len(), 4);
    assert_eq!(&outcome.records[0].items.joined()[..], br#"{"exit_code": 0}"#);
    assert_eq!(
        (head(&outcome, 1).kind.as_str(), head(&outcome, 1).exit_code),
        ("CommandFailed", Some(3))
    );
    assert_eq!((head(&outcome, 2).exit_code, head(&outcome, 2).signal), (None, Some(9)));
    assert_eq!(head(&outcome, 3).exit_code, Some(127));
}

#[tokio::test]
async fn a_command_has_its_secrets_beside_its_environment() {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    let spec = json(&["sh", "-c", "printf %s.%s \"$GREETING\" \"$PW\""]);
    let secrets = Frame::new(Kind::Secrets, r#"{"PW": "a b"}"#);
    let mut outcome = Outcome::default();
    runner.give(&[spec_frame(&spec), secrets], &Inputs::from_items(0, 1, &["[]"]));
    follow(&mut runner, &mut outcome).await;
    assert_eq!(outcome.out(0), b"hello.a b");
    runner.close();
    runner.exited().await;
    drop(runner);
    home.ended().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let outcome = run(&json(&["no-such-program-here"]), &Inputs::from_items(0, 1, &["[]"])).await;
    let head = head(&outcome, 0);
    assert_eq!(head.exit_code, Some(127));
    assert!(head.message.contains("no-such-program-here"), "{}", head.message);
}

#[tokio::test]
async fn a_raw_input_is_stdin_byte_by_byte_however_large() {
    let raw = spec(CallKind::Command, Encoding::Raw, &["cat"]);
    let item: Vec<u8> =
        (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcome = run(&raw, &Inputs::from_items(3, 1, &[&item[..], b""])).await;
    assert!(outcome.out(3) == item, "stdout is not what stdin was");
    assert_eq!(outcome.out(4), b"");
    assert_eq!(outcome.status(), [(3, Status::Value), (4, Status::Value)]);
}

#[tokio::test]
async fn a_command_that_does_not_read_its_stdin_blocks_nobody() {
    let raw = spec(CallKind::Command, Encoding::Raw, &["true"]);
    let outcome = run(&raw, &Inputs::from_items(0, 1, &[vec![1; 3_000_000]])).await;
    assert_eq!(outcome.status(), [(0, Status::Value)]);
}

#[tokio::test]
async fn an_input_adds_arguments_and_stdin_and_finds_its_variables() {
    let script =
        r#"cat; echo "$1|$GREETING|$MUSTER_CALL_ID|$MUSTER_INPUT_INDEX|$MUSTER_ATTEMPT|$PWD""#;
    let inputs = Inputs::from_items(41, 2, &[r#"{"args": ["sh", "a b"], "stdin": "in "}"#]);
    let outcome = run(&json(&["sh", "-c", script]), &inputs).await;
    assert_eq!(String::from_utf8_lossy(outcome.out(41)), "in a b|hello|c1|41|2|/tmp\n");
}

#[tokio::test]
async fn an_input_that_makes_no_sense_is_an_exception_of_that_input() {
    let outcome = run(&json(&["true"]), &Inputs::from_items(0, 1, &["17", "[]"])).await;
    assert!(head(&outcome, 0).message.contains("array of strings"));
    assert_eq!(outcome.records[1].status, Status::Value);
}

#[tokio::test]
async fn every_byte_is_its_own_inputs_without_newlines_and_whatever_its_value() {
    let script =
        r"printf '%s\377\000\n\n%s' $MUSTER_INPUT_INDEX x; printf 'e%s' $MUSTER_INPUT_INDEX >&2";
    let outcome = run(&json(&["sh", "-c", script]), &Inputs::from_items(100, 1, &["[]"; 40])).await;
    for index in 100..140u64 {
        let mut expected = index.to_string().into_bytes();
        expected.extend_from_slice(b"\xff\x00\n\nx");
        assert_eq!(outcome.out(index), expected);
        assert_eq!(outcome.err(index), format!("e{index}").as_bytes());
    }
}

#[tokio::test]
async fn a_hundred_thousand_lines_of_one_input_come_whole() {
    let outcome = run(&json(&["seq", "100000"]), &Inputs::from_items(0, 1, &["[]"])).await;
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(outcome.out(0) == expected.as_bytes(), "lines are missing or mixed");
}

#[tokio::test]
async fn prints_come_while_the_command_still_runs() {
    let mut home = Home::new(&[]);
    let go = home.folder.path().join("go");
    let script = format!("printf early; while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let mut runner = home.start(Mode::Command).await.unwrap();
    let mut outcome = Outcome::default();
    runner.give(&[spec_frame(&json(&["sh", "-c", &script]))], &Inputs::from_items(0, 1, &["[]"]));
    while outcome.out(0) != b"early" {
        follow_once(&mut runner, &mut outcome).await;
    }
    assert!(outcome.records.is_empty());
    std::fs::write(go, "").unwrap();
    follow(&mut runner, &mut outcome).await;
    assert_eq!(outcome.status(), [(0, Status::Value)]);
}

/// Whether a process runs; one that nobody has taken in yet does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(PathBuf::from("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| {
        !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
    })
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed() {
    let script = "sleep 1000 & echo $!";
    let outcome = run(&json(&["sh", "-c", script]), &Inputs::from_items(0, 1, &["[]"])).await;
    let pid = String::from_utf8(outcome.out(0).to_vec()).unwrap().trim().to_owned();
    assert!(pid.parse::<u32>().is_ok(), "{pid}");
    wait_for("the death of the grandchild", || !runs(&pid)).await;
}

#[tokio::test]
async fn descriptors_and_signals_of_ours_do_not_reach_the_command() {
    let script = "ls /proc/self/fd | tr '\\n' ' '; grep SigBlk /proc/self/status";
    // What this test itself was started with is inherited by everyone.
    let plain = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    let outcome = run(&json(&["sh", "-c", script]), &Inputs::from_items(0, 1, &["[]"])).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(outcome.out(0)), text(&plain.stdout));
}

#[tokio::test]
async fn a_signal_reaches_the_command_and_ends_the_runner() {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    let script = "trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let mut outcome = Outcome::default();
    runner.give(&[spec_frame(&json(&["sh", "-c", script]))], &Inputs::from_items(0, 1, &["[]"]));
    while outcome.out(0) != b"ready\n" {
        follow_once(&mut runner, &mut outcome).await;
    }
    runner.signal(Signal::SIGTERM as i32).await;
    follow(&mut runner, &mut outcome).await;
    assert_eq!(outcome.out(0), b"ready\ngot\n");
    assert_eq!(
        outcome.end.map(|(exit, running)| (exit.exit_code, running)),
        Some((Some(0), Some(0)))
    );
    drop(runner);
    home.ended().await;
}

#[tokio::test]
async fn sigterm_to_pid_1_is_passed_on() {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let mut outcome = Outcome::default();
    runner.give(&[spec_frame(&json(&["sh", "-c", script]))], &Inputs::from_items(0, 1, &["[]"]));
    while outcome.out(0) != b"ready\n" {
        follow_once(&mut runner, &mut outcome).await;
    }
    let pid = nix::unistd::Pid::from_raw(home.init.id() as i32);
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    follow(&mut runner, &mut outcome).await;
    assert!(outcome.end.is_some());
    // Once nothing runs any more, whoever stops the container need not wait.
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    home.ended().await;
    drop(runner);
}

#[tokio::test]
async fn a_runner_killed_in_the_middle_of_a_batch_costs_only_its_input() {
    let script =
        r#"echo "in $MUSTER_INPUT_INDEX"; [ $MUSTER_INPUT_INDEX = 2 ] && kill -9 $PPID; exit 0"#;
    let outcome = run(&json(&["sh", "-c", script]), &Inputs::from_items(0, 1, &["[]"; 5])).await;
    assert_eq!(outcome.status(), [(0, Status::Value), (1, Status::Value)]);
    let (exit, running) = outcome.end.as_ref().expect("the runner is dead");
    assert_eq!((exit.signal, *running), (Some(9), Some(2)));
    for index in 0..3 {
        assert_eq!(outcome.out(index), format!("in {index}\n").as_bytes());
    }
}

#[tokio::test]
async fn the_end_of_the_agents_connection_ends_everything() {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    let mut outcome = Outcome::default();
    runner.give(
        &[spec_frame(&json(&["sh", "-c", "echo $$; sleep 1000"]))],
        &Inputs::from_items(0, 1, &["[]"]),
    );
    while outcome.out(0).is_empty() {
        follow_once(&mut runner, &mut outcome).await;
    }
    let pid = String::from_utf8(outcome.out(0).to_vec()).unwrap().trim().to_owned();
    drop(runner);
    home.ended().await;
    wait_for("the death of the command", || !runs(&pid)).await;
}

#[tokio::test]
async fn the_end_of_the_channel_is_the_end_of_an_idle_runner() {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    runner.close();
    assert_eq!(runner.exited().await.exit_code, Some(0));
    drop(runner);
    home.ended().await;
}

#[tokio::test]
async fn pid_1_stays_until_the_agent_has_read_what_it_wants_to_know_of_a_dead_runner() {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    let mut outcome = Outcome::default();
    let killed = json(&["sh", "-c", "kill -9 $PPID"]);
    runner.give(&[spec_frame(&killed)], &Inputs::from_items(0, 1, &["[]"]));
    follow(&mut runner, &mut outcome).await;
    assert_eq!(outcome.end.and_then(|(exit, _)| exit.signal), Some(9));
    let end = tokio::time::timeout(Duration::from_millis(300), home.ended()).await;
    assert!(end.is_err(), "it ended while the agent was there");
    drop(runner);
    home.ended().await;
}

#[tokio::test]
async fn an_image_without_python_is_said_so() {
    let mut home = Home::new(&[("PATH", "/nowhere")]);
    match home.start(Mode::Python).await {
        Err(RunnerError::NotStarted { why }) => assert_eq!(why, "no python3 in the image"),
        other => panic!("expected a refusal, got {other:?}"),
    }
    home.ended().await;
}

#[tokio::test]
async fn batches_follow_one_another_on_one_runner() {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    let spec = json(&["sh", "-c", "printf %s $MUSTER_INPUT_INDEX"]);
    let mut outcome = Outcome::default();
    runner.give(&[spec_frame(&spec)], &Inputs::from_items(50, 1, &["[]"; 3]));
    follow(&mut runner, &mut outcome).await;
    runner.give(&[], &Inputs::from_items(7, 2, &["[]"; 2]));
    follow(&mut runner, &mut outcome).await;
    let indexes: Vec<u64> = outcome.records.iter().map(|record| record.index).collect();
    assert_eq!(indexes, [50, 51, 52, 7, 8]);
    assert_eq!((outcome.out(52), outcome.out(7)), (&b"52"[..], &b"7"[..]));
}
