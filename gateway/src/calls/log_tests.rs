use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use muster_wire::batch::{OutputsBuilder, Status};
use muster_wire::print::{Print, Stream};
use tokio::time::Instant;

use super::*;
use crate::store::{MemoryStore, Store};

/// Counts what is set aside.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    aside: Arc<AtomicUsize>,
}

impl Store for Counting {
    fn put(&self, id: u64, parts: &[Bytes]) -> Result<(), StoreError> {
        self.store.put(id, parts)
    }

    fn get(&self, id: u64) -> Result<Bytes, StoreError> {
        self.store.get(id)
    }

    fn set_aside(&self, _id: u64, _bytes: u64) {
        self.aside.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, id: u64) {
        self.store.remove(id);
    }
}

fn log(memory_bytes: usize, print_bytes: u64) -> Log {
    Log::new(LogConfig { memory_bytes, print_bytes }, Spill::new(MemoryStore::default(), u64::MAX))
}

fn print(bytes: usize) -> Frame {
    let bytes = Bytes::from(vec![b'x'; bytes]);
    Print { index: 0, attempt: 1, stream: Stream::Stdout, bytes }.to_frame()
}

fn outputs(first: u64, count: u64) -> Frame {
    let mut builder = OutputsBuilder::new(first, 1);
    (0..count).for_each(|_| builder.push(Status::Value, b"v"));
    builder.finish().to_frame()
}

async fn read_all(log: &Log, mut seq: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let frames = match log.read(seq) {
            Read::Frames(frames) => frames,
            Read::Spilled { blob, .. } => {
                Log::decode(blob.get().await.expect("there"), seq).expect("own bytes")
            }
            Read::Forgotten { seq: forgotten, .. } => {
                seq = forgotten;
                continue;
            }
            Read::Stored | Read::Nothing | Read::Closed => return seqs,
        };
        for frame in frames {
            seqs.extend(frame.seq..=last_seq(&frame));
            seq = last_seq(&frame);
        }
    }
}

#[test]
fn what_is_read_back_of_a_large_batch_holds_no_more_memory_than_it_is_long() {
    let mut batch = BytesMut::new();
    for seq in 1..=100 {
        Frame { seq, ..print(10_000) }.encode(&mut batch);
    }
    let batch = batch.freeze();
    let mut seq = 0;
    while seq < 100 {
        let taken = Log::decode_next(vec![batch.clone()], seq, READ_BYTES).expect("own bytes");
        let bytes: usize = taken.iter().map(Frame::wire_len).sum();
        assert!(bytes < READ_BYTES + 11_000 && batch.is_unique());
        assert_eq!(taken[0].seq, seq + 1);
        seq = last_seq(taken.last().expect("more"));
    }
    // Who takes most of it holds it as it is.
    let all = Log::decode_next(vec![batch.clone()], 0, usize::MAX).expect("own bytes");
    assert!(all.len() == 100 && !batch.is_unique());
}

#[tokio::test]
async fn every_event_has_the_next_number_also_when_spilled() {
    let log = log(0, u64::MAX);
    for _ in 0..40 {
        log.append_print(print(100_000));
        log.append(outputs(0, 3));
        log.settle().await.expect("room");
    }
    assert_eq!(read_all(&log, 0).await, (1..=160).collect::<Vec<_>>());
    assert_eq!(read_all(&log, 100).await.last(), Some(&160));
    assert!(log.lock().memory <= SEGMENT_BYTES + 200_000, "only the tail stays in memory");
}

/// What came of a reader.
struct Followed {
    /// How often it was sent to the spill.
    spilled: usize,
    /// How many segments were set aside.
    aside: usize,
    /// How long the writer took.
    took: Duration,
}

