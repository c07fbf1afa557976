//! `--share`: which folders of this host calls may mount. What would give away the host, its engine or this agent is refused.

use std::path::{Path, PathBuf};

use crate::shares::{Share, Taken};

/// The engine's socket where nothing else is said.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";
/// What the kernel shows of itself, and what engines keep: with any of it a container could leave.
const SYSTEM: &[&str] = &[
    "/proc",
    "/sys",
    "/dev",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/run/docker",
    "/run/containerd",
];

/// Checks the flags; each mistake is told as (flag, why). `own` are the folders of this agent, `engine` the engine's address.
pub fn from_flags<'a>(
    flags: &[String],
    own: impl Iterator<Item = &'a Path>,
    engine: Option<&str>,
    fail: &mut impl FnMut(&str, String),
) -> Vec<Share> {
    let socket = engine.map_or(Some(ENGINE_SOCKET), |address| address.strip_prefix("unix://"));
    let mut taken: Vec<Taken> =
        socket.map(|socket| Taken::file(Path::new(socket))).into_iter().collect();
    taken.extend(SYSTEM.iter().map(Path::new).chain(own).map(Taken::folder));
    let mut shares: Vec<Share> = Vec::new();
    for flag in flags {
        match read(flag, &taken).and_then(|share| beside(&shares, share)) {
            Ok(share) => shares.push(share),
            Err(why) => fail("--share", format!("{flag:?} {why}")),
        }
    }
    shares.sort_by(|a, b| a.name.cmp(&b.name));
    shares
}

fn read(flag: &str, taken: &[Taken]) -> Result<Share, String> {
    let form = || "is not NAME=/PATH, NAME=/PATH:ro or NAME=/PATH:rw".to_owned();
    let (name, rest) = flag.split_once('=').ok_or_else(form)?;
    if !muster_wire::share::is_name(name) {
        return Err(
            "has a name that is not 1 to 63 of [a-z0-9_-], the first a letter or digit".into()
        );
    }
    let (path, writable) = match rest.rsplit_once(':') {
        Some((path, "rw")) => (path, true),
        Some((path, "ro")) => (path, false),
        Some(_) => return Err(form()),
        None => (rest, false),
    };
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err("has no absolute path".into());
    }
    let resolved = match path.canonicalize() {
        Ok(resolved) if resolved.is_dir() => resolved,
        Ok(_) => return Err("is not a folder".into()),
        Err(error) => return Err(format!("is not a folder that can be used: {error}")),
    };
    if resolved == Path::new("/") {
        return Err("is the whole host".into());
    }
    // An engine's API takes no colon in paths, and the variable no comma.
    if resolved
        .to_str()
        .is_none_or(|path| path.contains([':', ',']) || path.chars().any(char::is_control))
    {
        return Err("has a path with `:`, `,` or unprintable characters".into());
    }
    match taken.iter().find(|taken| taken.forbids(&resolved)) {
        Some(taken) => {
            let taken = taken.path.display();
            Err(format!(
                "would let calls at {taken}, which is the system's or this agent's own; share another folder"
            ))
        }
        None => Ok(Share { name: name.into(), path: resolved, writable }),
    }
}

