//! The HTTP front: everything a client, a scraper or an agent says to the gateway comes in here, and HTTP's types stay here.
//!
//! **Problem.** Clients are `curl`, the SDK, and whatever else speaks HTTP/1.1 or HTTP/2. They send calls whole or in
//! streams of any length, read events in three forms, and make every mistake there is; each must be told what is wrong
//! and what to do. None of them may hold up a call or fill our memory.
//!
//! **Path of a request.** [`server`] (connections, their limits and timers: [`limits`], [`pace`], [`watched`] over [`head`]) → [`router`] → `dispatch`: [`guard`] (size,
//! host, origin), the route's line in [`routes`], the token, and only then the body → the route's own file:
//! - [`create`], [`inputs`], [`feed`]: bodies become calls. [`call_request`] over [`fields`], [`json_inputs`], [`packages`] and [`query`]
//!   read what users write; they are pure. [`request_body`] reads bodies with limits.
//! - [`events`]: a call's log becomes a stream, in the form [`accept`] chose, by [`render_json`] or [`render_frames`].
//! - [`blobs`]: bytes of shared data in and out; [`environments`]: which of them hosts share packages in. [`run`] over [`run_output`]: the one-liner. [`records`], [`hosts`], [`join`], [`tokens`], [`secrets`], [`shares`], [`health`]: the small answers, and the agents' door.
//! - [`record`]: what of it goes to the audit log.
//! - [`nested`]: whom a function in a container asks for.
//! - [`problem`]: the kinds of errors and their statuses; [`refusals`]: what a call that was not taken is told.
//!
//! **Who owns what.** Nothing is owned here: calls and hosts belong to their own tasks, and a request holds handles. The body
//! of an answer owns its reader of the log; when the client goes, hyper drops the body, and the call knows. The inputs of a
//! request whose answer streams already are moved by a task of their own.
//!
//! **Back-pressure.** A body is read only as fast as its call takes inputs; a log is read only as fast as its client reads.
//!
//! **Failures.** Before the answer begins: a problem. After: the stream ends with `end` whenever the call does; a body of
//! inputs that makes no sense cancels its call; one that breaks off leaves it, as its client may come back.
//!
//! **Not here.** What calls and hosts are, TLS itself, the dashboard.

mod accept;
mod blobs;
pub mod call_request;
mod create;
mod environments;
mod events;
mod feed;
mod fields;
mod guard;
mod head;
mod health;
mod hosts;
mod inputs;
mod join;
mod json_inputs;
mod limits;
mod nested;
mod pace;
mod packages;
pub mod problem;
mod query;
mod record;
mod records;
mod refusals;
mod render_frames;
mod render_json;
mod request_body;
pub mod routes;
mod run;
mod run_output;
mod secrets;
pub mod server;
mod shares;
mod tokens;
mod watched;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http_body::Body as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use self::limits::{Counts, Holding};
use self::problem::{Code, Problem};
use self::routes::{Action, ROUTES, Route};
use crate::audit::Audit;
use crate::auth::{Identity, Tokens};
use crate::blobs::Blobs;
use crate::calls::{CallHandle, Calls};
use crate::fleet::{Drain, Fleet};
use crate::secrets::Secrets;
use crate::tasks::Tasks;
use crate::tls::Tls;

pub use self::events::cursor as event_cursor;
pub use self::hosts::is_host_name;
pub use self::join::{join_string, join_token};
pub use self::server::{Peer, ServerConfig, serve};
pub use self::tokens::{is_name as is_owner, time as rfc3339};

/// What requests need. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    /// All calls.
    pub calls: Calls,
    /// Large data.
    pub blobs: Blobs,
    /// All hosts.
    pub fleet: Fleet,
    /// What functions need and nobody else may see.
    pub secrets: Secrets,
    /// Who may do what.
    pub tokens: Tokens,
    /// Who did what.
    pub audit: Audit,
    /// How connections are kept secret, if they are.
    pub tls: Option<Tls>,
    /// The address that clients and hosts are told.
    pub url: Arc<str>,
    /// How long a host's credential is good before it is renewed.
    pub host_life: Duration,
    /// Whether the gateway takes work.
    pub ready: watch::Receiver<bool>,
    /// Where tasks start.
    pub tasks: Tasks,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

/// Requests of one token at once: less than the listener's connections, so that one token cannot take them all.
const REQUESTS_PER_TOKEN: usize = 8_000;

/// Every route of [`ROUTES`].
pub fn router(front: Front) -> Router {
    router_with(front, REQUESTS_PER_TOKEN)
}

/// The same with a limit of requests of one token at once.
pub fn router_with(front: Front, per_token: usize) -> Router {
    let requests = Counts::new(per_token);
    let paths: BTreeSet<&'static str> = ROUTES.iter().map(|route| route.path).collect();
    let mut router = Router::new();
    for path in paths {
        let requests = requests.clone();
        let handler = move |State(front): State<Front>,
                            params: Result<RawPathParams, RawPathParamsRejection>,
                            request: Request| async move {
            let id = params
                .ok()
                .and_then(|params| params.iter().next().map(|(_, value)| value.to_owned()));
            dispatch(&front, &requests, path, id.unwrap_or_default(), request).await
        };
        router = router.route(path, any(handler));
    }
    router.fallback(unknown_route).with_state(front)
}

