//! The response of a call: one task that joins small frames and is the only one to write.
//!
//! What has piled up while the last chunk was being taken goes out as one chunk. A lone frame goes out at once; only when
//! many small chunks went out within a moment does the next wait for company: 4 KiB or the end of the moment.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use muster_wire::batch::{OutputsBuilder, Status};
use muster_wire::frame::{Frame, HEADER, Kind, header};
use muster_wire::pieces::Pieces;
use muster_wire::receipt::Receipt;
use muster_wire::results::Record;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::line::Outlet;
use crate::runner::{News, Printed};

/// Messages from drivers that wait to be written, and how many bytes they may have, unless a single one has more.
const INBOX: usize = 8;
const INBOX_BYTES: usize = 32 << 20;
/// A chunk below this is small, in bytes.
const SMALL: usize = 4 << 10;
/// A chunk that is at least this is not joined any further, in bytes.
const FULL: usize = 64 << 10;
/// Bytes that are not worth copying: they go out as they are.
const LARGE: usize = 32 << 10;
/// A moment, and how many small chunks may go out within it.
const MOMENT: Duration = Duration::from_millis(5);
const SMALL_CHUNKS: u32 = 16;
/// Bytes of outputs in one frame, unless a single output has more.
const MAX_OUTPUTS: usize = 4 << 20;

/// Bytes for the response, in order.
#[derive(Debug, Default)]
pub struct Message {
    parts: Vec<Bytes>,
    small: BytesMut,
    /// Its part of [`INBOX_BYTES`], until it is written.
    room: Option<OwnedSemaphorePermit>,
}

/// Sends messages to the writer.
#[derive(Debug, Clone)]
pub struct Writer {
    inbox: mpsc::Sender<Option<Message>>,
    room: Arc<Semaphore>,
}

/// The response cannot be written any more: nobody reads it.
#[derive(Debug)]
pub struct Closed;

impl Message {
    /// A message of one frame.
    pub fn of(frame: &Frame) -> Message {
        let mut message = Message::default();
        frame.encode(&mut message.small);
        message
    }

    /// What a runner did, prints before outputs, and what the outputs cost in between.
    pub fn of_news(news: News, attempt: u32, receipt: Option<Receipt>) -> Message {
        let mut message = Message::default();
        for print in news.prints {
            message.print(print, attempt);
        }
        if let Some(receipt) = receipt {
            receipt.to_frame().encode(&mut message.small);
        }
        let mut builder: Option<OutputsBuilder> = None;
        for record in news.records {
            if record.count == 1 && record.items.len() >= LARGE {
                message.outputs(builder.take());
                message.large_output(record, attempt);
                continue;
            }
            let outputs = builder.get_or_insert_with(|| OutputsBuilder::new(record.index, attempt));
            outputs.push_run(record.status, record.count as usize, &record.items.joined());
            if outputs.item_bytes() >= MAX_OUTPUTS {
                message.outputs(builder.take());
            }
        }
        message.outputs(builder);
        message
    }

    /// An output of ours.
    pub fn of_output(index: u64, attempt: u32, status: Status, item: &[u8]) -> Message {
        let mut builder = OutputsBuilder::new(index, attempt);
        builder.push(status, item);
        Message::of(&builder.finish().to_frame())
    }

    /// A failure of ours that ended an input while it ran, and what it had cost.
    pub fn of_failure(receipt: Receipt, item: &[u8]) -> Message {
        let mut message = Message::of(&receipt.to_frame());
        let mut builder = OutputsBuilder::new(receipt.first, receipt.attempt);
        builder.push(Status::Failure, item);
        builder.finish().to_frame().encode(&mut message.small);
        message
    }

    fn print(&mut self, print: Printed, attempt: u32) {
        const FIXED: usize = 16;
        let Printed { index, stream, bytes } = print;
        self.small.put_slice(&header(Kind::Print, 0, FIXED + bytes.len()));
        self.small.put_u64_le(index);
        self.small.put_u32_le(attempt);
        self.small.put_u8(stream as u8);
        self.small.put_bytes(0, 3);
        self.piece(bytes);
    }

    fn outputs(&mut self, builder: Option<OutputsBuilder>) {
        if let Some(builder) = builder {
            let frame = builder.finish().in_pieces();
            self.small.put_slice(&frame.header());
            self.pieces(frame.body);
        }
    }

    /// An OUTPUTS frame of one output, its item uncopied.
    fn large_output(&mut self, record: Record, attempt: u32) {
        const FIXED: usize = 16 + 4 + 1;
        self.small.reserve(HEADER + FIXED);
        self.small.put_slice(&header(Kind::Outputs, 0, FIXED + record.items.len()));
        self.small.put_u64_le(record.index);
        self.small.put_u32_le(attempt);
        self.small.put_u32_le(1);
        self.small.put_u32_le(record.items.len() as u32);
        self.small.put_u8(record.status as u8);
        self.pieces(record.items);
    }

