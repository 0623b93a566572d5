//! One rule, and the form in which a file has it.

use std::collections::BTreeSet;

use serde::Deserialize;
use thiserror::Error;
use tidegate_shared::topic::TopicFilter;

use super::pattern::{Space, TopicPattern};
use super::{Client, Rules, RulesError};

/// What a client does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Publish,
    Subscribe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
}

/// Allows or denies some clients some topics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RuleForm")]
pub struct Rule {
    /// `None`: whoever it is.
    users: Option<BTreeSet<String>>,
    client_ids: Option<BTreeSet<String>>,
    pub(super) verdict: Verdict,
    pub(super) actions: BTreeSet<Action>,
    pub(super) patterns: Vec<TopicPattern>,
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesForm {
    pub rules: Vec<Rule>,
}

/// A rule as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleForm {
    /// Whom it concerns; without it, everybody, also who has no name.
    pub users: Option<BTreeSet<String>>,
    /// The same by client id; with both, who is in both.
    pub client_ids: Option<BTreeSet<String>>,
    /// One of these two.
    pub allow: Option<BTreeSet<Action>>,
    pub deny: Option<BTreeSet<Action>>,
    /// Filters, with `%u` and `%c`.
    pub topics: Vec<TopicFilter>,
    /// The same for what stands behind `$broadcast/`.
    pub broadcast: Vec<TopicFilter>,
    /// The same for what stands behind `$direct/`: a client id, and a topic.
    pub direct: Vec<TopicFilter>,
}

/// A rule that says nothing, or not what it seems to say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    #[error("a rule says either allow or deny")]
    Verdict,
    #[error("{0} is empty: leave it out, if everybody is meant")]
    Nobody(&'static str),
    #[error("a rule allows or denies at least one of publish, subscribe")]
    Actions,
    #[error("a rule names topics, broadcast or direct")]
    NoTopics,
    #[error("the topic {topic} has a right of its own: write {key}: [{rest:?}]")]
    OwnSpace {
        topic: String,
        key: &'static str,
        rest: String,
    },
    #[error("{0}: a shared subscription is judged by the filter behind its group: write that")]
    Shared(String),
    #[error("{0}: a delayed message is judged by the topic that it has in the end: write that")]
    Delayed(String),
}

impl TryFrom<RuleForm> for Rule {
    type Error = RuleError;

    fn try_from(form: RuleForm) -> Result<Self, RuleError> {
        let (verdict, actions) = match (form.allow, form.deny) {
            (Some(actions), None) => (Verdict::Allow, actions),
            (None, Some(actions)) => (Verdict::Deny, actions),
            _ => return Err(RuleError::Verdict),
        };
        if actions.is_empty() {
            return Err(RuleError::Actions);
        }
        for (key, names) in [("users", &form.users), ("client_ids", &form.client_ids)] {
            if names.as_ref().is_some_and(BTreeSet::is_empty) {
                return Err(RuleError::Nobody(key));
            }
        }
        for topic in &form.topics {
            check_ordinary(topic.as_str())?;
        }
        let spaces = [
            (&form.topics, Space::Ordinary),
            (&form.broadcast, Space::Broadcast),
            (&form.direct, Space::Direct),
        ];
        let patterns = spaces.into_iter().flat_map(|(filters, space)| {
            let patterns = filters.iter();
            patterns.map(move |filter| TopicPattern::new(filter, space))
        });
        let patterns: Vec<_> = patterns.collect();
        if patterns.is_empty() {
            return Err(RuleError::NoTopics);
        }
        Ok(Self {
            users: form.users,
            client_ids: form.client_ids,
            verdict,
            actions,
            patterns,
        })
    }
}

fn check_ordinary(topic: &str) -> Result<(), RuleError> {
    let (first, rest) = topic.split_once('/').unwrap_or((topic, "#"));
    if first == "$share" {
        return Err(RuleError::Shared(topic.to_owned()));
    }
    if first == "$delayed" {
        return Err(RuleError::Delayed(topic.to_owned()));
    }
    let own = Space::OWN.into_iter();
    let mut own = own.filter(|space| space.first_level() == Some(first));
    match own.next() {
        Some(space) => Err(RuleError::OwnSpace {
            topic: topic.to_owned(),
            key: space.key(),
            rest: rest.to_owned(),
        }),
        None => Ok(()),
    }
}

impl TryFrom<RulesForm> for Rules {
    type Error = RulesError;

    fn try_from(form: RulesForm) -> Result<Self, RulesError> {
        Self::new(form.rules)
    }
}

impl Rule {
    pub(super) fn concerns_everybody(&self) -> bool {
        self.users.is_none() && self.client_ids.is_none()
    }

    pub(super) fn concerns(&self, client: Client<'_>) -> bool {
        let is_among = |names: &Option<BTreeSet<String>>, name: Option<&str>| match (names, name) {
            (None, _) => true,
            (Some(names), Some(name)) => names.contains(name),
            (Some(_), None) => false,
        };
        is_among(&self.users, client.user) && is_among(&self.client_ids, Some(client.id))
    }
}
