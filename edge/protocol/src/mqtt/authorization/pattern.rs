//! A pattern of topics as a rule has it: an MQTT filter, in which `%u` stands for the user's name and `%c` for the client
//! id.

use tidegate_shared::topic::TopicFilter;

use super::Client;
use super::levels::{Level, Levels};

/// Each topic of the pattern is this and what the rule says behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Ordinary,
    /// `$broadcast/…`
    Broadcast,
    /// `$direct/<client id>/…`
    Direct,
}

impl Space {
    /// The spaces whose topics no ordinary pattern reaches.
    pub(super) const OWN: [Self; 2] = [Self::Broadcast, Self::Direct];

    /// The key of a rule.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Ordinary => "topics",
            Self::Broadcast => "broadcast",
            Self::Direct => "direct",
        }
    }

    pub(super) fn first_level(self) -> Option<&'static str> {
        match self {
            Self::Ordinary => None,
            Self::Broadcast => Some("$broadcast"),
            Self::Direct => Some("$direct"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicPattern {
    first: Option<&'static str>,
    levels: Vec<PatternLevel>,
    /// What it is for everybody; `None`: it has placeholders.
    fixed: Option<Levels>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternLevel {
    Fixed(Level),
    /// Text with placeholders.
    Named(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    ClientId,
}

impl TopicPattern {
    pub(super) fn new(filter: &TopicFilter, space: Space) -> Self {
        let mut pattern = Self {
            first: space.first_level(),
            levels: filter.as_str().split('/').map(PatternLevel::new).collect(),
            fixed: None,
        };
        if pattern.levels.iter().all(PatternLevel::is_fixed) {
            let nobody = Client { user: None, id: "" };
            pattern.fixed = pattern.granted_to(nobody);
        }
        pattern
    }

    /// What it allows or denies everybody alike; `None`: it has placeholders.
    pub(super) fn fixed(&self) -> Option<&Levels> {
        self.fixed.as_ref()
    }

    /// What it allows a client. Nothing where a name can't stand for a level: the pattern would mean other topics than
    /// whoever wrote it had in mind.
    pub(super) fn granted_to(&self, client: Client<'_>) -> Option<Levels> {
        self.granted_levels(client).map(Levels::new)
    }

    fn granted_levels(&self, client: Client<'_>) -> Option<Vec<Level>> {
        let levels: Option<Vec<_>> = self.filled(client).collect();
        let levels = levels?;
        // No name leads to topics that begin with a `$`.
        let leads_there = matches!(levels.first(), Some(Level::Text(text)) if text.starts_with('$'))
            && self.first.is_none()
            && matches!(self.levels.first(), Some(PatternLevel::Named(_)));
        (!leads_there).then_some(levels)
    }

    /// What it denies a client: all from the level on that a name can't stand for.
    pub(super) fn denied_to(&self, client: Client<'_>) -> Levels {
        let mut levels = Vec::new();
        for level in self.filled(client) {
            let is_last = level.is_none();
            levels.push(level.unwrap_or(Level::Rest));
            if is_last {
                break;
            }
        }
        Levels::new(levels)
    }

    fn filled(&self, client: Client<'_>) -> impl Iterator<Item = Option<Level>> {
        let first = self.first.map(|text| Some(Level::Text(text.into())));
        first
            .into_iter()
            .chain(self.levels.iter().map(move |level| level.filled(client)))
    }
}

/// A filter with `%u` and `%c` in it, which become a client's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFilter(TopicPattern);

impl NamedFilter {
    pub fn new(filter: &TopicFilter) -> Self {
        Self(TopicPattern::new(filter, Space::Ordinary))
    }

    /// Nothing where a name can't stand for a level, or would lead to topics that begin with a `$`.
    pub fn filled(&self, client: Client<'_>) -> Option<String> {
        let levels = self.0.granted_levels(client)?;
        let texts: Vec<&str> = levels.iter().map(Level::as_str).collect();
        Some(texts.join("/"))
    }
}

impl PatternLevel {
    fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    fn new(level: &str) -> Self {
        match level {
            "+" => Self::Fixed(Level::One),
            "#" => Self::Fixed(Level::Rest),
            text if text.contains("%u") || text.contains("%c") => Self::Named(parts(text)),
            text => Self::Fixed(Level::Text(text.into())),
        }
    }

    fn filled(&self, client: Client<'_>) -> Option<Level> {
        let parts = match self {
            Self::Fixed(level) => return Some(level.clone()),
            Self::Named(parts) => parts,
        };
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::User => text.push_str(client.user.filter(|name| is_one_level(name))?),
                Part::ClientId => text.push_str(Some(client.id).filter(|name| is_one_level(name))?),
            }
        }
        Some(Level::Text(text.into()))
    }
}

/// Whether a name is text in one level, and nothing else.
pub(in crate::mqtt) fn is_one_level(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '+', '#', '\0'])
}

fn parts(mut text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    while let Some(at) = text.find("%u").into_iter().chain(text.find("%c")).min() {
        let (before, rest) = text.split_at(at);
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(match rest.starts_with("%u") {
            true => Part::User,
            false => Part::ClientId,
        });
        text = &rest[2..];
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    parts
}
