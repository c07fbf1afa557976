//! `POST /v1/run`: stdin in, stdout out, the exit code in a trailer.

use crate::support::fake_agent::{Act, Input};
use crate::support::{Gateway, until};
use bytes::Bytes;
use muster_wire::batch::Status;
use muster_wire::message::{CallError, Encoding, ExceptionHead};

/// Prints its stdin to stdout and `oh` to stderr; fails where the first argument says so.
fn cat(input: &Input) -> Vec<Act> {
    assert_eq!(input.spec.encoding, Encoding::Raw);
    let mut acts = vec![Act::Stdout(input.item.clone()), Act::Stderr(Bytes::from_static(b"oh"))];
    match input.spec.command[0].as_str() {
        "cat" => acts.push(Act::Output(Status::Value, Bytes::from_static(b"{\"exit_code\": 0}"))),
        "fail" => {
            let head = ExceptionHead { exit_code: Some(3), ..Default::default() };
            acts.push(Act::Output(Status::Exception, head.to_item()));
        }
        "eat" => {
            let item = br#"{"code":"out_of_memory","message":"m","limit_bytes":1}"#;
            acts.push(Act::Output(Status::Failure, Bytes::from_static(item)));
        }
        "refuse" => {
            acts = vec![Act::Refuse(CallError {
                code: "no_such_image".into(),
                message: "The image is gone.".into(),
                action: "Make it.".into(),
            })];
        }
        _ => {}
    }
    acts
}

async fn run(gateway: &Gateway, query: &str, stdin: &'static [u8]) -> (Vec<u8>, String, String) {
    let asking = gateway.client().post(format!("/v1/run?{query}")).header("te", "trailers");
    let mut answer = asking.body(stdin).send().await;
    assert_eq!(answer.status, 200);
    let stdout = answer.bytes().await;
    let trailers = answer.trailers.take().unwrap_or_default();
    let trailer = |name| trailers.get(name).map_or("", |v| v.to_str().expect("text")).to_owned();
    (stdout, trailer("muster-exit-code"), trailer("muster-error"))
}

#[tokio::test]
async fn stdout_is_the_answer_and_the_exit_code_its_trailer() {
    let (gateway, _agent) = Gateway::with_host(cat).await;
    let found = run(&gateway, "arg=cat", b"a\0b\n\xff").await;
    assert_eq!(found, (b"a\0b\n\xff".to_vec(), "0".into(), String::new()));
    let found = run(&gateway, "arg=cat&stderr=merge", b"").await;
    assert_eq!(found.0, b"oh");
    let found = run(&gateway, "arg=fail", b"x").await;
    assert_eq!(found, (b"x".to_vec(), "3".into(), String::new()));
    let found = run(&gateway, "arg=eat", b"x").await;
    assert_eq!(found, (b"x".to_vec(), String::new(), "out_of_memory".into()));
}

#[tokio::test]
async fn the_record_has_the_exit_code_too() {
    let (gateway, _agent) = Gateway::with_host(cat).await;
    let mut answer = gateway.client().post("/v1/run?arg=fail").send().await;
    answer.bytes().await;
    let target = format!("/v1/calls/{}", answer.call());
    let record = gateway.client().get(target).send().await.json().await;
    assert_eq!(record["exit_code"], 3);
}

#[tokio::test]
async fn what_goes_wrong_before_the_command_runs_has_its_own_status() {
    let (gateway, _agent) = Gateway::with_host(cat).await;
    let mut answer = gateway.client().post("/v1/run").send().await;
    assert_eq!((answer.status.as_u16(), answer.problem().await.as_str()), (400, "bad_field"));
    let mut answer = gateway.client().post("/v1/run?arg=cat&image=none:1").send().await;
    assert_eq!((answer.status.as_u16(), answer.problem().await.as_str()), (422, "no_such_image"));
    let mut answer = gateway.client().post("/v1/run?arg=cat&cpu=64").send().await;
    assert_eq!((answer.status.as_u16(), answer.problem().await.as_str()), (422, "does_not_fit"));
    // A host may find out later than the gateway.
    let mut answer = gateway.client().post("/v1/run?arg=refuse").send().await;
    let call = answer.call();
    assert_eq!((answer.status.as_u16(), answer.problem().await.as_str()), (422, "no_such_image"));
    assert!(gateway.calls.get(&call).expect("the call").record().state.is_end());
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_command() {
    let (gateway, _agent) = Gateway::with_host(cat).await;
    let mut answer = gateway.client().post("/v1/run?arg=hang").body("x").send().await;
    assert_eq!(answer.piece().await.as_deref(), Some(&b"x"[..]));
    let call = gateway.calls.get(&answer.call()).expect("the call");
    drop(answer);
    until("the call is cancelled", || call.record().state.is_end()).await;
}
