//! From a request to the last event, through the real HTTP stack and a fake host.

use crate::support::calls::{FRAMES, NDJSON, echo_call, end, hang, outputs, pickle_call, seqs};
use crate::support::fake_agent::{Act, Input, echo};
use crate::support::{DEADLINE, Gateway, until};
use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_wire::batch::{Inputs, Outputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::ExceptionHead;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Prints its item, and then gives it back.
fn print_and_echo(input: &Input) -> Vec<Act> {
    vec![
        Act::Stdout(input.item.clone()),
        Act::Stderr(Bytes::from_static(b"\xff")),
        Act::Output(Status::Value, input.item.clone()),
    ]
}

#[tokio::test]
async fn a_json_call_streams_its_events_to_the_end() {
    let (gateway, _agent) = Gateway::with_host(print_and_echo).await;
    let body = echo_call(json!([1, "zwei", {"drei": [3]}]));
    let mut answer = gateway.client().post("/v1/calls").json(&body).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), NDJSON);
    assert_eq!(answer.header("cache-control"), "no-store");
    let call = answer.call();
    let events = answer.events().await;
    assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!(events[0], json!({"seq": 1, "type": "state", "state": "queued", "call": call}));
    let expected = vec![(0, json!(1)), (1, json!("zwei")), (2, json!({"drei": [3]}))];
    assert_eq!(outputs(&events), expected);
    let prints: Vec<&Value> =
        events.iter().filter(|e| e["type"] == "stdout" && e["index"] == 1).collect();
    assert_eq!(prints[0]["text"], "\"zwei\"");
    assert!(events.iter().any(|event| event["type"] == "stderr" && event["base64"] == "/w=="));
    let end = end(&events);
    assert_eq!((&end["state"], &end["done"]), (&json!("succeeded"), &json!(3)));
    let record = gateway.client().get(format!("/v1/calls/{call}")).send().await.json().await;
    assert_eq!(record["state"], "succeeded");
    assert_eq!(record["seq"], events.len());
    let list = gateway.client().get("/v1/calls").send().await.json().await;
    assert_eq!(list["calls"][0]["id"], call.as_str());
}

#[tokio::test]
async fn no_inputs_end_at_once() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let body = echo_call(json!([]));
    let mut answer = gateway.client().post("/v1/calls").json(&body).send().await;
    let events = answer.events().await;
    assert_eq!(end(&events)["state"], "succeeded");
    assert_eq!(end(&events)["total"], 0);
}

#[tokio::test]
async fn a_call_of_frames_goes_round_in_one_trip() {
    let (gateway, _agent) = Gateway::with_host(|input: &Input| {
        assert_eq!(input.function, "function");
        echo(input)
    })
    .await;
    let asking = gateway.client().post("/v1/calls").header("accept", FRAMES);
    let mut answer = asking.frames(&pickle_call(&[b"\x80a", b"\x80b"])).send().await;
    assert_eq!(answer.header("content-type"), FRAMES);
    let mut items = Vec::new();
    let mut seq = 0;
    let mut last = None;
    while let Some(frame) = answer.frame().await {
        if frame.kind == Kind::Outputs {
            let outputs = Outputs::decode(frame.body.clone()).expect("outputs");
            assert_eq!(frame.seq, seq + 1);
            seq += outputs.len() as u64;
            items.extend(outputs.iter().map(|(index, _, item)| (index, item)));
        } else if frame.seq > seq {
            seq += 1;
        }
        last = Some(frame);
    }
    items.sort();
    assert_eq!(items, [(0, Bytes::from_static(b"\x80a")), (1, Bytes::from_static(b"\x80b"))]);
    let end: Value = serde_json::from_slice(&last.expect("a last frame").body).expect("JSON");
    assert_eq!(end["state"], "succeeded");
    let target = format!("/v1/calls/{}/function", answer.call());
    assert_eq!(gateway.client().get(target).send().await.bytes().await, b"function");
}

