//! Intervals of one numbering, in order, each with where it leads: one direction of the offset map.
//! What follows on without a break in both numberings is one span.

use std::collections::VecDeque;

/// `count` numbers from `from` on lead to as many of `other`, from `other_from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: u64,
    pub count: u64,
    pub other: u32,
    pub other_from: u64,
}

impl Span {
    pub(super) fn end(&self) -> u64 {
        self.from + self.count
    }

    /// The same from the other side, where this one is in `own`.
    pub(super) fn turned(&self, own: u32) -> Self {
        Self {
            from: self.other_from,
            count: self.count,
            other: own,
            other_from: self.from,
        }
    }

    /// The part that lies in an interval which it overlaps.
    pub(super) fn cut(&self, from: u64, to: u64) -> Self {
        let first = self.from.max(from);
        Self {
            from: first,
            count: self.end().min(to) - first,
            other: self.other,
            other_from: self.other_from + (first - self.from),
        }
    }

    /// Whether both say the same wherever they overlap.
    fn agrees(&self, with: &Self) -> bool {
        let shift = |span: &Self| span.other_from.wrapping_sub(span.from);
        self.other == with.other && shift(self) == shift(with)
    }
}

/// One direction, for one numbering.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    spans: VecDeque<Span>,
    /// The number behind the last one that was ever known.
    end: u64,
}

impl Spans {
    /// The span that holds a number.
    pub(super) fn at(&self, number: u64) -> Option<&Span> {
        let found = self.spans.get(self.first_ending_behind(number))?;
        (found.from <= number).then_some(found)
    }

    /// The spans that end behind a number, from there on.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = &Span> {
        self.spans.range(self.first_ending_behind(number)..)
    }

    /// What the spans say of an interval, cut to it.
    pub(super) fn within(&self, from: u64, to: u64) -> impl DoubleEndedIterator<Item = Span> {
        let first = self.first_ending_behind(from);
        let behind = match from < to {
            true => self.spans.partition_point(|span| span.from < to),
            false => first,
        };
        let spans = self.spans.range(first..behind);
        spans.map(move |span| span.cut(from, to))
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Span> {
        self.spans.iter()
    }

    /// The number behind the last one that was ever known.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
    }

    fn first_ending_behind(&self, number: u64) -> usize {
        self.spans.partition_point(|span| span.end() <= number)
    }

    /// The first span that says otherwise about some number of `new`.
    pub(super) fn clash(&self, new: &Span) -> Option<&Span> {
        let mut overlapping = self.from(new.from).take_while(|span| span.from < new.end());
        overlapping.find(|span| !span.agrees(new))
    }

    /// Whether all of `span` is known as it says.
    pub(super) fn has(&self, span: &Span) -> bool {
        let found = self.at(span.from);
        found.is_some_and(|found| found.agrees(span) && span.end() <= found.end())
    }

    /// Adds what does not clash; says whether anything of it is new.
    pub(super) fn insert(&mut self, new: Span) -> bool {
        self.end = self.end.max(new.end());
        if let Some(last) = self.spans.back_mut()
            && new.from >= last.end()
        {
            match new.from == last.end() && last.agrees(&new) {
                true => last.count += new.count,
                false => self.spans.push_back(new),
            }
            return true;
        }
        // All that it overlaps or touches, and agrees with, becomes one with it.
        let mut at = self.spans.partition_point(|span| span.end() < new.from);
        let ends_there = |span: &Span| span.end() == new.from && !span.agrees(&new);
        at += usize::from(self.spans.get(at).is_some_and(ends_there));
        let joins = |span: &&Span| span.from <= new.end() && span.agrees(&new);
        let joined: Vec<Span> = self.spans.range(at..).take_while(joins).copied().collect();
        if joined
            .iter()
            .any(|span| span.from <= new.from && new.end() <= span.end())
        {
            return false;
        }
        let from = joined
            .first()
            .map_or(new.from, |first| first.from.min(new.from));
        let end = joined
            .last()
            .map_or(new.end(), |last| last.end().max(new.end()));
        let whole = Span {
            from,
            count: end - from,
            other: new.other,
            other_from: new.other_from.wrapping_sub(new.from - from),
        };
        self.spans.drain(at..at + joined.len());
        self.spans.insert(at, whole);
        true
    }

    /// Takes out what says otherwise about the numbers of `new`, and gives it.
    pub(super) fn take_otherwise(&mut self, new: &Span) -> Vec<Span> {
        let overlapping = self.from(new.from).take_while(|span| span.from < new.end());
        let clashing = overlapping.filter(|span| !span.agrees(new));
        let parts: Vec<_> = clashing.map(|span| span.cut(new.from, new.end())).collect();
        for part in &parts {
            self.take(part.from, part.count);
        }
        parts
    }

    /// Takes out an interval.
    pub(super) fn take(&mut self, from: u64, count: u64) {
        let end = from + count;
        let first = self.first_ending_behind(from);
        let behind = self.spans.partition_point(|span| span.from < end);
        if behind <= first {
            return;
        }
        let taken: Vec<_> = self.spans.drain(first..behind).collect();
        let mut at = first;
        for span in &taken {
            for (from, end) in [(span.from, from), (end, span.end())] {
                if from < end && from >= span.from && end <= span.end() {
                    self.spans.insert(at, span.cut(from, end));
                    at += 1;
                }
            }
        }
    }

    /// Takes out parts of spans, which are in order.
    pub(super) fn take_all(&mut self, gone: &[Span]) {
        let (Some(first), Some(last)) = (gone.first(), gone.last()) else {
            return;
        };
        let (from, to) = (first.from, last.end());
        let goes: u64 = gone.iter().map(|part| part.count).sum();
        if self.within(from, to).map(|span| span.count).sum::<u64>() == goes {
            self.take(from, to - from);
            // Packing takes most of what there is: it is not kept for what may come.
            return self.spans.shrink_to(2 * self.spans.len());
        }
        // Something stays in between: one pass, however much that is.
        let mut gone = gone.iter().peekable();
        let mut kept = VecDeque::with_capacity(self.spans.len());
        for span in &self.spans {
            let mut at = span.from;
            while let Some(part) = gone.next_if(|part| part.from < span.end()) {
                if at < part.from {
                    kept.push_back(span.cut(at, part.from));
                }
                at = part.end();
            }
            if at < span.end() {
                kept.push_back(span.cut(at, span.end()));
            }
        }
        self.spans = kept;
    }

    /// Takes out, and gives, all below a number.
    pub(super) fn take_below(&mut self, number: u64) -> Vec<Span> {
        let whole = self.first_ending_behind(number);
        let mut taken: Vec<_> = self.spans.drain(..whole).collect();
        if let Some(first) = self.spans.front_mut()
            && first.from < number
        {
            taken.push(first.cut(first.from, number));
            *first = first.cut(number, first.end());
        }
        taken
    }

    /// Numbers up to `end` were known once, whatever is left of them.
    pub(super) fn was_known_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Keeps what leads to places that stay.
    pub(super) fn retain(&mut self, stays: impl Fn(u32) -> bool) {
        self.spans.retain(|span| stays(span.other));
    }
}
