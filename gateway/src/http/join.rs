//! Hosts join, renew their credentials and are expelled; join strings for them.

use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use serde::Serialize;

use super::fields::Fields;
use super::hosts::{NAMES, is_host_name};
use super::problem::{Code, Problem};
use super::record::About;
use super::tokens::{control_body, created, life, time, written};
use super::{Front, records};
use crate::auth::{DEFAULT_OWNER, Entry, Identity, JoinError, NewToken, Proof, Scope, token};
use crate::tls::{HostKey, Tls, TlsError};

/// How long a join string is good where nobody said it.
pub const JOIN_LIFE: Duration = Duration::from_secs(15 * 60);

#[derive(Serialize)]
struct JoinString {
    join: String,
    id: String,
    expires: String,
}

/// What a host gets: its certificate over TLS, a token elsewhere.
#[derive(Serialize)]
struct Credential {
    host: String,
    certificate: Option<String>,
    token: Option<String>,
    expires: String,
    expires_in: u64,
}

#[derive(Serialize)]
struct Expelled<'a> {
    host: &'a str,
}

/// What a host needs to join: where, and by what token.
pub fn join_string(url: &str, token: &str, pin: Option<&str>) -> String {
    format!("{url}#{}", token::with_pin(token, pin))
}

/// The token of a new join string.
pub fn join_token(host: Option<String>, uses: u32, life: Option<Duration>) -> NewToken {
    NewToken {
        owner: DEFAULT_OWNER.into(),
        name: Some("join string".into()),
        scopes: vec![Scope::Join],
        life: Some(life.unwrap_or(JOIN_LIFE)),
        uses: Some(uses),
        host,
        shares: None,
    }
}

/// `POST /v1/join-strings`.
pub async fn create_string(front: &Front, request: Request) -> Result<Response, Problem> {
    let body = control_body(request).await?;
    let fields = Fields::parse("The join string", &body, &["host", "uses", "expires_in"])?;
    let host = fields.text("host", NAMES)?;
    if host.as_deref().is_some_and(|host| !is_host_name(host)) {
        return Err(Problem::bad_field("host", "is not the name of a host", NAMES));
    }
    let uses = fields.whole("uses", 1, 100_000, "Give a whole number from 1 to 100000.")?;
    let new = join_token(host, uses.unwrap_or(1), life(&fields)?);
    let tokens = front.tokens.clone();
    let (text, entry) = written(move || tokens.create(new, crate::unix_s())).await?;
    let made = JoinString {
        join: join_string(&front.url, &text, front.tls.as_ref().and_then(Tls::pin)),
        id: entry.id.clone(),
        expires: time(entry.expires_unix_s.unwrap_or_default()),
    };
    Ok(created(&made, entry.id))
}

/// `POST /v1/hosts/join`: a join token becomes a credential of the host's own.
pub async fn join(front: &Front, who: &Identity, request: Request) -> Result<Response, Problem> {
    let (host, request) = asked(request).await?;
    let signed = sign(front, &host, request.as_deref())?;
    let (tokens, by, life) = (front.tokens.clone(), who.id.clone(), front.host_life);
    let (name, key) = (host.clone(), signed.as_ref().map(|(_, known)| known.key.clone()));
    let admitted = written(move || {
        let proof = key.as_deref().map_or(Proof::Token, Proof::Key);
        tokens.admit(&by, &name, proof, life, crate::unix_s())
    });
    let admitted = admitted.await?;
    let certificate = signed.map(|(pem, _)| pem);
    let credential = Credential::of(host.clone(), &admitted.entry, certificate, admitted.token);
    Ok(created(&credential, host))
}

