//! Hosts: their list, their draining, and the door an agent comes in by.

use std::collections::HashSet;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;
use muster_wire::AGENT_PROTOCOL;
use serde::Serialize;

use super::problem::{Code, Problem};
use super::query::Query;
use super::record::About;
use super::tokens::time;
use super::{Front, join, records};
use crate::auth::Identity;
use crate::fleet::{Drain, HostRecord};

/// What a host may be called.
pub const NAMES: &str = "Give 1 to 63 lower-case letters, digits and `-`.";

#[derive(Serialize)]
struct List {
    hosts: Vec<HostRecord>,
    joined: Vec<Joined>,
}

/// A host that has joined, connected or not.
#[derive(Serialize)]
struct Joined {
    host: String,
    joined: String,
    expires: String,
    connected: bool,
}

/// `GET /v1/hosts`.
pub fn list(front: &Front, request: &Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[], &[])?;
    let hosts = front.fleet.hosts();
    let connected: HashSet<String> = hosts.iter().map(|host| host.status.host.clone()).collect();
    let joined = front.tokens.hosts(crate::unix_s()).into_iter().map(|entry| {
        let host = entry.host.unwrap_or_default();
        Joined {
            connected: connected.contains(&host),
            host,
            joined: time(entry.created_unix_s),
            expires: time(entry.expires_unix_s.unwrap_or_default()),
        }
    });
    let joined = joined.collect();
    Ok(records::plain_json(&List { hosts, joined }))
}

/// `POST /v1/hosts/{name}/drain` and `DELETE`: the host as it is then.
pub async fn drain(
    front: &Front,
    name: &str,
    drain: Drain,
    request: Request,
) -> Result<Response, Problem> {
    // Without its body, which nobody reads, the request may wait.
    let uri = request.into_parts().0.uri;
    Query::parse(uri.query(), &[], &[])?;
    let host = front.fleet.drain(name, drain).await.ok_or_else(|| {
        Problem::new(
            Code::UnknownHost,
            "No host of this name is connected.",
            "`GET /v1/hosts` lists the hosts that are.",
        )
    })?;
    Ok(records::plain_json(&host))
}

/// `POST /v1/hosts/connect`: takes the name, answers 101, and hands the connection to the link.
pub async fn connect(front: &Front, who: &Identity, request: Request) -> Result<Response, Problem> {
    let headers = request.headers();
    if !asks_for_upgrade(headers) {
        return Err(Problem::new(
            Code::UpgradeRequired,
            "This is where agents connect; the request does not ask for the agents' protocol.",
            format!("Send `Connection: Upgrade` and `Upgrade: {AGENT_PROTOCOL}` over HTTP/1.1."),
        )
        .with_header(UPGRADE, HeaderValue::from_static(AGENT_PROTOCOL)));
    }
    let name = host_name(headers)?.to_owned();
    if who.host() != Some(name.as_str()) {
        return Err(join::anothers(&name));
    }
    let epoch = epoch(headers)?;
    let seat = front.fleet.reserve(&name, epoch).map_err(|_| {
        Problem::new(
            Code::HostTaken,
            format!("A host named `{name}` is connected already."),
            "Give this host another name, or stop the other agent.",
        )
    })?;
    let upgrade = hyper::upgrade::on(request);
    let (host, life) = (name.clone(), front.tokens.life(&who.id));
    front.tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                // The link ends with the credential it was let in by.
                seat.run_until(TokioIo::new(upgraded), life.cancelled_owned());
            }
            // Without `run` the seat gives the name back.
            Err(error) => {
                let error = crate::chain(&error);
                tracing::info!(host, error, "an agent went away while connecting");
            }
        }
    });
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(About(name));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(AGENT_PROTOCOL));
    Ok(response)
}

fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let holds =
        |name, wanted: &str| {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
            })
        };
    holds(CONNECTION, "upgrade") && holds(UPGRADE, AGENT_PROTOCOL)
}

fn host_name(headers: &HeaderMap) -> Result<&str, Problem> {
    let name = headers.get("muster-host").and_then(|value| value.to_str().ok());
    name.filter(|name| is_host_name(name))
        .ok_or_else(|| Problem::bad_field("Muster-Host", "is not the name of a host", NAMES))
}

/// Whether a host may be called so.
pub fn is_host_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    // Paths beside those of hosts.
    let is_free = !["connect", "join", "renew"].contains(&name);
    (1..=63).contains(&name.len()) && name.bytes().all(fits) && is_free
}

fn epoch(headers: &HeaderMap) -> Result<u64, Problem> {
    let epoch = headers.get("muster-epoch").and_then(|value| value.to_str().ok()?.parse().ok());
    epoch.ok_or_else(|| {
        Problem::bad_field(
            "Muster-Epoch",
            "is not a number",
            "Send a whole number, chosen at random when the agent starts.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().expect("name"), v.parse().expect("value"))).collect()
    }

    #[test]
    fn only_the_agents_protocol_is_upgraded_to() {
        let asks = |pairs: &[(&'static str, &str)]| asks_for_upgrade(&headers(pairs));
        assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "muster-agent/1")]));
        assert!(!asks(&[("connection", "upgrade"), ("upgrade", "websocket")]));
        assert!(!asks(&[("upgrade", "muster-agent/1")]));
        assert!(!asks(&[]));
    }

    #[test]
    fn names_and_epochs_of_hosts_are_checked() {
        let long = "x".repeat(64);
        for name in ["", "A", "a_b", "a.b", "ä", "join", long.as_str()] {
            assert!(host_name(&headers(&[("muster-host", name)])).is_err(), "{name}");
        }
        assert_eq!(host_name(&headers(&[("muster-host", "box-1")])).expect("good"), "box-1");
        assert!(host_name(&headers(&[])).is_err());
        assert_eq!(epoch(&headers(&[("muster-epoch", "7")])).expect("good"), 7);
        for text in ["", "-1", "x", "99999999999999999999"] {
            assert!(epoch(&headers(&[("muster-epoch", text)])).is_err(), "{text}");
        }
    }
}
