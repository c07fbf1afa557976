//! Secrets over HTTP: whose they are, who gets their values, and where those are not.

use std::sync::{Arc, Mutex};

use crate::support::client::Client;
use crate::support::fake_agent::{Act, Input, echo};
use crate::support::{Gateway, until};
use muster_gateway::auth::Scope;
use serde_json::{Value, json};

const CLIENT: &[Scope] = &[Scope::Submit, Scope::Read, Scope::Cancel];
const VALUE: &str = "correct-horse-battery";

async fn set(client: &Client, name: &str, value: &str) -> u16 {
    let asking = client.ask("PUT", format!("/v1/secrets/{name}"));
    asking.json(&json!({ "value": value })).send().await.status.as_u16()
}

async fn names(client: &Client) -> Vec<String> {
    let list = client.get("/v1/secrets").send().await.json().await;
    let list = list["secrets"].as_array().expect("a list").clone();
    list.iter().map(|secret| secret["name"].as_str().expect("a name").to_owned()).collect()
}

fn wanting(secrets: Value) -> Value {
    json!({"command": ["true"], "secrets": secrets})
}

async fn refusal(client: &Client, call: &Value) -> (String, String) {
    let mut answer = client.post("/v1/calls").json(call).send().await;
    let problem = answer.json().await;
    let text = |part: &str| problem[part].as_str().unwrap_or_default().to_owned();
    (text("code"), text("detail"))
}

#[tokio::test]
async fn secrets_are_their_owners_alone() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let ann = gateway.client_with(Some(&gateway.token("ann", CLIENT)));
    let bob = gateway.client_with(Some(&gateway.token("bob", CLIENT)));
    let admin = gateway.client();
    assert_eq!(set(&ann, "PW", VALUE).await, 201);
    assert_eq!(set(&ann, "PW", VALUE).await, 200);
    assert_eq!(names(&ann).await, ["PW"]);
    for other in [&bob, &admin] {
        assert!(names(other).await.is_empty());
        let mut theirs = other.delete("/v1/secrets/PW").send().await;
        let mut absent = other.delete("/v1/secrets/QW").send().await;
        assert_eq!((theirs.status.as_u16(), absent.status.as_u16()), (404, 404));
        let (theirs, absent) = (theirs.text().await, absent.text().await);
        assert_eq!(theirs.replace("PW", "QW"), absent);
        assert_eq!(refusal(other, &wanting(json!(["PW"]))).await.0, "unknown_secret");
        let run = other.post("/v1/run?arg=true&secret=PW").send().await;
        assert_eq!(run.status, 404);
        // Theirs of the same name is another one.
        assert_eq!(set(other, "PW", "other").await, 201);
        assert_eq!(other.delete("/v1/secrets/PW").send().await.status, 204);
    }
    assert_eq!(names(&ann).await, ["PW"]);
}

#[tokio::test]
async fn the_host_gets_the_values_and_a_call_without_secrets_none() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let (gateway, _agent) = Gateway::with_host(move |input: &Input| {
        told.lock().expect("no panic").push((input.spec.secrets.clone(), input.secrets.clone()));
        echo(input)
    })
    .await;
    let client = gateway.client();
    set(&client, "A", VALUE).await;
    set(&client, "B", "two").await;
    client.post("/v1/calls").json(&wanting(json!(["B", "A", "B"]))).send().await.text().await;
    client.post("/v1/run?arg=true&secret=A").send().await.text().await;
    client.post("/v1/calls").json(&wanting(json!([]))).send().await.text().await;
    let seen = seen.lock().expect("no panic").clone();
    let read = |at: usize| serde_json::from_slice::<Value>(&seen[at].1).unwrap_or_default();
    assert_eq!(
        (&seen[0].0, read(0)),
        (&vec!["A".into(), "B".into()], json!({"A": VALUE, "B": "two"}))
    );
    assert_eq!(read(1), json!({ "A": VALUE }));
    assert!(seen[2].0.is_empty() && seen[2].1.is_empty());
}