#[tokio::test]
async fn pickles_show_as_base64_in_json() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let mut answer =
        gateway.client().post("/v1/calls").frames(&pickle_call(&[b"\x80\x04."])).send().await;
    let events = answer.events().await;
    let output = events.iter().find(|event| event["type"] == "output").expect("an output");
    assert_eq!(output["pickle_base64"], "gAQu");
}

#[tokio::test]
async fn events_come_as_server_sent_events_and_resume_by_id() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let asking = gateway.client().post("/v1/calls").header("accept", "text/event-stream");
    let mut answer = asking.json(&echo_call(json!([7]))).send().await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let text = answer.text().await;
    assert!(text.starts_with("retry: 1000\n\nid: 1\ndata: {\"seq\":1,"), "{text}");
    assert!(text.contains("\"value\":7}\n\n"));
    let last = text.split("id: ").last().and_then(|part| part.lines().next()).expect("an id");
    let last: u64 = last.parse().expect("a number");
    let target = format!("/v1/calls/{}/events", answer.call());
    let resume = |id: u64| {
        let asking = gateway.client().get(target.clone()).header("accept", "text/event-stream");
        asking.header("last-event-id", id.to_string()).send()
    };
    let rest = resume(last - 1).await.text().await;
    assert!(rest.contains(&format!("id: {last}\n")) && !rest.contains("id: 1\n"), "{rest}");
    assert_eq!(resume(last).await.status, 204);
    assert_eq!(resume(last + 1).await.problem().await, "bad_field");
}

#[tokio::test]
async fn a_stream_resumes_after_any_event() {
    let (gateway, _agent) = Gateway::with_host(print_and_echo).await;
    let mut answer =
        gateway.client().post("/v1/calls").json(&echo_call(json!([1, 2, 3]))).send().await;
    let whole = answer.events().await;
    for after in 0..=whole.len() {
        let target = format!("/v1/calls/{}/events?after={after}", answer.call());
        let rest = gateway.client().get(target).send().await.events().await;
        assert_eq!(rest, whole[after..], "after {after}");
    }
    for after in ["-1", "x", "1.5", "99999", ""] {
        let target = format!("/v1/calls/{}/events?after={after}", answer.call());
        let mut answer = gateway.client().get(target).send().await;
        assert_eq!(answer.problem().await, "bad_field", "{after}");
    }
}

#[tokio::test]
async fn one_key_makes_one_call() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let send = |background: bool| {
        let mut body = echo_call(json!([1, 2]));
        body["background"] = json!(background);
        gateway.client().post("/v1/calls").header("idempotency-key", "k").json(&body).send()
    };
    let mut first = send(false).await;
    let events = first.events().await;
    let mut second = send(false).await;
    assert_eq!(second.call(), first.call());
    assert_eq!(second.events().await, events);
    let mut third = send(true).await;
    assert_eq!(third.json().await["id"], first.call().as_str());
    assert_eq!(gateway.calls.list().len(), 1);
    let long = "k".repeat(129);
    let asking = gateway.client().post("/v1/calls").header("idempotency-key", long);
    assert_eq!(asking.json(&echo_call(json!([]))).send().await.problem().await, "bad_field");
}

#[tokio::test]
async fn cancel_ends_a_call_and_its_host_hears_of_it() {
    let (gateway, agent) = Gateway::with_host(hang).await;
    let client = gateway.client();
    let mut events = client.post("/v1/calls").json(&echo_call(json!([1]))).send().await;
    let call = events.call();
    while events.event().await.expect("more events")["state"] != "running" {}
    for _ in 0..2 {
        let mut answer = client.delete(format!("/v1/calls/{call}")).send().await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.json().await["id"], call.as_str());
    }
    assert_eq!(end(&events.events().await)["state"], "cancelled");
    let resets = agent.resets.clone();
    let heard = move || resets.lock().expect("not poisoned").contains(&call);
    until("the host sees the reset", heard).await;
}

