//! What is in the head of a request: where a reader of events goes on, and who asks.

use http::HeaderValue;
use muster_agent::link::identity::JoinString;
use muster_gateway::auth::token as tokens;
use muster_gateway::http::event_cursor as read_cursor;

/// The query of a request for events, and its `Last-Event-ID` after a line's end.
pub fn event_cursor(data: &[u8]) {
    let (query, header) = match data.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&data[..at], Some(&data[at + 1..])),
        None => (data, None),
    };
    let query = std::str::from_utf8(query).ok();
    let header = header.and_then(|value| HeaderValue::from_bytes(value).ok());
    match read_cursor(query, header.as_ref()) {
        Ok(after) => {
            let written = format!("after={after}");
            assert_eq!(read_cursor(Some(&written), None).ok(), Some(after));
        }
        Err(problem) => assert!(!problem.action().is_empty()),
    }
}

/// A token, and the join string with it.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let pin = "a".repeat(64);
    if let Some((id, bare)) = tokens::parse(text) {
        assert!(text.starts_with(bare) && bare.contains(id));
        assert_eq!(tokens::parse(bare), Some((id, bare)));
        let pinned = tokens::with_pin(text, Some(&pin));
        assert_eq!(tokens::parse(&pinned), Some((id, bare)));
        assert_eq!(tokens::pin(&pinned), Some(pin.as_str()));
        assert_eq!(tokens::with_pin(text, tokens::pin(text)), text);
        let join = JoinString::parse(&format!("http://gateway:1#{text}"));
        let join = join.expect("what the gateway takes as a token, the agent does");
        assert_eq!((join.token.as_str(), join.pin.as_deref()), (bare, tokens::pin(text)));
    }
    if let Some(join) = JoinString::parse(text) {
        let schemes = ["http://", "https://"];
        assert!(schemes.iter().any(|scheme| join.gateway.starts_with(scheme)));
        assert!(join.token.starts_with("muster_") && !join.token.contains('#'));
    }
}
