//! From what a user asks for to the description of a container: through the gateway's reading of it, and the agent's.

use std::path::Path;
use std::sync::LazyLock;

use clap::Parser;
use muster_agent::container::profile::{Plan, Profile};
use muster_agent::engine::{ContainerCreateBody, EngineFacts, Mount};
use muster_agent::settings::{Flags, Machine, Settings};
use muster_agent::shares::{Share, ShareMount, Shares};
use muster_agent::status::Board;
use muster_gateway::http::call_request::{self, Form};
use muster_wire::message::{CallSpec, from_json, to_json};

static PROFILE: LazyLock<Profile> = LazyLock::new(profile);
static PLAIN: LazyLock<ContainerCreateBody> = LazyLock::new(|| described("", &[]));

/// A call as users ask for it, or as an agent gets it.
pub fn call_to_container(data: &[u8]) {
    for form in [Form::Json, Form::Frames] {
        match call_request::parse(data, form) {
            Ok(request) => {
                let sent = from_json::<CallSpec>("SPEC", &to_json(&request.spec));
                let spec = sent.expect("an agent reads what a gateway took");
                assert_eq!(spec, request.spec);
                reaches_only_the_image(&spec);
            }
            Err(problem) => assert!(!problem.action().is_empty()),
        }
    }
    if let Ok(spec) = from_json::<CallSpec>("SPEC", data) {
        reaches_only_the_image(&spec);
    }
}

/// Of shares only those that the settings name, and without any the rest is the same.
fn reaches_only_the_image(spec: &CallSpec) {
    let shares = Shares::new(
        vec![share("data", false), share("out", true)],
        Board::of("node", 2, 1 << 30, false),
    );
    if let Ok(mounts) = shares.mounts(&spec.shares) {
        for mount in &mounts {
            let known = [("/srv/data", false), ("/srv/out", true)];
            assert!(known.contains(&(mount.source.to_str().unwrap_or_default(), mount.writable)));
        }
        let of_share = |mount: &Mount| {
            mount.source.as_deref().is_some_and(|source| source.starts_with("/srv/"))
        };
        let mut body = described("", &mounts);
        let all = body.host_config.as_mut().and_then(|host| host.mounts.as_mut());
        all.expect("always there").retain(|mount| !of_share(mount));
        assert_eq!(body, *PLAIN);
    }
    let mut body = described(&spec.image, &[]);
    assert_eq!(body.image.replace(String::new()).as_deref(), Some(spec.image.as_str()));
    assert_eq!(body, *PLAIN);
}

fn share(name: &str, writable: bool) -> Share {
    Share { name: name.into(), path: Path::new("/srv").join(name), writable }
}

fn described(image: &str, shares: &[ShareMount]) -> ContainerCreateBody {
    PROFILE.container(&Plan {
        name: "worker",
        host_name: "worker",
        image,
        runtime: None,
        uid: 600_000,
        socket_dir: Path::new("/run/socket"),
        mounts_dir: Path::new("/run/mounts"),
        builder: None,
        shares,
        address: None,
    })
}

/// As on a host with nothing but defaults.
fn profile() -> Profile {
    let runner = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(runner.path().join("bin")).expect("a new folder");
    std::fs::write(runner.path().join("bin/muster-runner"), "").expect("a new file");
    let token = format!("muster_{}_{}", "0".repeat(16), "0".repeat(64));
    let join = format!("http://127.0.0.1:1#{token}");
    let flags = ["muster-agent", "--join", &join, "--host-name", "node", "--runner-dir"];
    let flags = flags.map(Into::into).into_iter().chain([runner.path().as_os_str().to_owned()]);
    let flags = Flags::parse_from(flags);
    let machine = Machine { name: "node".into(), cpus: vec![0, 1], ram_bytes: 16 << 30 };
    let settings = Settings::from_flags(&flags, &machine).expect("good settings");
    let facts = EngineFacts {
        version: "20.10.24".into(),
        systemd_cgroups: false,
        swap_limit: true,
        runtimes: vec!["runc".into()],
        default_runtime: "runc".into(),
        folder: "/var/lib/docker".into(),
    };
    Profile::new(&settings, &facts, 65_536)
}
