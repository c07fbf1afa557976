//! `service.json` and `join.json` in the state folder: how clients and agents of this machine find the gateway, each with the token it needs. Only this user can read them.
//! They stay when the gateway stops, so that the next start, perhaps on another port, keeps the tokens that were handed out.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::auth::FirstTokens;

/// The file clients read.
pub const SERVICE: &str = "service.json";
/// The file agents read.
pub const JOIN: &str = "join.json";

/// What either file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The gateway's address, `http://host:port`.
    pub url: String,
    /// A token.
    pub token: String,
}

/// Writes both files for a gateway at `url`: with new tokens where there are some, otherwise with those the files had. Gives the names of files that could not be written because their token is known
/// to nobody any more.
pub fn write(
    folder: &Path,
    url: &str,
    first: Option<FirstTokens>,
) -> io::Result<Vec<&'static str>> {
    let (client, join) = match first {
        Some(first) => (Some(first.client), Some(first.join)),
        None => (token_in(&folder.join(SERVICE)), token_in(&folder.join(JOIN))),
    };
    let mut missing = Vec::new();
    for (name, token) in [(SERVICE, client), (JOIN, join)] {
        match token {
            Some(token) => replace(&folder.join(name), &Access { url: url.to_owned(), token })?,
            None => missing.push(name),
        }
    }
    Ok(missing)
}

fn token_in(path: &Path) -> Option<String> {
    let access: Access = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(access.token)
}

/// Readers see the old file or the new one, never half of it.
fn replace(path: &Path, access: &Access) -> io::Result<()> {
    let part = path.with_extension("json.part");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&serde_json::to_vec(access)?)?;
    file.write_all(b"\n")?;
    drop(file);
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_on_another_port_keeps_the_tokens() {
        let folder = tempfile::tempdir().expect("temp dir");
        let first = FirstTokens { client: "muster_a_1".into(), join: "muster_b_2".into() };
        assert!(
            write(folder.path(), "http://127.0.0.1:1", Some(first)).expect("writes").is_empty()
        );
        assert!(write(folder.path(), "http://127.0.0.1:2", None).expect("writes").is_empty());
        let text = fs::read(folder.path().join(SERVICE)).expect("there");
        let access: Access = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(access, Access { url: "http://127.0.0.1:2".into(), token: "muster_a_1".into() });
    }

    #[test]
    fn a_lost_file_is_named_because_its_token_is_gone() {
        let folder = tempfile::tempdir().expect("temp dir");
        let missing = write(folder.path(), "http://127.0.0.1:1", None).expect("writes");
        assert_eq!(missing, vec![SERVICE, JOIN]);
    }
}
