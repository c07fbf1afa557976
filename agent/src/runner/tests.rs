//! A runner played by the test, honest and otherwise.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind, header};
use muster_wire::message::{Exit, json_frame};
use muster_wire::page as at;
use muster_wire::print::Stream;
use muster_wire::results::Record;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// What the other side of a [`Runner`] holds.
struct Other {
    init: StdStream,
    channel: StdStream,
    out: File,
    err: File,
    page: File,
}

fn runner() -> (Runner, Other) {
    let (ours, init) = StdStream::pair().expect("a socket pair");
    ours.set_nonblocking(true).expect("an open socket");
    let control = Control::new(UnixStream::from_std(ours).expect("in a runtime"));
    let (channel, channel_fd) = Channel::new().expect("a channel");
    let uid = nix::unistd::getuid().as_raw();
    let (pipes, out, err) = Pipes::new(uid).expect("pipes");
    let (page, page_fd) = Page::new().expect("a page");
    let runner = Runner {
        control,
        channel,
        pipes,
        page,
        python: None,
        attribution: Attribution::default(),
        answers: Answers::default(),
        looks: exchange::Looks::default(),
    };
    let file = |fd: OwnedFd| File::from(fd);
    let other = Other {
        init,
        channel: channel_fd.into(),
        out: file(out),
        err: file(err),
        page: file(page_fd),
    };
    (runner, other)
}

fn batch(first: u64, count: usize) -> Inputs {
    Inputs::from_items(first, 1, &vec![b"x"; count])
}

fn records(list: &[(u64, u64, u64)]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for &(index, out_end, err_end) in list {
        let item = Bytes::from(format!("item {index}"));
        Record::single(index, out_end, err_end, Status::Value, item).encode(&mut bytes);
    }
    bytes
}

impl Other {
    fn send(&mut self, bytes: &[u8]) {
        self.channel.write_all(bytes).expect("the agent reads");
    }

    fn results(&mut self, list: &[(u64, u64, u64)]) {
        let frame = Frame::new(Kind::Results, records(list).freeze());
        self.send(&frame.to_bytes());
    }

    fn word(&self, offset: usize, value: u64) {
        self.page.write_all_at(&value.to_le_bytes(), offset as u64).expect("a page");
    }

    fn runs(&self, seq: u64, index: u64) {
        self.word(at::INDEX, index);
        self.word(at::RUNNING, 1);
        self.word(at::STATE_SEQ, seq);
    }

    fn pending(&self, list: &[(u64, u64, u64)]) {
        let bytes = records(list);
        self.page.write_all_at(&bytes, at::PENDING as u64).expect("a page");
        self.word(at::PENDING_LEN, bytes.len() as u64);
    }

    fn exit(&mut self, exit: &Exit) {
        let frame = json_frame(Kind::Exit, exit);
        self.init.write_all(&frame.to_bytes()).expect("the agent reads");
    }
}

async fn step(runner: &mut Runner) -> Result<Step, RunnerError> {
    let until = Instant::now() + DEADLINE;
    timeout(DEADLINE * 2, runner.step(until)).await.expect("a step has its deadline")
}

async fn news(runner: &mut Runner) -> News {
    match step(runner).await {
        Ok(Step::News(news)) => news,
        other => panic!("expected news, got {other:?}"),
    }
}

fn indexes(news: &News) -> Vec<u64> {
    news.records.iter().map(|record| record.index).collect()
}

#[tokio::test]
async fn a_batch_is_written_whole_and_its_records_come_back() {
    let (mut runner, mut other) = runner();
    let spec = Frame::new(Kind::Spec, Bytes::from_static(b"{}"));
    let inputs = batch(7, 2);
    runner.give(std::slice::from_ref(&spec), &inputs);
    let mut expected = BytesMut::new();
    spec.encode(&mut expected);
    inputs.to_frame().encode(&mut expected);
    let reading = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        other.channel.read_exact(&mut got).expect("both frames");
        assert_eq!(got, expected);
        other.results(&[(7, 0, 0), (8, 0, 0)]);
        other
    });
    let news = news(&mut runner).await;
    assert_eq!(indexes(&news), [7, 8]);
    assert!(!runner.is_busy());
    drop(reading.join());
}

