//! What every gateway of these tests has inside: calls in a store of the test's, blobs and secrets in a folder.

use std::path::Path;
use std::time::Duration;

use muster_gateway::blobs::{Blobs, BlobsConfig};
use muster_gateway::calls::{Calls, CallsConfig, LogConfig};
use muster_gateway::fleet::Fleet;
use muster_gateway::secrets::Secrets;
use muster_gateway::store::durable::{CallStore, Journal};
use muster_gateway::store::{MemoryStore, Spill};
use muster_gateway::tasks::Tasks;

/// Calls over this fleet; whatever waits for somebody, or is kept for them, does so for `patience`.
pub async fn calls(
    folder: &Path,
    store: impl CallStore,
    patience: Duration,
    fleet: &Fleet,
    tasks: &Tasks,
) -> (Calls, Blobs, Secrets) {
    let config = CallsConfig {
        nested_depth: 4,
        nested_calls: 100,
        max_calls: 1000,
        queue_bytes: 16 << 20,
        log: LogConfig { memory_bytes: 8 << 20, print_bytes: 1 << 30 },
        grace: patience,
        keep_foreground: patience,
        keep_foreground_calls: 1000,
        keep_background: patience,
        keep_records: patience,
        upload_grace: patience,
    };
    let spill = Spill::new(MemoryStore::default(), 1 << 30);
    let journal = Journal::start(store, u64::MAX, tasks);
    let bounds = BlobsConfig { largest: 1 << 20, limit: 1 << 20, keep: patience };
    let blobs = Blobs::open(&folder.join("blobs"), bounds, tasks).await.expect("a folder");
    let secrets = Secrets::open(folder, &folder.join("secrets.key")).expect("a key");
    let calls =
        Calls::start(config, fleet.clone(), spill, journal, &blobs, secrets.clone(), tasks).await;
    (calls.expect("starts"), blobs, secrets)
}