    fn pieces(&mut self, pieces: Pieces) {
        pieces.into_iter().for_each(|piece| self.piece(piece));
    }

    /// Some of a frame, uncopied if it is large.
    fn piece(&mut self, bytes: Bytes) {
        if bytes.len() < LARGE {
            self.small.put_slice(&bytes);
        } else {
            self.parts.push(self.small.split().freeze());
            self.parts.push(bytes);
        }
    }

    fn len(&self) -> usize {
        self.small.len() + self.parts.iter().map(Bytes::len).sum::<usize>()
    }

    fn into_parts(mut self) -> (Vec<Bytes>, Option<OwnedSemaphorePermit>) {
        if !self.small.is_empty() {
            self.parts.push(self.small.freeze());
        }
        (self.parts, self.room)
    }
}

impl Writer {
    /// A writer, and what has to run for it to write into `out`.
    pub fn new(out: Outlet) -> (Writer, impl Future<Output = ()> + Send) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let room = Arc::new(Semaphore::new(INBOX_BYTES));
        (Writer { inbox: sender, room }, write(inbox, out))
    }

    /// Hands a message over; waits while the reader is slow.
    pub async fn send(&self, mut message: Message) -> Result<(), Closed> {
        let bytes = message.len().min(INBOX_BYTES) as u32;
        message.room = self.room.clone().acquire_many_owned(bytes).await.ok();
        self.inbox.send(Some(message)).await.map_err(|_| Closed)
    }

    /// Ends the response after all that was sent.
    pub async fn end(&self) {
        // Nobody reads: the response has ended already.
        let _ = self.inbox.send(None).await;
    }
}

async fn write(inbox: mpsc::Receiver<Option<Message>>, out: Outlet) {
    write_all(inbox, &out).await;
    out.close();
}

async fn write_all(mut inbox: mpsc::Receiver<Option<Message>>, out: &Outlet) {
    let mut joined = BytesMut::new();
    let mut moment = Moment { until: Instant::now(), small: 0 };
    loop {
        let mut next = if joined.is_empty() {
            tokio::select! {
                biased;
                next = inbox.recv() => next.flatten(),
                () = out.resumed() => {
                    out.flush().await;
                    continue;
                }
            }
        } else {
            None
        };
        if joined.is_empty() && next.is_none() {
            return;
        }
        let mut ended = false;
        loop {
            if let Some(message) = next.take() {
                let (parts, _room) = message.into_parts();
                for mut part in parts {
                    if part.len() < LARGE {
                        joined.put_slice(&part);
                        continue;
                    }
                    if !joined.is_empty() && joined.len() < SMALL {
                        // Its header does not go out as a chunk of its own: those are what HTTP/2 does not like.
                        joined.put_slice(&part.split_to(SMALL));
                    }
                    if !joined.is_empty() && !out.send(joined.split().freeze()).await {
                        return;
                    }
                    if !out.send(part).await {
                        return;
                    }
                }
            }
            if joined.len() >= FULL {
                break;
            }
            let more = match inbox.try_recv() {
                Ok(more) => Some(more),
                Err(_) if joined.is_empty() || joined.len() >= SMALL => None,
                Err(_) => match moment.pause(Instant::now()) {
                    Some(until) => timeout_at(until, inbox.recv()).await.ok().map(Option::flatten),
                    None => None,
                },
            };
            match more {
                Some(Some(message)) => next = Some(message),
                Some(None) => {
                    ended = true;
                    break;
                }
                None => break,
            }
        }
        if !joined.is_empty() && !out.send(joined.split().freeze()).await {
            return;
        }
        if ended {
            return;
        }
    }
}

/// Counts the small chunks of a moment.
struct Moment {
    until: Instant,
    small: u32,
}

impl Moment {
    /// Until when a small chunk has to wait, if at all.
    fn pause(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.until {
            *self = Moment { until: now + MOMENT, small: 0 };
        }
        self.small += 1;
        (self.small > SMALL_CHUNKS).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::call::line::{Connection, Exchange, Line, Lines, Owner};
    use muster_wire::batch::Outputs;
    use muster_wire::frame::Decoder;
    use muster_wire::print::{Print, Stream};

    fn record(index: u64, length: usize) -> Record {
        Record::single(index, 0, 0, Status::Value, vec![index as u8; length].into())
    }

    fn printed(index: u64, length: usize) -> Printed {
        Printed { index, stream: Stream::Stderr, bytes: vec![index as u8; length].into() }
    }

    /// The outlet of a new exchange, whose response goes to `out`.
    fn outlet(out: mpsc::Sender<Bytes>) -> (Line, Outlet) {
        let (connection, body) = (Connection::begin(), Box::pin(futures_util::stream::pending()));
        let exchange = Exchange { id: 1, owner: Owner::Store, connection, body, out };
        let (line, outlet, _) = Lines::default().open(exchange);
        (line, outlet)
    }

    async fn written(messages: Vec<Message>) -> Vec<Bytes> {
        let (out, mut chunks) = mpsc::channel(1);
        let (_line, outlet) = outlet(out);
        let (writer, writing) = Writer::new(outlet);
        let sending = async {
            for message in messages {
                writer.send(message).await.expect("it is read");
            }
            writer.end().await;
        };
        let reading = async {
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.push(chunk);
            }
            all
        };
        tokio::join!(writing, sending, reading).2
    }