async fn dispatch(
    front: &Front,
    requests: &Counts<String>,
    path: &str,
    id: String,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let refused = |who: &Identity, problem| record::refused(front, who, &parts, problem);
    let nobody = Identity::nobody();
    let checked = guard::check(&parts).map_err(|problem| refused(&nobody, problem));
    let checked = checked.and_then(|()| {
        let route = routes::find(path, &parts.method)
            .ok_or_else(|| Problem::method_not_allowed(&parts.method, &routes::allowed(path)))?;
        // Open routes have nobody; all others have somebody, or are refused.
        let who = guard::authenticate(&parts, route.access, &front.tokens);
        let who = who.map_err(|problem| refused(&nobody, problem))?.unwrap_or(nobody.clone());
        let (who, parent) = nested::resolve(front, who, route, &id, &parts)?;
        guard::permit(&who, route.access).map_err(|problem| refused(&who, problem))?;
        if records::is_foreign(front, &who, route, &id) {
            return Err(refused(&who, Problem::unknown_call(&id)));
        }
        let place = match who.id.is_empty() {
            true => None,
            false => Some(requests.take(&who.id).ok_or_else(too_many_requests)?),
        };
        Ok((route, who, parent, place))
    });
    let answer = match checked {
        Ok((route, who, parent, place)) => {
            let act_of = record::Act::begin(route, &who, &parts, &id);
            // What takes long ends with the token: bodies both ways, and the wait for the answer. Functions have none of their own.
            let is_bound = route.action.is_long() && place.is_some();
            let life = is_bound.then(|| front.tokens.life(&who.id));
            let body = match &life {
                Some(life) if !body.is_end_stream() => {
                    Body::new(Holding::new(body, Some(life.clone()), ()))
                }
                _ => body,
            };
            let acted = act(front, route, who, parent, &id, Request::from_parts(parts, body));
            let answer = match &life {
                None => acted.await,
                Some(life) => tokio::select! {
                    biased;
                    () = life.cancelled() => Err(Problem::unauthenticated()),
                    answer = acted => answer,
                },
            };
            if let Some(act) = act_of {
                act.end(&front.audit, &answer);
            }
            answer.map(|answer| answer.map(|body| Body::new(Holding::new(body, life, place))))
        }
        Err(problem) => Err(problem),
    };
    answer.unwrap_or_else(|problem| {
        metrics::counter!("muster_http_problems_total", "code" => problem.code().to_owned())
            .increment(1);
        problem.into_response()
    })
}

async fn act(
    front: &Front,
    route: &Route,
    who: Identity,
    parent: Option<CallHandle>,
    id: &str,
    request: Request,
) -> Result<Response, Problem> {
    match route.action {
        Action::Health => Ok(health::alive()),
        Action::Ready => health::ready(*front.ready.borrow()),
        Action::Metrics => Ok(health::metrics(&front.metrics)),
        Action::Openapi => Ok(health::openapi()),
        Action::CreateCall => create::create(front, who, parent, request).await,
        Action::ListCalls => records::list(front, &who, request).await,
        Action::ReadCall => Ok(records::read(&records::find(front, &who, id).await?)),
        Action::CancelCall => records::cancel(&records::find(front, &who, id).await?).await,
        Action::ReadFunction => {
            records::function(&records::find(front, &who, id).await?.whole()?).await
        }
        Action::AppendInputs => {
            let call = records::find(front, &who, id).await?.whole()?;
            // Inputs are code: whoever gives some has what their call has.
            shares::may_use(&who, &call.spec().shares)?;
            let answer = inputs::append(&call, request).await;
            answer.map_err(|problem| problem.with_call(call.id()))
        }
        Action::ReadEvents => {
            events::read(&records::find(front, &who, id).await?.whole()?, &request)
        }
        Action::Run => run::run(front, who, request).await,
        Action::PutBlob => blobs::put(front, &who, id, request).await,
        Action::ReadBlob => blobs::read(front, &who, id, &request),
        Action::RemoveBlob => blobs::remove(front, &who, id).await,
        Action::SetSecret => secrets::set(front, &who, id, request).await,
        Action::ListSecrets => secrets::list(front, &who, &request),
        Action::DeleteSecret => secrets::delete(front, &who, id).await,
        Action::PutEnvironment => environments::put(front, id, request).await,
        Action::ReadEnvironment => environments::read(front, id),
        Action::ListHosts => hosts::list(front, &request),
        Action::DrainHost => hosts::drain(front, id, Drain::Begin, request).await,
        Action::UndrainHost => hosts::drain(front, id, Drain::Undo, request).await,
        Action::ConnectHost => hosts::connect(front, &who, request).await,
        Action::JoinHost => join::join(front, &who, request).await,
        Action::RenewHost => join::renew(front, &who, request).await,
        Action::ExpelHost => join::expel(front, id).await,
        Action::CreateJoinString => join::create_string(front, request).await,
        Action::CreateToken => tokens::create(front, &who, request).await,
        Action::ListTokens => tokens::list(front, &request),
        Action::RevokeToken => tokens::revoke(front, id).await,
    }
}

fn too_many_requests() -> Problem {
    let problem = Problem::new(
        Code::TooManyRequests,
        "This token has as many requests at once as one token may have.",
        "End some of its requests, or use several tokens; try again after the time in `Retry-After`.",
    );
    problem.retry_after(1)
}

async fn unknown_route(request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let problem = guard::check(&parts).err().unwrap_or_else(|| {
        Problem::new(
            Code::UnknownRoute,
            format!(
                "There is no route `{}`.",
                parts.uri.path().chars().take(100).collect::<String>()
            ),
            "`GET /openapi.json` describes the routes.",
        )
    });
    problem.into_response()
}
