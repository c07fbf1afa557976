//! The audit log: who did what, from where, and what came of it. One JSON line for each call created or cancelled, each change of a
//! token or a host, and each refusal.
//!
//! **Owners.** One task writes `audit.log` in the state folder, another one `refused.log`: anybody can have as much refused as they like, and what was
//! done must neither be lost for it nor be pushed out of the log. Whoever has something to tell hands it over without waiting; what comes
//! faster than the disk takes it is counted, and the next line has the count. Commands on the gateway's machine append to `audit.log`.
//!
//! **Bounds.** A file that has reached its size becomes `audit.log.1`, the one before it `audit.log.2`, and so on; the last is removed.
//! So a flood of refusals costs a bounded part of the disk.
//!
//! **Not in it.** Payloads, tokens, keys: an entry names ids and hosts, and nothing that opens a door.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::tasks::Tasks;

/// What [`Entry::what`] says of a request that was refused before it was looked into.
pub const REFUSED: &str = "refused";
const FILE: &str = "audit.log";
const REFUSALS: &str = "refused.log";
/// Entries that wait for the disk.
const WAITING: usize = 1024;

/// How large the log may grow.
#[derive(Debug, Clone, Copy)]
pub struct AuditConfig {
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Full files that are kept beside the one that is written.
    pub kept: u32,
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        AuditConfig { file_bytes: 16 << 20, kept: 8 }
    }
}

/// One line. Empty parts are left out.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Entry {
    /// What was done, or asked for: `call_created`, `token_revoked`, `refused`.
    pub what: &'static str,
    /// The owner who did it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// The id of their token or credential.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// The address they came from; `local` for a command on the gateway's machine.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// What it was done to: the id of a call or a token, the name of a host, a route.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub on: String,
    /// `ok`, or the code it was refused with.
    pub result: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a Entry,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where entries go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    acts: Inbox,
    refusals: Inbox,
}

impl Audit {
    /// Opens the logs in the state folder, and starts their owners.
    pub fn start(state_dir: &Path, config: AuditConfig, tasks: &Tasks) -> io::Result<Audit> {
        let inbox = |file| Inbox::start(state_dir.join(file), config, tasks);
        Ok(Audit { acts: inbox(FILE)?, refusals: inbox(REFUSALS)? })
    }

    /// Writes an entry down, soon.
    pub fn tell(&self, entry: Entry) {
        let inbox = if entry.what == REFUSED { &self.refusals } else { &self.acts };
        inbox.tell(entry);
    }
}

/// The way to the owner of one log.
#[derive(Debug, Clone)]
struct Inbox {
    entries: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Inbox {
    fn start(path: PathBuf, config: AuditConfig, tasks: &Tasks) -> io::Result<Inbox> {
        let (entries, mut inbox) = mpsc::channel::<Entry>(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let mut log = Log::open(path, config)?;
        let (missing, stop) = (lost.clone(), tasks.clone());
        tasks.spawn_critical("audit", async move {
            loop {
                let entry = tokio::select! {
                    biased;
                    entry = inbox.recv() => entry,
                    // What was told before the stop has been written by then.
                    () = stop.stopping() => None,
                };
                let Some(entry) = entry else { return };
                let lost = missing.swap(0, Ordering::Relaxed);
                if let Err(error) = log.write(&entry, lost) {
                    missing.fetch_add(lost + 1, Ordering::Relaxed);
                    tracing::error!(error = crate::chain(&error), "audit log not written");
                }
            }
        });
        Ok(Inbox { entries, lost })
    }

    fn tell(&self, entry: Entry) {
        if self.entries.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("muster_audit_lost_total").increment(1);
        }
    }
}

/// Appends one entry to the log of a gateway that may be running.
pub fn append(state_dir: &Path, entry: &Entry) -> io::Result<()> {
    let kept = AuditConfig { file_bytes: u64::MAX, ..AuditConfig::default() };
    Log::open(state_dir.join(FILE), kept)?.write(entry, 0)
}

struct Log {
    path: PathBuf,
    config: AuditConfig,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: PathBuf, config: AuditConfig) -> io::Result<Log> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Log { path, config, file, bytes })
    }

    fn write(&mut self, entry: &Entry, lost: u64) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::to_vec(&Line { time, entry, lost })?;
        line.push(b'\n');
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.config.file_bytes {
            self.rotate()?;
        }
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| self.path.with_extension(format!("log.{number}"));
        for number in (1..self.config.kept).rev() {
            // Fewer files than may be kept is how every log begins.
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        match self.config.kept {
            0 => fs::remove_file(&self.path)?,
            _ => fs::rename(&self.path, numbered(1))?,
        }
        *self = Log::open(self.path.clone(), self.config)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(on: usize) -> Entry {
        Entry {
            what: "call_created",
            on: format!("c-{on}"),
            result: "ok".into(),
            ..Entry::default()
        }
    }

    #[test]
    fn the_log_is_rotated_by_size_and_the_oldest_file_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let config = AuditConfig { file_bytes: 300, kept: 2 };
        let mut log = Log::open(path.clone(), config).expect("opened");
        for n in 0..40 {
            log.write(&entry(n), 0).expect("written");
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|file| file.expect("a file").file_name().into_string().expect("plain"))
            .collect();
        names.sort();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2"]);
        for name in names {
            assert!(fs::metadata(folder.path().join(name)).expect("there").len() <= 300);
        }
        let last = fs::read_to_string(path).expect("text");
        let last: serde_json::Value =
            serde_json::from_str(last.lines().last().expect("a line")).expect("JSON");
        assert_eq!((&last["what"], &last["on"]), (&"call_created".into(), &"c-39".into()));
        assert!(last.get("who").is_none() && last["time"].is_string());
    }

    #[tokio::test]
    async fn a_flood_of_refusals_neither_loses_nor_pushes_out_what_was_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let tasks = Tasks::new();
        let config = AuditConfig { file_bytes: 300, kept: 1 };
        let audit = Audit::start(folder.path(), config, &tasks).expect("started");
        for n in 0..2 * WAITING {
            audit.tell(Entry { what: REFUSED, ..entry(n) });
        }
        audit.tell(entry(7));
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap_or_default();
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while !read(FILE).contains("c-7") || read("refused.log.1").is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "not written");
            tokio::task::yield_now().await;
        }
        assert_eq!(read(FILE).lines().count(), 1);
        assert!(!read(FILE).contains("lost"));
        tasks.stop();
    }

    #[tokio::test]
    async fn what_comes_too_fast_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let tasks = Tasks::new();
        let audit = Audit::start(folder.path(), AuditConfig::default(), &tasks).expect("started");
        // The owner has had no turn yet: this test's thread is the only one.
        for n in 0..WAITING + 5 {
            audit.tell(entry(n));
        }
        let path = folder.path().join(FILE);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while fs::read_to_string(&path).expect("text").lines().count() < WAITING {
            assert!(tokio::time::Instant::now() < deadline, "not written");
            tokio::task::yield_now().await;
        }
        let text = fs::read_to_string(&path).expect("text");
        let first: serde_json::Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["lost"], 5);
        tasks.stop();
    }
}
