//! Calls that have [expired](super::forget): their records, which the store keeps.

use super::Calls;
use crate::calls::CallRecord;
use crate::store::StoreError;
use crate::store::durable::StoredRecord;

/// What is left of a call whose inputs, function and events are kept no longer.
#[derive(Debug, Clone)]
pub struct PastCall {
    /// Whose call it was.
    pub owner: String,
    /// Its last record.
    pub record: CallRecord,
}

impl Calls {
    /// The call with this id, if it has expired and its record is kept.
    pub async fn past(&self, id: &str) -> Result<Option<PastCall>, StoreError> {
        let stored = self.shared.journal.store().record(id).await?;
        Ok(stored.and_then(understood))
    }

    /// The calls that expired last, of one owner or of all, newest first.
    pub async fn past_calls(
        &self,
        owner: Option<&str>,
        at_most: u32,
    ) -> Result<Vec<PastCall>, StoreError> {
        let stored = self.shared.journal.store().records(owner, at_most).await?;
        Ok(stored.into_iter().filter_map(understood).collect())
    }
}

fn understood(stored: StoredRecord) -> Option<PastCall> {
    let read = serde_json::from_slice::<CallRecord>(&stored.record);
    let read = read.inspect_err(|error| {
        let (call, error) = (&stored.call, crate::chain(error));
        tracing::error!(call, error, "the record of an expired call could not be understood");
    });
    Some(PastCall { owner: stored.owner, record: CallRecord { expired: true, ..read.ok()? } })
}