#[tokio::test]
async fn no_answer_has_a_value() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let client = gateway.client();
    let put = client.ask("PUT", "/v1/secrets/PW").json(&json!({ "value": VALUE }));
    let mut answers = vec![put.send().await.text().await];
    answers.push(client.get("/v1/secrets").send().await.text().await);
    let call = json!({"command": ["true"], "secrets": ["PW"], "env": {"E": VALUE}});
    let mut made = client.post("/v1/calls").json(&call).send().await;
    let id = made.call();
    answers.push(made.text().await);
    answers.push(client.get(format!("/v1/calls/{id}")).send().await.text().await);
    answers.push(client.get("/v1/calls").send().await.text().await);
    answers.push(client.get("/metrics").send().await.text().await);
    // Nor do mistakes repeat it.
    for body in [json!({ "value": [VALUE] }), json!({ "valu": VALUE }), json!(VALUE)] {
        let put = client.ask("PUT", "/v1/secrets/PW").json(&body).send().await;
        assert_eq!(put.status, 400, "{body}");
        let mut put = put;
        answers.push(put.text().await);
    }
    let call = json!({"command": ["true"], "env": VALUE});
    answers.push(client.post("/v1/calls").json(&call).send().await.text().await);
    answers.push(client.post(format!("/v1/run?arg=a&env={VALUE}")).send().await.text().await);
    let audit = gateway.folder.path().join("audit.log");
    let log = || std::fs::read_to_string(&audit).expect("a log");
    until("the log names the secret", || log().contains("secret_set")).await;
    assert!(log().contains("PW"));
    answers.push(log());
    for answer in answers {
        assert!(!answer.contains(VALUE), "{answer}");
    }
}

#[tokio::test]
async fn mistakes_in_secrets_are_named() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let client = gateway.client();
    for (name, value, code) in [
        ("1A", json!("x"), "bad_field"),
        ("A-B", json!("x"), "bad_field"),
        ("MUSTER_X", json!("x"), "bad_field"),
        ("LD_PRELOAD", json!("x"), "bad_field"),
        ("A", json!(""), "bad_field"),
        ("A", json!("a\u{0}b"), "bad_field"),
        ("A", json!("x".repeat((32 << 10) + 1)), "bad_field"),
        ("A", Value::Null, "bad_field"),
    ] {
        let put = client.ask("PUT", format!("/v1/secrets/{name}")).json(&json!({ "value": value }));
        assert_eq!(put.send().await.problem().await, code, "{name}");
    }
    assert!(names(&client).await.is_empty());
    assert_eq!(set(&client, "A", &"x".repeat(32 << 10)).await, 201);
    let (code, detail) = refusal(&client, &wanting(json!(["A", "B", "C"]))).await;
    assert_eq!(code, "unknown_secret");
    assert!(
        detail.contains("`B`") && detail.contains("`C`") && !detail.contains("`A`"),
        "{detail}"
    );
    let many: Vec<String> = (0..65).map(|n| format!("S{n}")).collect();
    for wrong in [json!("A"), json!([1]), json!(["PATH"]), json!(["a b"]), json!(many)] {
        assert_eq!(refusal(&client, &wanting(wrong.clone())).await.0, "bad_field", "{wrong}");
    }
    let both = json!({"command": ["true"], "secrets": ["A"], "env": {"A": "x"}});
    let (code, detail) = refusal(&client, &both).await;
    assert_eq!(code, "bad_field");
    assert!(detail.contains("`env` sets too"), "{detail}");
}

/// Ends nothing.
fn nothing(_: &Input) -> Vec<Act> {
    Vec::new()
}

#[tokio::test]
async fn a_call_that_goes_on_after_a_restart_has_the_values_of_then_or_fails_without_them() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", nothing).await;
    let client = gateway.client();
    set(&client, "KEPT", "old").await;
    set(&client, "GONE", "old").await;
    let create = async |name: &str| {
        let call = json!({"command": ["true"], "secrets": [name], "env": {"E": VALUE}, "background": true});
        client.post("/v1/calls").json(&call).send().await.call()
    };
    let (kept, gone) = (create("KEPT").await, create("GONE").await);
    drop(agent);
    set(&client, "KEPT", "new").await;
    client.delete("/v1/secrets/GONE").send().await;
    for entry in std::fs::read_dir(gateway.folder.path()).expect("a folder").flatten() {
        let text = std::fs::read(entry.path()).unwrap_or_default();
        let found = text.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
        assert!(!found, "{:?} has the value of `env`", entry.path());
    }

    let gateway = gateway.restart(&[]).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let _agent = gateway
        .connect("one", move |input: &Input| {
            let value = serde_json::from_slice::<Value>(&input.secrets).expect("JSON");
            told.lock().expect("no panic").push((value, input.spec.env["E"].clone()));
            echo(input)
        })
        .await;
    let ended = |id: &str| gateway.calls.get(id).is_some_and(|call| call.record().ended.is_some());
    until("both have ended", || ended(&kept) && ended(&gone)).await;
    assert_eq!(*seen.lock().expect("no panic"), [(json!({"KEPT": "new"}), VALUE.to_owned())]);
    let record = gateway.client().get(format!("/v1/calls/{gone}")).send().await.json().await;
    assert_eq!(
        (&record["state"], &record["error"]["code"]),
        (&json!("failed"), &json!("unknown_secret"))
    );
    assert!(record["error"]["message"].as_str().expect("text").contains("GONE"));
}