#[tokio::test]
async fn what_the_running_input_prints_goes_out_before_it_ends() {
    let (mut runner, mut other) = runner();
    runner.give(&[], &batch(0, 2));
    other.runs(2, 0);
    other.out.write_all(b"half a li").expect("room");
    let first = news(&mut runner).await;
    assert!(first.records.is_empty());
    assert_eq!((first.prints[0].index, &first.prints[0].bytes[..]), (0, &b"half a li"[..]));
    other.out.write_all(b"ne").expect("room");
    other.err.write_all(b"\xff").expect("room");
    other.runs(4, 1);
    other.results(&[(0, 11, 1)]);
    let mut rest: HashMap<(u64, Stream), Vec<u8>> = HashMap::new();
    let mut seen = Vec::new();
    while seen.is_empty() {
        let news = news(&mut runner).await;
        for print in &news.prints {
            rest.entry((print.index, print.stream)).or_default().extend_from_slice(&print.bytes);
        }
        seen.extend(indexes(&news));
    }
    assert_eq!(rest[&(0, Stream::Stdout)], b"ne");
    assert_eq!(rest[&(0, Stream::Stderr)], b"\xff");
}

#[tokio::test]
async fn an_output_does_not_wait_behind_a_slow_successor() {
    let (mut runner, mut other) = runner();
    runner.give(&[], &batch(0, 3));
    other.pending(&[(0, 0, 0)]);
    other.runs(4, 1);
    assert_eq!(indexes(&news(&mut runner).await), [0]);
    // Later the same record comes again, with more.
    other.results(&[(0, 0, 0), (1, 0, 0), (2, 0, 0)]);
    assert_eq!(indexes(&news(&mut runner).await), [1, 2]);
    assert!(!runner.is_busy());
}

#[tokio::test]
async fn a_dead_runner_names_its_input_and_loses_no_record() {
    let (mut runner, mut other) = runner();
    runner.give(&[], &batch(10, 5));
    other.results(&[(10, 0, 0)]);
    other.out.write_all(b"eleventwelve").expect("room");
    other.pending(&[(11, 6, 0)]);
    other.runs(6, 12);
    other.exit(&Exit { signal: Some(11), ..Exit::default() });
    let (mut seen, mut printed) = (Vec::new(), Vec::new());
    loop {
        let (news, end) = match step(&mut runner).await.expect("an honest runner") {
            Step::News(news) => (news, None),
            Step::Ended { exit, running, news, .. } => (news, Some((exit.signal, running))),
            Step::Time => panic!("too late"),
        };
        seen.extend(indexes(&news));
        printed.extend(news.prints);
        if let Some(end) = end {
            assert_eq!(end, (Some(11), Some(12)));
            break;
        }
    }
    assert_eq!(seen, [10, 11]);
    let of = |index| -> Vec<u8> {
        let prints = printed.iter().filter(|print| print.index == index);
        prints.flat_map(|print| print.bytes.to_vec()).collect()
    };
    assert_eq!((of(11), of(12)), (b"eleven".to_vec(), b"twelve".to_vec()));
    assert_eq!(runner.unanswered(), Some(12));
}

#[tokio::test]
async fn lies_about_what_runs_blame_nobody_and_last_words_are_kept() {
    let (mut runner, mut other) = runner();
    runner.give(&[], &batch(0, 3));
    other.runs(2, u64::MAX);
    other.err.write_all(b"Traceback\nAttributeError\n").expect("room");
    other.exit(&Exit { exit_code: Some(1), ..Exit::default() });
    match step(&mut runner).await {
        Ok(Step::Ended { running, last_words, .. }) => {
            assert_eq!((running, last_words.as_str()), (None, "Traceback\nAttributeError"));
        }
        other => panic!("expected an end, got {other:?}"),
    }
}

async fn refused(bytes: &[u8]) -> RunnerError {
    let (mut runner, mut other) = runner();
    runner.give(&[], &batch(5, 3));
    other.send(bytes);
    let error = step(&mut runner).await.expect_err("what was sent is not the protocol");
    assert_eq!(runner.unanswered(), Some(5), "an output that reached nobody counts as one");
    error
}

fn frame_of(list: &[(u64, u64, u64)]) -> Bytes {
    Frame::new(Kind::Results, records(list).freeze()).to_bytes()
}

