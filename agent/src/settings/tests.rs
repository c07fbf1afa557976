use clap::Parser;

use super::*;
use crate::link::identity;

const JOIN: &str = "http://10.0.0.1:1#muster_id_secret";

fn machine() -> Machine {
    Machine { name: "Node_7.example".into(), cpus: vec![0, 1, 2, 3], ram_bytes: 10 * GIB }
}

fn runner_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("bin")).expect("bin");
    std::fs::write(dir.path().join("bin/muster-runner"), "").expect("the runner");
    dir
}

fn read(runner: &Path, more: &[&str]) -> Result<Settings, SettingsError> {
    let runner = runner.to_str().expect("a plain path");
    let mut line = vec!["muster-agent", "--runner-dir", runner];
    line.extend(more);
    line.extend(["--identity-dir", runner]);
    Settings::from_flags(&Flags::try_parse_from(line).expect("the flags are known"), &machine())
}

#[test]
fn defaults_come_from_the_machine() {
    let runner = runner_dir();
    let settings = read(runner.path(), &["--gateway", "http://127.0.0.1:7070/", "--join", JOIN])
        .expect("good settings");
    assert_eq!(settings.host_name, "node-7-example");
    assert_eq!(settings.source.gateway.as_deref(), Some("http://127.0.0.1:7070"));
    assert_eq!(settings.state_dir, Path::new("/run/muster-agent/node-7-example"));
    assert_eq!((settings.cpus.len(), settings.warm), (4, 4));
    assert_eq!(settings.ram_bytes, GIB * 9);
    assert_eq!(settings.warm_age, Duration::from_secs(600));
}

#[test]
fn a_join_string_is_needed_until_the_host_has_joined() {
    let runner = runner_dir();
    let file = runner.path().join("join");
    let with_file = ["--join-file", file.to_str().expect("plain")];
    for text in ["", "http://10.0.0.1:1", r#"{"url": "http://10.0.0.1:1", "token": "secret"}"#] {
        std::fs::write(&file, text).expect("written");
        assert!(read(runner.path(), &with_file).is_err(), "{text}");
        assert!(read(runner.path(), &["--join", text]).is_err(), "{text}");
    }
    std::fs::write(&file, JOIN).expect("written");
    let settings = read(runner.path(), &with_file).expect("good settings");
    assert!(!format!("{settings:?}").contains("secret"));
    std::fs::remove_file(&file).expect("it was there");
    assert!(read(runner.path(), &[]).is_err());
    std::fs::write(runner.path().join(identity::FILE), "").expect("written");
    assert!(read(runner.path(), &[]).is_ok());
    assert!(read(runner.path(), &with_file).is_ok());
}

#[test]
fn a_relative_folder_becomes_absolute_because_the_engine_takes_no_other() {
    let runner = tempfile::tempdir_in(".").expect("temp dir");
    std::fs::create_dir(runner.path().join("bin")).expect("made");
    std::fs::write(runner.path().join("bin/muster-runner"), "").expect("written");
    let relative = Path::new(runner.path().file_name().expect("has a name"));
    let settings = read(relative, &["--join", JOIN]);
    assert!(settings.expect("good settings").runner_dir.is_absolute());
}

#[test]
fn every_mistake_is_reported_at_once() {
    let wrong = read(
        Path::new("/nowhere"),
        &[
            "--gateway",
            "ftp://x",
            "--host-name",
            "No!",
            "--cpus",
            "2-1",
            "--ram",
            "20",
            "--warm-age",
            "5",
            "--scratch",
            "1 parsec",
            "--state-dir",
            "here",
        ],
    )
    .expect_err("all wrong");
    let text = wrong.to_string();
    for flag in [
        "--gateway",
        "--join-file",
        "--host-name",
        "--cpus",
        "--ram",
        "--warm-age",
        "--scratch",
        "--state-dir",
        "--runner-dir",
    ] {
        assert!(text.contains(flag), "{flag} is missing in {text}");
    }
}

#[test]
fn cores_and_memory_beyond_the_machine_are_refused() {
    let runner = runner_dir();
    let base = ["--join", JOIN];
    let with = |more: &[&str]| read(runner.path(), &[&base[..], more].concat());
    assert!(with(&["--cpus", "0,9"]).is_err());
    assert!(with(&["--ram", "11GiB"]).is_err());
    assert_eq!(with(&["--cpus", "3,0-1"]).expect("good").cpus, vec![0, 1, 3]);
    assert_eq!(with(&["--ram", "1.5GiB"]).expect("good").ram_bytes, GIB * 3 / 2);
}

#[test]
fn names_are_made_to_fit() {
    assert_eq!(fit_name("--"), "host");
    assert_eq!(fit_name(&"x".repeat(80)).len(), 63);
    assert!(is_name(&fit_name("Ünï.Local")));
}

#[test]
fn this_machine_can_be_asked() {
    let machine = Machine::this().expect("Linux");
    assert!(!machine.cpus.is_empty() && machine.ram_bytes > 0);
}
