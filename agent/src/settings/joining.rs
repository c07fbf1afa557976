//! How a host joins, as flags say it.

use std::path::Path;

use super::{Flags, absolute};
use crate::link::identity::{self, JoinString};
use crate::link::{JoinBy, Source};

/// How this host joins, and where it keeps its credential.
pub fn joining(flags: &Flags, host_name: &str, fail: &mut impl FnMut(&str, String)) -> Source {
    let default = || Path::new("/var/lib/muster-agent").join(host_name);
    let folder = absolute(&flags.identity_dir.clone().unwrap_or_else(default));
    let has_joined = folder.join(identity::FILE).exists();
    let join = match (&flags.join, &flags.join_file) {
        (Some(text), _) => {
            let join = JoinString::parse(text);
            if join.is_none() {
                fail("--join", "is not a join string, ADDRESS#TOKEN".into());
            }
            join.map(JoinBy::String)
        }
        (None, Some(path)) => {
            // Whoever has joined needs it no more.
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if !has_joined && JoinString::parse(&text).is_none() {
                let path = path.display();
                fail("--join-file", format!("{path} has no join string, ADDRESS#TOKEN"));
            }
            Some(JoinBy::File(absolute(path)))
        }
        (None, None) => {
            if !has_joined {
                let why = "this host has not joined: give it a join string (`muster-gateway join-string create`)";
                fail("--join-file", why.into());
            }
            None
        }
    };
    let gateway = flags.gateway.as_deref().and_then(identity::address);
    if let (Some(text), None) = (&flags.gateway, &gateway) {
        fail("--gateway", format!("{text:?} is not http://HOST:PORT or https://HOST:PORT"));
    }
    Source { join, gateway, folder: Some(folder) }
}
