//! Rows in SQLite, large payloads as files beside it.

mod read;
mod write;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use self::write::{apply, large_payload};
use super::{Answer, Batch, CallStore, Change, PayloadFiles, StoredCall, StoredRecord};
use crate::store::StoreError;

/// Raised with each change of the tables. A store of another version is refused.
const VERSION: i64 = 3;
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
CREATE TABLE IF NOT EXISTS records (
    place INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL, ended_age_s INTEGER NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS records_by_owner ON records (owner, place);
CREATE INDEX IF NOT EXISTS records_by_age ON records (ended_age_s);
INSERT OR IGNORE INTO meta VALUES (1, 3, 0, 0);
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
        let options = asked_for(folder);
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
        let kept: HashSet<String> = kept.into_iter().collect();
        files.keep_only(|call| kept.contains(call)).map_err(StoreError::of_io)?;
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
                Change::Delete { call } | Change::Expire(StoredRecord { call, .. }) => {
                    self.files.remove(call, "").await;
                }
                _ => {}
            }
        }
        Ok(())
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

    fn events<'a>(&'a self, call: &'a str, seq: u64, bytes: usize) -> Answer<'a, Vec<Batch>> {
        Box::pin(self.read_events(call, seq, bytes))
    }

    fn record<'a>(&'a self, call: &'a str) -> Answer<'a, Option<StoredRecord>> {
        Box::pin(self.read_record(call))
    }

    fn records<'a>(
        &'a self,
        owner: Option<&'a str>,
        at_most: u32,
    ) -> Answer<'a, Vec<StoredRecord>> {
        Box::pin(self.read_records(owner, at_most))
    }
}

/// How the database in this folder is to be opened.
fn asked_for(folder: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(folder.join("calls.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .disable_statement_logging()
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

fn of_sqlx(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.is_some_and(|code| FULL.contains(&code.as_ref())) {
        true => StoreError::Full,
        false => StoreError::Database(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_is_less_safe_than_asked_for_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let safe = asked_for(folder.path());
        let cases = [
            (safe.clone(), None),
            (safe.clone().synchronous(SqliteSynchronous::Normal), Some("synchronous 1")),
            (safe.clone().foreign_keys(false), Some("foreign_keys 0")),
            // What the engine answers where shared memory cannot be had.
            (safe.journal_mode(SqliteJournalMode::Delete), Some("journal_mode delete")),
        ];
        for (options, wrong) in cases {
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
            let pool = pool.expect("opens");
            let checked = check_pragmas(&pool).await;
            pool.close().await;
            match (checked, wrong) {
                (Ok(()), None) => {}
                (Err(StoreError::Io(why)), Some(wrong)) => {
                    assert!(why.to_string().contains(wrong), "{why}");
                }
                (checked, wrong) => panic!("{checked:?}, and not {wrong:?}"),
            }
        }
    }
}
