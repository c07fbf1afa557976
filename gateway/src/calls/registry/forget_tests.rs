use muster_wire::message::{CallKind, CallSpec, Encoding};

use super::super::first_record;
use super::*;
use crate::calls::handle::Shared;
use crate::calls::log::{Log, LogConfig};
use crate::calls::{CallOptions, CallState, NewCall};
use crate::store::{MemoryStore, Spill};

const HOUR: Duration = Duration::from_secs(3600);
const CONFIG: CallsConfig = CallsConfig {
    nested_depth: 0,
    nested_calls: 0,
    max_calls: 10,
    queue_bytes: 0,
    log: LogConfig { memory_bytes: 0, print_bytes: 0 },
    grace: HOUR,
    keep_foreground: HOUR,
    keep_foreground_calls: 2,
    keep_background: Duration::from_secs(7 * 24 * 3600),
    keep_records: Duration::from_secs(30 * 24 * 3600),
    upload_grace: HOUR,
};

/// A call with dates like these.
fn call(id: &str, background: bool, created: &str, ended: Option<&str>) -> CallHandle {
    let spec = spec(id);
    let options = CallOptions { background, ..CallOptions::default() };
    let new = NewCall {
        spec,
        options,
        key: None,
        owner: "me".to_owned(),
        function: bytes::Bytes::new(),
        pin: None,
        parent: None,
    };
    let mut record = first_record(&new, created.to_owned());
    record.ended = ended.map(str::to_owned);
    record.state = if ended.is_some() { CallState::Succeeded } else { CallState::Running };
    let log = Log::new(CONFIG.log, Spill::new(MemoryStore::default(), 0));
    Shared::open(record, new, None, log).0
}

fn spec(call: &str) -> CallSpec {
    let (kind, encoding) = (CallKind::Command, Encoding::Raw);
    let spec = serde_json::json!({
        "call": call, "kind": kind, "encoding": encoding, "image": "i", "cpu": 1.0, "ram_bytes": 1,
    });
    serde_json::from_value(spec).expect("a spec")
}

/// The calls of a table that are due when the store is so old.
fn due(table: &mut Table, now: Duration) -> Vec<String> {
    let due = table.due(&CONFIG, now, 0);
    due.iter().map(|due| due.handle.id().to_owned()).collect()
}

#[test]
fn dates_of_any_day_decide_nothing_and_the_age_of_the_store_does() {
    let week = CONFIG.keep_background;
    let dates = ["2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"];
    for created in dates {
        for ended in dates {
            let mut table = Table::default();
            table.insert(call("c-1", true, created, Some(ended)), None, None);
            table.insert(call("c-2", true, created, None), None, None);
            assert!(due(&mut table, HOUR).is_empty(), "it is seen to have ended");
            assert!(due(&mut table, HOUR + week - Duration::from_secs(1)).is_empty());
            assert_eq!(due(&mut table, HOUR + week), ["c-1"]);
        }
    }
}

#[test]
fn the_hour_of_a_foreground_call_begins_when_it_was_last_read() {
    let mut table = Table::default();
    let handle = call("c-1", false, "", Some(""));
    table.insert(handle.clone(), None, None);
    assert!(due(&mut table, Duration::ZERO).is_empty());
    let reader = handle.events(0);
    assert!(due(&mut table, 5 * HOUR).is_empty(), "somebody reads it");
    drop(reader);
    assert!(due(&mut table, 6 * HOUR - Duration::from_secs(1)).is_empty());
    assert_eq!(due(&mut table, 6 * HOUR), ["c-1"]);
}

#[test]
fn of_many_foreground_calls_the_oldest_go_first() {
    let mut table = Table::default();
    for id in ["c-1", "c-2", "c-3"] {
        table.insert(call(id, false, "", Some("")), None, None);
    }
    assert_eq!(due(&mut table, Duration::ZERO), ["c-1"], "two are kept");
}