/// Whoever writes into a share could put a link in the place of a folder below it, and have that mounted.
fn beside(shares: &[Share], share: Share) -> Result<Share, String> {
    if shares.iter().any(|other| other.name == share.name) {
        return Err("has a name that another share has".into());
    }
    let lies_in = |inner: &Share, outer: &Share| {
        outer.writable && inner.path != outer.path && inner.path.starts_with(&outer.path)
    };
    match shares.iter().find(|other| lies_in(other, &share) || lies_in(&share, other)) {
        Some(other) => Err(format!(
            "lies in share {:?} or holds it, and the outer one is writable",
            other.name
        )),
        None => Ok(share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(flags: &[&str], own: &Path) -> Result<Vec<Share>, Vec<String>> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut wrong = Vec::new();
        let mut fail = |flag: &str, why: String| wrong.push(format!("{flag}: {why}"));
        let engine = format!("unix://{}/engine/engine.sock", own.display());
        let shares =
            from_flags(&flags, [own.join("state").as_path()].into_iter(), Some(&engine), &mut fail);
        if wrong.is_empty() { Ok(shares) } else { Err(wrong) }
    }

    fn place() -> (tempfile::TempDir, String) {
        let place = tempfile::tempdir().expect("a folder");
        for folder in ["data/deep", "out", "state/deep", "engine"] {
            std::fs::create_dir_all(place.path().join(folder)).expect("made");
        }
        std::fs::write(place.path().join("file"), "").expect("written");
        std::fs::write(place.path().join("engine/engine.sock"), "").expect("written");
        let path = place.path().canonicalize().expect("there").display().to_string();
        (place, path)
    }

    #[test]
    fn shares_are_read_only_unless_it_is_said() {
        let (place, at) = place();
        let flags =
            [&format!("out={at}/out:rw"), &format!("data={at}/data"), &format!("too={at}/data:ro")];
        let shares = given(&flags.map(String::as_str), place.path()).expect("good shares");
        let seen: Vec<_> = shares.iter().map(ToString::to_string).collect();
        assert_eq!(
            seen,
            [format!("data={at}/data:ro"), format!("out={at}/out:rw"), format!("too={at}/data:ro")]
        );
    }

    #[test]
    fn a_link_is_resolved_once_when_the_agent_starts() {
        let (place, at) = place();
        std::os::unix::fs::symlink(place.path().join("data"), place.path().join("link"))
            .expect("linked");
        std::os::unix::fs::symlink(place.path().join("state"), place.path().join("sly"))
            .expect("linked");
        let shares = given(&[&format!("data={at}/link")], place.path()).expect("a good share");
        assert_eq!(shares[0].path, Path::new(&format!("{at}/data")));
        assert!(given(&[&format!("data={at}/sly")], place.path()).is_err());
    }

    #[test]
    fn what_is_no_folder_with_a_plain_name_is_refused() {
        let (place, at) = place();
        for flag in [
            "data".to_owned(),
            "data=".to_owned(),
            "data=relative".to_owned(),
            "=/srv".to_owned(),
            format!("Data={at}/data"),
            format!("a/b={at}/data"),
            format!("data={at}/data:rx"),
            format!("data={at}/nowhere"),
            format!("data={at}/file"),
        ] {
            assert!(given(&[&flag], place.path()).is_err(), "{flag}");
        }
    }

    #[test]
    fn nothing_of_the_host_the_engine_or_the_agent_is_shared() {
        let (place, at) = place();
        for path in [
            "/",
            "/proc",
            "/proc/self",
            "/sys",
            "/dev",
            "/dev/shm",
            "/var",
            "/var/lib",
            &at,
            &format!("{at}/state"),
            &format!("{at}/state/deep"),
            &format!("{at}/engine"),
        ] {
            let refused = given(&[&format!("data={path}")], place.path());
            assert!(refused.is_err() || !Path::new(path).exists(), "{path}");
        }
    }

    #[test]
    fn names_are_had_once_and_nothing_lies_in_what_others_may_write() {
        let (place, at) = place();
        let (data, deep) = (format!("{at}/data"), format!("{at}/data/deep"));
        let two = |a: &str, b: &str| given(&[a, b], place.path());
        assert!(two(&format!("a={data}"), &format!("a={deep}")).is_err());
        assert!(two(&format!("a={data}:rw"), &format!("b={deep}")).is_err());
        assert!(two(&format!("b={deep}"), &format!("a={data}:rw")).is_err());
        assert!(two(&format!("a={data}"), &format!("b={deep}:rw")).is_ok());
        assert!(two(&format!("a={data}:rw"), &format!("b={data}")).is_ok());
    }
}