#[tokio::test]
async fn garbage_and_lengths_over_the_limit_fail_the_worker() {
    assert!(matches!(refused(&[0x5f; 64]).await, RunnerError::Wire(_)));
    let huge = header(Kind::Results, 0, muster_wire::MAX_FRAME + 1);
    assert!(matches!(refused(&huge).await, RunnerError::Wire(_)));
    let cut = Frame::new(Kind::Results, Bytes::from_static(b"short")).to_bytes();
    assert!(matches!(refused(&cut).await, RunnerError::Wire(_)));
    let mut record = records(&[(5, 0, 0)]);
    let at = 28; // its length
    record[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let long = Frame::new(Kind::Results, record.freeze()).to_bytes();
    assert!(matches!(refused(&long).await, RunnerError::Wire(_)));
    let none = Frame::new(Kind::Results, Bytes::new()).to_bytes();
    assert!(matches!(refused(&none).await, RunnerError::Hostile { .. }));
    let other = Frame::of_u32(Kind::Workers, 1).to_bytes();
    assert!(matches!(refused(&other).await, RunnerError::Hostile { .. }));
}

#[tokio::test]
async fn records_of_no_input_of_the_batch_or_out_of_turn_fail_the_worker() {
    for list in [&[(4, 0, 0)][..], &[(6, 0, 0)], &[(8, 0, 0)], &[(5, 0, 0), (5, 0, 0)]] {
        let error = refused(&frame_of(list)).await;
        assert!(matches!(error, RunnerError::Hostile { .. }), "{list:?}: {error}");
    }
    let (mut runner, mut other) = runner();
    other.results(&[(0, 0, 0)]);
    let error = step(&mut runner).await.expect_err("nothing was asked");
    assert!(matches!(error, RunnerError::Hostile { .. }), "{error}");
}

#[tokio::test]
async fn prints_that_cannot_be_true_fail_the_worker() {
    for list in [&[(5, 1, 0)][..], &[(5, 0, u64::MAX)], &[(5, 2 << 20, 0)]] {
        let error = refused(&frame_of(list)).await;
        assert!(matches!(error, RunnerError::Hostile { .. }), "{list:?}: {error}");
    }
}

#[tokio::test]
async fn garbage_in_pending_harms_nobody() {
    let (mut runner, mut other) = runner();
    runner.give(&[], &batch(0, 2));
    let mut garbage = BytesMut::new();
    garbage.put_bytes(0xee, 5000);
    other.page.write_all_at(&garbage, at::PENDING as u64).expect("a page");
    other.word(at::PENDING_LEN, 5000);
    match runner.step(Instant::now() + Duration::from_millis(50)).await {
        Ok(Step::Time) => {}
        other => panic!("expected nothing, got {other:?}"),
    }
    other.results(&[(0, 0, 0), (1, 0, 0)]);
    assert_eq!(indexes(&news(&mut runner).await), [0, 1]);
}

#[tokio::test]
async fn a_runner_that_never_reads_costs_the_agent_what_it_was_given_and_no_time() {
    let (mut runner, mut other) = runner();
    let large = vec![b'x'; 4 << 20];
    runner.give(&[], &Inputs::from_items(0, 1, &[&large, &large]));
    other.runs(2, 0);
    // It is heard all the same, and its deadlines hold.
    other.out.write_all(b"hello").expect("room");
    assert_eq!(&news(&mut runner).await.prints[0].bytes[..], b"hello");
    match runner.step(Instant::now() + Duration::from_millis(50)).await {
        Ok(Step::Time) => {}
        other => panic!("expected nothing, got {other:?}"),
    }
    other.exit(&Exit { signal: Some(9), ..Exit::default() });
    match step(&mut runner).await {
        Ok(Step::Ended { running, .. }) => assert_eq!(running, Some(0)),
        other => panic!("expected an end, got {other:?}"),
    }
}

#[tokio::test]
async fn a_runner_that_closes_its_channel_has_ended() {
    let (mut runner, mut other) = runner();
    runner.give(&[], &batch(0, 1));
    other.runs(2, 0);
    other.channel.shutdown(std::net::Shutdown::Both).expect("open");
    other.exit(&Exit { exit_code: Some(3), ..Exit::default() });
    match step(&mut runner).await {
        Ok(Step::Ended { exit, running, .. }) => {
            assert_eq!((exit.exit_code, running), (Some(3), Some(0)));
        }
        other => panic!("expected an end, got {other:?}"),
    }
}

#[tokio::test]
async fn the_end_of_pid_1_is_an_exit_without_a_code() {
    let (mut runner, other) = runner();
    drop(other);
    assert_eq!(timeout(DEADLINE, runner.exited()).await, Ok(Exit::default()));
    assert_eq!(timeout(DEADLINE, runner.exited()).await, Ok(Exit::default()));
}
