//! What inputs cost, as an event of the call's log. Pure but for the clock.

use std::time::{Duration, SystemTime};

use muster_wire::frame::Frame;
use muster_wire::receipt::Receipt;
use serde_json::json;

use super::handle;

/// The event for a receipt that has just come from this host, of a call created at `created`.
pub(super) fn event(receipt: &Receipt, host: &str, created: &str) -> Frame {
    at(SystemTime::now(), receipt, host, created)
}

fn at(now: SystemTime, receipt: &Receipt, host: &str, created: &str) -> Frame {
    // Only this machine's clock is asked: the host says how long it took, not when.
    let started = now - Duration::from_micros(receipt.run_us).min(MOST);
    let queued = humantime::parse_rfc3339(created).ok();
    let queued = queued.and_then(|created| started.duration_since(created).ok());
    let seconds = |micros: u64| micros as f64 / 1e6;
    handle::event(json!({
        "type": "receipt",
        "first": receipt.first,
        "count": receipt.count,
        "attempt": receipt.attempt,
        "host": host,
        "started": humantime::format_rfc3339_millis(started).to_string(),
        "queue_s": queued.unwrap_or_default().as_secs_f64(),
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

    fn text(run_us: u64) -> String {
        let receipt =
            Receipt { first: 3, attempt: 1, count: 2, run_us, cpu_us: 500_000, peak_bytes: 9 };
        let now = humantime::parse_rfc3339("2026-01-01T00:01:00Z").expect("a time");
        let frame = at(now, &receipt, "node", "2026-01-01T00:00:00Z");
        String::from_utf8(frame.body.to_vec()).expect("JSON")
    }

    #[test]
    fn an_input_waited_from_the_calls_beginning_to_its_own() {
        let event: serde_json::Value = serde_json::from_str(&text(2_000_000)).expect("JSON");
        assert_eq!(event["started"], "2026-01-01T00:00:58.000Z");
        assert_eq!(event["queue_s"], 58.0);
        assert_eq!((&event["run_s"], &event["cpu_s"]), (&json!(2.0), &json!(0.5)));
        assert_eq!((&event["host"], &event["first"]), (&json!("node"), &json!(3)));
    }

    #[test]
    fn nonsense_of_a_host_breaks_nothing() {
        assert!(text(u64::MAX).contains("\"queue_s\":0.0"));
    }
}
