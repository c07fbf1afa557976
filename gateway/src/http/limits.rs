//! How much each address and each token may hold at once. A place is a guard: dropped, it is free again.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Counts places by key, up to a limit for each.
#[derive(Debug, Clone)]
pub struct Counts<K: Eq + Hash> {
    limit: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// One place of a key.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    key: K,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// At most `limit` places for each key.
    pub fn new(limit: usize) -> Counts<K> {
        Counts { limit, held: Arc::default() }
    }

    /// A place, if this key has one left.
    pub fn take(&self, key: &K) -> Option<Place<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(key.clone()).or_default();
        // A key without a place is not in the map, unless the limit is none at all.
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place { key: key.clone(), held: self.held.clone() })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left = held.get_mut(&self.key).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            held.remove(&self.key);
        }
    }
}

/// The body of an answer with what it holds until its end.
#[derive(Debug)]
pub struct Holding<B, T> {
    body: B,
    life: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _held: T,
}

impl<B, T> Holding<B, T> {
    /// Holds it, for this life, if it is bound to one.
    pub fn new(body: B, life: Option<CancellationToken>, held: T) -> Holding<B, T> {
        let life = life.map(|life| Box::pin(life.cancelled_owned()));
        Holding { body, life, _held: held }
    }
}

impl<B: Body<Error: Into<axum::BoxError>> + Unpin, T: Unpin> Body for Holding<B, T> {
    type Data = B::Data;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, axum::BoxError>>> {
        if self.life.as_mut().is_some_and(|life| life.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Some(Err("the credential is good no more".into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whom a connection counts for: a whole network of IPv6, as one machine has all of it. Nobody on this machine is counted:
/// a proxy in front stands for everybody.
pub fn counted(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(IpAddr::V6((address.to_bits() >> 64 << 64).into())),
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_as_many_places_as_the_limit_says() {
        let counts = Counts::new(2);
        let first = counts.take(&"a").expect("a place");
        let _second = counts.take(&"a").expect("a place");
        assert!(counts.take(&"a").is_none());
        assert!(counts.take(&"b").is_some());
        drop(first);
        assert!(counts.take(&"a").is_some());
        assert_eq!(
            counts.held.lock().expect("sound").len(),
            1,
            "keys without places are forgotten"
        );
    }

    #[test]
    fn addresses_count_by_machine() {
        let of = |text: &str| counted(text.parse().expect("an address")).map(|a| a.to_string());
        assert_eq!(of("127.0.0.1"), None);
        assert_eq!(of("::ffff:127.0.0.1"), None);
        assert_eq!(of("::1"), None);
        assert_eq!(of("203.0.113.5").as_deref(), Some("203.0.113.5"));
        assert_eq!(of("::ffff:203.0.113.5").as_deref(), Some("203.0.113.5"));
        assert_eq!(of("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::"));
    }
}
