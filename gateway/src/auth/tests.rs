use std::os::unix::fs::PermissionsExt;

use super::*;

const NOW: u64 = 1_000_000;

fn opened() -> (tempfile::TempDir, Tokens, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let (tokens, first) = Tokens::open(dir.path()).expect("tokens");
    (dir, tokens, first.expect("a first start"))
}

fn of(owner: &str, scopes: &[Scope]) -> NewToken {
    NewToken { owner: owner.into(), scopes: scopes.to_vec(), ..NewToken::default() }
}

#[test]
fn the_first_start_makes_tokens_and_later_ones_know_them() {
    let (dir, tokens, first) = opened();
    let (again, none) = Tokens::open(dir.path()).expect("tokens");
    assert!(none.is_none());
    for tokens in [tokens, again] {
        let client = tokens.identify(&first, NOW).expect("known");
        assert!(client.may(Scope::Submit) && client.may(Scope::Metrics));
        assert!(!client.may(Scope::Join) && !client.may(Scope::Host));
        assert_eq!(client.owner, DEFAULT_OWNER);
    }
}

#[test]
fn the_file_is_private_and_holds_no_secret() {
    let (dir, _, first) = opened();
    let path = dir.path().join("tokens.json");
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(path).expect("text");
    assert!(!text.contains(first.rsplit('_').next().expect("a secret")));
}

#[test]
fn a_wrong_secret_or_shape_is_nobody() {
    let (_dir, tokens, first) = opened();
    let mut wrong = first.clone();
    let last = wrong.pop().expect("not empty");
    wrong.push(if last == '0' { '1' } else { '0' });
    for token in ["", "muster_", "muster__", "muster_00_11", "x", wrong.as_str()] {
        assert_eq!(tokens.identify(token, NOW), None, "{token}");
    }
}

#[test]
fn expired_and_revoked_tokens_are_nobody() {
    let (_dir, tokens, _) = opened();
    let short = NewToken { life: Some(Duration::from_secs(100)), ..of("ann", &[Scope::Read]) };
    let (text, entry) = tokens.create(short, NOW).expect("made");
    assert!(tokens.identify(&text, NOW + 99).is_some());
    assert_eq!(tokens.identify(&text, NOW + 100), None);
    assert!(tokens.revoke(&entry.id, NOW).expect("written").is_some());
    assert_eq!(tokens.identify(&text, NOW), None);
    assert!(tokens.revoke("nobody", NOW).expect("written").is_none());
}

#[test]
fn several_tokens_of_one_owner_see_the_same_calls_and_an_admin_sees_all() {
    let (_dir, tokens, first) = opened();
    let make = |owner| tokens.create(of(owner, &[Scope::Read]), NOW).expect("made").0;
    let who = |text: &str| tokens.identify(text, NOW).expect("known");
    let (laptop, server, other) = (who(&make("ann")), who(&make("ann")), who(&make("bob")));
    assert_ne!(laptop.id, server.id);
    assert!(laptop.sees(&server.owner) && !laptop.sees(&other.owner));
    assert!(who(&first).sees(&other.owner));
}

