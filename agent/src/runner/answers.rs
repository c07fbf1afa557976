//! Pure: which records of a batch are new. A record may come twice: found in pending, and then sent on the channel.

/// A record that the protocol does not allow here.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfOrder;

/// How far the answers of one batch are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// First input that is not answered.
    next: u64,
    /// First input whose record has not come on the channel.
    sent: u64,
    /// One past the last input of the batch.
    end: u64,
}

impl Answers {
    /// A batch was given; the one before is complete.
    pub fn begin(&mut self, first: u64, end: u64) {
        (self.next, self.sent, self.end) = (first, first, end);
    }

    /// The first input that is not answered.
    pub fn next(&self) -> Option<u64> {
        (self.next < self.end).then_some(self.next)
    }

    /// Whether records are still to come on the channel.
    pub fn is_busy(&self) -> bool {
        self.sent < self.end
    }

    /// A record came on the channel: whether it is new.
    pub fn on_channel(&mut self, index: u64) -> Result<bool, OutOfOrder> {
        if index != self.sent || index >= self.end {
            return Err(OutOfOrder);
        }
        self.sent += 1;
        let new = index >= self.next;
        self.next = self.next.max(self.sent);
        Ok(new)
    }

    /// A record was found in pending: whether it is new. `OutOfOrder` also where earlier records are still on the channel:
    /// it has to be looked at again.
    pub fn in_pending(&mut self, index: u64) -> Result<bool, OutOfOrder> {
        if index > self.next || index >= self.end {
            return Err(OutOfOrder);
        }
        let new = index == self.next;
        self.next = self.next.max(index + 1);
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_in_pending_is_skipped_on_the_channel() {
        let mut answers = Answers::default();
        answers.begin(10, 14);
        assert_eq!(answers.in_pending(10), Ok(true));
        assert_eq!(answers.in_pending(11), Ok(true));
        assert_eq!(answers.next(), Some(12));
        assert_eq!(answers.on_channel(10), Ok(false));
        assert_eq!(answers.on_channel(11), Ok(false));
        assert_eq!(answers.on_channel(12), Ok(true));
        assert_eq!(answers.on_channel(13), Ok(true));
        assert!(!answers.is_busy());
        assert_eq!(answers.next(), None);
    }

    #[test]
    fn records_out_of_order_or_of_no_input_are_refused() {
        let mut answers = Answers::default();
        assert_eq!(answers.on_channel(0), Err(OutOfOrder));
        answers.begin(5, 7);
        assert_eq!(answers.on_channel(6), Err(OutOfOrder));
        assert_eq!(answers.on_channel(4), Err(OutOfOrder));
        assert_eq!(answers.on_channel(5), Ok(true));
        assert_eq!(answers.on_channel(5), Err(OutOfOrder));
        assert_eq!(answers.on_channel(6), Ok(true));
        assert_eq!(answers.on_channel(7), Err(OutOfOrder));
        assert_eq!(answers.in_pending(7), Err(OutOfOrder));
    }

    #[test]
    fn pending_that_is_ahead_of_the_channel_waits() {
        let mut answers = Answers::default();
        answers.begin(0, 9);
        assert_eq!(answers.in_pending(3), Err(OutOfOrder));
        for index in 0..3 {
            assert_eq!(answers.on_channel(index), Ok(true));
        }
        assert_eq!(answers.in_pending(3), Ok(true));
    }
}
