//! Who is subscribed to what. Filters without wildcards are one look-up by the whole topic; the
//! others are a trie over topic levels, walked with a stack of its own, so that no peer decides
//! how deep the call stack gets. It knows nothing of shares, QoS or sessions: those are in the
//! values.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_shared::topic::TopicFilter;

/// Values by filter and subscriber. `K` names a subscriber, `V` is what it asked for.
#[derive(Clone, Debug)]
pub struct Subscriptions<K, V> {
    /// By filters without wildcards.
    exact: HashMap<String, BTreeMap<K, V>>,
    /// The trie of the others; the root is `ROOT`.
    nodes: Vec<Node<K, V>>,
    /// Nodes that are not in use.
    free: Vec<NodeIndex>,
    by_key: BTreeMap<K, BTreeSet<TopicFilter>>,
    len: usize,
}

type NodeIndex = usize;

const ROOT: NodeIndex = 0;

#[derive(Clone, Debug)]
struct Node<K, V> {
    children: HashMap<Box<str>, NodeIndex>,
    plus: Option<NodeIndex>,
    /// Of filters that end here.
    ending: BTreeMap<K, V>,
    /// Of filters that end here in `#`.
    hash: BTreeMap<K, V>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            plus: None,
            ending: BTreeMap::new(),
            hash: BTreeMap::new(),
        }
    }
}

impl<K, V> Node<K, V> {
    fn is_unused(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.ending.is_empty()
            && self.hash.is_empty()
    }

    fn child(&self, level: &str) -> Option<NodeIndex> {
        match level {
            "+" => self.plus,
            level => self.children.get(level).copied(),
        }
    }
}

impl<K, V> Default for Subscriptions<K, V> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            nodes: vec![Node::default()],
            free: Vec::new(),
            by_key: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<K: Ord + Clone, V> Subscriptions<K, V> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Subscriptions, not subscribers.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The filters of one subscriber, in their order.
    pub fn filters_of(&self, key: &K) -> impl Iterator<Item = &TopicFilter> {
        self.by_key.get(key).into_iter().flatten()
    }

    /// Gives what the subscription had before, where it replaces one `[MQTT-3.8.4-3]`.
    pub fn subscribe(&mut self, filter: TopicFilter, key: K, value: V) -> Option<V> {
        let replaced = self
            .subscribers_or_insert(filter.as_str())
            .insert(key.clone(), value);
        if replaced.is_none() {
            self.len += 1;
            self.by_key.entry(key).or_default().insert(filter);
        }
        replaced
    }

    /// Gives what the subscription had; `None` where there was none.
    pub fn unsubscribe(&mut self, filter: &TopicFilter, key: &K) -> Option<V> {
        let value = self.remove(filter.as_str(), key)?;
        let filters = self.by_key.get_mut(key)?;
        filters.remove(filter);
        if filters.is_empty() {
            self.by_key.remove(key);
        }
        Some(value)
    }

    /// Removes all that one subscriber has; gives how many that were.
    pub fn remove_all(&mut self, key: &K) -> usize {
        let filters = self.by_key.remove(key).unwrap_or_default();
        for filter in &filters {
            self.remove(filter.as_str(), key);
        }
        filters.len()
    }

    /// Calls `found` for each subscription that matches: more than once for a subscriber with
    /// overlapping filters.
    pub fn matches(&self, topic: &str, mut found: impl FnMut(&K, &V)) {
        let mut visit = |subscribers: &BTreeMap<K, V>| {
            subscribers
                .iter()
                .for_each(|(key, value)| found(key, value));
        };
        if let Some(subscribers) = self.exact.get(topic) {
            visit(subscribers);
        }
        // [MQTT-4.7.2-1]: wildcards of the first level don't match `$`.
        let hidden = topic.starts_with('$');
        let mut stack = vec![(ROOT, Some(topic))];
        while let Some((index, rest)) = stack.pop() {
            let node = &self.nodes[index];
            let wildcards = index != ROOT || !hidden;
            if wildcards {
                visit(&node.hash);
            }
            let Some(rest) = rest else {
                visit(&node.ending);
                continue;
            };
            let (level, rest) = match rest.split_once('/') {
                Some((level, rest)) => (level, Some(rest)),
                None => (rest, None),
            };
            let child = node.children.get(level).copied();
            let plus = node.plus.filter(|_| wildcards);
            stack.extend(child.into_iter().chain(plus).map(|index| (index, rest)));
        }
    }

    fn subscribers_or_insert(&mut self, filter: &str) -> &mut BTreeMap<K, V> {
        if !has_wildcard(filter) {
            return self.exact.entry(filter.to_owned()).or_default();
        }
        let mut index = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                return &mut self.nodes[index].hash;
            }
            index = self.child_or_insert(index, level);
        }
        &mut self.nodes[index].ending
    }

    fn child_or_insert(&mut self, parent: NodeIndex, level: &str) -> NodeIndex {
        if let Some(child) = self.nodes[parent].child(level) {
            return child;
        }
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        });
        match level {
            "+" => self.nodes[parent].plus = Some(child),
            level => {
                self.nodes[parent].children.insert(level.into(), child);
            }
        }
        child
    }

    /// Takes the subscription out, and the nodes that it alone needed.
    fn remove(&mut self, filter: &str, key: &K) -> Option<V> {
        let value = if has_wildcard(filter) {
            self.remove_from_trie(filter, key)?
        } else {
            let subscribers = self.exact.get_mut(filter)?;
            let value = subscribers.remove(key)?;
            if subscribers.is_empty() {
                self.exact.remove(filter);
            }
            value
        };
        self.len -= 1;
        Some(value)
    }

    fn remove_from_trie(&mut self, filter: &str, key: &K) -> Option<V> {
        let mut path = Vec::new();
        let mut index = ROOT;
        let mut hash = false;
        for level in filter.split('/') {
            if level == "#" {
                hash = true;
                break;
            }
            path.push((index, level));
            index = self.nodes[index].child(level)?;
        }
        let node = &mut self.nodes[index];
        let value = if hash {
            &mut node.hash
        } else {
            &mut node.ending
        }
        .remove(key)?;
        while let Some((parent, level)) = path.pop() {
            if !self.nodes[index].is_unused() {
                break;
            }
            match level {
                "+" => self.nodes[parent].plus = None,
                level => {
                    self.nodes[parent].children.remove(level);
                }
            }
            self.free.push(index);
            index = parent;
        }
        Some(value)
    }
}

fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use tidegate_shared::topic::TOPIC_LEVELS_MAX;

    use super::*;

    fn filter(value: &str) -> TopicFilter {
        TopicFilter::new(value).unwrap()
    }

    fn found(subscriptions: &Subscriptions<u8, u32>, topic: &str) -> Vec<(u8, u32)> {
        let mut found = Vec::new();
        subscriptions.matches(topic, |key, value| found.push((*key, *value)));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_subscription_replaces_the_one_before() {
        let mut subscriptions = Subscriptions::new();
        assert_eq!(subscriptions.subscribe(filter("a/+"), 1, 10), None);
        assert_eq!(subscriptions.subscribe(filter("a/+"), 1, 11), Some(10));
        assert_eq!(subscriptions.len(), 1);
        assert_eq!(found(&subscriptions, "a/b"), [(1, 11)]);
        assert_eq!(subscriptions.unsubscribe(&filter("a/#"), &1), None);
        assert_eq!(subscriptions.unsubscribe(&filter("a/+"), &1), Some(11));
        assert!(subscriptions.is_empty());
    }

    #[test]
    fn what_is_not_needed_is_freed() {
        let mut subscriptions = Subscriptions::new();
        for round in 0..100 {
            subscriptions.subscribe(filter(&format!("{round}/+/b/#")), 1, 0);
            subscriptions.subscribe(filter(&format!("{round}/c")), 1, 0);
            assert_eq!(subscriptions.remove_all(&1), 2);
        }
        assert!(subscriptions.nodes.len() <= 4);
        assert!(subscriptions.exact.is_empty() && subscriptions.by_key.is_empty());
        assert!(subscriptions.nodes[ROOT].is_unused());
    }

    #[test]
    fn the_deepest_filter_matches() {
        let mut subscriptions = Subscriptions::new();
        let deep = vec!["+"; TOPIC_LEVELS_MAX].join("/");
        subscriptions.subscribe(filter(&deep), 1, 0);
        assert_eq!(
            found(&subscriptions, &vec!["a"; TOPIC_LEVELS_MAX].join("/")),
            [(1, 0)]
        );
        assert_eq!(found(&subscriptions, &vec!["a"; 10_000].join("/")), []);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(String, u8, u32),
        Unsubscribe(String, u8),
        RemoveAll(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let filter = || "(\\+|a|b|\\$x|)(/(\\+|a|b|)){0,3}(/#)?|#";
        prop_oneof![
            6 => (filter(), 0..4_u8, any::<u32>())
                .prop_map(|(filter, key, value)| Step::Subscribe(filter, key, value)),
            2 => (filter(), 0..4_u8).prop_map(|(filter, key)| Step::Unsubscribe(filter, key)),
            1 => (0..4_u8).prop_map(Step::RemoveAll),
        ]
    }

    proptest! {
        #[test]
        fn matching_agrees_with_a_scan(
            steps in vec(step(), 1..60),
            topics in vec("(a|b|\\$x|)(/(a|b|)){0,4}", 1..10),
        ) {
            let mut subscriptions = Subscriptions::new();
            let mut scan = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Subscribe(name, key, value) => if let Ok(filter) = TopicFilter::new(name) {
                        let before = scan.insert((filter.clone(), key), value);
                        prop_assert_eq!(subscriptions.subscribe(filter, key, value), before);
                    },
                    Step::Unsubscribe(name, key) => if let Ok(filter) = TopicFilter::new(name) {
                        let before = scan.remove(&(filter.clone(), key));
                        prop_assert_eq!(subscriptions.unsubscribe(&filter, &key), before);
                    },
                    Step::RemoveAll(key) => {
                        let before = scan.len();
                        scan.retain(|(_, other), _| *other != key);
                        prop_assert_eq!(subscriptions.remove_all(&key), before - scan.len());
                    }
                }
                prop_assert_eq!(subscriptions.len(), scan.len());
            }
            for topic in topics {
                let mut expected: Vec<_> = scan
                    .iter()
                    .filter(|((filter, _), _)| filter.matches(&topic))
                    .map(|((_, key), value)| (*key, *value))
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(found(&subscriptions, &topic), expected);
            }
        }
    }
}
