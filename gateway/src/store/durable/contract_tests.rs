use std::slice;

use super::*;

fn payload(bytes: usize, byte: u8) -> Payload {
    Payload::new(vec![Bytes::from(vec![byte; bytes])])
}

fn create(call: &str, key: Option<&str>) -> Change {
    Change::Create(CreatedCall {
        call: call.to_owned(),
        owner: "me".to_owned(),
        key: key.map(str::to_owned),
        spec: Bytes::from_static(b"{}"),
        options: Bytes::from_static(b"[]"),
        created: "2026-01-01T00:00:00Z".to_owned(),
        function: payload(10, b'f'),
    })
}

fn chunk(call: &str, first: u64, count: u64, payload: Payload) -> Change {
    Change::Chunk(Chunk { call: call.to_owned(), first, count, digest: [7; 32], payload })
}

fn events(call: &str, first_seq: u64, last_seq: u64, payload: Payload) -> Change {
    let done = vec![Done { first: first_seq, count: 2, failed: 1 }];
    Change::Events(Events { call: call.to_owned(), first_seq, last_seq, done, attempt: 3, payload })
}

/// What every store promises, large payloads and small.
async fn contract(store: &dyn CallStore) {
    let large = ROW_BYTES + 1;
    let changes = [
        create("c-1", Some("k")),
        chunk("c-1", 0, 10, payload(100, b'a')),
        chunk("c-1", 10, 5, payload(large, b'b')),
        Change::Close { call: "c-1".to_owned(), total: 15 },
    ];
    store.commit(&changes).await.expect("room");
    store.commit(&[create("c-2", None)]).await.expect("room");
    let more = [
        events("c-1", 1, 4, payload(50, b'x')),
        events("c-1", 5, 9, payload(large, b'y')),
        events("c-1", 10, 10, payload(1, b'z')),
    ];
    store.commit(&more).await.expect("room");

    let exchange = |exchange, taken| {
        let (call, host) = ("c-1".to_owned(), "h".to_owned());
        StoredExchange { call, exchange, host, taken }
    };
    let changes = [exchange(1, 0), exchange(u64::MAX, 7), exchange(1, 9)].map(Change::Exchange);
    store.commit(&changes).await.expect("room");
    let gone = Change::ExchangeEnd { call: "c-1".to_owned(), exchange: u64::MAX };
    store.commit(&[gone]).await.expect("room");

    let (calls, age) = store.load().await.expect("loads");
    assert_eq!(age, 0);
    assert_eq!(calls[0].exchanges, [exchange(1, 9)]);
    let [one, two] = &calls[..] else { panic!("two calls, not {calls:?}") };
    assert_eq!((one.created.call.as_str(), one.created.key.as_deref()), ("c-1", Some("k")));
    assert_eq!((one.total, one.last_seq, one.attempt), (Some(15), 10, 3));
    assert_eq!(one.bytes, (10 + 100 + 50 + 1 + 2 * large) as u64);
    let indexes: Vec<_> = one.chunks.iter().map(|chunk| (chunk.first, chunk.count)).collect();
    assert_eq!(indexes, [(0, 10), (10, 5)]);
    assert_eq!(one.done.len(), 3);
    assert_eq!(one.done[1], Done { first: 5, count: 2, failed: 1 });
    assert_eq!((two.last_seq, two.chunks.len(), &two.end), (0, 0, &None));

    assert_eq!(store.chunk("c-1", 0).await.expect("there"), vec![b'a'; 100]);
    assert_eq!(store.chunk("c-1", 10).await.expect("there"), vec![b'b'; large]);
    assert!(matches!(store.chunk("c-1", 3).await, Err(StoreError::Damaged(3))));
    assert_eq!(store.function("c-2").await.expect("there"), vec![b'f'; 10]);
    let lengths = async |seq, bytes| {
        let found = store.events("c-1", seq, bytes).await.expect("there");
        let length = |batch: &Batch| match batch {
            Batch::Whole(frames) => frames.len(),
            Batch::Damaged(lost) => panic!("{lost:?}"),
        };
        found.iter().map(length).collect::<Vec<_>>()
    };
    assert_eq!(lengths(0, 1).await, [50], "at least one");
    assert_eq!(lengths(2, 1 << 30).await, [50, large, 1], "the batch that holds the next event");
    assert_eq!(lengths(4, 100).await[0], large);
    assert_eq!(lengths(9, 100).await, [1]);

    let end = Change::End { call: "c-1".to_owned(), record: Bytes::from_static(b"r"), age_s: 5 };
    store.commit(&[end, Change::Age(60)]).await.expect("room");
    let (calls, age) = store.load().await.expect("loads");
    assert_eq!((age, &calls[0].end), (60, &Some((Bytes::from_static(b"r"), 5))));
    let one = &calls[0];
    assert!(one.chunks.is_empty() && one.done.is_empty() && one.exchanges.is_empty());
    assert!(store.chunk("c-1", 10).await.is_err(), "inputs go with the end");
    assert_eq!(lengths(9, 100).await, [1], "events stay");
    assert_eq!(store.function("c-1").await.expect("stays"), vec![b'f'; 10]);

    store.commit(&[Change::Delete { call: "c-1".to_owned() }]).await.expect("room");
    let (calls, _) = store.load().await.expect("loads");
    assert_eq!(calls.len(), 1);
    assert!(store.function("c-1").await.is_err());
    let late = [chunk("c-1", 0, 1, payload(1, b'a')), events("c-1", 11, 12, payload(1, b'x'))];
    store.commit(&late).await.expect("changes of a call that is gone are no error");
    assert_eq!(store.load().await.expect("loads").0.len(), 1);
    store.commit(&[create("c-3", Some("k"))]).await.expect("the key is free again");
    records_outlive_what_expires(store).await;
}

