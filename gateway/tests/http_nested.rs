//! What a function may do through its host: children of its own call, as long as that runs there, and nothing else.

use crate::support::fake_agent::echo;
use crate::support::{Gateway, until};
use serde_json::{Value, json};

fn call() -> Value {
    json!({"source": "def f(x): return x", "entry": "f", "inputs": [1], "name": "child"})
}

#[tokio::test]
async fn a_child_has_its_parents_packages_and_image_where_it_says_nothing_of_them() {
    let (gateway, _agent) = Gateway::with_host(|_: &_| Vec::new()).await;
    let with = |more: Value| {
        let mut call = call();
        call.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        call
    };
    let numpy = json!({"requirements": ["numpy==1.26.4"], "exact": true});
    let parent = with(json!({ "packages": numpy }));
    let parent = gateway.client().post("/v1/calls").json(&parent).send().await.call();
    let kept = |id: &str| gateway.calls.get(id).expect("kept").spec().clone();
    let host = gateway.client_with(Some(&gateway.host("one")));
    let ask = |call: &Value| {
        host.ask("POST", "/v1/calls").header("muster-parent", parent.as_str()).json(call)
    };
    let parents = gateway.calls.get(&parent).expect("kept");
    until("the call is given to the host", || parents.runs_on("one")).await;
    let child = kept(&ask(&call()).send().await.call());
    assert_eq!(child.packages, kept(&parent).packages);
    assert_eq!(child.packages.expect("its parent's").requirements, ["numpy==1.26.4"]);
    assert_eq!(child.image, kept(&parent).image);
    let none = with(json!({"packages": {"requirements": []}}));
    assert_eq!(kept(&ask(&none).send().await.call()).packages, None);
    let command = json!({"command": ["true"]});
    assert_eq!(kept(&ask(&command).send().await.call()).packages, None);
}

#[tokio::test]
async fn what_a_function_may_do_ends_with_its_call_and_is_its_hosts_alone() {
    // Its one input never ends.
    let (gateway, _agent) = Gateway::with_host(|_: &_| Vec::new()).await;
    let client = gateway.client();
    let parent = client.post("/v1/calls").json(&call()).send().await.call();
    let host = gateway.client_with(Some(&gateway.host("one")));
    let ask = |method, path: &str| host.ask(method, path).header("muster-parent", parent.as_str());
    let stranger = client.post("/v1/calls").json(&call()).send().await.call();
    // The call is given to the host a moment after it was made.
    let child = loop {
        let mut answer = ask("POST", "/v1/calls").json(&call()).send().await;
        match answer.status.as_u16() {
            200 => break answer.call(),
            _ => assert_eq!(answer.problem().await, "unknown_call"),
        }
    };
    let path = format!("/v1/calls/{child}");
    assert_eq!(ask("GET", &path).send().await.status, 200);
    let mut answer = ask("GET", &format!("/v1/calls/{stranger}")).send().await;
    assert_eq!(answer.problem().await, "unknown_call");
    for other in ["/v1/hosts", "/v1/calls", "/v1/secrets"] {
        assert_eq!(ask("GET", other).send().await.problem().await, "forbidden", "{other}");
    }
    let _other = gateway.connect("two", echo).await;
    let other = gateway.client_with(Some(&gateway.host("two")));
    let asked = other.post("/v1/calls").header("muster-parent", parent.as_str()).json(&call());
    assert_eq!(asked.send().await.problem().await, "unknown_call");
    assert_eq!(client.delete(format!("/v1/calls/{parent}")).send().await.status, 202);
    let parents = gateway.calls.get(&parent).expect("kept");
    until("the parent has ended", || !parents.runs_on("one")).await;
    let mut answer = ask("POST", "/v1/calls").json(&call()).send().await;
    assert_eq!(answer.problem().await, "unknown_call");
    let mut answer = ask("GET", &path).send().await;
    assert_eq!(answer.problem().await, "unknown_call");
    let childs = gateway.calls.get(&child).expect("kept");
    until("the child has ended", || childs.record().ended.is_some()).await;
}
