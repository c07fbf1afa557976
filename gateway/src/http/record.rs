//! What requests leave in the audit log: calls created and cancelled, changes of tokens, secrets (by name) and hosts, refusals.

use axum::response::Response;
use http::request::Parts;

use super::problem::{MUSTER_CALL, Problem};
use super::routes::{Action, Route};
use super::{Front, Peer};
use crate::audit::{Audit, Entry, REFUSED};
use crate::auth::Identity;

/// Marks an answer about a call that was there already.
#[derive(Debug, Clone, Copy)]
pub struct Repeated;

/// Marks an answer with what it is about, where that is no call.
#[derive(Debug, Clone)]
pub struct About(pub String);

/// An act under way that will be written down.
#[derive(Debug)]
pub struct Act(Entry);

impl Act {
    /// What a request is about to do, if it is worth a line.
    pub fn begin(route: &Route, who: &Identity, parts: &Parts, id: &str) -> Option<Act> {
        let what = match route.action {
            Action::CreateCall | Action::Run => "call_created",
            Action::CancelCall => "call_cancelled",
            Action::CreateToken => "token_created",
            Action::RevokeToken => "token_revoked",
            Action::ConnectHost => "host_connected",
            Action::JoinHost => "host_joined",
            Action::RenewHost => "host_renewed",
            Action::ExpelHost => "host_expelled",
            Action::SetSecret => "secret_set",
            Action::DeleteSecret => "secret_deleted",
            Action::CreateJoinString => "join_string_created",
            Action::DrainHost => "host_drained",
            Action::UndrainHost => "host_undrained",
            _ => return None,
        };
        Some(Act(Entry {
            what,
            who: who.owner.clone(),
            token: who.id.clone(),
            from: from(parts),
            on: id.to_owned(),
            result: String::new(),
        }))
    }

    /// What came of it.
    pub fn end(self, audit: &Audit, answer: &Result<Response, Problem>) {
        let Act(mut entry) = self;
        match answer {
            Ok(response) if response.extensions().get::<Repeated>().is_some() => return,
            Ok(response) => {
                let call = response.headers().get(MUSTER_CALL).and_then(|id| id.to_str().ok());
                let about = response.extensions().get::<About>().map(|about| about.0.as_str());
                if let Some(on) = call.or(about) {
                    on.clone_into(&mut entry.on);
                }
                entry.result = "ok".to_owned();
            }
            Err(problem) => entry.result = problem.code().to_owned(),
        }
        audit.tell(entry);
    }
}

/// Writes down that a request was refused for what it is, for its token, or because the call is somebody else's.
pub fn refused(front: &Front, who: &Identity, parts: &Parts, problem: Problem) -> Problem {
    let path: String = parts.uri.path().chars().take(100).collect();
    front.audit.tell(Entry {
        what: REFUSED,
        who: who.owner.clone(),
        token: who.id.clone(),
        from: from(parts),
        on: format!("{} {path}", parts.method),
        result: problem.code().to_owned(),
    });
    problem
}

fn from(parts: &Parts) -> String {
    parts.extensions.get::<Peer>().map_or_else(String::new, |peer| peer.address.to_string())
}