#[tokio::test]
async fn exceptions_and_failures_are_outputs_and_not_errors_of_http() {
    let head = ExceptionHead {
        kind: "ValueError".into(),
        message: "no".into(),
        traceback: "Traceback".into(),
        ..Default::default()
    };
    let (gateway, _agent) =
        Gateway::with_host(move |_: &Input| vec![Act::Output(Status::Exception, head.to_item())])
            .await;
    let mut answer = gateway.client().post("/v1/calls").json(&echo_call(json!([1]))).send().await;
    assert_eq!(answer.status, 200);
    let events = answer.events().await;
    let output = events.iter().find(|event| event["type"] == "output").expect("an output");
    assert_eq!(output["exception"]["type"], "ValueError");
    assert_eq!(output["exception"]["traceback"], "Traceback");
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_it_is_made() {
    let gateway = Gateway::start().await;
    let create = async |body: Value| {
        let mut answer = gateway.client().post("/v1/calls").json(&body).send().await;
        let retry = answer.header("retry-after").to_owned();
        (answer.status.as_u16(), answer.problem().await, retry)
    };
    let call = json!({"command": ["a"]});
    assert_eq!(create(call.clone()).await, (503, "no_hosts".into(), "5".into()));
    let _agent = gateway.connect("one", echo).await;
    let with = |field: &str, value: Value| {
        let mut call = call.clone();
        call[field] = value;
        call
    };
    for (field, value, code) in [
        ("cpu", json!(3), "does_not_fit"),
        ("ram", json!(17), "does_not_fit"),
        ("image", json!("nothing:1"), "no_such_image"),
        ("python", json!("3.4"), "no_image_for_python"),
        ("runtime", json!("runsc"), "no_such_runtime"),
    ] {
        let found = create(with(field, value)).await;
        assert_eq!((found.0, found.1.as_str()), (422, code), "{field}");
    }
    assert!(gateway.calls.list().is_empty());
}

#[tokio::test]
async fn bodies_that_make_no_sense_make_no_call() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let post = || gateway.client().post("/v1/calls");
    let refused = async |asking: crate::support::client::Asking, status: u16, code: &str| {
        let mut answer = asking.send().await;
        assert_eq!((answer.status.as_u16(), answer.problem().await.as_str()), (status, code));
    };
    refused(post(), 415, "unsupported_media_type").await;
    refused(post().header("content-type", NDJSON).body("1\n"), 415, "unsupported_media_type").await;
    let json = |body: &'static str| post().header("content-type", "application/json").body(body);
    refused(json(""), 400, "bad_json").await;
    refused(json("{\"command\": [\"a\"], \"x\": 1}"), 400, "unknown_field").await;
    refused(json("{\"command\": [\"a\"], \"cpu\": \"1\"}"), 400, "bad_field").await;
    let large = format!("{{\"command\": [\"a\"], \"inputs\": [\"{}\"]}}", "x".repeat(8 << 20));
    refused(post().header("content-type", "application/json").body(large), 413, "too_large").await;
    refused(
        post().header("accept", "text/html").json(&echo_call(json!([1]))),
        406,
        "not_acceptable",
    )
    .await;
    let spec = Frame::new(Kind::Spec, "{}");
    let function = Frame::new(Kind::Function, "f");
    let gap = Inputs::from_items(1, 0, &[b"a"]).to_frame();
    let frames: &[(&[Frame], u16, &str)] = &[
        (&[], 400, "bad_frame"),
        (std::slice::from_ref(&spec), 400, "bad_frame"),
        (std::slice::from_ref(&function), 400, "bad_frame"),
        (&[spec.clone(), spec.clone()], 400, "bad_frame"),
        (&[spec.clone(), function.clone(), gap], 409, "inputs_gap"),
        (&[spec.clone(), function.clone(), Frame::of_u64(Kind::InputsEnd, 1)], 409, "inputs_gap"),
        (&[spec.clone(), function.clone(), Frame::of_u32(Kind::Workers, 1)], 400, "bad_frame"),
    ];
    for (list, status, code) in frames {
        refused(post().frames(list), *status, code).await;
    }
    let cut = Bytes::from_static(&[5, 0, 0, 0, 1]);
    refused(post().header("content-type", FRAMES).body(cut), 400, "bad_frame").await;
    let long = Bytes::from_static(&[255; 16]);
    refused(post().header("content-type", FRAMES).body(long), 413, "too_large").await;
    assert!(gateway.calls.list().is_empty());
}

