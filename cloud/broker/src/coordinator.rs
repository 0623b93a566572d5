//! Drives the groups' state machine: gives it the time, wakes it when it is due, and takes its
//! answers to those who wait; and has the ledger keep generations. It decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_cloud_protocol::groups::{
    Answer, GroupDescription, GroupError, GroupLimits, GroupState, Groups, Identity, Join, Keep,
    Sync, Token,
};
use tidegate_cloud_protocol::ledger::command::{Entry, KeepGeneration};
use tidegate_shared::id::GroupName;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::broker::Broker;

#[derive(Debug)]
pub(crate) struct Coordinator {
    inner: Mutex<Inner>,
    changed: Notify,
    /// There are generations to be kept.
    to_keep: Notify,
    broker: Broker,
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
}

impl Coordinator {
    /// Goes on with the groups that the ledger knows.
    pub(crate) fn new(limits: GroupLimits, broker: Broker) -> Arc<Self> {
        let groups = broker.ledger(|ledger| {
            let floor = ledger.generation_floor();
            Groups::restore(limits, 0, floor, ledger.generations())
        });
        Arc::new(Self {
            inner: Mutex::new(Inner {
                groups,
                waiting: HashMap::new(),
                next_token: 0,
            }),
            changed: Notify::new(),
            to_keep: Notify::new(),
            broker,
            started: Instant::now(),
        })
    }

    /// Does what is to be done without a request; never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::join!(self.pass_time(), self.keep());
    }

    async fn pass_time(&self) {
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

    /// Generations are kept in the order in which they were made, as many at once as have gathered.
    async fn keep(&self) {
        loop {
            let kept = self.keep_some().await;
            if kept.is_empty() {
                self.to_keep.notified().await;
            }
            for (group, number, result) in kept {
                self.with(|groups, now_ms| groups.handle_kept(now_ms, &group, number, result));
            }
        }
    }

    /// Keeps what is left when the node stops.
    pub(crate) async fn keep_rest(&self) {
        while self.lock().groups.has_to_keep() {
            self.keep_some().await;
        }
    }

    async fn keep_some(&self) -> Vec<(GroupName, u64, Result<(), GroupError>)> {
        let (mut wishes, mut results) = (Vec::new(), Vec::new());
        for Keep {
            number,
            group,
            generation,
        } in self.gathered()
        {
            let name = group.clone();
            let fits = generation.bytes() <= KeepGeneration::BYTES_MAX;
            if fits {
                let keep = KeepGeneration { group, generation };
                wishes.push((Entry::KeepGeneration(keep), None));
            } else {
                tracing::warn!(group = %name, "kafka: the group's assignments are larger than what can be kept");
            }
            let result = fits.then_some(()).ok_or(GroupError::TooLarge);
            results.push((name, number, result));
        }
        if let Err(error) = self.broker.submit(wishes).await {
            tracing::error!(%error, "kafka: groups' assignments cannot be kept");
            for (.., result) in &mut results {
                *result = result.and(Err(GroupError::NotKept));
            }
        }
        results
    }

    /// What is to be kept, up to a bound that one more is beyond.
    fn gathered(&self) -> Vec<Keep> {
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        let mut inner = self.lock();
        while bytes < KeepGeneration::BYTES_MAX
            && let Some(keep) = inner.groups.poll_keep()
        {
            bytes += keep.generation.bytes();
            gathered.push(keep);
        }
        gathered
    }

    /// `None` only when the node stops.
    pub(crate) async fn join(&self, join: Join) -> Option<Answer> {
        let answer = {
            let mut inner = self.lock();
            let (token, answer) = inner.expect_answer();
            inner.groups.handle_join(self.now_ms(), token, join);
            self.deliver(&mut inner);
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
            self.deliver(&mut inner);
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
            self.deliver(&mut inner);
            result
        };
        self.changed.notify_one();
        result
    }

    fn deliver(&self, inner: &mut Inner) {
        while let Some((token, answer)) = inner.groups.poll_answer() {
            if let Some(waiting) = inner.waiting.remove(&token) {
                // Who asked may have gone; its session ends by itself.
                let _ = waiting.send(answer);
            }
        }
        if inner.groups.has_to_keep() {
            self.to_keep.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
