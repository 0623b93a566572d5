//! Drives the groups' state machine: gives it the time, wakes it when it is due, and takes its
//! answers to those who wait. It decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_cloud_protocol::groups::{
    Answer, GroupDescription, GroupError, GroupLimits, GroupState, Groups, Identity, Join, Sync,
    Token,
};
use tidegate_shared::id::GroupName;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Coordinator {
    inner: Mutex<Inner>,
    changed: Notify,
    started: Instant,
}

#[derive(Debug)]
struct Inner {
    groups: Groups,
    waiting: HashMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
}

impl Inner {
    fn expect_answer(&mut self) -> (Token, oneshot::Receiver<Answer>) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(token, sender);
        (token, receiver)
    }

    fn deliver(&mut self) {
        while let Some((token, answer)) = self.groups.poll_answer() {
            if let Some(waiting) = self.waiting.remove(&token) {
                // Who asked may have gone; its session ends by itself.
                let _ = waiting.send(answer);
            }
        }
    }
}

impl Coordinator {
    pub(crate) fn new(limits: GroupLimits) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                groups: Groups::new(limits),
                waiting: HashMap::new(),
                next_token: 0,
            }),
            changed: Notify::new(),
            started: Instant::now(),
        })
    }

    /// Lets time pass for the groups; never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let due = self.lock().groups.poll_timeout();
            let sleep = async {
                match due {
                    Some(due) => {
                        tokio::time::sleep_until(self.started + Duration::from_millis(due)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.with(Groups::handle_timeout),
                () = self.changed.notified() => {}
            }
        }
    }

    /// `None` only when the node stops.
    pub(crate) async fn join(&self, join: Join) -> Option<Answer> {
        let answer = {
            let mut inner = self.lock();
            let (token, answer) = inner.expect_answer();
            inner.groups.handle_join(self.now_ms(), token, join);
            inner.deliver();
            answer
        };
        self.changed.notify_one();
        answer.await.ok()
    }

    /// `None` only when the node stops.
    pub(crate) async fn sync(&self, sync: Sync) -> Option<Answer> {
        let answer = {
            let mut inner = self.lock();
            let (token, answer) = inner.expect_answer();
            inner.groups.handle_sync(self.now_ms(), token, sync);
            inner.deliver();
            answer
        };
        self.changed.notify_one();
        answer.await.ok()
    }

    pub(crate) fn heartbeat(&self, identity: &Identity) -> Result<(), GroupError> {
        self.with(|groups, now_ms| groups.handle_heartbeat(now_ms, identity))
    }

    pub(crate) fn leave(
        &self,
        group: &GroupName,
        member_id: &str,
        instance: Option<&str>,
    ) -> Result<(), GroupError> {
        self.with(|groups, now_ms| groups.handle_leave(now_ms, group, member_id, instance))
    }

    /// Whether anybody consumes in the group now.
    pub(crate) fn has_members(&self, group: &GroupName) -> bool {
        self.lock().groups.has_members(group)
    }

    /// The group as it is now; `None` where nobody is in it.
    pub(crate) fn describe(&self, group: &GroupName) -> Option<GroupDescription> {
        self.lock().groups.describe(group)
    }

    /// Groups in which somebody is, each with its state and kind.
    pub(crate) fn list(&self) -> Vec<(GroupName, GroupState, String)> {
        let inner = self.lock();
        let groups = inner.groups.list();
        groups
            .map(|(name, state, kind)| (name.clone(), state, kind.to_owned()))
            .collect()
    }

    pub(crate) fn check_commit(&self, identity: &Identity) -> Result<(), GroupError> {
        self.with(|groups, now_ms| groups.check_commit(now_ms, identity))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Groups, u64) -> T) -> T {
        let result = {
            let mut inner = self.lock();
            let result = work(&mut inner.groups, self.now_ms());
            inner.deliver();
            result
        };
        self.changed.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
