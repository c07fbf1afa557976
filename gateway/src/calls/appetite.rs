//! How much a reader takes at once of events that are read back. What is read back lies in batches of up to some megabytes, and a reader that is slow would hold
//! a whole one; one that is quick would have each batch read many times over, if it took little. So a reader begins with little, and takes twice as much whenever it comes back soon.

use std::time::Duration;

use tokio::time::Instant;

use super::log::READ_BYTES;

/// A reader that is back within this time is quick.
const SOON: Duration = Duration::from_millis(100);
/// The most that a reader takes at once.
const MOST: usize = 1 << 20;

/// What a reader takes next.
#[derive(Debug, Default)]
pub(super) struct Appetite {
    last: Option<(Instant, usize)>,
}

impl Appetite {
    /// So many bytes.
    pub fn next(&mut self, now: Instant) -> usize {
        let bytes = match self.last {
            Some((at, bytes)) if now - at < SOON => (2 * bytes).min(MOST),
            _ => READ_BYTES,
        };
        self.last = Some((now, bytes));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_soon_takes_more_and_who_is_late_takes_little_again() {
        let (mut appetite, mut now) = (Appetite::default(), Instant::now());
        let mut taken = Vec::new();
        for late in [0, 99, 99, 99, 99, 99, 100, 1] {
            now += Duration::from_millis(late);
            taken.push(appetite.next(now) >> 10);
        }
        assert_eq!(taken, [64, 128, 256, 512, 1024, 1024, 64, 128]);
    }
}
