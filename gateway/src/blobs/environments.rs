//! Which blob holds which environment: the names that hosts give to what they built for each other. In memory: after a restart
//! the next host that builds one says it again.

use std::collections::BTreeMap;

use super::index::BlobId;

/// How many names are kept.
const NAMES: usize = 10_000;

/// The name of an environment: what decides its content, hashed (32 lower-case hexadecimal digits).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvironmentKey(String);

impl EnvironmentKey {
    /// The key that a text is, if it is one.
    pub fn parse(text: &str) -> Option<EnvironmentKey> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 32 && text.bytes().all(digit)).then(|| EnvironmentKey(text.to_owned()))
    }
}

/// The names. The first to name an environment is believed as long as that blob is there.
#[derive(Debug, Default)]
pub struct Environments {
    blobs: BTreeMap<EnvironmentKey, BlobId>,
}

impl Environments {
    /// The blob of an environment that is still `there`; a name without one is forgotten.
    pub fn find(
        &mut self,
        key: &EnvironmentKey,
        there: impl Fn(&BlobId) -> bool,
    ) -> Option<BlobId> {
        let blob = self.blobs.get(key)?;
        if there(blob) {
            return Some(blob.clone());
        }
        self.blobs.remove(key);
        None
    }

    /// Names a blob, unless another has that name and is `there`.
    pub fn name(&mut self, key: EnvironmentKey, blob: BlobId, there: impl Fn(&BlobId) -> bool) {
        if self.find(&key, &there).is_some() {
            return;
        }
        if self.blobs.len() >= NAMES {
            self.blobs.retain(|_, blob| there(blob));
        }
        if self.blobs.len() >= NAMES {
            self.blobs.pop_first();
        }
        self.blobs.insert(key, blob);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_counts_until_its_blob_is_gone() {
        let key = EnvironmentKey::parse(&"0a".repeat(16)).expect("a key");
        let [first, second] =
            ["1", "2"].map(|digit| BlobId::parse(&digit.repeat(64)).expect("an id"));
        let mut names = Environments::default();
        assert_eq!(names.find(&key, |_| true), None);
        names.name(key.clone(), first.clone(), |_| true);
        names.name(key.clone(), second.clone(), |_| true);
        assert_eq!(names.find(&key, |_| true), Some(first.clone()));
        names.name(key.clone(), second.clone(), |blob| *blob != first);
        assert_eq!(names.find(&key, |_| true), Some(second));
        assert_eq!(names.find(&key, |_| false), None);
        assert_eq!(names.find(&key, |_| true), None);
    }

    #[test]
    fn a_key_is_hexadecimal_and_nothing_else() {
        for wrong in
            ["", "0a", &"0A".repeat(16), &"0a".repeat(17), "../../../../../etc/passwd0000000"]
        {
            assert_eq!(EnvironmentKey::parse(wrong), None, "{wrong}");
        }
    }
}
