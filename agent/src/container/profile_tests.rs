use std::collections::{BTreeMap, HashSet};

use muster_wire::message::CallSpec;
use proptest::prelude::*;

use super::*;
use crate::shares::{Share, Shares};
use crate::status::Board;

fn settings() -> Settings {
    crate::settings::for_tests(2)
}

fn facts(version: &str, systemd_cgroups: bool) -> EngineFacts {
    EngineFacts {
        version: version.into(),
        systemd_cgroups,
        swap_limit: true,
        runtimes: vec!["runc".into()],
        default_runtime: "runc".into(),
        folder: "/var/lib/docker".into(),
    }
}

fn of(profile: &Profile, image: &str) -> ContainerCreateBody {
    with_shares(profile, image, &[])
}

fn with_shares(profile: &Profile, image: &str, shares: &[ShareMount]) -> ContainerCreateBody {
    profile.container(&Plan {
        name: "w",
        host_name: "self",
        image,
        runtime: None,
        uid: 600_000,
        socket_dir: Path::new("/run/x/w/1"),
        mounts_dir: Path::new("/run/x/mnt/1"),
        builder: None,
        shares,
        address: None,
    })
}

fn plan(image: &str) -> ContainerCreateBody {
    of(&Profile::new(&settings(), &facts("20.10.24", false), 65_536), image)
}

#[test]
fn the_whole_hardening_list_is_there() {
    let body = plan("image");
    let host = body.host_config.expect("always there");
    assert_eq!(body.user.as_deref(), Some("600000:600000"));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_string()]));
    let security = host.security_opt.expect("always there");
    assert_eq!(security[0], "no-new-privileges");
    assert!(security[1].starts_with("seccomp={"));
    assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
    assert_eq!(host.memory, host.memory_swap);
    assert_eq!(host.pids_limit, Some(1024));
    assert_eq!(host.network_mode.as_deref(), Some("muster"));
    assert_eq!(host.ipc_mode.as_deref(), Some("private"));
    assert_eq!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::PRIVATE));
    assert_eq!(host.cgroup_parent.as_deref(), Some("/muster/node"));
    assert_eq!(host.log_config.and_then(|log| log.typ).as_deref(), Some("none"));
    assert!(host.masked_paths.expect("always there").contains(&"/proc/kcore".to_string()));
    assert!(host.readonly_paths.expect("always there").contains(&"/proc/sys".to_string()));
    for absent in [host.pid_mode, host.uts_mode, host.userns_mode, host.runtime] {
        assert_eq!(absent, None);
    }
    assert!(host.binds.is_none() && host.devices.is_none() && host.cap_add.is_none());
    assert!(host.sysctls.is_none() && host.volumes_from.is_none() && host.init.is_none());
}

#[test]
fn only_the_runner_and_the_own_folders_are_mounted_read_only() {
    let mounts = plan("image").host_config.and_then(|host| host.mounts).expect("three mounts");
    let seen: Vec<_> = mounts
        .iter()
        .map(|mount| (mount.source.as_deref(), mount.target.as_deref(), mount.read_only))
        .collect();
    assert_eq!(
        seen,
        [
            (Some("/opt/runner"), Some("/.muster/runner"), Some(true)),
            (Some("/run/x/w/1"), Some("/.muster/socket"), Some(true)),
            (Some("/run/x/mnt/1"), Some("/.muster/mnt"), Some(true)),
        ]
    );
    let propagation: Vec<_> =
        mounts.iter().filter_map(|mount| mount.bind_options.as_ref()?.propagation).collect();
    assert_eq!(propagation, [Propagation::RPRIVATE, Propagation::RPRIVATE, Propagation::RSLAVE]);
}

fn shares_of_settings() -> Shares {
    let share =
        |name: &str, path: &str, writable| Share { name: name.into(), path: path.into(), writable };
    let list = vec![share("data", "/srv/data", false), share("out", "/srv/out", true)];
    Shares::new(list, Board::of("node", 2, 1 << 30, false))
}

#[test]
fn a_share_is_mounted_alone_as_the_settings_say() {
    let wanted = BTreeMap::from([("data".into(), "/data".into()), ("out".into(), "/out".into())]);
    let shares = shares_of_settings().mounts(&wanted).expect("both are there");
    let profile = Profile::new(&settings(), &facts("20.10.24", false), 65_536);
    let mut host = with_shares(&profile, "image", &shares).host_config.expect("always there");
    let mounts = host.mounts.as_mut().expect("always there").split_off(3);
    let seen: Vec<_> = mounts
        .iter()
        .map(|mount| (mount.source.as_deref(), mount.target.as_deref(), mount.read_only))
        .collect();
    let data = (Some("/srv/data"), Some("/data"), Some(true));
    assert_eq!(seen, [data, (Some("/srv/out"), Some("/out"), Some(false))]);
    for mount in mounts {
        let options = mount.bind_options.expect("always there");
        assert_eq!(options.propagation, Some(Propagation::PRIVATE));
        assert_eq!(options.non_recursive, Some(true));
    }
    // And nothing else is different.
    assert_eq!(Some(host), plan("image").host_config);
}

#[test]
fn newer_engines_keep_their_own_seccomp_and_systemd_gets_a_slice() {
    let profile = Profile::new(&settings(), &facts("25.0.3", true), 65_536);
    let plan = Plan {
        name: "w",
        host_name: "self",
        image: "i",
        runtime: None,
        uid: 600_000,
        socket_dir: Path::new("/s"),
        mounts_dir: Path::new("/m"),
        builder: None,
        shares: &[],
        address: None,
    };
    let host = profile.container(&plan).host_config.expect("always there");
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_string()]));
    assert_eq!(host.cgroup_parent.as_deref(), Some("muster_node.slice"));
    assert_eq!(profile.own_cgroup(), None);
}

