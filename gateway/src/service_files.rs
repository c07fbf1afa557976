//! `service.json` and `join.json` in the state folder: how clients and agents of this machine find the gateway, each with the token it needs. Only this user can read them.
//! They stay when the gateway stops, so that the next start, perhaps on another port, keeps the tokens that were handed out.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::auth::{FirstTokens, token};
use crate::files;

/// The file clients read.
pub const SERVICE: &str = "service.json";
/// The file agents read.
pub const JOIN: &str = "join.json";

/// What either file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The gateway's address, `http://host:port` or `https://host:port`.
    pub url: String,
    /// A token.
    pub token: String,
}

/// Writes both files for a gateway at `url`, known by this pin: with new tokens where there are some, otherwise with those the files had. Gives the names of files that could not be written because their token is known
/// to nobody any more.
pub fn write(
    folder: &Path,
    url: &str,
    pin: Option<&str>,
    first: Option<FirstTokens>,
) -> io::Result<Vec<&'static str>> {
    let token_in = |name| read(&folder.join(name)).map(|access| access.token);
    let (client, join) = match first {
        Some(first) => (Some(first.client), Some(first.join)),
        None => (token_in(SERVICE), token_in(JOIN)),
    };
    let mut missing = Vec::new();
    for (name, token) in [(SERVICE, client), (JOIN, join)] {
        match token {
            Some(token) => {
                let token = token::with_pin(&token, pin);
                let mut text = serde_json::to_vec(&Access { url: url.to_owned(), token })?;
                text.push(b'\n');
                files::replace(&folder.join(name), &text)?;
            }
            None => missing.push(name),
        }
    }
    Ok(missing)
}

/// What such a file says, if it is there.
pub fn read(path: &Path) -> Option<Access> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_on_another_port_keeps_the_tokens() {
        let folder = tempfile::tempdir().expect("temp dir");
        let first = FirstTokens { client: "muster_a_1".into(), join: "muster_b_2".into() };
        assert!(
            write(folder.path(), "http://127.0.0.1:1", None, Some(first))
                .expect("writes")
                .is_empty()
        );
        assert!(write(folder.path(), "http://127.0.0.1:2", None, None).expect("writes").is_empty());
        let text = fs::read(folder.path().join(SERVICE)).expect("there");
        let access: Access = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(access, Access { url: "http://127.0.0.1:2".into(), token: "muster_a_1".into() });
    }

    #[test]
    fn a_lost_file_is_named_because_its_token_is_gone() {
        let folder = tempfile::tempdir().expect("temp dir");
        let missing = write(folder.path(), "http://127.0.0.1:1", None, None).expect("writes");
        assert_eq!(missing, vec![SERVICE, JOIN]);
    }
}
