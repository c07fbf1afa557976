//! `/v1/tokens`: tokens are made, listed and revoked; an admin's.

use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::accept::{self, BodyForm};
use super::fields::Fields;
use super::problem::{Code, Problem};
use super::query::Query;
use super::record::About;
use super::{Front, records, request_body, shares};
use crate::auth::{ADMIN_LIMITED, Entry, Identity, NewToken, Scope, TokensError, token};
use crate::tls::Tls;

/// The largest body of a request that is about the gateway itself.
pub const MAX_CONTROL: usize = 256 << 10;
/// The longest life that can be asked for: ten years.
const LONGEST_S: f64 = 10.0 * 365.0 * 24.0 * 3600.0;
const NAMES: &str = "Give 1 to 64 letters, digits, `.`, `-`, `@` or `_`.";

/// A token as others see it.
#[derive(Debug, Serialize)]
pub struct TokenRecord {
    id: String,
    owner: String,
    name: Option<String>,
    scopes: Vec<&'static str>,
    created: String,
    expires: Option<String>,
    revoked: Option<String>,
    uses_left: Option<u32>,
    host: Option<String>,
    shares: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Made {
    token: String,
    #[serde(flatten)]
    record: TokenRecord,
}

#[derive(Serialize)]
struct List {
    tokens: Vec<TokenRecord>,
}

impl TokenRecord {
    /// The record of an entry.
    pub fn of(entry: Entry) -> TokenRecord {
        TokenRecord {
            id: entry.id,
            owner: entry.owner,
            name: entry.name,
            scopes: entry.scopes.iter().map(|scope| scope.name()).collect(),
            created: time(entry.created_unix_s),
            expires: entry.expires_unix_s.map(time),
            revoked: entry.revoked_unix_s.map(time),
            uses_left: entry.uses_left,
            host: entry.host,
            shares: entry.shares,
        }
    }
}

/// `POST /v1/tokens`: the only answer that has the token itself.
pub async fn create(front: &Front, who: &Identity, request: Request) -> Result<Response, Problem> {
    let body = control_body(request).await?;
    let fields =
        Fields::parse("The token", &body, &["owner", "name", "scopes", "expires_in", "shares"])?;
    let owner = fields.text("owner", NAMES)?.unwrap_or_else(|| who.owner.clone());
    if !is_name(&owner) {
        return Err(Problem::bad_field("owner", "is not the name of an owner", NAMES));
    }
    let name = fields.text("name", "Give a few words.")?;
    if name.as_ref().is_some_and(|name| name.len() > 200) {
        return Err(Problem::bad_field("name", "is too long", "Give at most 200 bytes."));
    }
    let new = NewToken {
        owner,
        name,
        scopes: scopes(&fields)?,
        life: life(&fields)?,
        shares: shares::limit(&fields)?,
        ..NewToken::default()
    };
    if new.limits_an_admin() {
        return Err(Problem::bad_field(
            "shares",
            ADMIN_LIMITED,
            "Leave out `shares`, or the scope `admin`.",
        ));
    }
    let tokens = front.tokens.clone();
    let (token, entry) = written(move || tokens.create(new, crate::unix_s())).await?;
    let id = entry.id.clone();
    let token = token::with_pin(&token, front.tls.as_ref().and_then(Tls::pin));
    let made = Made { token, record: TokenRecord::of(entry) };
    Ok(created(&made, id))
}

/// `GET /v1/tokens`: newest first, without hosts' credentials.
pub fn list(front: &Front, request: &Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[], &[])?;
    let entries = front.tokens.list().into_iter().filter(|entry| !entry.is_host());
    Ok(records::plain_json(&List { tokens: entries.map(TokenRecord::of).collect() }))
}

/// `DELETE /v1/tokens/{id}`.
pub async fn revoke(front: &Front, id: &str) -> Result<Response, Problem> {
    let (tokens, wanted) = (front.tokens.clone(), id.to_owned());
    match written(move || tokens.revoke(&wanted, crate::unix_s())).await? {
        Some(entry) => Ok(records::plain_json(&TokenRecord::of(entry))),
        None => Err(Problem::new(
            Code::UnknownToken,
            format!("No token has the id `{}`.", id.chars().take(60).collect::<String>()),
            "`GET /v1/tokens` lists those there are.",
        )),
    }
}

/// The whole JSON body of a request about the gateway itself.
pub async fn control_body(request: Request) -> Result<bytes::Bytes, Problem> {
    let (parts, body) = request.into_parts();
    accept::body_form(&parts.headers, &[BodyForm::Json])?;
    request_body::whole(body, "The body", MAX_CONTROL, "Send less.", request_body::Arrival::Steady)
        .await
}

/// Makes a change of a file, which waits for the disk.
pub async fn written<T: Send + 'static, E: Send + 'static>(
    change: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Problem>
where
    Problem: From<E>,
{
    match tokio::task::spawn_blocking(change).await {
        Ok(done) => done.map_err(Problem::from),
        Err(_) => Err(Problem::internal()),
    }
}

/// 201 with something that was made, under this id.
pub fn created<T: Serialize>(made: &T, id: String) -> Response {
    let mut response = records::plain_json(made);
    *response.status_mut() = StatusCode::CREATED;
    response.extensions_mut().insert(About(id));
    response
}

/// `expires_in`, in seconds.
pub fn life(fields: &Fields<'_>) -> Result<Option<Duration>, Problem> {
    const ACTION: &str = "Give seconds, from 1 to ten years.";
    let seconds = fields.number("expires_in", ACTION)?;
    match seconds {
        Some(seconds) if !(1.0..=LONGEST_S).contains(&seconds) => {
            Err(Problem::bad_field("expires_in", format!("is {seconds}"), ACTION))
        }
        seconds => Ok(seconds.map(Duration::from_secs_f64)),
    }
}

/// RFC 3339.
pub fn time(unix_s: u64) -> String {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(unix_s))
        .to_string()
}

/// Whether an owner may be called so.
pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'@' | b'_');
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn scopes(fields: &Fields<'_>) -> Result<Vec<Scope>, Problem> {
    const ACTION: &str = "Give an array of `submit`, `read`, `cancel`, `admin`, `metrics`.";
    let names: Option<Vec<String>> = fields.of("scopes", "an array of strings", ACTION)?;
    let names = names
        .filter(|names| !names.is_empty())
        .ok_or_else(|| Problem::bad_field("scopes", "is missing or empty", ACTION))?;
    let mut scopes = Vec::new();
    for name in names {
        let scope: Scope =
            name.parse().map_err(|why: String| Problem::bad_field("scopes", why, ACTION))?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

impl From<TokensError> for Problem {
    fn from(error: TokensError) -> Problem {
        tracing::error!(error = crate::chain(&error), "tokens not changed");
        Problem::internal()
    }
}