    fn frames(chunks: &[Bytes]) -> Vec<Frame> {
        let mut decoder = Decoder::default();
        chunks.iter().for_each(|chunk| decoder.push(chunk));
        let frames = std::iter::from_fn(|| decoder.next_frame().expect("own frames")).collect();
        assert!(decoder.is_empty());
        frames
    }

    #[tokio::test]
    async fn prints_and_outputs_of_every_size_come_whole_and_in_order() {
        let sizes = [0, 5, LARGE - 1, LARGE, LARGE + 1, 3 << 20];
        let news = News {
            prints: sizes.iter().zip(0..).map(|(&size, index)| printed(index, size)).collect(),
            records: sizes.iter().zip(0..).map(|(&size, index)| record(index, size)).collect(),
        };
        let chunks = written(vec![Message::of_news(news, 2, None)]).await;
        let (mut prints, mut outputs) = (Vec::new(), Vec::new());
        for frame in frames(&chunks) {
            if frame.kind == Kind::Print {
                assert!(outputs.is_empty(), "prints come first");
                let Print { index, attempt, stream, bytes } =
                    Print::decode(frame.body).expect("own frames");
                assert_eq!((attempt, stream), (2, Stream::Stderr));
                prints.push((index, bytes));
            } else {
                let batch = Outputs::decode(frame.body).expect("own frames");
                assert_eq!(batch.attempt, 2);
                outputs.extend(batch.iter().map(|(index, _, item)| (index, item)));
            }
        }
        let expected: Vec<(u64, Bytes)> = (0..)
            .zip(sizes)
            .map(|(index, size)| (index, Bytes::from(vec![index as u8; size])))
            .collect();
        assert_eq!(prints, expected);
        assert_eq!(outputs, expected);
        assert!(chunks.iter().all(|chunk| chunk.len() >= 256), "no tiny chunks");
    }

    #[tokio::test]
    async fn what_piles_up_goes_out_together() {
        let message = |index| Message::of_output(index, 1, Status::Value, b"x");
        let chunks = written((0..2000).map(message).collect()).await;
        assert_eq!(frames(&chunks).len(), 2000);
        assert!(chunks.len() < 500, "{} chunks", chunks.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_frame_does_not_wait() {
        let (out, mut chunks) = mpsc::channel(1);
        let (_line, outlet) = outlet(out);
        let (writer, writing) = Writer::new(outlet);
        let begun = Instant::now();
        let talking = async {
            for index in 0..10 {
                let message = Message::of_output(index, 1, Status::Value, b"x");
                writer.send(message).await.expect("it is read");
                chunks.recv().await.expect("the output");
            }
            assert_eq!(begun.elapsed(), Duration::ZERO);
            drop(writer);
        };
        tokio::join!(writing, talking);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_small_frames_is_slowed_to_a_few_chunks_a_moment() {
        let (out, mut chunks) = mpsc::channel(64);
        let (_line, outlet) = outlet(out);
        let (writer, writing) = Writer::new(outlet);
        let flood = async {
            for index in 0..200 {
                let message = Message::of_output(index, 1, Status::Value, b"x");
                writer.send(message).await.expect("it is read");
                tokio::task::yield_now().await;
            }
            drop(writer);
        };
        tokio::join!(writing, flood);
        let mut count = 0;
        while chunks.try_recv().is_ok() {
            count += 1;
        }
        assert!((3..60).contains(&count), "{count} chunks");
    }

    #[tokio::test]
    async fn only_so_many_bytes_wait_to_be_written() {
        let (out, mut chunks) = mpsc::channel(1);
        let (_line, outlet) = outlet(out);
        let (writer, writing) = Writer::new(outlet);
        let half = || Message::of_output(0, 1, Status::Value, &vec![0; INBOX_BYTES / 2 - 100]);
        for _ in 0..2 {
            writer.send(half()).now_or_never().expect("there is room").expect("it is read");
        }
        let mut third = Box::pin(writer.send(half()));
        assert!(third.as_mut().now_or_never().is_none());
        let reading = async { while chunks.recv().await.is_some() {} };
        let sending = async {
            third.await.expect("it is read");
            writer.end().await;
        };
        tokio::join!(reading, sending, writing);
    }
}