#[tokio::test]
async fn many_calls_share_one_http2_connection() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let stream = TcpStream::connect(gateway.address).await.expect("a connection");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let mut running = JoinSet::new();
    for n in 0..20 {
        let mut sender = sender.clone();
        let request = Request::post(format!("http://{}/v1/calls", gateway.address))
            .header("authorization", format!("Bearer {}", gateway.admin))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(echo_call(json!([n])).to_string())))
            .expect("a request");
        running.spawn(async move {
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
            let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
            let text = String::from_utf8(body.to_vec()).expect("text");
            assert!(text.contains(&format!("\"value\":{n}}}")), "{text}");
            assert!(text.trim_end().lines().last().expect("lines").contains("\"succeeded\""));
        });
    }
    let all = timeout(DEADLINE, async {
        while let Some(ended) = running.join_next().await {
            ended.expect("no panic");
        }
    });
    all.await.expect("all calls end in time");
}

#[tokio::test]
async fn a_slow_reader_gets_every_event_in_the_end() {
    let (gateway, _agent) = Gateway::with_host(print_and_echo).await;
    let list: Vec<u32> = (0..20_000).collect();
    let body = echo_call(json!(list));
    let mut answer = gateway.client().post("/v1/calls").json(&body).send().await;
    let call = gateway.calls.get(&answer.call()).expect("the call");
    until("the call ends though nobody reads", || call.record().state.is_end()).await;
    let events = answer.events().await;
    assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
    let values: Vec<Value> = outputs(&events).into_iter().map(|(_, value)| value).collect();
    assert_eq!(json!(values), json!(list));
}

/// The record of a call, once `there` is so.
async fn record_when(
    gateway: &Gateway,
    call: &str,
    what: &str,
    there: impl Fn(&Value) -> bool,
) -> Value {
    let looked = tokio::time::timeout(crate::support::DEADLINE, async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            tick.tick().await;
            let path = format!("/v1/calls/{call}");
            let record = gateway.client().get(path).send().await.json().await;
            if there(&record) {
                return record;
            }
        }
    });
    looked.await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

#[tokio::test]
async fn a_drained_host_finishes_what_it_holds_and_the_rest_of_the_call_waits_for_another() {
    let (gateway, _one) = Gateway::with_host(hang).await;
    let client = gateway.client();
    let mut call = echo_call(json!((0..100).collect::<Vec<_>>()));
    call["background"] = json!(true);
    let id = client.post("/v1/calls").json(&call).send().await.call();
    record_when(&gateway, &id, "the call runs", |record| record["workers"] == 2).await;
    client.post("/v1/hosts/one/drain").send().await;
    // What it holds is not taken from it: the call has workers until the host is gone.
    let record = client.get(format!("/v1/calls/{id}")).send().await.json().await;
    assert_eq!(record["workers"], 2);
    let waits = client.post("/v1/calls").json(&call).send().await.call();
    let record = record_when(&gateway, &waits, "it says why", |record| {
        record["waiting"].as_str().is_some_and(|why| why.contains("draining"))
    })
    .await;
    assert_eq!(record["state"], "queued");
    let _two = gateway.connect("two", echo).await;
    record_when(&gateway, &waits, "another host runs it", |record| record["done"] == 100).await;
}
