//! `/v1/secrets`: set, listed by name, and removed, by their owner alone; no answer has a value. And what calls may name of them.

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use zeroize::Zeroizing;

use super::fields::{Fields, check_text};
use super::problem::{Code, Problem};
use super::query::Query;
use super::tokens::{control_body, time, written};
use super::{Front, records};
use crate::auth::Identity;
use crate::secrets::{Change, MAX_VALUE, NO_SECRET, Name, NameError, Record, SecretsError};

/// How many secrets one call may name.
const MAX_WANTED: usize = 64;
const NAMES: &str = "Give names of secrets, for example [\"DATABASE_PASSWORD\"].";
const VALUE: &str = "Give the secret as a string of 1 to 32768 bytes: {\"value\": \"...\"}.";

/// A secret as its owner sees it.
#[derive(Serialize)]
struct SecretRecord {
    name: String,
    updated: String,
}

#[derive(Serialize)]
struct List {
    secrets: Vec<SecretRecord>,
}

impl SecretRecord {
    fn of(record: Record) -> SecretRecord {
        SecretRecord { name: record.name, updated: time(record.updated_unix_s) }
    }
}

/// `PUT /v1/secrets/{name}`.
pub async fn set(
    front: &Front,
    who: &Identity,
    name: &str,
    request: Request,
) -> Result<Response, Problem> {
    let parsed = checked("name", name)?;
    let body = control_body(request).await?;
    let fields = Fields::parse("The secret", &body, &["value"])?;
    let value: Option<String> = fields.unsaid("value", "a string", VALUE)?;
    let value = Zeroizing::new(value.unwrap_or_default());
    check_text("value", &value)?;
    if value.is_empty() || value.len() > MAX_VALUE {
        let wrong = format!("has {} bytes", value.len());
        return Err(Problem::bad_field("value", wrong, VALUE));
    }
    let (secrets, owner, now) = (front.secrets.clone(), who.owner.clone(), crate::unix_s());
    let change = written(move || secrets.set(&owner, &parsed, value, now)).await?;
    let record = Record { name: name.to_owned(), updated_unix_s: now };
    let mut response = records::plain_json(&SecretRecord::of(record));
    if change == Change::New {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

/// `GET /v1/secrets`: names, not values.
pub fn list(front: &Front, who: &Identity, request: &Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[], &[])?;
    let own = front.secrets.list(&who.owner);
    Ok(records::plain_json(&List { secrets: own.into_iter().map(SecretRecord::of).collect() }))
}

/// `DELETE /v1/secrets/{name}`.
pub async fn delete(front: &Front, who: &Identity, name: &str) -> Result<Response, Problem> {
    checked("name", name)?;
    let (secrets, owner, name) = (front.secrets.clone(), who.owner.clone(), name.to_owned());
    written(move || secrets.delete(&owner, &name)).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// What a call names in its field `secrets`.
pub fn of(fields: &Fields<'_>) -> Result<Vec<String>, Problem> {
    wanted("secrets", fields.of("secrets", "an array of strings", NAMES)?.unwrap_or_default())
}

/// The names of secrets that a call wants, checked.
pub fn wanted(field: &str, mut names: Vec<String>) -> Result<Vec<String>, Problem> {
    if names.len() > MAX_WANTED {
        let wrong = format!("names over {MAX_WANTED} secrets");
        return Err(Problem::bad_field(field, wrong, "Name fewer; one value may hold several."));
    }
    names.iter().try_for_each(|name| checked(field, name).map(drop))?;
    names.sort();
    names.dedup();
    Ok(names)
}

/// Refuses what is both in `env` and a secret: nobody could say which is meant.
pub fn refuse_both(env: &BTreeMap<String, String>, secrets: &[String]) -> Result<(), Problem> {
    match secrets.iter().find(|name| env.contains_key(*name)) {
        Some(name) => Err(Problem::bad_field(
            "secrets",
            format!("names {name}, which `env` sets too"),
            "Leave it out of one of them.",
        )),
        None => Ok(()),
    }
}

fn checked(field: &str, name: &str) -> Result<Name, Problem> {
    Name::parse(name).map_err(|error| {
        let shown: String = name.chars().take(60).collect();
        let action = match error {
            NameError::Syntax => "Name it as an environment variable, for example DATABASE_PASSWORD.",
            NameError::Reserved => "Take another name: MUSTER_*, LD_*, PYTHON*, PATH, HOME, IFS, ENV and BASH_ENV are taken.",
        };
        Problem::bad_field(field, format!("has {shown:?}, which {error}"), action)
    })
}

impl From<SecretsError> for Problem {
    fn from(error: SecretsError) -> Problem {
        match &error {
            SecretsError::Unknown { names } => unknown(names),
            SecretsError::TooMany => Problem::new(
                Code::TooManySecrets,
                "This owner has as many secrets as one owner may have.",
                "Delete those that nobody needs (`GET /v1/secrets` lists them).",
            ),
            _ => {
                tracing::error!(error = crate::chain(&error), "secrets not changed");
                Problem::internal()
            }
        }
    }
}

/// The owner has no such secrets.
pub fn unknown(names: &[String]) -> Problem {
    let detail = format!("There is no secret `{}` of this owner.", names.join("`, `"));
    Problem::new(Code::UnknownSecret, detail, NO_SECRET)
}
