use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::*;
use crate::store::durable::{Answer, Batch, MemoryCallStore, StoredCall, StoredRecord};

/// A store whose commits wait to be let through, and fail as they are told.
#[derive(Clone, Default)]
struct Slow(Arc<Inner>);

struct Inner {
    store: MemoryCallStore,
    let_through: Semaphore,
    commits: AtomicUsize,
    /// What becomes of changes of the age to so many seconds.
    outcome: Mutex<fn(u64) -> Result<(), StoreError>>,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            store: MemoryCallStore::default(),
            let_through: Semaphore::new(0),
            commits: AtomicUsize::new(0),
            outcome: Mutex::new(|_| Ok(())),
        }
    }
}

impl Slow {
    fn commits(&self) -> usize {
        self.0.commits.load(Ordering::Relaxed)
    }

    fn fails(&self, outcome: fn(u64) -> Result<(), StoreError>) {
        *self.0.outcome.lock().expect("no panic") = outcome;
    }
}

impl CallStore for Slow {
    fn commit<'a>(&'a self, changes: &'a [Change]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.0.let_through.acquire().await.expect("open").forget();
            self.0.commits.fetch_add(1, Ordering::Relaxed);
            let outcome = *self.0.outcome.lock().expect("no panic");
            for change in changes {
                let Change::Age(age) = change else { continue };
                outcome(*age)?;
            }
            self.0.store.commit(changes).await
        })
    }

    fn load(&self) -> Answer<'_, (Vec<StoredCall>, u64)> {
        self.0.store.load()
    }

    fn function<'a>(&'a self, call: &'a str) -> Answer<'a, Bytes> {
        self.0.store.function(call)
    }

    fn chunk<'a>(&'a self, call: &'a str, first: u64) -> Answer<'a, Bytes> {
        self.0.store.chunk(call, first)
    }

    fn events<'a>(&'a self, call: &'a str, seq: u64, bytes: usize) -> Answer<'a, Vec<Batch>> {
        self.0.store.events(call, seq, bytes)
    }

    fn record<'a>(&'a self, call: &'a str) -> Answer<'a, Option<StoredRecord>> {
        self.0.store.record(call)
    }

    fn records<'a>(
        &'a self,
        owner: Option<&'a str>,
        at_most: u32,
    ) -> Answer<'a, Vec<StoredRecord>> {
        self.0.store.records(owner, at_most)
    }
}

/// Writes of these ages, all submitted before the store answers any.
async fn submitted(journal: &Journal, ages: std::ops::Range<u64>) -> Vec<Written> {
    let mut writes = Vec::new();
    for age in ages {
        writes.push(journal.submit(vec![Change::Age(age)]).await);
    }
    writes
}

async fn outcomes(writes: Vec<Written>) -> Vec<Result<(), StoreError>> {
    let mut outcomes = Vec::new();
    for write in writes {
        outcomes.push(written(write).await);
    }
    outcomes
}

#[tokio::test]
async fn what_waits_is_committed_together() {
    let (store, tasks) = (Slow::default(), Tasks::new());
    let journal = Journal::start(store.clone(), u64::MAX, &tasks);
    let writes = submitted(&journal, 0..100).await;
    store.0.let_through.add_permits(100);
    assert!(outcomes(writes).await.iter().all(Result::is_ok));
    assert!(store.commits() <= 2, "{} commits of 100 writes", store.commits());
    assert_eq!(journal.store().load().await.expect("loads").1, 99, "in their order");
    tasks.stop();
}

#[tokio::test]
async fn a_write_without_space_keeps_none_out_that_waits_with_it() {
    let (store, tasks) = (Slow::default(), Tasks::new());
    let journal = Journal::start(store.clone(), u64::MAX, &tasks);
    store.fails(|age| if age == 5 { Err(StoreError::Full) } else { Ok(()) });
    let writes = submitted(&journal, 0..10).await;
    store.0.let_through.add_permits(100);
    let outcomes = outcomes(writes).await;
    let full: Vec<_> = (0..10).filter(|&at| outcomes[at].is_err()).collect();
    assert_eq!(full, [5]);
    assert!(matches!(outcomes[5], Err(StoreError::Full)));
    assert!(!tasks.is_stopping());
    tasks.stop();
}

#[tokio::test]
async fn any_other_error_ends_the_writer_and_the_process_and_is_not_tried_again() {
    let (store, tasks) = (Slow::default(), Tasks::new());
    let journal = Journal::start(store.clone(), u64::MAX, &tasks);
    // As a failed fsync.
    store.fails(|_| Err(StoreError::Io(std::io::Error::from_raw_os_error(5))));
    let writes = submitted(&journal, 0..3).await;
    store.0.let_through.add_permits(100);
    assert!(outcomes(writes).await.iter().all(Result::is_err), "none is said to be durable");
    tasks.stopping().await;
    assert!(store.commits() <= 2, "what failed is not written again");
    let late = journal.commit(vec![Change::Age(9)]).await;
    assert!(matches!(late, Err(StoreError::Closed)));
}
