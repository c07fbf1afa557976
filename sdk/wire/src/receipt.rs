//! RECEIPT: what inputs cost that ended together.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::frame::{Frame, Kind};
use crate::{WireError, malformed};

const SIZE: usize = 40;

/// What the inputs `first .. first + count` cost that one worker ran one after another, at this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The first input.
    pub first: u64,
    /// Their attempt.
    pub attempt: u32,
    /// How many.
    pub count: u32,
    /// How long all of them ran, in microseconds, up to now.
    pub run_us: u64,
    /// What their worker's cores did meanwhile, in microseconds.
    pub cpu_us: u64,
    /// The most memory that the worker has held so far, in bytes.
    pub peak_bytes: u64,
}

impl Receipt {
    /// Reads the body of a RECEIPT frame.
    pub fn decode(mut body: Bytes) -> Result<Receipt, WireError> {
        if body.len() != SIZE {
            return Err(malformed("RECEIPT", "the body is not 40 bytes"));
        }
        let receipt = Receipt {
            first: body.get_u64_le(),
            attempt: body.get_u32_le(),
            count: body.get_u32_le(),
            run_us: body.get_u64_le(),
            cpu_us: body.get_u64_le(),
            peak_bytes: body.get_u64_le(),
        };
        match receipt.first.checked_add(u64::from(receipt.count)) {
            Some(end) if end > receipt.first => Ok(receipt),
            _ => Err(malformed("RECEIPT", "it is of no inputs")),
        }
    }

    /// The RECEIPT frame.
    pub fn to_frame(&self) -> Frame {
        let mut body = BytesMut::with_capacity(SIZE);
        body.put_u64_le(self.first);
        body.put_u32_le(self.attempt);
        body.put_u32_le(self.count);
        body.put_u64_le(self.run_us);
        body.put_u64_le(self.cpu_us);
        body.put_u64_le(self.peak_bytes);
        Frame::new(Kind::Receipt, body.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_comes_out_as_it_went_in() {
        let receipt =
            Receipt { first: 7, attempt: 2, count: 3, run_us: 4, cpu_us: 5, peak_bytes: 6 };
        assert_eq!(Receipt::decode(receipt.to_frame().body), Ok(receipt));
    }

    #[test]
    fn a_receipt_of_another_length_or_of_no_inputs_is_refused() {
        assert!(Receipt::decode(Bytes::from_static(&[1; 39])).is_err());
        assert!(Receipt::decode(Bytes::from_static(&[0; 40])).is_err());
        assert!(Receipt::decode(Bytes::from_static(&[255; 40])).is_err());
    }
}