/// A reader that takes what is there every `pause`, while 30 segments are appended.
async fn follow(pause: Duration) -> Followed {
    let store = Counting::default();
    let aside = store.aside.clone();
    let config = LogConfig { memory_bytes: 0, print_bytes: u64::MAX };
    let log = Arc::new(Log::new(config, Spill::new(store, u64::MAX)));
    let begun = Instant::now();
    let reading = tokio::spawn({
        let log = log.clone();
        async move {
            let (reader, mut end) = (log.enter(0), log.end());
            let (mut seq, mut spilled) = (0, 0);
            loop {
                let frames = match log.read(seq) {
                    Read::Frames(frames) => frames,
                    Read::Spilled { blob, .. } => {
                        spilled += 1;
                        Log::decode(blob.get().await.expect("there"), seq).expect("own bytes")
                    }
                    Read::Closed => return spilled,
                    _ => {
                        end.changed().await.expect("a writer");
                        continue;
                    }
                };
                tokio::time::sleep(pause).await;
                seq = frames.last().map_or(seq, last_seq);
                log.passed(reader, seq);
            }
        }
    });
    tokio::task::yield_now().await;
    for _ in 0..30 {
        log.append(print(SEGMENT_BYTES));
        log.settle().await.expect("room");
    }
    let took = begun.elapsed();
    log.close(dropped_event(0));
    let spilled = reading.await.expect("it ends");
    Followed { spilled, aside: aside.load(Ordering::Relaxed), took }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_keeps_up_is_waited_for_and_never_sent_to_the_spill() {
    let followed = follow(Duration::from_millis(5)).await;
    assert_eq!((followed.spilled, followed.aside), (0, 29), "all but the tail are set aside");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_waited_for_once() {
    let Followed { spilled, aside, took } = follow(Duration::from_secs(10)).await;
    assert!(spilled > 20, "{spilled} of 30 segments");
    assert_eq!(aside, 0, "it will read them soon");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_reader_that_resumes_inside_a_batch_gets_the_batch_whole() {
    let log = log(1 << 20, u64::MAX);
    log.append(outputs(0, 10));
    assert_eq!(read_all(&log, 4).await, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_live_reader_lets_any_number_of_prints_through() {
    let log = log(1 << 30, 5 << 20);
    let reader = log.enter(0);
    for _ in 0..50 {
        log.append_print(print(1 << 20));
        log.passed(reader, log.end().borrow().seq);
    }
    assert_eq!(log.end().borrow().seq, 50, "nothing was dropped");
}

#[tokio::test]
async fn without_a_reader_prints_past_the_budget_are_dropped_and_counted() {
    let log = log(1 << 30, 5 << 20);
    for _ in 0..50 {
        log.append_print(print(1 << 20));
    }
    log.append(outputs(0, 1));
    let Read::Frames(frames) = log.read(4) else { panic!("in memory") };
    let text = String::from_utf8_lossy(&frames[0].body.joined()).into_owned();
    assert!(
        text.contains("\"dropped\"") && text.contains(&(46 * ((1 << 20) + 16)).to_string()),
        "{text}"
    );
    assert_eq!(frames[1].kind, Kind::Outputs, "outputs are never dropped");
}

#[tokio::test]
async fn events_of_a_kept_log_are_seen_once_they_are_saved_and_then_leave_memory() {
    let config = LogConfig { memory_bytes: 0, print_bytes: u64::MAX };
    let spill = Spill::new(MemoryStore::default(), u64::MAX);
    let log = Log::kept(config, spill, 7, false);
    assert!(matches!(log.read(3), Read::Stored), "an earlier gateway's");
    log.append(outputs(0, 2));
    log.append(outputs(2, 1));
    assert_eq!(log.unsaved().len(), 2);
    assert!(matches!(log.read(7), Read::Nothing) && log.is_clogged());
    log.saved(9);
    let Read::Frames(frames) = log.read(7) else { panic!("in memory") };
    assert_eq!((frames.len(), log.unsaved().len()), (1, 1));
    log.close(dropped_event(0));
    log.saved(10);
    assert!(matches!(log.read(10), Read::Nothing), "the end is not saved yet");
    log.saved(11);
    assert!(matches!(log.read(11), Read::Closed) && !log.is_clogged());
    log.settle().await.expect("nothing to write");
    assert!(matches!(log.read(7), Read::Stored));
}
