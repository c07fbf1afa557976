//! A token's text: `muster_<id>_<secret>`, and, where the gateway speaks TLS by a CA of its own, `_<pin>` after it. The pin is
//! for the client, who knows the CA by it; what is hashed and compared is the part before it.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use super::TokensError;

const PREFIX: &str = "muster_";
const ID: usize = 16;
const SECRET: usize = 64;
const PIN: usize = 64;

/// A new token, and what is kept of it.
#[derive(Debug)]
pub struct Made {
    /// What is handed out, once, without a pin.
    pub text: String,
    /// Its public part.
    pub id: String,
    /// The hash of the text.
    pub sha256: String,
}

/// Makes a token of 256 random bits.
pub fn make() -> Result<Made, TokensError> {
    let mut random = [0u8; (ID + SECRET) / 2];
    OsRng.try_fill_bytes(&mut random).map_err(|source| TokensError::Random { source })?;
    let (id, secret) = random.split_at(ID / 2);
    let id = hex::encode(id);
    let text = format!("{PREFIX}{id}_{}", hex::encode(secret));
    let sha256 = hash(text.as_bytes());
    Ok(Made { text, id, sha256 })
}

/// The id of a token, and the part of its text that is hashed, if it has the shape of one.
pub fn parse(presented: &str) -> Option<(&str, &str)> {
    let rest = presented.strip_prefix(PREFIX)?;
    let mut parts = rest.split('_');
    let (id, secret, pin) = (parts.next()?, parts.next()?, parts.next());
    let whole = parts.next().is_none()
        && is_hex(id, ID)
        && is_hex(secret, SECRET)
        && pin.is_none_or(|pin| is_hex(pin, PIN));
    whole.then(|| (id, &presented[..PREFIX.len() + ID + 1 + SECRET]))
}

/// The text with this pin, or with none, whatever it had.
pub fn with_pin(text: &str, pin: Option<&str>) -> String {
    let bare = parse(text).map_or(text, |(_, bare)| bare);
    match pin {
        Some(pin) => format!("{bare}_{pin}"),
        None => bare.to_owned(),
    }
}

/// The pin of a token, if it has one.
pub fn pin(text: &str) -> Option<&str> {
    parse(text).and_then(|(_, bare)| text[bare.len()..].strip_prefix('_'))
}

/// SHA-256 in hex.
pub fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_known_with_its_pin_and_without() {
        let made = make().expect("random bytes");
        let pinned = with_pin(&made.text, Some(&"a".repeat(64)));
        assert_eq!(parse(&made.text), Some((made.id.as_str(), made.text.as_str())));
        assert_eq!(parse(&pinned), Some((made.id.as_str(), made.text.as_str())));
        assert_eq!(with_pin(&pinned, None), made.text);
        assert_eq!((pin(&pinned), pin(&made.text)), (Some("a".repeat(64).as_str()), None));
        assert_eq!(parse(&format!("{pinned}_")), None);
        assert_eq!(parse(&format!("{}_short", made.text)), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_is_not(text in "(muster_)?[0-9a-f_]{0,160}|.{0,40}") {
            if let Some((id, bare)) = parse(&text) {
                prop_assert!(text.starts_with(bare) && bare.contains(id));
            }
        }
    }
}
