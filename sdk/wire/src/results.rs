//! RESULTS: what a runner sends, append-only so that it can lie in shared memory. A record is one input's result, or a run:
//! the results of inputs that follow one another, of one status and length, between which nothing was printed.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::batch::Status;
use crate::pieces::Pieces;
use crate::{MAX_ITEM, WireError, malformed};

/// Bytes of a record before its items.
pub const RECORD: usize = 40;

/// The results of the inputs `index .. index + count`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The first input.
    pub index: u64,
    /// How many inputs; at least one.
    pub count: u32,
    /// Bytes in the stdout pipe, since it was made, when the first input ended. The others wrote nothing.
    pub out_end: u64,
    /// The same for stderr.
    pub err_end: u64,
    /// How they ended.
    pub status: Status,
    /// The values, exceptions or failures, one after another, all of one length.
    pub items: Pieces,
}

impl Record {
    /// The record of one input.
    pub fn single(index: u64, out_end: u64, err_end: u64, status: Status, item: Bytes) -> Record {
        Record { index, count: 1, out_end, err_end, status, items: item.into() }
    }

    /// Bytes of each item.
    pub fn item_len(&self) -> usize {
        self.items.len() / self.count.max(1) as usize
    }

    /// Drops the first `count` results; fewer than all.
    pub fn skip(&mut self, count: u32) {
        self.items.advance(self.item_len() * count as usize);
        self.index += u64::from(count);
        self.count -= count;
    }

    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(RECORD + self.items.len());
        out.put_u64_le(self.index);
        out.put_u64_le(self.out_end);
        out.put_u64_le(self.err_end);
        out.put_u32_le(self.count);
        out.put_u32_le(self.item_len() as u32);
        out.put_u8(self.status as u8);
        out.put_bytes(0, 7);
        self.items.iter().for_each(|piece| out.put_slice(piece));
    }

    /// Takes the next record off `bytes`; `None` at the end.
    pub fn take(bytes: &mut Pieces) -> Result<Option<Record>, WireError> {
        const WHAT: &str = "RESULTS";
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() < RECORD {
            return Err(malformed(WHAT, "a record is cut short"));
        }
        let mut head = bytes.cut(RECORD);
        let index = head.get_u64_le();
        let out_end = head.get_u64_le();
        let err_end = head.get_u64_le();
        let mut count = head.get_u32_le();
        let len = head.get_u32_le() as usize;
        let status = Status::from_u8(head.get_u8()).ok_or(malformed(WHAT, "unknown status"))?;
        if len > MAX_ITEM {
            return Err(malformed(WHAT, "an item is over the limit"));
        }
        if count == 0 {
            // A run that is still growing: it goes to the end.
            if len == 0 || bytes.is_empty() || !bytes.len().is_multiple_of(len) {
                return Err(malformed(WHAT, "an open run that is not a number of items"));
            }
            count = u32::try_from(bytes.len() / len).map_err(|_| malformed(WHAT, "too many"))?;
        }
        if bytes.len() / len.max(1) < count as usize && len > 0 {
            return Err(malformed(WHAT, "an item is cut short"));
        }
        if index.checked_add(u64::from(count)).is_none() {
            return Err(malformed(WHAT, "indexes past 2^64"));
        }
        let items = bytes.split_to(len * count as usize);
        Ok(Some(Record { index, count, out_end, err_end, status, items }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_in_order(items: Vec<(Vec<u8>, u8)>) {
            let mut bytes = BytesMut::new();
            let mut records = Vec::new();
            for (index, (item, more)) in items.iter().enumerate() {
                let count = u32::from(*more) + 1;
                let items = Bytes::from(item.repeat(count as usize)).into();
                records.push(Record {
                    index: index as u64, count, out_end: 1, err_end: 2, status: Status::Value, items,
                });
                records[index].encode(&mut bytes);
            }
            let mut bytes = bytes.freeze().into();
            for expected in records {
                let record = Record::take(&mut bytes).expect("own bytes").expect("one more");
                prop_assert_eq!(record, expected);
            }
            prop_assert_eq!(Record::take(&mut bytes), Ok(None));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let mut bytes = bytes.into();
            while let Ok(Some(record)) = Record::take(&mut bytes) {
                prop_assert!(record.count > 0);
                prop_assert_eq!(record.items.len(), record.item_len() * record.count as usize);
            }
        }
    }

    #[test]
    fn a_run_without_its_first_results_begins_later() {
        let items = Bytes::from_static(b"aabbcc");
        let mut run = Record { count: 3, ..Record::single(7, 0, 0, Status::Value, items) };
        run.skip(2);
        assert_eq!((run.index, run.count, &run.items.joined()[..]), (9, 1, &b"cc"[..]));
    }
}
