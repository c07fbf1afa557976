//! What is checked on every request before anything else is looked at.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Version};

use super::Peer;
use super::problem::{Code, Problem};
use super::routes::Access;
use crate::auth::{Identity, Tokens};

/// Bytes of all header names and values together.
pub const MAX_HEADER_BYTES: usize = 32 << 10;
/// Header fields of one request.
pub const MAX_HEADERS: usize = 64;

/// Refuses what no honest client sends: oversized headers, an unclear host, a web page of somebody else's.
pub fn check(parts: &Parts) -> Result<(), Problem> {
    check_size(&parts.headers)?;
    check_host(parts)?;
    check_encoding(&parts.headers)?;
    check_origin(parts)
}

/// Who makes the request; `None` on open routes.
pub fn authenticate(
    parts: &Parts,
    access: Access,
    tokens: &Tokens,
) -> Result<Option<Identity>, Problem> {
    if access == Access::Open {
        return Ok(None);
    }
    // A host over TLS has shown its certificate; everybody else has a token.
    let shown = parts.extensions.get::<Peer>().and_then(|peer| peer.host.as_ref());
    let identity = match (parts.headers.contains_key(AUTHORIZATION), shown) {
        (false, Some(shown)) => tokens.identify_host(&shown.host, &shown.key, crate::unix_s()),
        _ => bearer(&parts.headers).and_then(|token| tokens.identify(token, crate::unix_s())),
    };
    identity.map(Some).ok_or_else(Problem::unauthenticated)
}

/// Whether this is theirs to do.
pub fn permit(who: &Identity, access: Access) -> Result<(), Problem> {
    match access {
        Access::ScopeOrHost(_) if who.is_host() => Ok(()),
        Access::Scope(scope) | Access::ScopeOrHost(scope) if !who.may(scope) => Err(Problem::new(
            Code::Forbidden,
            format!("The token does not have the scope `{}`, which this needs.", scope.name()),
            format!("Use a token with the scope `{}`.", scope.name()),
        )),
        _ => Ok(()),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    let alone = values.next().is_none();
    (alone && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

fn check_size(headers: &HeaderMap) -> Result<(), Problem> {
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > MAX_HEADER_BYTES || headers.len() > MAX_HEADERS {
        return Err(Problem::new(
            Code::HeadersTooLarge,
            format!("The request has {} header fields of {bytes} bytes.", headers.len()),
            format!("Send at most {MAX_HEADERS} fields of {MAX_HEADER_BYTES} bytes together."),
        ));
    }
    Ok(())
}

fn check_host(parts: &Parts) -> Result<(), Problem> {
    let hosts: Vec<_> = parts.headers.get_all(HOST).iter().collect();
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let clear = match (hosts.as_slice(), authority) {
        ([host], Some(authority)) => host.as_bytes().eq_ignore_ascii_case(authority),
        ([host], None) => !host.is_empty(),
        ([], authority) => authority.is_some() && parts.version == Version::HTTP_2,
        _ => false,
    };
    match clear {
        true => Ok(()),
        false => Err(Problem::new(
            Code::BadRequest,
            "The request does not name one host.",
            "Send exactly one `Host` header, the same as in the request's target if that names one.",
        )),
    }
}

/// The only coding of a body that every server reads alike.
fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    let clear = match codings.as_slice() {
        [] => true,
        [coding] => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && !headers.contains_key(CONTENT_LENGTH)
        }
        _ => false,
    };
    match clear {
        true => Ok(()),
        false => Err(Problem::new(
            Code::BadRequest,
            "The request does not say in one way how long its body is.",
            "Send either `Content-Length` or `Transfer-Encoding: chunked`.",
        )),
    }
}

/// Browsers name the page a request comes from; only a page of our own may make any.
fn check_origin(parts: &Parts) -> Result<(), Problem> {
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let host = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => parts.headers.get(HOST).map(|host| host.as_bytes()),
    };
    let from = origin
        .as_bytes()
        .strip_prefix(b"http://")
        .or_else(|| origin.as_bytes().strip_prefix(b"https://"));
    let own = matches!((from, host), (Some(from), Some(host)) if from.eq_ignore_ascii_case(host));
    match own && origins.next().is_none() {
        true => Ok(()),
        false => Err(Problem::new(
            Code::OriginRefused,
            "The request comes from a web page of another origin.",
            "Call the gateway from a program, not from a web page.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn checked(headers: &[(&str, &str)], uri: &str, version: Version) -> Option<String> {
        let mut request = Request::builder().uri(uri).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).expect("a request").into_parts().0;
        check(&parts).err().map(|problem| problem.code().to_owned())
    }

    #[test]
    fn exactly_one_clear_host_is_needed() {
        let h1 = |headers: &[(&str, &str)], uri| checked(headers, uri, Version::HTTP_11);
        assert_eq!(h1(&[("host", "a:1")], "/"), None);
        assert_eq!(h1(&[("host", "a:1")], "http://a:1/"), None);
        for (headers, uri) in [
            (&[][..], "/"),
            (&[("host", "a"), ("host", "a")][..], "/"),
            (&[("host", "")][..], "/"),
            (&[("host", "a")][..], "http://b/"),
        ] {
            assert_eq!(h1(headers, uri).as_deref(), Some("bad_request"), "{headers:?} {uri}");
        }
        assert_eq!(checked(&[], "http://a/", Version::HTTP_2), None);
    }

    #[test]
    fn a_body_has_one_length() {
        let with = |headers: &[(&str, &str)]| {
            let all: Vec<_> = [("host", "a")].iter().chain(headers).copied().collect();
            checked(&all, "/", Version::HTTP_11)
        };
        assert_eq!(with(&[("transfer-encoding", "Chunked")]), None);
        assert_eq!(with(&[("content-length", "3")]), None);
        for headers in [
            &[("transfer-encoding", "chunked"), ("content-length", "3")][..],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "xchunked")],
        ] {
            assert_eq!(with(headers).as_deref(), Some("bad_request"), "{headers:?}");
        }
    }

    #[test]
    fn only_pages_of_our_own_may_call() {
        let from = |origin| checked(&[("host", "a:1"), ("origin", origin)], "/", Version::HTTP_11);
        assert_eq!(from("http://a:1"), None);
        assert_eq!(from("https://A:1"), None);
        for origin in ["null", "http://b:1", "http://a:1.b", "a:1", "", "file://a:1"] {
            assert_eq!(from(origin).as_deref(), Some("origin_refused"), "{origin}");
        }
    }

    #[test]
    fn headers_are_held_to_their_limits() {
        let long = "x".repeat(MAX_HEADER_BYTES);
        let found = checked(&[("host", "a"), ("x", &long)], "/", Version::HTTP_11);
        assert_eq!(found.as_deref(), Some("headers_too_large"));
        let many: Vec<(&str, &str)> =
            std::iter::once(("host", "a")).chain((0..MAX_HEADERS).map(|_| ("x", "y"))).collect();
        let found = checked(&many, "/", Version::HTTP_11);
        assert_eq!(found.as_deref(), Some("headers_too_large"));
    }

    #[test]
    fn a_bearer_token_stands_alone() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().expect("a value"));
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["bearer  abc "]).as_deref(), Some("abc"));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Basic abc"]), None);
        assert_eq!(of(&["Bearer abc", "Bearer abc"]), None);
        assert_eq!(of(&["abc"]), None);
    }
}
