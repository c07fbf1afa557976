//! `service.json` in the state folder: how clients of this machine find the gateway, with the token they need. Only this user can read it.
//! It stays when the gateway stops, so that the next start, perhaps on another port, keeps the token that was handed out.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::auth::token;
use crate::files;

/// The file clients read.
pub const SERVICE: &str = "service.json";

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The gateway's address, `http://host:port` or `https://host:port`.
    pub url: String,
    /// A token.
    pub token: String,
}

/// Writes it for a gateway at `url`, known by this pin: with a new token if there is one, otherwise with the one it had. Whether there was any:
/// a lost token is known to nobody any more.
pub fn write(
    folder: &Path,
    url: &str,
    pin: Option<&str>,
    first: Option<String>,
) -> io::Result<bool> {
    let path = folder.join(SERVICE);
    let token = first.or_else(|| read(&path).map(|access| access.token));
    let Some(token) = token else { return Ok(false) };
    let token = token::with_pin(&token, pin);
    let mut text = serde_json::to_vec(&Access { url: url.to_owned(), token })?;
    text.push(b'\n');
    files::replace(&path, &text)?;
    Ok(true)
}

/// What such a file says, if it is there.
pub fn read(path: &Path) -> Option<Access> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_on_another_port_keeps_the_token() {
        let folder = tempfile::tempdir().expect("temp dir");
        let first = Some("muster_a_1".to_owned());
        assert!(write(folder.path(), "http://127.0.0.1:1", None, first).expect("writes"));
        assert!(write(folder.path(), "http://127.0.0.1:2", None, None).expect("writes"));
        let access = read(&folder.path().join(SERVICE));
        let kept = Access { url: "http://127.0.0.1:2".into(), token: "muster_a_1".into() };
        assert_eq!(access, Some(kept));
    }

    #[test]
    fn a_lost_file_is_told_because_its_token_is_gone() {
        let folder = tempfile::tempdir().expect("temp dir");
        assert!(!write(folder.path(), "http://127.0.0.1:1", None, None).expect("writes"));
    }
}