#[test]
fn the_operator_alone_chooses_the_runtime() {
    let settings = Settings { runtime: Some("runsc".into()), ..settings() };
    let profile = Profile::new(&settings, &facts("20.10.24", false), 65_536);
    let mut body = plan("image");
    body.host_config.as_mut().expect("always there").runtime = Some("runsc".into());
    assert_eq!(of(&profile, "image"), body);
}

#[test]
fn what_the_agent_plugs_in_starts_without_a_network_and_knows_its_own_address() {
    let profile = Profile::new(&settings(), &facts("20.10.24", false), 65_536);
    let of = |address| {
        let plan = Plan {
            name: "w",
            host_name: "self",
            image: "i",
            runtime: None,
            uid: 600_000,
            socket_dir: Path::new("/s"),
            mounts_dir: Path::new("/m"),
            builder: None,
            shares: &[],
            address,
        };
        profile.container(&plan).host_config.expect("always there")
    };
    let (plugged, engine) = (of(Some(Ipv4Addr::new(10, 0, 0, 9))), of(None));
    assert_eq!(plugged.network_mode.as_deref(), Some("none"));
    assert_eq!(plugged.extra_hosts, Some(vec!["self:10.0.0.9".to_string()]));
    let back =
        HostConfig { network_mode: engine.network_mode.clone(), extra_hosts: None, ..plugged };
    assert_eq!(back, engine);
}

#[test]
fn no_credential_of_ours_is_in_a_container() {
    let text = format!("{:?}", plan("image"));
    assert!(!text.contains("secret-token") && !text.contains("127.0.0.1"));
}

proptest! {
    /// An image's name is all that a user supplies here; whatever it is, nothing else of the description changes.
    #[test]
    fn nothing_a_user_supplies_reaches_anything_but_the_image(image in ".{0,200}") {
        let mut body = plan(&image);
        prop_assert_eq!(body.image.take(), Some(image));
        let mut plain = plan("plain");
        plain.image = None;
        prop_assert_eq!(body, plain);
    }

    /// The whole of what a user asks for, in every field what would be dangerous elsewhere: of all that only the image is in
    /// the description.
    #[test]
    fn no_field_of_a_call_reaches_the_description(
        said in "(--privileged|/var/run/docker.sock:/s|SYS_ADMIN|host|runsc|seccomp=unconfined)[a-z]{8}",
        cpu in 0.01f64..1000.0,
        ram_bytes in any::<u64>(),
    ) {
        let mut spec: CallSpec = serde_json::from_value(serde_json::json!({
            "call": said, "kind": "command", "encoding": "raw", "image": "image", "python": said, "cpu": cpu,
            "ram_bytes": ram_bytes, "env": {said.as_str(): said}, "entry": said, "command": [said], "runtime": said,
        })).expect("a spec");
        let body = plan(&spec.image);
        let text = format!("{body:?}");
        prop_assert!(!text.contains(&said));
        prop_assert_eq!(&body, &plan("image"));
        spec.image = said.clone();
        let mut named = plan(&spec.image);
        prop_assert_eq!(named.image.take(), Some(said));
        prop_assert_eq!(named.host_config, body.host_config);
    }

    /// Whatever a call asks of shares, what is mounted are folders of the settings, with the settings' modes, where the
    /// container has nothing of its own; and nothing else of the description changes.
    #[test]
    fn only_folders_of_the_settings_are_ever_mounted(
        wanted in proptest::collection::btree_map(
            prop_oneof!["data", "out", ".{0,20}", "/srv/[a-z]{1,5}"],
            prop_oneof![
                "/[a-z.]{1,6}(/[a-z.]{1,6}){0,2}", ".{0,40}", Just("/var/run/docker.sock".to_string()),
                "(/\\.muster|/proc|/sys|/dev|/tmp|/etc|/srv/data:rw,|/\\.\\.)(/[a-z]{0,6}){0,2}",
            ],
            0..4,
        ),
    ) {
        let Ok(shares) = shares_of_settings().mounts(&wanted) else { return Ok(()) };
        let profile = Profile::new(&settings(), &facts("20.10.24", false), 65_536);
        let mut body = with_shares(&profile, "image", &shares);
        let host = body.host_config.as_mut().expect("always there");
        let mounts = host.mounts.as_mut().expect("always there").split_off(3);
        prop_assert_eq!(&body, &plan("image"));
        prop_assert_eq!(mounts.len(), wanted.len());
        let targets: HashSet<_> = mounts.iter().filter_map(|mount| mount.target.as_deref()).collect();
        prop_assert_eq!(targets.len(), mounts.len());
        for mount in &mounts {
            let of_settings = [(Some("/srv/data"), Some(true)), (Some("/srv/out"), Some(false))];
            prop_assert!(of_settings.contains(&(mount.source.as_deref(), mount.read_only)));
            let target = Path::new(mount.target.as_deref().unwrap_or_default());
            prop_assert!(target.is_absolute() && target != Path::new("/"));
            for own in ["/.muster", "/tmp", "/proc", "/sys", "/dev"] {
                prop_assert!(!target.starts_with(own) && !Path::new(own).starts_with(target));
            }
            let parts = target.components().skip(1);
            prop_assert!(parts.into_iter().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }
}
