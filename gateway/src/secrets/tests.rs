use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

const VALUE: &str = "correct horse battery staple";

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn value(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn open(folder: &Path) -> Result<Secrets, SecretsError> {
    let state = folder.join("state");
    fs::create_dir_all(&state).expect("a folder");
    Secrets::open(&state, &folder.join("apart/secrets.key"))
}

fn held(secrets: &Secrets, owner: &str, wanted: &[&str]) -> Option<serde_json::Value> {
    let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
    let frame = secrets.frame(owner, &wanted).ok()??;
    Some(serde_json::from_slice(&frame.body).expect("JSON"))
}

#[test]
fn a_secret_outlives_the_gateway_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = open(folder.path()).expect("a first start");
    assert_eq!(secrets.set("ann", &name("PW"), value("old"), 1).expect("set"), Change::New);
    assert_eq!(secrets.set("ann", &name("PW"), value(VALUE), 2).expect("set"), Change::Replaced);
    let secrets = open(folder.path()).expect("a second start");
    assert_eq!(secrets.list("ann"), [Record { name: "PW".into(), updated_unix_s: 2 }]);
    assert_eq!(held(&secrets, "ann", &["PW"]), Some(serde_json::json!({"PW": VALUE})));
    assert!(secrets.list("bob").is_empty());
    assert!(held(&secrets, "bob", &["PW"]).is_none());
    secrets.delete("bob", "PW").expect_err("not his");
    secrets.delete("ann", "PW").expect("there");
    let secrets = open(folder.path()).expect("a third start");
    assert!(held(&secrets, "ann", &["PW"]).is_none());
}

#[test]
fn neither_values_nor_names_are_in_the_state_folder_or_in_debug() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = open(folder.path()).expect("opens");
    secrets.set("ann", &name("DATABASE_PW"), value(VALUE), 1).expect("set");
    let file = fs::read(folder.path().join("state").join(FILE)).expect("there");
    for text in [VALUE, "DATABASE_PW", "ann"] {
        assert!(!file.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
    }
    assert!(!format!("{secrets:?}").contains(VALUE));
    let key = folder.path().join("apart/secrets.key");
    let mode = fs::metadata(&key).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_start_is_refused_without_the_right_key() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()).expect("a first start"));
    let key = folder.path().join("apart/secrets.key");
    let text = fs::read(&key).expect("there");
    fs::remove_file(&key).expect("removed");
    assert!(matches!(open(folder.path()), Err(SecretsError::Sealed { .. })), "no key");
    assert!(!key.exists(), "no other key is made in its place");
    Sealer::make(&key).expect("made");
    assert!(matches!(open(folder.path()), Err(SecretsError::Sealed { .. })), "another key");
    for bad in ["", "zz", &"0".repeat(63), &"0".repeat(66)] {
        files::replace(&key, bad.as_bytes()).expect("written");
        assert!(matches!(open(folder.path()), Err(SecretsError::BadKey { .. })), "{bad:?}");
    }
    files::replace(&key, &text).expect("written");
    open(folder.path()).expect("the right key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("set");
    assert!(matches!(open(folder.path()), Err(SecretsError::BadKey { .. })), "open to a group");
}

#[test]
fn missing_secrets_are_all_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = open(folder.path()).expect("opens");
    secrets.set("ann", &name("A"), value("a"), 1).expect("set");
    let wanted = ["A".to_owned(), "B".to_owned(), "C".to_owned()];
    match secrets.check("ann", &wanted) {
        Err(SecretsError::Unknown { names }) => assert_eq!(names, ["B", "C"]),
        other => panic!("{other:?}"),
    }
    assert!(secrets.frame("ann", &[]).expect("nothing wanted").is_none());
}

#[test]
fn an_owner_has_so_many_and_no_more() {
    let mut table = Table::default();
    let mut set = |n: usize| {
        let secret = Secret { value: value("x"), updated_unix_s: 0 };
        table.set("ann", &name(&format!("S{n}")), secret)
    };
    for n in 0..MAX_SECRETS {
        assert_eq!(set(n), Some(Change::New));
    }
    assert_eq!(set(MAX_SECRETS), None);
    assert_eq!(set(0), Some(Change::Replaced));
}

#[test]
fn names_are_those_of_variables_that_are_free() {
    for good in ["A", "_a", "DATABASE_URL", "a1", "PATHS", "HOMER", &"x".repeat(128)] {
        assert!(Name::parse(good).is_ok(), "{good}");
    }
    for bad in ["", "1A", "A-B", "A=B", "A B", "Ä", "A\0", &"x".repeat(129)] {
        assert_eq!(Name::parse(bad), Err(NameError::Syntax), "{bad:?}");
    }
    for taken in ["PATH", "HOME", "LD_PRELOAD", "MUSTER_TOKEN", "PYTHONPATH", "BASH_ENV"] {
        assert_eq!(Name::parse(taken), Err(NameError::Reserved), "{taken}");
    }
}

#[test]
fn a_sealed_spec_opens_for_its_own_call_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = open(folder.path()).expect("opens");
    let sealed = secrets.seal_spec("c-1", VALUE.as_bytes());
    assert_eq!(
        secrets.open_spec("c-1", &sealed).as_deref().map(Vec::as_slice),
        Some(VALUE.as_bytes())
    );
    assert!(secrets.open_spec("c-2", &sealed).is_none());
    assert_ne!(sealed, secrets.seal_spec("c-1", VALUE.as_bytes()), "no two are alike");
}

proptest! {
    #[test]
    fn any_other_bytes_than_the_sealed_ones_open_as_nothing(
        text: Vec<u8>,
        at: prop::sample::Index,
        bit in 0u8..8,
        cut: prop::sample::Index,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let sealer = Sealer::make(&folder.path().join("key")).expect("made");
        let sealed = sealer.seal("a", &text);
        let opened = sealer.open("a", &sealed);
        prop_assert_eq!(opened.as_deref(), Some(&text));
        let mut changed = sealed.clone();
        let at = at.index(sealed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(sealer.open("a", &changed).is_none());
        prop_assert!(sealer.open("a", &sealed[..cut.index(sealed.len())]).is_none());
    }
}
