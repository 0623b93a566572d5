//! What goes from the map with the data. The map's size is that of what is retained: when a partition's
//! log start moves up, the facts below it go, on both sides, and gaps go after them; what is left of each
//! numbering is its name and its end, so that its old offsets are said to have expired.
//!
//! **Gaps** have no data to go with. A gap goes when a fact behind it in its numbering has gone and none
//! before it is left: then nobody can still read their way up to it. So a numbering never keeps more runs
//! of gaps than facts, and one at its end. Facts that are packed go segment by segment, and until then what
//! of them lies below the log's start is only not told any more.

use tidegate_shared::id::{EdgeOffset, KafkaOffset};

use super::spans::Span;
use super::{GAP, OffsetMap};
use crate::ledger::Target;

impl OffsetMap {
    /// The partition begins at `log_start` now, in every life of the cloud: takes out what is below it.
    /// Says how many facts, and intervals of packed ones, were taken out or cut.
    pub fn expire_below(&mut self, target: Target, log_start: KafkaOffset) -> usize {
        let Ok(log_start) = u64::try_from(log_start.0) else {
            return 0;
        };
        let places = self.places.iter();
        let places = places.filter(|(place, _)| place.target == target);
        let places: Vec<u32> = places.map(|(_, number)| number).collect();
        // For each source the offset behind the last that goes.
        let mut gone = std::collections::BTreeMap::<u32, EdgeOffset>::new();
        let mut expired = 0;
        for place in places {
            for span in self.by_place[place as usize].take_below(log_start) {
                let behind = EdgeOffset(span.other_from + span.count);
                self.by_source[span.other as usize].take(span.other_from, span.count);
                let newest = gone.entry(span.other).or_default();
                *newest = (*newest).max(behind);
                expired += 1;
            }
            for (source, packed) in self.packed.take_below(place, log_start) {
                let newest = gone.entry(source).or_default();
                *newest = (*newest).max(EdgeOffset(packed.to));
                expired += 1;
            }
        }
        for (source, behind) in gone {
            self.expire_gaps(source, behind);
        }
        expired
    }

    /// Takes out the gaps of a source that lie before `behind` and before all facts that are left.
    fn expire_gaps(&mut self, source: u32, behind: EdgeOffset) {
        let packed = self.packed.of_source(source).first();
        let packed_from = packed.map_or(u64::MAX, |packed| packed.from);
        let spans = &mut self.by_source[source as usize];
        let goes =
            |span: &&Span| span.other >= GAP && span.end() <= behind.0 && span.from < packed_from;
        let last = spans.iter().take_while(goes).last().map(Span::end);
        if let Some(end) = last {
            spans.take_below(end);
        }
    }
}
