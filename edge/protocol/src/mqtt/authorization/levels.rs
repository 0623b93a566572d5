//! A pattern of topics with a client's names filled in, held against topics and filters. What a name has put into a
//! level is only ever text there, never a wildcard or a second level.

use std::sync::Arc;

/// One level of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Text(Box<str>),
    /// `+`
    One,
    /// `#`: this level and all below it, or none. Only the last.
    Rest,
}

impl Level {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::One => "+",
            Self::Rest => "#",
        }
    }
}

/// At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Levels(Arc<[Level]>);

impl Levels {
    /// A `#` alone is `+/#`: each topic has a level. So it is nowhere else than behind another level.
    pub(super) fn new(mut levels: Vec<Level>) -> Self {
        if levels.first() == Some(&Level::Rest) {
            levels.insert(0, Level::One);
        }
        Self(levels.into())
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        let mut levels = topic.split('/');
        for own in &*self.0 {
            match (own, levels.next()) {
                (Level::Rest, _) => return true,
                (Level::One, Some(_)) => {}
                (Level::Text(text), Some(level)) if **text == *level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether it matches each topic that the filter matches.
    pub(super) fn covers(&self, filter: &str) -> bool {
        if filter.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        let mut levels = levels_of(filter);
        for own in &*self.0 {
            match (own, levels.next()) {
                (Level::Rest, _) => return true,
                (Level::One, Some(level)) if level != "#" => {}
                (Level::Text(text), Some(level)) if is_text(level) && **text == *level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether there is a topic that both match.
    pub(super) fn overlaps(&self, filter: &str) -> bool {
        let begins_hidden =
            matches!(self.0.first(), Some(Level::Text(text)) if text.starts_with('$'));
        if (filter.starts_with('$') && self.begins_with_wildcard())
            || (filter.starts_with(['+', '#']) && begins_hidden)
        {
            return false;
        }
        let mut levels = levels_of(filter);
        for own in &*self.0 {
            match (own, levels.next()) {
                (Level::Rest, _) | (_, Some("#")) => return true,
                (Level::One, Some(_)) | (Level::Text(_), Some("+")) => {}
                (Level::Text(text), Some(level)) if **text == *level => {}
                _ => return false,
            }
        }
        matches!(levels.next(), None | Some("#"))
    }

    fn begins_with_wildcard(&self) -> bool {
        matches!(self.0.first(), Some(Level::One | Level::Rest))
    }
}

/// A filter's levels, with `#` alone as `+/#`.
fn levels_of(filter: &str) -> impl Iterator<Item = &str> {
    let alone = (filter == "#").then_some("+");
    alone.into_iter().chain(filter.split('/'))
}

fn is_text(level: &str) -> bool {
    level != "+" && level != "#"
}