/// What is left of calls that have expired; the store has `c-2` and `c-3`.
async fn records_outlive_what_expires(store: &dyn CallStore) {
    let record = |call: &str, owner: &str, ended_s| StoredRecord {
        call: call.to_owned(),
        owner: owner.to_owned(),
        ended_s,
        record: Bytes::from(format!("record of {call}")),
    };
    let (kept, other) = (record("c-3", "me", 70), record("c-4", "you", 80));
    let changes = [
        events("c-3", 1, 4, payload(ROW_BYTES + 1, b'x')),
        Change::Expire(kept.clone()),
        Change::Expire(other.clone()),
    ];
    store.commit(&changes).await.expect("room");
    let (calls, _) = store.load().await.expect("loads");
    assert!(calls.iter().all(|call| call.created.call == "c-2"), "{calls:?}");
    assert!(store.function("c-3").await.is_err(), "the payloads are gone");
    assert_eq!(store.record("c-3").await.expect("reads"), Some(kept.clone()));
    assert_eq!(store.record("c-4").await.expect("reads"), Some(other.clone()), "it was not there");
    assert_eq!(store.record("c-2").await.expect("reads"), None, "it has not expired");
    let of = async |owner, at_most| store.records(owner, at_most).await.expect("reads");
    assert_eq!(of(None, 9).await, [other.clone(), kept.clone()], "the newest first");
    assert_eq!(of(None, 1).await, slice::from_ref(&other));
    assert_eq!(of(Some("me"), 9).await, slice::from_ref(&kept));
    store.commit(&[create("c-5", Some("k"))]).await.expect("its key is free");

    let forget = |ended_before_s, at_most| [Change::Forget { ended_before_s, at_most }];
    store.commit(&forget(70, 2)).await.expect("room");
    assert_eq!(of(None, 9).await.len(), 2, "neither is so old");
    store.commit(&forget(71, 2)).await.expect("room");
    assert_eq!(of(None, 9).await, slice::from_ref(&other), "the other ended later");
    store.commit(&[Change::Expire(record("c-2", "me", 90))]).await.expect("room");
    store.commit(&forget(0, 1)).await.expect("room");
    assert_eq!(of(None, 9).await, [record("c-2", "me", 90)], "the oldest goes past so many");
}

#[tokio::test]
async fn both_stores_keep_the_contract() {
    contract(&MemoryCallStore::default()).await;
    let folder = tempfile::tempdir().expect("temp dir");
    contract(&SqliteStore::open(folder.path()).await.expect("opens")).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again_and_files_without_a_row_are_not() {
    let folder = tempfile::tempdir().expect("temp dir");
    let store = SqliteStore::open(folder.path()).await.expect("opens");
    let changes = [create("c-1", None), chunk("c-1", 0, 1, payload(ROW_BYTES + 1, b'a'))];
    store.commit(&changes).await.expect("room");
    let stray = folder.path().join("payloads").join("c-stray");
    std::fs::create_dir(&stray).expect("a folder");
    std::fs::write(stray.join("chunk-0"), b"written, then the power went").expect("a file");

    let again = SqliteStore::open(folder.path()).await.expect("opens");
    assert_eq!(again.chunk("c-1", 0).await.expect("there").len(), ROW_BYTES + 1);
    assert!(!stray.exists());
}

#[tokio::test]
async fn who_had_the_store_open_before_commits_nothing_any_more() {
    let folder = tempfile::tempdir().expect("temp dir");
    let before = SqliteStore::open(folder.path()).await.expect("opens");
    let after = SqliteStore::open(folder.path()).await.expect("opens");
    assert!(matches!(before.commit(&[create("c-1", None)]).await, Err(StoreError::Fenced)));
    after.commit(&[create("c-1", None)]).await.expect("the owner");
}

#[tokio::test]
async fn a_store_of_another_version_is_refused_untouched_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("temp dir");
    let before = SqliteStore::open(folder.path()).await.expect("opens");
    change_row(folder.path(), "UPDATE meta SET version = 1").await;
    let error = SqliteStore::open(folder.path()).await.map(drop).expect_err("refused");
    assert!(matches!(error, StoreError::OtherVersion { version: 1, .. }));
    assert!(error.to_string().contains("--state-dir"), "{error}");
    before.commit(&[create("c-1", None)]).await.expect("it still is the owner");
}

