//! Records on their way to the agent: kept in pending, where a crash does not lose them, and sent a few at a time.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use muster_wire::frame::{Kind, header};
use muster_wire::page as at;
use muster_wire::results::Record;

use crate::frames;
use crate::page::Page;

/// What pending holds, in bytes.
const CAPACITY: usize = at::SIZE - at::PENDING;
/// How long records wait for company.
const PAUSE: Duration = Duration::from_millis(5);

/// Records that were not sent yet; the same bytes lie in pending.
pub struct Outbox {
    records: BytesMut,
    sent: Instant,
}

impl Outbox {
    pub fn new() -> Outbox {
        Outbox { records: BytesMut::new(), sent: Instant::now() }
    }

    /// A batch begins: its records wait for company from now on.
    pub fn begin(&mut self) {
        self.sent = Instant::now();
    }

    /// Takes a record, and sends what is there when it is time to.
    pub fn push(
        &mut self,
        record: &Record,
        page: &mut Page,
        channel: &mut UnixStream,
    ) -> io::Result<()> {
        let before = self.records.len();
        record.encode(&mut self.records);
        if self.records.len() > CAPACITY {
            let large = self.records.split_off(before);
            self.flush(page, channel)?;
            self.records = large;
            if self.records.len() > CAPACITY {
                return self.flush(page, channel);
            }
            page.append_pending(0, &self.records)?;
        } else {
            page.append_pending(before, &self.records[before..])?;
        }
        if self.sent.elapsed() > PAUSE {
            self.flush(page, channel)?;
        }
        Ok(())
    }

    /// Sends what is there.
    pub fn flush(&mut self, page: &mut Page, channel: &mut UnixStream) -> io::Result<()> {
        if !self.records.is_empty() {
            let head = header(Kind::Results, 0, self.records.len());
            frames::write_parts(channel, &head, &self.records)?;
            self.records.clear();
            page.clear_pending()?;
        }
        self.sent = Instant::now();
        Ok(())
    }
}
