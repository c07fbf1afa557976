//! A batch in flight: what the channel, the pipes and the page say, brought together.

use std::time::Duration;

use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::Exit;
use muster_wire::pieces::Pieces;
use muster_wire::print::Stream;
use muster_wire::results::Record;
use tokio::time::Instant;

use super::attribution::Printed;
use super::page::Running;
use super::pipes::CAPACITY;
use super::{Runner, RunnerError};

/// How long bytes that belong to nobody yet wait for records before we look into pending.
const LOOK_FOR_OWNER: Duration = Duration::from_millis(2);
/// How long a runner may be silent before we look into pending; doubles while it stays silent.
const LOOK_AT_SILENCE: Duration = Duration::from_millis(20);
/// The longest pause between looks at a silent runner.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);
/// While this many bytes belong to nobody, the pipes are not read, in bytes.
const MAX_HELD: usize = 4 << 20;
/// What is read from the pipes of a runner that has ended, at most, in chunks.
const LAST_CHUNKS: usize = 64;
/// What is told of its stderr where no input printed it, in bytes.
const LAST_WORDS: usize = 1000;
/// How long pid 1 may take to say how a runner ended that has closed its channel.
const EXIT_DEADLINE: Duration = Duration::from_secs(2);

/// When we look into pending next.
#[derive(Debug)]
pub struct Looks {
    at: Instant,
    pause: Duration,
    hurried: bool,
}

/// What a runner did since the last step. The prints of an input come before or with its record.
#[derive(Debug, Default)]
pub struct News {
    /// Bytes written, in order.
    pub prints: Vec<Printed>,
    /// Inputs that have ended, in order.
    pub records: Vec<Record>,
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// Something was printed or has ended.
    News(News),
    /// The time asked for has come.
    Time,
    /// The runner has ended; nothing more comes.
    Ended {
        /// How.
        exit: Exit,
        /// The input it was running.
        running: Option<u64>,
        /// Its last prints and records.
        news: News,
        /// The end of what it wrote to stderr outside of any input.
        last_words: String,
    },
}

impl Default for Looks {
    fn default() -> Looks {
        Looks { at: Instant::now(), pause: LOOK_AT_SILENCE, hurried: false }
    }
}

impl Looks {
    fn restart(&mut self) {
        *self = Looks { at: Instant::now() + LOOK_AT_SILENCE, ..Looks::default() };
    }

    fn hurry(&mut self) {
        if !self.hurried {
            self.hurried = true;
            self.at = self.at.min(Instant::now() + LOOK_FOR_OWNER);
        }
    }

    fn looked(&mut self) {
        self.pause = (self.pause * 2).min(LOOK_AT_MOST);
        self.hurried = false;
        self.at = Instant::now() + self.pause;
    }
}

impl Runner {
    /// Minor version of the image's Python, `"3.11"`; none for commands.
    pub fn python(&self) -> Option<&str> {
        self.python.as_deref()
    }

    /// Asks pid 1 to send a signal to the runner's process group.
    pub async fn signal(&self, signal: i32) {
        self.control.signal(signal).await;
    }

    /// Ends when the runner has ended. Safe to cancel, and to ask again.
    pub async fn exited(&mut self) -> Exit {
        self.control.exited().await
    }

    /// Tells the runner that no batch will come any more.
    pub fn close(&mut self) {
        self.channel.close();
    }

    /// Hands over a batch, after `before` (SPEC and FUNCTION before the first one). The last batch must be answered.
    pub fn give(&mut self, before: &[Frame], batch: &Inputs) {
        for frame in before {
            self.channel.send(frame.clone());
        }
        self.channel.send(batch.in_pieces());
        self.channel.flush();
        self.answers.begin(batch.first, batch.end());
        self.looks.restart();
    }

    /// Whether records of the batch are still to come.
    pub fn is_busy(&self) -> bool {
        self.answers.is_busy()
    }

    /// First input of the batch that is not answered.
    pub fn unanswered(&self) -> Option<u64> {
        self.answers.next()
    }

    /// What the runner says it runs.
    pub fn running(&self) -> Option<Running> {
        self.page.running()
    }

    /// Waits for the next thing to happen, until `until` at most. Safe to cancel.
    pub async fn step(&mut self, until: Instant) -> Result<Step, RunnerError> {
        loop {
            let wake = if self.is_busy() { until.min(self.looks.at) } else { until };
            // A runner without a batch is not read: what a thread left behind writes waits in the pipe.
            let read = self.is_busy() && self.attribution.held() < MAX_HELD;
            let mut news = News::default();
            // News that end in an error reach nobody: what they answered is not answered then.
            let before = self.answers;
            tokio::select! {
                biased;
                exit = self.control.exited() => return Ok(self.ended(exit)),
                frame = self.channel.next() => match frame? {
                    Some(frame) => {
                        if let Err(error) = self.results(frame, &mut news) {
                            self.answers = before;
                            return Err(error);
                        }
                    }
                    None => return Ok(self.closed().await),
                },
                (stream, bytes) = self.pipes.next(&mut self.page), if read => {
                    self.attribution.read(stream, bytes);
                    self.attribute(&mut news);
                }
                () = tokio::time::sleep_until(wake) => {
                    if self.is_busy() && Instant::now() >= self.looks.at {
                        if let Err(error) = self.look(&mut news) {
                            self.answers = before;
                            return Err(error);
                        }
                    } else {
                        return Ok(Step::Time);
                    }
                }
            }
            if !news.prints.is_empty() || !news.records.is_empty() || !self.is_busy() {
                return Ok(Step::News(news));
            }
        }
    }

