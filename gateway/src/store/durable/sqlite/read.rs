//! What is read back.

use bytes::Bytes;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{SqliteStore, of_sqlx};
use crate::store::StoreError;
use crate::store::durable::{
    Batch, CreatedCall, Done, LostEvents, Payload, StoredCall, StoredChunk, StoredExchange,
    StoredRecord, checked,
};

impl SqliteStore {
    pub(super) async fn read_all(&self) -> Result<(Vec<StoredCall>, u64), StoreError> {
        let age: i64 = sqlx::query_scalar("SELECT age_s FROM meta")
            .fetch_one(&self.readers)
            .await
            .map_err(of_sqlx)?;
        let rows = sqlx::query(
            "SELECT call, owner, key, spec, options, created, total, ended_age_s, record,
                 bytes + (SELECT coalesce(sum(bytes), 0) FROM chunks WHERE chunks.call = calls.call)
                     + (SELECT coalesce(sum(bytes), 0) FROM events WHERE events.call = calls.call),
                 (SELECT coalesce(max(last_seq), 0) FROM events WHERE events.call = calls.call),
                 (SELECT coalesce(max(attempt), 0) FROM events WHERE events.call = calls.call)
             FROM calls ORDER BY place",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(of_sqlx)?;
        let mut calls = Vec::with_capacity(rows.len());
        for row in &rows {
            calls.push(self.read_call(row).await?);
        }
        Ok((calls, age as u64))
    }

    async fn read_call(&self, row: &SqliteRow) -> Result<StoredCall, StoreError> {
        let call: String = row.get(0);
        let record: Option<Vec<u8>> = row.get(8);
        let end = record.map(|record| (record.into(), row.get::<i64, _>(7) as u64));
        let mut chunks = Vec::new();
        let mut done = Vec::new();
        let mut exchanges = Vec::new();
        let mut function = Bytes::new();
        let mut damaged = false;
        if end.is_none() {
            match self.read_function(&call).await {
                Ok(read) => function = read,
                Err(error) if error.is_loss() => damaged = true,
                Err(error) => return Err(error),
            }
            let rows = sqlx::query(
                "SELECT first, count, digest FROM chunks WHERE call = ? ORDER BY first",
            )
            .bind(&call)
            .fetch_all(&self.readers)
            .await
            .map_err(of_sqlx)?;
            for row in rows {
                let digest: Vec<u8> = row.get(2);
                let first = row.get::<i64, _>(0) as u64;
                let digest = digest.try_into().map_err(|_| StoreError::Damaged(first))?;
                chunks.push(StoredChunk { first, count: row.get::<i64, _>(1) as u64, digest });
            }
            let rows = sqlx::query("SELECT done FROM events WHERE call = ? ORDER BY first_seq")
                .bind(&call)
                .fetch_all(&self.readers)
                .await
                .map_err(of_sqlx)?;
            done = rows.iter().flat_map(|row| Done::read_all(row.get::<&[u8], _>(0))).collect();
            let rows = sqlx::query("SELECT exchange, host, taken FROM exchanges WHERE call = ?")
                .bind(&call)
                .fetch_all(&self.readers)
                .await
                .map_err(of_sqlx)?;
            exchanges.extend(rows.iter().map(|row| StoredExchange {
                call: call.clone(),
                exchange: row.get::<i64, _>(0) as u64,
                host: row.get(1),
                taken: row.get::<i64, _>(2) as u64,
            }));
        }
        let json = |at: usize| Bytes::from(row.get::<Vec<u8>, _>(at));
        Ok(StoredCall {
            damaged,
            created: CreatedCall {
                call,
                owner: row.get(1),
                key: row.get(2),
                spec: json(3),
                options: json(4),
                created: row.get(5),
                function: Payload::new(vec![function]),
            },
            total: row.get::<Option<i64>, _>(6).map(|total| total as u64),
            chunks,
            done,
            exchanges,
            last_seq: row.get::<i64, _>(10) as u64,
            attempt: row.get::<i64, _>(11) as u32,
            end,
            bytes: row.get::<i64, _>(9) as u64,
        })
    }

    pub(super) async fn read_function(&self, call: &str) -> Result<Bytes, StoreError> {
        let row = sqlx::query("SELECT crc, body FROM calls WHERE call = ?").bind(call);
        let row = row.fetch_optional(&self.readers).await.map_err(of_sqlx)?;
        self.body(call, "function", row, 0).await
    }

    /// The payload of a row of (checksum, body), wherever it lies.
    pub(super) async fn body(
        &self,
        call: &str,
        name: &str,
        row: Option<SqliteRow>,
        what: u64,
    ) -> Result<Bytes, StoreError> {
        let row = row.ok_or(StoreError::Damaged(what))?;
        let crc = row.get::<i64, _>(0) as u32;
        match row.get::<Option<Vec<u8>>, _>(1) {
            Some(body) => checked(body.into(), crc, what),
            None => self.files.get(call, name, crc, what).await,
        }
    }

    pub(super) async fn read_events(
        &self,
        call: &str,
        seq: u64,
        bytes: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let rows = sqlx::query(
            "SELECT first_seq, bytes FROM events
             WHERE call = ? AND first_seq >= coalesce(
                 (SELECT max(first_seq) FROM events WHERE call = ? AND first_seq <= ?), 0)
             ORDER BY first_seq LIMIT 1000",
        )
        .bind(call)
        .bind(call)
        .bind(seq as i64 + 1)
        .fetch_all(&self.readers)
        .await
        .map_err(of_sqlx)?;
        let mut found = Vec::new();
        let mut sum = 0;
        for row in rows {
            let (first, size): (i64, i64) = (row.get(0), row.get(1));
            sum += size as usize;
            if !found.is_empty() && sum > bytes {
                break;
            }
            found.push(self.read_batch(call, first).await?);
        }
        Ok(found)
    }

    async fn read_batch(&self, call: &str, first: i64) -> Result<Batch, StoreError> {
        let row = sqlx::query("SELECT crc, body FROM events WHERE call = ? AND first_seq = ?")
            .bind(call)
            .bind(first)
            .fetch_optional(&self.readers)
            .await
            .map_err(of_sqlx)?;
        match self.body(call, &format!("events-{first}"), row, first as u64).await {
            Ok(frames) => Ok(Batch::Whole(frames)),
            Err(error) if error.is_loss() => {
                let error = crate::chain(&error);
                tracing::error!(call, error, "stored events are damaged");
                self.read_lost(call, first).await.map(Batch::Damaged)
            }
            Err(error) => Err(error),
        }
    }

    async fn read_lost(&self, call: &str, first: i64) -> Result<LostEvents, StoreError> {
        let query = "SELECT last_seq, attempt, done FROM events WHERE call = ? AND first_seq = ?";
        let row = sqlx::query(query).bind(call).bind(first).fetch_one(&self.readers).await;
        let row = row.map_err(of_sqlx)?;
        Ok(LostEvents {
            first_seq: first as u64,
            last_seq: row.get::<i64, _>(0) as u64,
            attempt: row.get::<i64, _>(1) as u32,
            done: Done::read_all(row.get::<&[u8], _>(2)).collect(),
        })
    }

    pub(super) async fn read_record(&self, call: &str) -> Result<Option<StoredRecord>, StoreError> {
        let query = "SELECT call, owner, ended_age_s, record FROM records WHERE call = ?";
        let row = sqlx::query(query).bind(call).fetch_optional(&self.readers).await;
        Ok(row.map_err(of_sqlx)?.as_ref().map(record_of))
    }

    pub(super) async fn read_records(
        &self,
        owner: Option<&str>,
        at_most: u32,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let query = match owner {
            Some(owner) => sqlx::query(
                "SELECT call, owner, ended_age_s, record FROM records
                 WHERE owner = ? ORDER BY place DESC LIMIT ?",
            )
            .bind(owner),
            None => sqlx::query(
                "SELECT call, owner, ended_age_s, record FROM records ORDER BY place DESC LIMIT ?",
            ),
        };
        let rows = query.bind(at_most).fetch_all(&self.readers).await.map_err(of_sqlx)?;
        Ok(rows.iter().map(record_of).collect())
    }
}

fn record_of(row: &SqliteRow) -> StoredRecord {
    StoredRecord {
        call: row.get(0),
        owner: row.get(1),
        ended_s: row.get::<i64, _>(2) as u64,
        record: row.get::<Vec<u8>, _>(3).into(),
    }
}
