//! Rows in SQLite, large payloads as files beside it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Row, SqliteConnection};

use super::{
    Answer, CallStore, Change, Chunk, CreatedCall, Done, Events, Payload, PayloadFiles, ROW_BYTES,
    StoredCall, StoredChunk, StoredExchange, checked,
};
use crate::store::StoreError;

/// Raised with each change of the tables. A store of another version is refused.
const VERSION: i64 = 2;
/// The body of a row comes last, so that the columns before it are read without it.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL, epoch INTEGER NOT NULL, age_s INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    place INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL, key TEXT, spec BLOB NOT NULL, options BLOB NOT NULL,
    created TEXT NOT NULL, total INTEGER, ended_age_s INTEGER, record BLOB,
    bytes INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB,
    UNIQUE (owner, key));
CREATE TABLE IF NOT EXISTS chunks (
    call TEXT NOT NULL REFERENCES calls (call) ON DELETE CASCADE,
    first INTEGER NOT NULL, count INTEGER NOT NULL, digest BLOB NOT NULL,
    bytes INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB,
    PRIMARY KEY (call, first));
CREATE TABLE IF NOT EXISTS events (
    call TEXT NOT NULL REFERENCES calls (call) ON DELETE CASCADE,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, attempt INTEGER NOT NULL,
    done BLOB NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB,
    PRIMARY KEY (call, first_seq));
CREATE TABLE IF NOT EXISTS exchanges (
    call TEXT NOT NULL REFERENCES calls (call) ON DELETE CASCADE,
    exchange INTEGER NOT NULL, host TEXT NOT NULL, taken INTEGER NOT NULL,
    PRIMARY KEY (call, exchange));
INSERT OR IGNORE INTO meta VALUES (1, 2, 0, 0);
";
/// How long to wait for a lock of the database that another process holds.
const BUSY: Duration = Duration::from_secs(5);
/// SQLite's codes for a full disk: of a write, and of the memory that connections share.
const FULL: [&str; 2] = ["13", "4874"];

/// The embedded store. See the module.
#[derive(Debug)]
pub struct SqliteStore {
    /// One connection: commits come one after another.
    writer: SqlitePool,
    readers: SqlitePool,
    files: PayloadFiles,
    epoch: i64,
}

impl SqliteStore {
    /// Opens the store in this folder, or makes it; from now on commits of those that had it open before are refused.
    pub async fn open(folder: &Path) -> Result<SqliteStore, StoreError> {
        let files = PayloadFiles::open(folder.join("payloads"))?;
        let options = SqliteConnectOptions::new()
            .filename(folder.join("calls.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(of_sqlx)?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await.map_err(of_sqlx)?;
        check_pragmas(&writer).await?;
        let version: i64 = sqlx::query_scalar("SELECT version FROM meta")
            .fetch_one(&writer)
            .await
            .map_err(of_sqlx)?;
        if version != VERSION {
            return Err(StoreError::OtherVersion { version, folder: folder.to_owned() });
        }
        let epoch: i64 = sqlx::query_scalar("UPDATE meta SET epoch = epoch + 1 RETURNING epoch")
            .fetch_one(&writer)
            .await
            .map_err(of_sqlx)?;
        let kept: Vec<String> = sqlx::query_scalar("SELECT call FROM calls")
            .fetch_all(&writer)
            .await
            .map_err(of_sqlx)?;
        files.keep_only(|call| kept.iter().any(|kept| kept == call)).map_err(StoreError::of_io)?;
        let readers = pool(2).connect_lazy_with(options);
        Ok(SqliteStore { writer, readers, files, epoch })
    }

    async fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            if let Some((call, name, payload)) = large_payload(change) {
                self.files.put(call, &name, payload).await?;
            }
        }
        let mut transaction = self.writer.begin().await.map_err(of_sqlx)?;
        let written = async {
            let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM meta")
                .fetch_one(&mut *transaction)
                .await
                .map_err(of_sqlx)?;
            if epoch != self.epoch {
                return Err(StoreError::Fenced);
            }
            for change in changes {
                apply(&mut transaction, change).await.map_err(of_sqlx)?;
            }
            Ok(())
        };
        if let Err(error) = written.await {
            // SQLite may have rolled back by itself: then this says so, and nothing is open either way.
            let _ = transaction.rollback().await;
            return Err(error);
        }
        transaction.commit().await.map_err(of_sqlx)?;
        for change in changes {
            match change {
                Change::End { call, .. } => self.files.remove(call, "chunk").await,
                Change::Delete { call } => self.files.remove(call, "").await,
                _ => {}
            }
        }
        Ok(())
    }

