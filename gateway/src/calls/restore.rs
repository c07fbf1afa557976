//! Calls that an earlier gateway left in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster_wire::message::{CallSpec, to_json};
use serde_json::from_slice;

use super::handle::Shared;
use super::log::Log;
use super::machine::Machine;
use super::owner::Begun;
use super::registry::first_record;
use super::{CallOptions, CallRecord, Calls, NewCall};
use crate::blobs::{BlobId, Blobs, Pin};
use crate::secrets::Secrets;
use crate::store::StoreError;
use crate::store::durable::{CreatedCall, Payload, StoredCall};

/// What the store gets of a new call. Its SPEC is sealed: there may be secrets in `env`.
pub(super) fn created(new: &NewCall, created: &str, secrets: &Secrets) -> CreatedCall {
    CreatedCall {
        call: new.spec.call.clone(),
        owner: new.owner.clone(),
        key: new.key.clone(),
        spec: secrets.seal_spec(&new.spec.call, &to_json(&new.spec)).into(),
        options: to_json(&new.options),
        created: created.to_owned(),
        function: Payload::new(vec![new.function.clone()]),
    }
}

impl Calls {
    /// Takes up a call: one that has ended to be read, any other to go on. Its inputs are not read. A call that cannot be understood is left out, and in the store.
    pub(super) async fn restore(
        &self,
        stored: StoredCall,
        blobs: &Blobs,
    ) -> Result<(), StoreError> {
        let id = stored.created.call.clone();
        let Some((new, record)) = read(&stored, &self.shared.secrets) else {
            tracing::error!(call = id, "stored call could not be understood and is left out");
            return Ok(());
        };
        let key = new.key.clone().map(|key| (new.owner.clone(), key));
        let kept = self.kept(&id, stored.bytes);
        let (config, spill) = (&self.shared.config, self.shared.spill.clone());
        let log = Log::kept(config.log, spill, stored.last_seq, stored.end.is_some());
        let retries = new.options.retries;
        let (handle, inbox) = Shared::open(record, new, Some(kept), log);
        if let Some((_, age_s)) = stored.end {
            self.insert(&handle, key, Some(Duration::from_secs(age_s)));
            return Ok(());
        }
        let pin = pin(blobs, handle.owner(), handle.spec());
        let begun = Begun { pin, ..begun(&stored, retries, self.queue(&handle)) };
        let (number, live) = self.insert(&handle, key, None);
        self.run(number, handle, inbox, live, begun).await;
        tracing::info!(call = id, chunks = stored.chunks.len(), "call goes on");
        Ok(())
    }
}

/// The call as it was asked for, and its record.
fn read(stored: &StoredCall, secrets: &Secrets) -> Option<(NewCall, CallRecord)> {
    let created = &stored.created;
    let spec: CallSpec = from_slice(&secrets.open_spec(&created.call, &created.spec)?).ok()?;
    let options: CallOptions = from_slice(&created.options).ok()?;
    let function = created.function.joined();
    let (key, owner) = (created.key.clone(), created.owner.clone());
    let new = NewCall { spec, options, key, owner, function, pin: None, parent: None };
    let record = match &stored.end {
        Some((record, _)) => from_slice(record).ok()?,
        None => first_record(&new, created.created.clone()),
    };
    Some((new, record))
}

/// Keeps the call's shared data. Where some of it is gone, inputs that need it say so.
fn pin(blobs: &Blobs, owner: &str, spec: &CallSpec) -> Option<Arc<Pin>> {
    let ids = spec.data.iter().map(|blob| BlobId::parse(&blob.id)).collect::<Option<Vec<_>>>();
    let claimed = blobs.claim(owner, ids?);
    let claimed = claimed.inspect_err(|error| {
        let (call, error) = (&spec.call, crate::chain(error));
        tracing::warn!(call, error, "shared data of a stored call is gone");
    });
    claimed.ok().map(|(_, pin)| Arc::new(pin))
}

/// How long ago a call was created, by the dates of two gateways: no other clock goes on between them.
fn age(created: &str, now: SystemTime) -> Duration {
    let created = humantime::parse_rfc3339(created).ok();
    created.and_then(|created| now.duration_since(created).ok()).unwrap_or_default()
}

/// How far a call came that has not ended.
fn begun(stored: &StoredCall, retries: u32, mut queue: super::queue::Queue) -> Begun {
    let received = stored.chunks.last().map_or(0, |chunk| chunk.first + chunk.count);
    let done = || stored.done.iter().map(|done| (done.first, done.first + u64::from(done.count)));
    let failed = stored.done.iter().map(|done| u64::from(done.failed)).sum();
    let mut machine = Machine::restored(retries, received, done(), failed, stored.attempt + 1);
    if stored.total == Some(received) {
        // As many as came: it cannot be refused.
        let _ = machine.close(stored.total);
    }
    let mut digests = BTreeMap::new();
    for chunk in &stored.chunks {
        queue.restore(chunk.first, chunk.count);
        digests.insert(chunk.first, (chunk.count, chunk.digest));
    }
    done().for_each(|(first, end)| queue.done(first, end));
    let first_failed = stored.done.iter().find(|done| done.failed > 0);
    let failed = first_failed.map(|done| done.first);
    let exchanges = stored.exchanges.clone();
    Begun {
        machine,
        queue,
        digests,
        failed,
        damaged: stored.damaged,
        exchanges,
        pin: None,
        age: age(&stored.created.created, SystemTime::now()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_a_date_that_is_not_yet_is_new() {
        let now = humantime::parse_rfc3339("2026-01-01T00:01:00Z").expect("a time");
        assert_eq!(age("2026-01-01T00:00:00Z", now), Duration::from_secs(60));
        assert_eq!(age("2026-01-02T00:00:00Z", now), Duration::ZERO);
        assert_eq!(age("no date", now), Duration::ZERO);
    }
}
