//! The real `muster-runner`, outside a container, driven by the agent's half of the protocol.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_agent::runner::{News, Runner, RunnerError, Step};
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallKind, CallSpec, Encoding, Exit, Mode, json_frame};
use muster_wire::print::Stream;
use muster_wire::results::Record;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::time::{Instant, timeout};

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Pid 1 as a process of this machine, and the folder that the agent would mount.
pub struct Home {
    pub init: Child,
    pub folder: TempDir,
    listener: UnixListener,
}

impl Drop for Home {
    fn drop(&mut self) {
        // It ends by itself when its connection does; this is for tests that fail.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

impl Home {
    /// Starts pid 1 with these variables instead of ours, if any are given.
    pub fn new(variables: &[(&str, &str)]) -> Home {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let binary = env!("CARGO_BIN_EXE_muster-runner");
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/python/src");
        std::fs::create_dir_all(root.join("socket")).unwrap();
        std::fs::create_dir_all(root.join("runner/bin")).unwrap();
        symlink(binary, root.join("runner/bin/muster-runner")).unwrap();
        symlink(sdk.canonicalize().unwrap(), root.join("runner/python")).unwrap();
        let listener = UnixListener::bind(root.join("socket/agent.sock")).unwrap();
        let mut command = Command::new(binary);
        command.arg("init").arg(root).stdin(Stdio::null());
        if !variables.is_empty() {
            command.env_clear().envs(variables.iter().copied());
        }
        Home { init: command.spawn().unwrap(), folder, listener }
    }

    /// Starts pid 1 where the project's own Python, which has the right cloudpickle, is found first.
    pub fn with_python() -> Home {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin");
        let path = std::env::var("PATH").unwrap_or_default();
        Home::new(&[("PATH", &format!("{}:{path}", venv.display()))])
    }

    /// Accepts pid 1 and starts the runner.
    pub async fn start(&mut self, mode: Mode) -> Result<Runner, RunnerError> {
        let (control, _) = timeout(DEADLINE, self.listener.accept()).await.unwrap().unwrap();
        let uid = std::os::unix::fs::MetadataExt::uid(&self.folder.path().metadata().unwrap());
        Runner::start(control, mode, uid).await
    }

    /// Waits for the end of pid 1.
    pub async fn ended(&mut self) {
        wait_for("the end of pid 1", || self.init.try_wait().unwrap().is_some()).await;
    }
}

/// Waits for a condition, with a deadline.
pub async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A call of this kind.
pub fn spec(kind: CallKind, encoding: Encoding, command: &[&str]) -> CallSpec {
    CallSpec {
        call: "c1".into(),
        kind,
        encoding,
        image: "image".into(),
        runtime: None,
        python: None,
        cpu: 1.0,
        ram_bytes: 1 << 30,
        env: [("GREETING".to_string(), "hello".to_string())].into(),
        timeout_ms: None,
        entry: None,
        command: command.iter().map(|&word| word.into()).collect(),
        packages: None,
        secrets: Vec::new(),
        data: Vec::new(),
        shares: Default::default(),
    }
}

pub fn spec_frame(spec: &CallSpec) -> Frame {
    json_frame(Kind::Spec, spec)
}

/// What came of a batch.
#[derive(Default)]
pub struct Outcome {
    pub records: Vec<Record>,
    pub prints: HashMap<(u64, Stream), Vec<u8>>,
    /// How the runner ended, if it did, and the input it was running.
    pub end: Option<(Exit, Option<u64>)>,
}

impl Outcome {
    pub fn add(&mut self, news: News) {
        for print in news.prints {
            let ended = self.records.iter().any(|record| record.index == print.index);
            assert!(!ended, "input {} printed after its output", print.index);
            let bytes = self.prints.entry((print.index, print.stream)).or_default();
            bytes.extend_from_slice(&print.bytes);
        }
        for mut run in news.records {
            while run.count > 1 {
                let items = run.items.joined().slice(..run.item_len()).into();
                self.records.push(Record { count: 1, items, ..run.clone() });
                run.skip(1);
            }
            self.records.push(run);
        }
    }

    pub fn out(&self, index: u64) -> &[u8] {
        self.prints.get(&(index, Stream::Stdout)).map_or(&[], |bytes| bytes)
    }

    pub fn err(&self, index: u64) -> &[u8] {
        self.prints.get(&(index, Stream::Stderr)).map_or(&[], |bytes| bytes)
    }

    pub fn status(&self) -> Vec<(u64, Status)> {
        self.records.iter().map(|record| (record.index, record.status)).collect()
    }
}

/// Follows the batch until it is answered, or the runner has ended.
pub async fn follow(runner: &mut Runner, outcome: &mut Outcome) {
    while runner.is_busy() && outcome.end.is_none() {
        follow_once(runner, outcome).await;
    }
}

/// Takes the next news.
pub async fn follow_once(runner: &mut Runner, outcome: &mut Outcome) {
    match runner.step(Instant::now() + DEADLINE).await.expect("an honest runner") {
        Step::News(news) => outcome.add(news),
        Step::Time => panic!("nothing came"),
        Step::Ended { exit, running, news, .. } => {
            outcome.add(news);
            assert!(outcome.end.is_none(), "it has ended before");
            outcome.end = Some((exit, running));
        }
    }
}

/// Runs one batch of a new command runner.
pub async fn run(spec: &CallSpec, inputs: &Inputs) -> Outcome {
    let mut home = Home::new(&[]);
    let mut runner = home.start(Mode::Command).await.unwrap();
    let mut outcome = Outcome::default();
    runner.give(&[spec_frame(spec)], inputs);
    follow(&mut runner, &mut outcome).await;
    outcome
}
