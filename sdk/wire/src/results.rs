//! RESULTS: what a runner sends, one record per input, append-only so that it can lie in shared memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::batch::Status;
use crate::{MAX_ITEM, WireError, malformed};

/// Bytes of a record before its item.
pub const RECORD: usize = 32;

/// One input's result, with how far its prints go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The input.
    pub index: u64,
    /// Bytes in the stdout pipe, since it was made, when the input ended.
    pub out_end: u64,
    /// The same for stderr.
    pub err_end: u64,
    /// How it ended.
    pub status: Status,
    /// The value, exception or failure.
    pub item: Bytes,
}

impl Record {
    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(RECORD + self.item.len());
        out.put_u64_le(self.index);
        out.put_u64_le(self.out_end);
        out.put_u64_le(self.err_end);
        out.put_u8(self.status as u8);
        out.put_bytes(0, 3);
        out.put_u32_le(self.item.len() as u32);
        out.put_slice(&self.item);
    }

    /// Takes the next record off `bytes`; `None` at the end.
    pub fn take(bytes: &mut Bytes) -> Result<Option<Record>, WireError> {
        const WHAT: &str = "RESULTS";
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() < RECORD {
            return Err(malformed(WHAT, "a record is cut short"));
        }
        let index = bytes.get_u64_le();
        let out_end = bytes.get_u64_le();
        let err_end = bytes.get_u64_le();
        let status = Status::from_u8(bytes.get_u8()).ok_or(malformed(WHAT, "unknown status"))?;
        bytes.advance(3);
        let len = bytes.get_u32_le() as usize;
        if len > MAX_ITEM {
            return Err(malformed(WHAT, "an item is over the limit"));
        }
        if len > bytes.len() {
            return Err(malformed(WHAT, "an item is cut short"));
        }
        Ok(Some(Record { index, out_end, err_end, status, item: bytes.split_to(len) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_in_order(items: Vec<Vec<u8>>) {
            let mut bytes = BytesMut::new();
            for (index, item) in items.iter().enumerate() {
                Record {
                    index: index as u64, out_end: 1, err_end: 2,
                    status: Status::Value, item: item.clone().into(),
                }.encode(&mut bytes);
            }
            let mut bytes = bytes.freeze();
            for (index, item) in items.iter().enumerate() {
                let record = Record::take(&mut bytes).expect("own bytes").expect("one more");
                prop_assert_eq!(record.index, index as u64);
                prop_assert_eq!(&record.item[..], &item[..]);
            }
            prop_assert_eq!(Record::take(&mut bytes), Ok(None));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let mut bytes = Bytes::from(bytes);
            while let Ok(Some(_)) = Record::take(&mut bytes) {}
        }
    }
}