    async fn read_all(&self) -> Result<(Vec<StoredCall>, u64), StoreError> {
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
        if end.is_none() {
            function = self.read_function(&call).await?;
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

    async fn read_function(&self, call: &str) -> Result<Bytes, StoreError> {
        let row = sqlx::query("SELECT crc, body FROM calls WHERE call = ?").bind(call);
        let row = row.fetch_optional(&self.readers).await.map_err(of_sqlx)?;
        self.body(call, "function", row, 0).await
    }

    /// The payload of a row of (checksum, body), wherever it lies.
    async fn body(
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

    async fn read_events(
        &self,
        call: &str,
        seq: u64,
        bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
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
            let row = sqlx::query("SELECT crc, body FROM events WHERE call = ? AND first_seq = ?")
                .bind(call)
                .bind(first)
                .fetch_optional(&self.readers)
                .await
                .map_err(of_sqlx)?;
            let name = format!("events-{first}");
            found.push(self.body(call, &name, row, first as u64).await?);
        }
        Ok(found)
    }
}

impl CallStore for SqliteStore {
    fn commit<'a>(&'a self, changes: &'a [Change]) -> Answer<'a, ()> {
        Box::pin(self.write(changes))
    }

    fn load(&self) -> Answer<'_, (Vec<StoredCall>, u64)> {
        Box::pin(self.read_all())
    }

    fn function<'a>(&'a self, call: &'a str) -> Answer<'a, Bytes> {
        Box::pin(self.read_function(call))
    }

    fn chunk<'a>(&'a self, call: &'a str, first: u64) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let row = sqlx::query("SELECT crc, body FROM chunks WHERE call = ? AND first = ?")
                .bind(call)
                .bind(first as i64)
                .fetch_optional(&self.readers)
                .await
                .map_err(of_sqlx)?;
            self.body(call, &format!("chunk-{first}"), row, first).await
        })
    }

    fn events<'a>(&'a self, call: &'a str, seq: u64, bytes: usize) -> Answer<'a, Vec<Bytes>> {
        Box::pin(self.read_events(call, seq, bytes))
    }
}

/// The settings that durability rests on, as they are and not as they were asked for.
async fn check_pragmas(pool: &SqlitePool) -> Result<(), StoreError> {
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.map_err(of_sqlx)?;
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await.map_err(of_sqlx)?;
    let keys: i64 =
        sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(pool).await.map_err(of_sqlx)?;
    if (journal.as_str(), synchronous, keys) != ("wal", 2, 1) {
        let why = format!(
            "the database is not as safe as it must be: journal_mode {journal}, synchronous {synchronous}, foreign_keys {keys}"
        );
        return Err(StoreError::Io(std::io::Error::other(why)));
    }
    Ok(())
}

/// The payload of a change that goes into a file, and the file's name.
fn large_payload(change: &Change) -> Option<(&str, String, &Payload)> {
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

async fn apply(connection: &mut SqliteConnection, change: &Change) -> Result<(), sqlx::Error> {
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
        Change::Age(age_s) => sqlx::query("UPDATE meta SET age_s = ?").bind(*age_s as i64),
    };
    query.execute(connection).await?;
    Ok(())
}

fn of_sqlx(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.is_some_and(|code| FULL.contains(&code.as_ref())) {
        true => StoreError::Full,
        false => StoreError::Database(error),
    }
}
