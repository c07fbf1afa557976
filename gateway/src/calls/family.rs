//! Calls that functions of other calls make: who is whose child, how deep, how many, and that no child outlives its parent.
//!
//! A child is a call like any other, of the same owner. It ends with its parent: its cancellation hangs on the parent's end, and so on down. While
//! a call has children that run it gets no more workers than it has: the cores that waiting parents lend are for their children, not for more parents.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::CallHandle;

/// A call's place among others.
#[derive(Debug)]
pub struct Family {
    /// The call whose function made it.
    pub parent: Option<String>,
    /// 0 for a call from outside.
    pub depth: u32,
    /// Cancelled when this call has ended.
    lifetime: CancellationToken,
    /// Counts the children that have not ended.
    children: Arc<()>,
    /// Held while this call is one of its parent's.
    among: Mutex<Option<Arc<()>>>,
    /// Hosts that were given this call.
    hosts: Mutex<BTreeSet<String>>,
}

impl Family {
    /// Of a call that this one's function makes, or of a call from outside.
    pub fn of(parent: Option<&CallHandle>) -> Family {
        let family = parent.map(|parent| &parent.shared.family);
        Family {
            parent: parent.map(|parent| parent.id().to_owned()),
            depth: family.map_or(0, |family| family.depth + 1),
            lifetime: CancellationToken::new(),
            children: Arc::new(()),
            among: Mutex::new(family.map(|family| family.children.clone())),
            hosts: Mutex::default(),
        }
    }

    /// What cancels a call with this parent.
    pub fn cancellation(parent: Option<&CallHandle>) -> CancellationToken {
        let token = |parent: &CallHandle| parent.shared.family.lifetime.child_token();
        parent.map_or_else(CancellationToken::new, token)
    }

    /// How many children have not ended.
    pub fn children(&self) -> usize {
        Arc::strong_count(&self.children) - 1
    }

    /// The call has ended, and all that came of it ends.
    pub fn end(&self) {
        self.lifetime.cancel();
        self.among.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// This host was given the call.
    pub fn given_to(&self, host: &str) {
        let mut hosts = self.hosts();
        if !hosts.contains(host) {
            hosts.insert(host.to_owned());
        }
    }

    /// Whether this host was given the call, which still runs.
    pub fn runs_on(&self, host: &str) -> bool {
        !self.lifetime.is_cancelled() && self.hosts().contains(host)
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
