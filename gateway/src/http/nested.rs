//! Requests of functions, which their agents pass on: `Muster-Parent` names the call whose function asks. The agent's own
//! credential says which host it is, and the call must have been given to that host; then the request is its owner's, but may only make and
//! handle children of that call, and share data.

use std::time::Duration;

use http::request::Parts;
use muster_wire::message::{CallError, CallKind, CallSpec};

use super::Front;
use super::problem::{Code, Problem};
use super::routes::{Action, Route};
use crate::auth::Identity;
use crate::calls::{CallHandle, CallState};
use crate::fleet::HostRecord;

const MUSTER_PARENT: &str = "muster-parent";
/// How often a child that waits is looked at, and how often in a row it must be found stuck.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOKS: u32 = 3;

/// Who really asks, and for which call's function; everybody else stays who they are.
pub fn resolve(
    front: &Front,
    who: Identity,
    route: &Route,
    id: &str,
    parts: &Parts,
) -> Result<(Identity, Option<CallHandle>), Problem> {
    let Some(parent) = parts.headers.get(MUSTER_PARENT).filter(|_| who.is_host()) else {
        return Ok((who, None));
    };
    let parent = parent.to_str().unwrap_or_default();
    let is_of_child = match route.action {
        Action::CreateCall | Action::PutBlob | Action::ReadBlob => false,
        Action::ReadCall
        | Action::CancelCall
        | Action::ReadFunction
        | Action::AppendInputs
        | Action::ReadEvents => true,
        _ => {
            return Err(Problem::new(
                Code::Forbidden,
                "A function may make calls of its own and share data, nothing else.",
                "Ask from outside, with a token of your own.",
            ));
        }
    };
    let call = given(front, &who, parent)?;
    if is_of_child {
        let child = front.calls.get(id);
        if child.is_none_or(|child| child.parent() != Some(parent)) {
            return Err(Problem::unknown_call(id));
        }
    }
    let limit = call.options().share_limit.clone();
    Ok((Identity::of_owner(call.owner(), limit), Some(call)))
}

/// The call, if it runs on the host that asks.
pub fn given(front: &Front, who: &Identity, id: &str) -> Result<CallHandle, Problem> {
    let call = front.calls.get(id);
    let call = call.filter(|call| who.host().is_some_and(|host| call.runs_on(host)));
    call.ok_or_else(|| Problem::unknown_call(id))
}

/// Fills in what a call leaves out that its parent has: what a function can import and how its container is walled in, its children have as well.
pub fn complete(spec: &mut CallSpec, parent: Option<&CallSpec>) {
    if let Some(parent) = parent {
        if spec.image.is_empty() {
            spec.image = parent.image.clone();
        }
        spec.runtime = spec.runtime.take().or_else(|| parent.runtime.clone());
        if spec.kind != CallKind::Command {
            spec.packages = spec.packages.take().or_else(|| parent.packages.clone());
        }
    }
    spec.packages.take_if(|packages| packages.requirements.is_empty());
}

/// Watches a child that was just made: where every worker of the fleet is a parent that waits, and none left memory for the child, it would wait for ever.
pub fn watch(front: &Front, child: &CallHandle) {
    let (front, child) = (front.clone(), child.clone());
    front.tasks.clone().spawn(async move {
        let mut stuck = 0;
        while child.record().state == CallState::Queued {
            tokio::select! {
                biased;
                () = front.tasks.stopping() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            stuck = if is_stuck(&front.fleet.hosts(), child.spec().ram_bytes) { stuck + 1 } else { 0 };
            if stuck == LOOKS {
                child.fail(CallError {
                    code: "no_memory_for_children".to_owned(),
                    message: "All workers of the fleet wait for calls of their own, and what memory they left is too little for one worker of this call.".to_owned(),
                    action: "Ask for less memory, in the parent or in the child (`func_ram`), or let fewer parents run at once (`max_parallelism`).".to_owned(),
                }).await;
                return;
            }
        }
    });
}

/// Whether no worker will end by itself, and none of this size has room.
fn is_stuck(hosts: &[HostRecord], ram_bytes: u64) -> bool {
    let stuck = |host: &HostRecord| {
        let host = &host.status;
        host.workers > 0 && host.waiting_workers == host.workers && host.free_ram_bytes < ram_bytes
    };
    !hosts.is_empty() && hosts.iter().all(stuck)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::call_request::{Form, parse};

    fn spec(more: &str) -> CallSpec {
        let text = format!(r#"{{"source": "def f(x): return x", "entry": "f" {more}}}"#);
        parse(text.as_bytes(), Form::Json).expect("a call").spec
    }

    #[test]
    fn a_child_has_what_its_parent_has_unless_it_says_otherwise() {
        let parent = spec(
            r#", "image": "a:1", "runtime": "runsc", "packages": {"requirements": ["numpy"]}"#,
        );
        let child = |more| {
            let mut child = spec(more);
            complete(&mut child, Some(&parent));
            let packages = child.packages.map(|packages| packages.requirements.concat());
            (child.image, child.runtime.unwrap_or_default(), packages.unwrap_or_default())
        };
        assert_eq!(child(""), ("a:1".into(), "runsc".into(), "numpy".into()));
        let none = r#", "packages": {"requirements": []}"#;
        assert_eq!(child(none), ("a:1".into(), "runsc".into(), String::new()));
        let own =
            r#", "image": "b:1", "runtime": "kata", "packages": {"requirements": ["pandas"]}"#;
        assert_eq!(child(own), ("b:1".into(), "kata".into(), "pandas".into()));
    }

    #[test]
    fn nobody_elses_call_has_more_than_it_says() {
        let mut call = spec(r#", "packages": {"requirements": []}"#);
        complete(&mut call, None);
        assert_eq!((call.image.as_str(), call.runtime, call.packages), ("", None, None));
    }
}