#[tokio::test(start_paused = true)]
async fn what_another_process_changes_is_known_within_seconds() {
    let (dir, tokens, first) = opened();
    let tasks = Tasks::new();
    tasks.spawn(tokens.clone().follow(tasks.clone()));
    let (command, _) = Tokens::open(dir.path()).expect("tokens");
    let (text, entry) = command.create(of("ann", &[Scope::Read]), crate::unix_s()).expect("made");
    let began = tokio::time::Instant::now();
    let known = |want: bool| {
        let (tokens, text) = (tokens.clone(), text.clone());
        async move {
            while tokens.identify(&text, crate::unix_s()).is_some() != want {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    known(true).await;
    assert!(began.elapsed() < LOOK, "what is presented is known at once");
    let life = tokens.life(&entry.id);
    assert!(!life.is_cancelled());
    command.revoke(&entry.id, crate::unix_s()).expect("written");
    life.cancelled().await;
    known(false).await;
    assert!(tokens.life(&entry.id).is_cancelled());
    assert!(began.elapsed() < Duration::from_secs(5));
    // A slip of an editor neither lets anybody in nor locks anybody out.
    std::fs::write(dir.path().join("tokens.json"), "[{]").expect("written");
    tokio::time::sleep(3 * LOOK).await;
    assert!(tokens.identify(&first, crate::unix_s()).is_some());
    tasks.stop();
}

#[test]
fn tokens_that_ended_long_ago_leave_the_list() {
    let (_dir, tokens, _) = opened();
    let short = NewToken { life: Some(Duration::from_secs(1)), ..of("ann", &[Scope::Read]) };
    let (_, old) = tokens.create(short, NOW).expect("made");
    tokens.create(of("ann", &[Scope::Read]), NOW + 30 * 24 * 3600).expect("made");
    assert!(tokens.list().iter().all(|entry| entry.id != old.id));
}

fn join(tokens: &Tokens, uses: u32, host: Option<&str>) -> Entry {
    let new = NewToken {
        life: Some(Duration::from_secs(900)),
        uses: Some(uses),
        host: host.map(str::to_owned),
        ..of(DEFAULT_OWNER, &[Scope::Join])
    };
    tokens.create(new, NOW).expect("made").1
}

const LIFE: Duration = Duration::from_secs(3600);

#[test]
fn a_join_token_lets_one_host_in_once() {
    let (_dir, tokens, _) = opened();
    let once = join(&tokens, 1, None).id;
    let host = tokens.admit(&once, "a", Proof::Token, LIFE, NOW).expect("let in");
    let text = host.token.expect("a token");
    let identity = tokens.identify(&text, NOW).expect("known");
    assert_eq!(identity.host(), Some("a"));
    assert!(identity.may(Scope::Host) && !identity.may(Scope::Join) && !identity.may(Scope::Read));
    let again = tokens.admit(&once, "b", Proof::Token, LIFE, NOW);
    assert!(matches!(again, Err(JoinError::NotGood { .. })));
}

#[test]
fn a_host_keeps_its_name_until_it_is_expelled_or_replaced_on_purpose() {
    let (_dir, tokens, _) = opened();
    let key = token::hash(b"key");
    let many = join(&tokens, 9, None).id;
    tokens.admit(&many, "a", Proof::Key(&key), LIFE, NOW).expect("let in");
    assert!(tokens.identify_host("a", &key, NOW).is_some());
    assert!(tokens.identify_host("a", &token::hash(b"other"), NOW).is_none());
    assert!(tokens.identify_host("b", &key, NOW).is_none());
    let taken = tokens.admit(&many, "a", Proof::Token, LIFE, NOW);
    assert!(matches!(taken, Err(JoinError::Taken { .. })));
    // What failed used nothing up.
    assert_eq!(tokens.list().iter().find(|e| e.id == many).and_then(|e| e.uses_left), Some(8));
    let bound = join(&tokens, 1, Some("a")).id;
    let other = tokens.admit(&bound, "b", Proof::Token, LIFE, NOW);
    assert!(matches!(other, Err(JoinError::NotGood { .. })));
    tokens.admit(&bound, "a", Proof::Token, LIFE, NOW).expect("replaced");
    assert!(tokens.identify_host("a", &key, NOW).is_none());
    assert!(tokens.expel("a", NOW).expect("written"));
    assert!(!tokens.expel("a", NOW).expect("written"));
    assert!(tokens.hosts(NOW).is_empty());
    tokens.admit(&many, "a", Proof::Token, LIFE, NOW).expect("the name is free again");
}

#[test]
fn a_credential_ends_unless_it_is_renewed() {
    let (_dir, tokens, _) = opened();
    let key = token::hash(b"key");
    let by = join(&tokens, 1, None).id;
    let host = tokens.admit(&by, "a", Proof::Key(&key), LIFE, NOW).expect("let in").entry;
    tokens.renew(&host.id, "a", LIFE, NOW + 3000).expect("renewed");
    assert!(tokens.identify_host("a", &key, NOW + 6000).is_some());
    assert!(tokens.identify_host("a", &key, NOW + 6600).is_none());
    let late = tokens.renew(&host.id, "a", LIFE, NOW + 6600);
    assert!(matches!(late, Err(JoinError::Gone { .. })));
}

#[test]
fn a_clock_that_jumps_by_a_day_and_back_costs_no_credential_and_gives_none_back() {
    const DAY: u64 = 24 * 3600;
    let (_dir, tokens, first) = opened();
    let short = NewToken { life: Some(Duration::from_secs(3600)), ..of("ann", &[Scope::Read]) };
    let (short, _) = tokens.create(short, NOW).expect("made");
    let (revoked, entry) = tokens.create(of("bob", &[Scope::Read]), NOW).expect("made");
    for now in [NOW + DAY, NOW - DAY] {
        // Whatever is written meanwhile is written by that clock.
        tokens.revoke(&entry.id, now).expect("written");
        assert!(tokens.identify(&first, now).is_some(), "it has no end");
        assert!(tokens.identify(&revoked, now).is_none(), "at no time");
    }
    // An end is a date, and dates are the clock's.
    assert!(tokens.identify(&short, NOW + DAY).is_none());
    assert!(tokens.identify(&short, NOW).is_some(), "it was not dropped");
    assert!(tokens.identify(&short, NOW + 3600).is_none());
}
