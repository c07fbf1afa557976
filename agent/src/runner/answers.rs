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

    /// The record of `count` inputs from `index` on came on the channel: how many of them, from the first, were known.
    pub fn on_channel(&mut self, index: u64, count: u32) -> Result<u32, OutOfOrder> {
        if index != self.sent {
            return Err(OutOfOrder);
        }
        let known = self.answer(index, count)?;
        self.sent += u64::from(count);
        Ok(known)
    }

    /// The same for a record found in pending. `OutOfOrder` also where earlier records are still on the channel: it has to
    /// be looked at again.
    pub fn in_pending(&mut self, index: u64, count: u32) -> Result<u32, OutOfOrder> {
        if index > self.next {
            return Err(OutOfOrder);
        }
        self.answer(index, count)
    }

    fn answer(&mut self, index: u64, count: u32) -> Result<u32, OutOfOrder> {
        let end = index.checked_add(u64::from(count)).ok_or(OutOfOrder)?;
        if count == 0 || end > self.end {
            return Err(OutOfOrder);
        }
        let known = self.next.saturating_sub(index).min(u64::from(count)) as u32;
        self.next = self.next.max(end);
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_in_pending_is_known_on_the_channel() {
        let mut answers = Answers::default();
        answers.begin(10, 14);
        assert_eq!(answers.in_pending(10, 1), Ok(0));
        assert_eq!(answers.in_pending(11, 1), Ok(0));
        assert_eq!(answers.next(), Some(12));
        assert_eq!(answers.on_channel(10, 1), Ok(1));
        assert_eq!(answers.on_channel(11, 1), Ok(1));
        assert_eq!(answers.on_channel(12, 1), Ok(0));
        assert_eq!(answers.on_channel(13, 1), Ok(0));
        assert!(!answers.is_busy());
        assert_eq!(answers.next(), None);
    }

    #[test]
    fn of_a_run_that_grew_only_the_rest_is_new() {
        let mut answers = Answers::default();
        answers.begin(0, 10);
        assert_eq!(answers.in_pending(0, 3), Ok(0));
        assert_eq!(answers.in_pending(0, 5), Ok(3));
        assert_eq!(answers.on_channel(0, 8), Ok(5));
        assert_eq!(answers.next(), Some(8));
        assert_eq!(answers.in_pending(2, 4), Ok(4));
        assert_eq!(answers.on_channel(8, 2), Ok(0));
        assert!(!answers.is_busy());
    }

    #[test]
    fn records_out_of_order_or_of_no_input_are_refused() {
        let mut answers = Answers::default();
        assert_eq!(answers.on_channel(0, 1), Err(OutOfOrder));
        answers.begin(5, 7);
        assert_eq!(answers.on_channel(6, 1), Err(OutOfOrder));
        assert_eq!(answers.on_channel(4, 1), Err(OutOfOrder));
        assert_eq!(answers.on_channel(5, 3), Err(OutOfOrder));
        assert_eq!(answers.on_channel(5, 0), Err(OutOfOrder));
        assert_eq!(answers.on_channel(5, 1), Ok(0));
        assert_eq!(answers.on_channel(5, 1), Err(OutOfOrder));
        assert_eq!(answers.on_channel(6, 1), Ok(0));
        assert_eq!(answers.on_channel(7, 1), Err(OutOfOrder));
        assert_eq!(answers.in_pending(7, 1), Err(OutOfOrder));
        assert_eq!(answers.in_pending(u64::MAX, 2), Err(OutOfOrder));
    }

    #[test]
    fn pending_that_is_ahead_of_the_channel_waits() {
        let mut answers = Answers::default();
        answers.begin(0, 9);
        assert_eq!(answers.in_pending(3, 1), Err(OutOfOrder));
        assert_eq!(answers.on_channel(0, 3), Ok(0));
        assert_eq!(answers.in_pending(3, 1), Ok(0));
    }
}