/// `POST /v1/hosts/renew`: the same host with the same key goes on for longer.
pub async fn renew(front: &Front, who: &Identity, request: Request) -> Result<Response, Problem> {
    let (host, request) = asked(request).await?;
    if who.host() != Some(host.as_str()) {
        return Err(anothers(&host));
    }
    let signed = match request {
        Some(request) => sign(front, &host, Some(&request))?,
        None => None,
    };
    let is_same = signed.as_ref().is_none_or(|(_, known)| {
        front.tokens.identify_host(&host, &known.key, crate::unix_s()).is_some()
    });
    if !is_same {
        return Err(Problem::bad_field(
            "csr",
            "is for another key than the host joined with",
            "Send a request for that key, or join again.",
        ));
    }
    let (tokens, id, life) = (front.tokens.clone(), who.id.clone(), front.host_life);
    let name = host.clone();
    let entry = written(move || tokens.renew(&id, &name, life, crate::unix_s())).await?;
    let credential = Credential::of(host.clone(), &entry, signed.map(|(pem, _)| pem), None);
    let mut response = records::plain_json(&credential);
    response.extensions_mut().insert(About(host));
    Ok(response)
}

/// `DELETE /v1/hosts/{host}`: its credential dies, and with it its link.
pub async fn expel(front: &Front, host: &str) -> Result<Response, Problem> {
    let (tokens, name) = (front.tokens.clone(), host.to_owned());
    match written(move || tokens.expel(&name, crate::unix_s())).await? {
        true => Ok(records::plain_json(&Expelled { host })),
        false => Err(Problem::new(
            Code::UnknownHost,
            "No host of this name has joined.",
            "`GET /v1/hosts` lists the hosts that have.",
        )),
    }
}

/// A host's credential that is used for another's name.
pub fn anothers(host: &str) -> Problem {
    Problem::new(
        Code::Forbidden,
        format!("This credential is not that of a host named `{host}`."),
        "Use the host's own credential, or join under this name.",
    )
}

impl Credential {
    fn of(
        host: String,
        entry: &Entry,
        certificate: Option<String>,
        token: Option<String>,
    ) -> Credential {
        let end = entry.expires_unix_s.unwrap_or_default();
        let expires_in = end.saturating_sub(crate::unix_s());
        Credential { host, certificate, token, expires: time(end), expires_in }
    }
}

/// The host's name and its signing request.
async fn asked(request: Request) -> Result<(String, Option<String>), Problem> {
    let body = control_body(request).await?;
    let fields = Fields::parse("The host", &body, &["host", "csr"])?;
    let host = fields.text("host", NAMES)?.unwrap_or_default();
    if !is_host_name(&host) {
        return Err(Problem::bad_field("host", "is not the name of a host", NAMES));
    }
    let request = fields.text("csr", "Send a certificate signing request as PEM.")?;
    Ok((host, request))
}

/// The host's certificate, where there are certificates.
fn sign(
    front: &Front,
    host: &str,
    request: Option<&str>,
) -> Result<Option<(String, HostKey)>, Problem> {
    let Some(tls) = &front.tls else { return Ok(None) };
    const ACTION: &str = "Make a key, and send a certificate signing request for it as PEM.";
    let request = request.ok_or_else(|| {
        Problem::bad_field("csr", "is missing, and this gateway speaks TLS", ACTION)
    })?;
    match tls.authority().host(request, host, front.host_life) {
        Ok(signed) => Ok(Some(signed)),
        Err(TlsError::Request(_)) => {
            Err(Problem::bad_field("csr", "is not a certificate signing request", ACTION))
        }
        Err(error) => {
            tracing::error!(error = crate::chain(&error), "host not certified");
            Err(Problem::internal())
        }
    }
}

impl From<JoinError> for Problem {
    fn from(error: JoinError) -> Problem {
        match error {
            JoinError::NotGood { host } => Problem::new(
                Code::Forbidden,
                format!(
                    "The join token is used up, has ended, or is not for a host named `{host}`."
                ),
                "Make a new join string (`muster-gateway join-string create`).",
            ),
            JoinError::Taken { host } => Problem::new(
                Code::HostTaken,
                format!("A host named `{host}` has joined already."),
                format!(
                    "Give this host another name. If it is to replace that one, make the join string for it \
                     (`muster-gateway join-string create --host {host}`), or expel that one first."
                ),
            ),
            JoinError::Gone { .. } => Problem::unauthenticated(),
            JoinError::Tokens(error) => error.into(),
        }
    }
}
