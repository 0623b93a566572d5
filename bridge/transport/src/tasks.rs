//! The tasks that a node consists of. One that panics must not be missed in silence: either the node fails with it, and is
//! started anew by who started it, or it is begun again while the others go on.

use std::fmt::Display;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

/// See the module.
#[derive(Debug, Default)]
pub struct Tasks {
    all: JoinSet<()>,
    failed: watch::Sender<Option<String>>,
}

/// Says so where it goes by a panic.
struct Fallen {
    what: String,
    failed: watch::Sender<Option<String>>,
}

impl Drop for Fallen {
    fn drop(&mut self) {
        if thread::panicking() {
            self.failed
                .send_replace(Some(std::mem::take(&mut self.what)));
        }
    }
}

impl Tasks {
    /// Without this one the node is of no use: where it panics, `failed` returns.
    pub fn spawn(&mut self, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let fallen = self.fallen(what);
        self.all.spawn(async move {
            let _fallen = fallen;
            task.await;
        });
    }

    fn fallen(&self, what: &str) -> Fallen {
        Fallen {
            what: what.to_owned(),
            failed: self.failed.clone(),
        }
    }

    /// The node goes on without this one: where it panics, `begin` makes it anew after a pause.
    ///
    /// # Errors
    /// Where the first cannot be made.
    pub fn keep_up<Task, Error>(
        &mut self,
        what: String,
        pause: Duration,
        mut stopping: watch::Receiver<bool>,
        mut begin: impl FnMut() -> Result<Task, Error> + Send + 'static,
    ) -> Result<(), Error>
    where
        Task: Future<Output = ()> + Send + 'static,
        Error: Display + Send,
    {
        let mut next = Some(begin()?);
        let fallen = self.fallen(&what);
        self.all.spawn(async move {
            let _fallen = fallen;
            loop {
                if let Some(task) = next.take() {
                    let mut running = JoinSet::new();
                    running.spawn(task);
                    match running.join_next().await {
                        Some(Err(error)) if error.is_panic() && !*stopping.borrow() => {
                            tracing::error!(%error, "{what} has failed, and is begun again in {pause:?}");
                        }
                        _ => return,
                    }
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = stopping.changed() => return,
                }
                match begin() {
                    Ok(task) => next = Some(task),
                    Err(error) => tracing::error!(%error, "{what} cannot be begun, and is tried again in {pause:?}"),
                }
            }
        });
        Ok(())
    }

    /// Returns when one has panicked without which the node is of no use, with what it was.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        let what = failed.wait_for(Option::is_some).await;
        what.ok().and_then(|what| what.clone()).unwrap_or_default()
    }

    /// The next that has ended; nothing once all have.
    pub async fn ended(&mut self) -> Option<Result<(), JoinError>> {
        self.all.join_next().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_panic_is_told_and_an_end_is_not() {
        let mut tasks = Tasks::default();
        tasks.spawn("one that ends", async {});
        assert!(tasks.ended().await.unwrap().is_ok());
        assert_eq!(*tasks.failed.borrow(), None);
        tasks.spawn("one that panics", async { panic!("on purpose") });
        let failed = timeout(DEADLINE, tasks.failed()).await;
        assert_eq!(failed.unwrap(), "one that panics");
        assert!(tasks.ended().await.unwrap().is_err());
        assert!(tasks.ended().await.is_none());
    }

    #[tokio::test]
    async fn what_the_node_goes_on_without_is_begun_again() {
        let (mut tasks, begun) = (Tasks::default(), Arc::new(AtomicUsize::new(0)));
        let (stop, stopping) = watch::channel(false);
        let (count, mut until_stop) = (Arc::clone(&begun), stopping.clone());
        let begin = move || {
            let life = count.fetch_add(1, Ordering::Relaxed);
            if life == 2 {
                return Err("cannot be begun");
            }
            let mut stop = until_stop.clone();
            until_stop.borrow_and_update();
            Ok(async move {
                assert!(life > 2, "on purpose");
                stop.changed().await.unwrap();
            })
        };
        let pause = Duration::from_millis(1);
        tasks
            .keep_up("it".to_owned(), pause, stopping, begin)
            .unwrap();
        let waited = timeout(DEADLINE, async {
            while begun.load(Ordering::Relaxed) < 4 {
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap();
        stop.send_replace(true);
        let ended = timeout(DEADLINE, tasks.ended()).await;
        assert!(ended.unwrap().unwrap().is_ok());
        assert_eq!(*tasks.failed.borrow(), None);
    }

    #[tokio::test]
    async fn what_cannot_be_begun_at_all_is_not() {
        let (_stop, stopping) = watch::channel(false);
        let mut tasks = Tasks::default();
        let begin = || Err::<std::future::Ready<()>, _>("cannot be begun");
        let begun = tasks.keep_up("it".to_owned(), DEADLINE, stopping.clone(), begin);
        assert_eq!(begun, Err("cannot be begun"));
        let begin = || Ok::<_, Infallible>(std::future::ready(()));
        tasks
            .keep_up("it".to_owned(), DEADLINE, stopping, begin)
            .unwrap();
        assert!(tasks.ended().await.unwrap().is_ok());
        assert!(tasks.ended().await.is_none());
    }
}