    /// A frame came on the channel.
    fn results(&mut self, frame: Frame<Pieces>, news: &mut News) -> Result<(), RunnerError> {
        if frame.kind != Kind::Results {
            return Err(RunnerError::Hostile { why: "a frame that is not RESULTS" });
        }
        let mut body = frame.body;
        if body.is_empty() {
            // A flood of these would cost nothing to send, and never end.
            return Err(RunnerError::Hostile { why: "results without a result" });
        }
        while let Some(record) = Record::take(&mut body)? {
            let before = self.answers;
            let known = self.answers.on_channel(record.index, record.count);
            let why = "a result that was not its turn";
            let known = known.map_err(|_| RunnerError::Hostile { why })?;
            self.record(record, known, news).inspect_err(|_| self.answers = before)?;
        }
        self.looks.restart();
        self.attribute(news);
        Ok(())
    }

    /// Looks for records that the runner has not sent yet.
    fn look(&mut self, news: &mut News) -> Result<(), RunnerError> {
        let mut bytes = Pieces::from(self.page.pending().unwrap_or_default());
        // Records that make no sense are left: the channel will bring better ones, or an error.
        while let Ok(Some(record)) = Record::take(&mut bytes) {
            let before = self.answers;
            match self.answers.in_pending(record.index, record.count) {
                Ok(known) => {
                    self.record(record, known, news).inspect_err(|_| self.answers = before)?;
                }
                Err(_) => break,
            }
        }
        self.looks.looked();
        self.attribute(news);
        Ok(())
    }

    /// A record, the first `known` results of which are not new: reads the pipes as far as it says, so that its prints are
    /// complete.
    fn record(
        &mut self,
        mut record: Record,
        known: u32,
        news: &mut News,
    ) -> Result<(), RunnerError> {
        if known == record.count {
            return Ok(());
        }
        record.skip(known);
        for (stream, end) in [(Stream::Stdout, record.out_end), (Stream::Stderr, record.err_end)] {
            let missing = end.saturating_sub(self.attribution.offset(stream));
            if missing > CAPACITY {
                return Err(RunnerError::Hostile { why: "more prints than a pipe holds" });
            }
            while self.attribution.offset(stream) < end {
                let bytes = self.pipes.read_now(stream, &mut self.page);
                let why = "prints that were never written";
                self.attribution.read(stream, bytes.ok_or(RunnerError::Hostile { why })?);
            }
        }
        self.attribution
            .ended(record.index, record.out_end, record.err_end, &mut news.prints)
            .map_err(|_| RunnerError::Hostile { why: "prints that end before they begin" })?;
        news.records.push(record);
        Ok(())
    }

    /// Gives what was read to the input that runs, if that is certain.
    fn attribute(&mut self, news: &mut News) {
        if self.attribution.held() == 0 {
            return;
        }
        let Some(next) = self.answers.next() else { return };
        match self.page.running() {
            Some(Running { index: Some(index), .. }) if index == next => {
                self.attribution.runs(index, &mut news.prints);
            }
            _ => self.looks.hurry(),
        }
    }

    /// The runner has closed its channel: it is ending, or cannot go on.
    async fn closed(&mut self) -> Step {
        let exit = match tokio::time::timeout(EXIT_DEADLINE, self.control.exited()).await {
            Ok(exit) => exit,
            Err(_) => {
                Exit { error: Some("the runner closed its channel".into()), ..Exit::default() }
            }
        };
        self.ended(exit)
    }

    /// The runner has ended: takes what it left behind.
    fn ended(&mut self, exit: Exit) -> Step {
        let mut news = News::default();
        // Whatever is wrong with its last words, the ones before count.
        while let Some(frame) = self.channel.next_now() {
            if self.results(frame, &mut news).is_err() {
                break;
            }
        }
        let _ = self.look(&mut news);
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..LAST_CHUNKS {
                let Some(bytes) = self.pipes.read_now(stream, &mut self.page) else { break };
                self.attribution.read(stream, bytes);
            }
        }
        self.attribute(&mut news);
        let running = self.page.running().and_then(|running| running.index);
        let running = running.filter(|index| Some(*index) == self.unanswered());
        let last_words = self.attribution.last_words(LAST_WORDS);
        Step::Ended { exit, running, news, last_words }
    }
}
