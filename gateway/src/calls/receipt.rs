//! What inputs cost, as an event of the call's log. Pure but for the clock.

use std::time::{Duration, SystemTime};

use muster_wire::frame::Frame;
use muster_wire::receipt::Receipt;
use serde_json::json;

use super::handle;

/// The event for a receipt that has just come from this host, of a call that is so old.
pub(super) fn event(receipt: &Receipt, host: &str, age: Duration) -> Frame {
    at(SystemTime::now(), receipt, host, age)
}

fn at(now: SystemTime, receipt: &Receipt, host: &str, age: Duration) -> Frame {
    // Only this machine is asked: the host says how long it took, not when. Its date is for people; how long the input waited is no difference of dates, which may jump.
    let run = Duration::from_micros(receipt.run_us).min(MOST);
    let (started, queued) = (now - run, age.saturating_sub(run));
    let seconds = |micros: u64| micros as f64 / 1e6;
    handle::event(json!({
        "type": "receipt",
        "first": receipt.first,
        "count": receipt.count,
        "attempt": receipt.attempt,
        "host": host,
        "started": humantime::format_rfc3339_millis(started).to_string(),
        "queue_s": queued.as_secs_f64(),
        "run_s": seconds(receipt.run_us),
        "cpu_s": seconds(receipt.cpu_us),
        "peak_bytes": receipt.peak_bytes,
    }))
}

/// Longer than any input runs; what a host says may be nonsense.
const MOST: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn said(now: &str, run_us: u64) -> serde_json::Value {
        let receipt =
            Receipt { first: 3, attempt: 1, count: 2, run_us, cpu_us: 500_000, peak_bytes: 9 };
        let now = humantime::parse_rfc3339(now).expect("a time");
        serde_json::from_slice(&at(now, &receipt, "node", MINUTE).body).expect("JSON")
    }

    #[test]
    fn an_input_waited_from_the_calls_beginning_to_its_own() {
        let event = said("2026-01-01T00:01:00Z", 2_000_000);
        assert_eq!(event["started"], "2026-01-01T00:00:58.000Z");
        assert_eq!(event["queue_s"], 58.0);
        assert_eq!((&event["run_s"], &event["cpu_s"]), (&json!(2.0), &json!(0.5)));
        assert_eq!((&event["host"], &event["first"]), (&json!("node"), &json!(3)));
    }

    #[test]
    fn a_clock_that_jumps_by_a_day_changes_dates_and_no_durations() {
        for now in ["2025-12-31T00:01:00Z", "2026-01-02T00:01:00Z"] {
            let event = said(now, 2_000_000);
            assert_eq!((&event["queue_s"], &event["run_s"]), (&json!(58.0), &json!(2.0)));
        }
    }

    #[test]
    fn nonsense_of_a_host_breaks_nothing() {
        assert_eq!(said("2026-01-01T00:01:00Z", u64::MAX)["queue_s"], 0.0);
    }
}
