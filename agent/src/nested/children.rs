//! Which calls a worker's inputs have made, and which of those have outlived their input. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// The calls of one worker that may still run.
#[derive(Debug, Default)]
pub struct Children {
    /// And the input that made each; none where it did not say.
    made: BTreeMap<String, Option<u64>>,
    /// The inputs that the worker has and has not answered.
    running: Range<u64>,
}

impl Children {
    /// A call was made for an input. Whether it may go on: what an input leaves behind may ask when that has ended.
    #[must_use]
    pub fn made(&mut self, child: &str, input: Option<u64>) -> bool {
        let may = input.is_none_or(|input| self.running.contains(&input));
        if may {
            self.made.insert(child.to_owned(), input);
        }
        may
    }

    /// It has ended.
    pub fn ended(&mut self, child: &str) {
        self.made.remove(child);
    }

    /// These are the inputs that the worker has now: the calls that others have made, which are to end.
    pub fn running(&mut self, inputs: Range<u64>) -> Vec<String> {
        self.running = inputs.clone();
        let is_orphan = |input: &Option<u64>| input.is_some_and(|input| !inputs.contains(&input));
        let orphans = self.made.iter().filter(|(_, input)| is_orphan(input));
        let orphans: Vec<String> = orphans.map(|(child, _)| child.clone()).collect();
        orphans.iter().for_each(|child| self.ended(child));
        orphans
    }

    /// The worker has ended: all that it made.
    pub fn all(&mut self) -> Vec<String> {
        self.running = 0..0;
        std::mem::take(&mut self.made).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_goes_with_the_input_that_made_it() {
        let mut children = Children::default();
        assert!(children.running(3..6).is_empty());
        assert!(children.made("of 3", Some(3)));
        assert!(children.made("of 3 too", Some(3)));
        assert!(children.made("of nobody", None));
        assert!(children.running(3..6).is_empty());
        // Known a little late: the next input has begun, and has made a call.
        assert!(children.made("of 4", Some(4)));
        assert_eq!(children.running(4..6), ["of 3", "of 3 too"]);
        assert_eq!(children.running(6..6), ["of 4"]);
        assert_eq!(children.all(), ["of nobody"]);
    }

    #[test]
    fn what_has_ended_is_nobodys() {
        let mut children = Children::default();
        children.running(0..1);
        assert!(children.made("done", Some(0)));
        children.ended("done");
        assert!(children.running(1..1).is_empty());
        assert!(children.all().is_empty());
    }

    #[test]
    fn no_call_is_made_for_an_input_that_has_ended() {
        let mut children = Children::default();
        children.running(5..7);
        children.running(6..7);
        for ended in [0, 5, 7] {
            assert!(!children.made("late", Some(ended)), "{ended}");
        }
        assert!(children.made("in time", Some(6)));
        assert_eq!(children.all(), ["in time"]);
        assert!(!children.made("after the worker", Some(6)));
    }
}
