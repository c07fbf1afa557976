//! How tasks start and stop: every task of the agent is spawned here, so that stopping can wait for all of them.
//!
//! *Ordinary* tasks (a call, a connection, a removal) end alone. *Critical* tasks (the link, the reaper) run until the stop:
//! when one ends early, or panics, the whole agent is asked to stop. A [`Tasks`] is one phase of the stop: the calls' tasks
//! are stopped before the tasks that remove containers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A group of tasks with one stop signal; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    broken: Arc<AtomicBool>,
}

/// What went on when a group of tasks was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All tasks are gone.
    All,
    /// Some were still there at the deadline.
    Late(usize),
}

impl Tasks {
    /// A group without tasks.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Starts a task whose end, or panic, concerns nobody else.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Starts a task that must run until the stop. If it ends before, everything is asked to stop.
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = Critical { name, stop: self.stop.clone(), broken: self.broken.clone() };
        self.tracker.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// Asks every task of the group to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends when the stop was asked for.
    pub async fn cancelled(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether a critical task ended by itself.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// A token that is cancelled with this group.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// How many tasks run now.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Waits until all tasks have ended, at most this long.
    pub async fn ended(&self, deadline: Duration) -> Ended {
        self.tracker.close();
        let waited = tokio::time::timeout(deadline, self.tracker.wait()).await;
        self.tracker.reopen();
        match waited {
            Ok(()) => Ended::All,
            Err(_) => Ended::Late(self.tracker.len()),
        }
    }
}

/// hyper starts its streams through us too, so that none outlives the stop.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.tracker.spawn(task);
    }
}

/// Notices the end of a critical task however it ends; a panic runs destructors too.
struct Critical {
    name: &'static str,
    stop: CancellationToken,
    broken: Arc<AtomicBool>,
}

impl Drop for Critical {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            tracing::error!(task = self.name, "critical task ended early");
            self.broken.store(true, Ordering::Relaxed);
            self.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_early_end_of_a_critical_task_stops_all() {
        let tasks = Tasks::new();
        tasks.spawn_critical("test", async {});
        tasks.cancelled().await;
        assert!(tasks.is_broken());
        assert_eq!(tasks.ended(Duration::from_secs(5)).await, Ended::All);
    }

    #[tokio::test]
    async fn an_ordinary_task_ends_alone() {
        let tasks = Tasks::new();
        assert_eq!(tasks.spawn(async { 7 }).await.expect("it does not panic"), 7);
        assert!(!tasks.is_stopping());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_end_has_a_deadline() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn(async move { token.cancelled().await });
        assert_eq!(tasks.ended(Duration::from_secs(1)).await, Ended::Late(1));
        tasks.stop();
        assert_eq!(tasks.ended(Duration::from_secs(1)).await, Ended::All);
    }
}
