//! What is written: each change as a statement, and which payloads lie in files.

use sqlx::SqliteConnection;

use crate::store::durable::{
    Change, Chunk, CreatedCall, Done, Events, Payload, ROW_BYTES, StoredExchange, StoredRecord,
};

/// The payload of a change that goes into a file, and the file's name.
pub(super) fn large_payload(change: &Change) -> Option<(&str, String, &Payload)> {
    let (call, name, payload) = match change {
        Change::Create(created) => (&created.call, "function".to_owned(), &created.function),
        Change::Chunk(chunk) => (&chunk.call, format!("chunk-{}", chunk.first), &chunk.payload),
        Change::Events(events) => {
            (&events.call, format!("events-{}", events.first_seq), &events.payload)
        }
        _ => return None,
    };
    (payload.len() > ROW_BYTES).then_some((call, name, payload))
}

/// The payload of a change that goes into its row.
fn in_row(payload: &Payload) -> Option<Vec<u8>> {
    (payload.len() <= ROW_BYTES).then(|| payload.joined().into())
}

/// Makes one change, within the transaction of this connection.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    change: &Change,
) -> Result<(), sqlx::Error> {
    let query = match change {
        Change::Create(created) => {
            let CreatedCall { call, owner, key, spec, options, created, function } = created;
            sqlx::query(
                "INSERT INTO calls (call, owner, key, spec, options, created, bytes, crc, body)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(call)
            .bind(owner)
            .bind(key)
            .bind(&spec[..])
            .bind(&options[..])
            .bind(created)
            .bind(function.len() as i64)
            .bind(i64::from(function.crc))
            .bind(in_row(function))
        }
        Change::Chunk(Chunk { call, first, count, digest, payload }) => sqlx::query(
            "INSERT OR REPLACE INTO chunks SELECT call, ?2, ?3, ?4, ?5, ?6, ?7
                 FROM calls WHERE call = ?1",
        )
        .bind(call)
        .bind(*first as i64)
        .bind(*count as i64)
        .bind(&digest[..])
        .bind(payload.len() as i64)
        .bind(i64::from(payload.crc))
        .bind(in_row(payload)),
        Change::Close { call, total } => {
            sqlx::query("UPDATE calls SET total = ? WHERE call = ?").bind(*total as i64).bind(call)
        }
        Change::Events(Events { call, first_seq, last_seq, done, attempt, payload }) => {
            sqlx::query(
                "INSERT INTO events SELECT call, ?2, ?3, ?4, ?5, ?6, ?7, ?8
                 FROM calls WHERE call = ?1",
            )
            .bind(call)
            .bind(*first_seq as i64)
            .bind(*last_seq as i64)
            .bind(i64::from(*attempt))
            .bind(Done::write_all(done))
            .bind(payload.len() as i64)
            .bind(i64::from(payload.crc))
            .bind(in_row(payload))
        }
        Change::Exchange(StoredExchange { call, exchange, host, taken }) => sqlx::query(
            "INSERT OR REPLACE INTO exchanges SELECT call, ?2, ?3, ?4 FROM calls WHERE call = ?1",
        )
        .bind(call)
        .bind(*exchange as i64)
        .bind(host)
        .bind(*taken as i64),
        Change::ExchangeEnd { call, exchange } => {
            sqlx::query("DELETE FROM exchanges WHERE call = ? AND exchange = ?")
                .bind(call)
                .bind(*exchange as i64)
        }
        Change::End { call, record, age_s } => {
            for ended in
                ["DELETE FROM chunks WHERE call = ?", "DELETE FROM exchanges WHERE call = ?"]
            {
                sqlx::query(ended).bind(call).execute(&mut *connection).await?;
            }
            sqlx::query("UPDATE calls SET record = ?, ended_age_s = ? WHERE call = ?")
                .bind(&record[..])
                .bind(*age_s as i64)
                .bind(call)
        }
        Change::Delete { call } => sqlx::query("DELETE FROM calls WHERE call = ?").bind(call),
        Change::Expire(StoredRecord { call, owner, ended_s, record }) => {
            let gone = sqlx::query("DELETE FROM calls WHERE call = ?").bind(call);
            gone.execute(&mut *connection).await?;
            sqlx::query(
                "INSERT OR REPLACE INTO records (call, owner, ended_age_s, record)
                 VALUES (?, ?, ?, ?)",
            )
            .bind(call)
            .bind(owner)
            .bind(*ended_s as i64)
            .bind(&record[..])
        }
        Change::Forget { ended_before_s, at_most } => sqlx::query(
            "DELETE FROM records WHERE ended_age_s < ? OR place <= (
                 SELECT place FROM records ORDER BY place DESC LIMIT 1 OFFSET ?)",
        )
        .bind(*ended_before_s as i64)
        .bind(at_most),
        Change::Age(age_s) => sqlx::query("UPDATE meta SET age_s = ?").bind(*age_s as i64),
    };
    query.execute(connection).await?;
    Ok(())
}
