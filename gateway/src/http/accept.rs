//! Which form of events a client gets, by its `Accept` header, and what its body is, by its `Content-Type`.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use muster_wire::FRAMES_TYPE;

use super::problem::{Code, Problem};

/// Media type of one JSON text a line.
pub const NDJSON_TYPE: &str = "application/x-ndjson";
/// Media type of server-sent events.
pub const SSE_TYPE: &str = "text/event-stream";

/// The forms of a stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventForm {
    /// One JSON object a line.
    Ndjson,
    /// Server-sent events.
    Sse,
    /// Frames of the protocol.
    Frames,
}

impl EventForm {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            EventForm::Ndjson => NDJSON_TYPE,
            EventForm::Sse => SSE_TYPE,
            EventForm::Frames => FRAMES_TYPE,
        }
    }
}

/// The form the client likes best; NDJSON where it does not say.
pub fn event_form(headers: &HeaderMap) -> Result<EventForm, Problem> {
    let mut best: Option<(f32, EventForm)> = None;
    let mut asked = false;
    for value in headers.get_all(ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let media_type = parameters.next().unwrap_or_default().to_ascii_lowercase();
            if media_type.is_empty() {
                continue;
            }
            asked = true;
            let quality = parameters
                .find_map(|text| text.strip_prefix("q="))
                .map_or(1.0, |text| text.parse().unwrap_or(0.0));
            let Some(form) = form_of(&media_type) else { continue };
            // Ties go to the first named.
            if quality > 0.0 && best.is_none_or(|(other, _)| quality > other) {
                best = Some((quality, form));
            }
        }
    }
    match best {
        Some((_, form)) => Ok(form),
        None if !asked => Ok(EventForm::Ndjson),
        None => Err(Problem::new(
            Code::NotAcceptable,
            "Events come in none of the media types in `Accept`.",
            format!("Accept {NDJSON_TYPE}, {SSE_TYPE} or {FRAMES_TYPE}."),
        )),
    }
}

fn form_of(media_type: &str) -> Option<EventForm> {
    match media_type {
        "*/*" | "application/*" | NDJSON_TYPE | "application/ndjson" | "application/json" => {
            Some(EventForm::Ndjson)
        }
        SSE_TYPE | "text/*" => Some(EventForm::Sse),
        FRAMES_TYPE => Some(EventForm::Frames),
        _ => None,
    }
}

/// What a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// One JSON text.
    Json,
    /// One JSON text a line.
    Ndjson,
    /// Frames of the protocol.
    Frames,
}

/// The form of the body, which must be among `taken`.
pub fn body_form(headers: &HeaderMap, taken: &[BodyForm]) -> Result<BodyForm, Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|text| text.split(';').next()).map(str::trim);
    let form = match media_type.map(str::to_ascii_lowercase).as_deref() {
        Some("application/json") => Some(BodyForm::Json),
        Some(NDJSON_TYPE | "application/ndjson") => Some(BodyForm::Ndjson),
        Some(FRAMES_TYPE) => Some(BodyForm::Frames),
        _ => None,
    };
    form.filter(|form| taken.contains(form)).ok_or_else(|| {
        let names: Vec<&str> = taken.iter().map(|form| form.media_type()).collect();
        Problem::new(
            Code::UnsupportedMediaType,
            match media_type {
                Some(other) => format!("A body of type {other:?} is not taken here."),
                None => "The body has no `Content-Type`.".to_owned(),
            },
            format!("Send `Content-Type: {}`.", names.join("` or `")),
        )
    })
}

impl BodyForm {
    fn media_type(self) -> &'static str {
        match self {
            BodyForm::Json => "application/json",
            BodyForm::Ndjson => NDJSON_TYPE,
            BodyForm::Frames => FRAMES_TYPE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn form(accept: &'static str) -> Result<EventForm, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        event_form(&headers)
    }

    #[test]
    fn the_best_liked_form_is_given() {
        use EventForm::*;
        assert_eq!(event_form(&HeaderMap::new()).expect("a form"), Ndjson);
        for (accept, expected) in [
            ("*/*", Ndjson),
            ("", Ndjson),
            ("text/event-stream", Sse),
            ("Text/Event-Stream; charset=utf-8", Sse),
            ("text/html, */*;q=0.1", Ndjson),
            ("application/vnd.muster.frames", Frames),
            ("application/x-ndjson;q=0.5, application/vnd.muster.frames;q=0.9", Frames),
            ("text/event-stream, application/x-ndjson", Sse),
        ] {
            assert_eq!(form(accept).expect("a form"), expected, "{accept}");
        }
    }

    #[test]
    fn nothing_acceptable_is_said_so() {
        for accept in ["text/html", "application/x-ndjson;q=0", "image/*"] {
            assert_eq!(form(accept).expect_err("refused").code(), "not_acceptable", "{accept}");
        }
    }

    #[test]
    fn bodies_are_known_by_their_media_type() {
        let taken = &[BodyForm::Json, BodyForm::Frames];
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            body_form(&headers, taken)
        };
        assert_eq!(of("application/JSON; charset=utf-8").expect("known"), BodyForm::Json);
        assert_eq!(of("application/vnd.muster.frames").expect("known"), BodyForm::Frames);
        for value in ["application/x-ndjson", "application/x-www-form-urlencoded", ""] {
            let problem = of(value).expect_err("refused");
            assert_eq!(problem.code(), "unsupported_media_type", "{value}");
        }
        assert!(body_form(&HeaderMap::new(), taken).is_err());
    }
}