#[tokio::test]
async fn changes_that_cannot_all_be_made_are_not_made_at_all() {
    let folder = tempfile::tempdir().expect("temp dir");
    let store = SqliteStore::open(folder.path()).await.expect("opens");
    let changes = [create("c-1", Some("k")), create("c-2", Some("k"))];
    assert!(matches!(store.commit(&changes).await, Err(StoreError::Database(_))));
    assert!(store.load().await.expect("loads").0.is_empty());
}

/// Changes a row of the store in this folder.
async fn change_row(folder: &std::path::Path, statement: &'static str) {
    let file = format!("sqlite:{}", folder.join("calls.sqlite").display());
    let pool = sqlx::SqlitePool::connect(&file).await.expect("there");
    sqlx::raw_sql(statement).execute(&pool).await.expect("written");
}

/// Flips a bit of a payload's file.
fn flip(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).expect("readable");
    bytes[77] ^= 4;
    std::fs::write(file, bytes).expect("writable");
}

#[tokio::test]
async fn a_flipped_bit_in_a_row_or_a_file_is_found() {
    let folder = tempfile::tempdir().expect("temp dir");
    let store = SqliteStore::open(folder.path()).await.expect("opens");
    let changes = [
        create("c-1", None),
        chunk("c-1", 0, 1, payload(100, b'a')),
        chunk("c-1", 1, 1, payload(ROW_BYTES + 1, b'b')),
    ];
    store.commit(&changes).await.expect("room");
    let statement = "UPDATE chunks SET body = replace(body, 'a', 'c') WHERE first = 0";
    change_row(folder.path(), statement).await;
    flip(&folder.path().join("payloads/c-1/chunk-1"));
    assert!(matches!(store.chunk("c-1", 0).await, Err(StoreError::Damaged(0))));
    assert!(matches!(store.chunk("c-1", 1).await, Err(StoreError::Damaged(1))));
}

#[tokio::test]
async fn of_damaged_events_it_is_known_what_ended_with_them_and_the_others_are_read() {
    let folder = tempfile::tempdir().expect("temp dir");
    let store = SqliteStore::open(folder.path()).await.expect("opens");
    let changes = [
        create("c-1", None),
        events("c-1", 1, 4, payload(50, b'x')),
        events("c-1", 5, 9, payload(ROW_BYTES + 1, b'y')),
        events("c-1", 10, 12, payload(1, b'z')),
    ];
    store.commit(&changes).await.expect("room");
    flip(&folder.path().join("payloads/c-1/events-5"));
    change_row(folder.path(), "UPDATE events SET body = 'w' WHERE first_seq = 10").await;
    let lost = |first_seq, last_seq| {
        let done = vec![Done { first: first_seq, count: 2, failed: 1 }];
        Batch::Damaged(LostEvents { first_seq, last_seq, done, attempt: 3 })
    };
    let whole = Batch::Whole(Bytes::from(vec![b'x'; 50]));
    let found = store.events("c-1", 0, 1 << 30).await.expect("reads");
    assert_eq!(found, [whole, lost(5, 9), lost(10, 12)]);
    std::fs::remove_file(folder.path().join("payloads/c-1/events-5")).expect("there");
    assert_eq!(store.events("c-1", 6, 1).await.expect("reads"), [lost(5, 9)], "gone, too");
}

#[tokio::test]
async fn a_damaged_function_keeps_no_other_call_from_being_loaded() {
    let folder = tempfile::tempdir().expect("temp dir");
    let store = SqliteStore::open(folder.path()).await.expect("opens");
    store.commit(&[create("c-1", None), create("c-2", None)]).await.expect("room");
    change_row(folder.path(), "UPDATE calls SET body = 'w' WHERE call = 'c-1'").await;
    let (calls, _) = store.load().await.expect("loads");
    let damaged: Vec<_> =
        calls.iter().map(|call| (call.created.call.as_str(), call.damaged)).collect();
    assert_eq!(damaged, [("c-1", true), ("c-2", false)]);
}
