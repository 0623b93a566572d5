//! The end of a run: faults end, everything must come to rest, and then all is looked at once more.

use tidegate_cloud_protocol::offset_map::{AllFacts, Opened};

use super::{Part, REST_FIRST, World};
use crate::bridge::Step;
use crate::bridge::node::{KEYED, STREAMS, sender_limits};
use crate::bridge::truth::Truth;
use crate::{Stop, violated};

/// Steps in which everything must come to rest once nothing fails any more.
const REST_STEPS_MAX: u64 = 6_000;

impl World {
    /// Faults end, and everything must come to rest; then each journal must take, and land, one more
    /// message in each stream, however full it has been.
    pub(super) fn rest(&mut self) -> Result<(), Stop> {
        self.note(|| "faults end".to_owned());
        self.current.number = REST_FIRST;
        self.chance_of(Part::Order);
        self.is_resting = true;
        self.log_stalls_until_ms = 0;
        self.restore_order()?;
        let next = self.come_to_rest(REST_FIRST)?;
        self.say_last_words()?;
        self.come_to_rest(next).map(drop)
    }

    fn come_to_rest(&mut self, first: u64) -> Result<u64, Stop> {
        for number in first..first + REST_STEPS_MAX {
            self.step(Step {
                number,
                fails: false,
                publishes: false,
            })?;
            let is_behind = self.truth.replica.ledger.behind().is_some();
            let mut nodes = self.nodes.iter().filter(|node| !node.is_removed);
            if !is_behind && nodes.all(|node| node.has_landed_all() && !node.wants_commit()) {
                return Ok(number + 1);
            }
        }
        violated("everything comes to rest", self.waiting().join("; "))
    }

    fn waiting(&self) -> Vec<String> {
        let nodes = self.nodes.iter().enumerate();
        let waiting = nodes.flat_map(|(at, node)| {
            let statuses = node.statuses().into_iter();
            let behind = statuses.filter(|status| status.landed != status.next);
            behind.map(move |status| {
                format!(
                    "node {at} {}: {} of {} have landed (incarnation {})",
                    status.name, status.landed, status.next, status.incarnation
                )
            })
        });
        waiting.collect()
    }

    fn say_last_words(&mut self) -> Result<(), Stop> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_removed {
                continue;
            }
            let refused = self.nodes[at].refused;
            for stream in 0..STREAMS.len() {
                self.publish_large(at, stream);
            }
            self.publish_to_lanes(at);
            let goes_on = self.nodes[at].commit();
            if !goes_on || self.nodes[at].refused > refused {
                let what = format!("node {at} took nothing when all had landed");
                return violated("a journal that was full goes on", what);
            }
        }
        Ok(())
    }

    pub(super) fn check_end(&mut self) -> Result<(), Stop> {
        self.chance_of(Part::End);
        self.log.durable = self.log.entries.len();
        self.truth.follow(&self.log)?;
        for at in 0..self.nodes.len() {
            if !self.nodes[at].is_removed {
                self.check_node(at)?;
            }
        }
        self.truth
            .check_forks(&self.restored, self.cloud_was_restored)?;
        self.check_hubs()?;
        let bytes = match self.truth.replica.ledger_bytes() {
            Ok(bytes) => bytes as u64,
            Err(what) => return violated("what has landed can be packed", what),
        };
        self.tally.ledger_bytes_max = self.tally.ledger_bytes_max.max(bytes);
        let cut = self.random.below(self.log.durable as u64 + 1) as usize;
        self.truth.check_state(&self.log, cut)?;
        let Truth { plain, replica, .. } = &self.truth;
        let opened = Opened::new();
        let all = AllFacts::new(&replica.ledger, &replica.map, &opened);
        plain.check(all, &mut self.random)
    }

    fn check_node(&self, at: usize) -> Result<(), Stop> {
        let node = &self.nodes[at];
        let window = node.sender.window_bytes();
        if window != 0 {
            let what = format!("node {at} counts {window} bytes under way, and nothing is");
            return violated("the window is given back", what);
        }
        self.check_lanes(at)?;
        let is_its_own = !self.restored.contains(&node.edge) && !self.cloud_was_restored;
        for status in node.statuses() {
            let (edge, name) = (&node.edge, &status.name);
            self.truth
                .check_complete(edge, name, &node.history, status.next)?;
            let ledger = &self.truth.replica.ledger;
            let target = ledger.stream(edge, name).map(|known| known.target);
            let topic = target.and_then(|target| ledger.topic(target.topic_id));
            let partitions = topic.map(|topic| topic.partitions().len() as u32);
            let told = node.partitions.get(&status.stream).copied();
            if told != partitions {
                let what = format!("node {at} {name}: {told:?} of {partitions:?}");
                return violated("an edge knows how far its topic has grown", what);
            }
            let landed = self.truth.gap_records(edge, name);
            let lost = status.gap_records - status.gap_records_landed;
            if is_its_own && landed > lost {
                let what =
                    format!("node {at} {name}: {landed} landed as lost, the journal lost {lost}");
                return violated("only what is lost is declared lost", what);
            }
        }
        Ok(())
    }

    /// A keyed stream has a lane for each partition of its topic, and none is held.
    fn check_lanes(&self, at: usize) -> Result<(), Stop> {
        let ledger = &self.truth.replica.ledger;
        let topic = ledger.topic_id(KEYED.1).and_then(|id| ledger.topic(id));
        let partitions = topic.map_or(0, |topic| topic.partitions().len());
        let keyed = self.nodes[at].keyed.as_ref();
        let lanes = keyed.map_or(0, |keyed| keyed.targets().len());
        if lanes < partitions || keyed.is_none_or(|keyed| keyed.is_switching()) {
            let what =
                format!("node {at} has {lanes} lanes for {partitions} partitions: {keyed:?}");
            return violated("a keyed stream grows with its topic", what);
        }
        Ok(())
    }

    /// Every hub has come to the same state and the same map, each by itself.
    fn check_hubs(&mut self) -> Result<(), Stop> {
        let truth = &self.truth.replica;
        for hub in self.hubs.iter_mut().flatten() {
            loop {
                match hub.apply_next(&self.log) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(what) => return violated("the ledger does not contradict itself", what),
                }
            }
            let same = hub.replica.ledger.snapshot() == truth.ledger.snapshot()
                && hub.replica.map.facts().eq(truth.map.facts());
            if !same {
                let what = format!("hub {} has another state", hub.number);
                return violated("all replicas are the same", what);
            }
        }
        Ok(())
    }

    /// What a node holds in memory and on its disk stays within its limits, whatever happens.
    pub(super) fn check_limits(&self, at: usize) -> Result<(), Stop> {
        let window = self.nodes[at].sender.window_bytes();
        let window_max = sender_limits().window_bytes_max;
        match window > window_max {
            true => violated(
                "the sender's window stays bounded",
                format!("node {at} has {window} bytes under way"),
            ),
            false => Ok(()),
        }
    }
}
