//! The judgement. The last fetches of a history should have read each partition to its end, after all else: then what
//! was acknowledged and is not there is found, too.

use std::collections::BTreeMap;
use std::fmt;

use super::{Kind, Operation, Outcome, by_partition};

/// What no log could have shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged value is not where it was acknowledged: something else is, or the log ends before it.
    LostAcknowledgement {
        partition: i32,
        offset: i64,
        value: u64,
        instead: Option<u64>,
    },
    /// A value is at two offsets.
    Duplicate {
        partition: i32,
        value: u64,
        offsets: [i64; 2],
    },
    /// Two fetches found different values at one offset.
    Disagreement {
        partition: i32,
        offset: i64,
        values: [u64; 2],
    },
    /// A value was read that nobody had sent by then, or that was refused.
    Phantom {
        partition: i32,
        offset: i64,
        value: u64,
    },
    /// A fetch's records do not follow each other from where it asked on, or go on behind the end that it was told.
    Hole {
        partition: i32,
        operation: Operation,
    },
    /// A fetch was told an end before one that was known when it began.
    StaleRead {
        partition: i32,
        known_end: i64,
        operation: Operation,
    },
    /// A value got an offset before the end that was known when it was sent.
    Reordered {
        partition: i32,
        known_end: i64,
        operation: Operation,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

/// All that is wrong with a history; nothing where it is linearizable.
pub fn check(history: &[Operation]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (partition, operations) in by_partition(history) {
        Partition::new(partition, &operations).check(&mut found);
    }
    found
}

/// A value's own life.
#[derive(Clone, Copy, Debug)]
struct Sent {
    began_ns: u64,
    ended_ns: u64,
    outcome: Outcome,
}

struct Partition<'a> {
    number: i32,
    operations: &'a [&'a Operation],
    sent: BTreeMap<u64, Sent>,
    /// What is at each offset, as far as anybody was told, and whether by an acknowledgement.
    content: BTreeMap<i64, (u64, bool)>,
}

impl<'a> Partition<'a> {
    fn new(number: i32, operations: &'a [&'a Operation]) -> Self {
        let sent = operations.iter().filter_map(|operation| {
            let Kind::Produce { value, outcome } = operation.kind else {
                return None;
            };
            let sent = Sent {
                began_ns: operation.began_ns,
                ended_ns: operation.ended_ns,
                outcome,
            };
            Some((value, sent))
        });
        Self {
            number,
            operations,
            sent: sent.collect(),
            content: BTreeMap::new(),
        }
    }

    fn check(mut self, found: &mut Vec<Violation>) {
        self.collect_acknowledged(found);
        for operation in self.operations {
            if let Kind::Fetch { from, records, end } = &operation.kind {
                self.check_shape(operation, *from, records, *end, found);
                self.collect_read(operation, records, found);
            }
        }
        self.check_once(found);
        self.check_real_time(found);
        self.check_all_there(found);
    }

    fn collect_acknowledged(&mut self, found: &mut Vec<Violation>) {
        for (&value, sent) in &self.sent {
            let Outcome::Acknowledged(offset) = sent.outcome else {
                continue;
            };
            if let Some((other, _)) = self.content.insert(offset, (value, true)) {
                found.push(Violation::LostAcknowledgement {
                    partition: self.number,
                    offset,
                    value: other,
                    instead: Some(value),
                });
            }
        }
    }

    fn check_shape(
        &self,
        operation: &Operation,
        from: i64,
        records: &[(i64, u64)],
        end: i64,
        found: &mut Vec<Violation>,
    ) {
        let mut expected = (from..).zip(records);
        let follow = expected.all(|(expected, (offset, _))| expected == *offset);
        if !follow || records.last().is_some_and(|(last, _)| *last >= end) {
            found.push(Violation::Hole {
                partition: self.number,
                operation: operation.clone(),
            });
        }
    }

    fn collect_read(
        &mut self,
        operation: &Operation,
        records: &[(i64, u64)],
        found: &mut Vec<Violation>,
    ) {
        let partition = self.number;
        for &(offset, value) in records {
            let sent = self.sent.get(&value);
            let is_sent = sent.is_some_and(|sent| {
                sent.began_ns < operation.ended_ns && sent.outcome != Outcome::Refused
            });
            if !is_sent {
                found.push(Violation::Phantom {
                    partition,
                    offset,
                    value,
                });
            }
            match self.content.get(&offset).copied() {
                None => drop(self.content.insert(offset, (value, false))),
                Some((same, _)) if same == value => {}
                Some((acknowledged, true)) => found.push(Violation::LostAcknowledgement {
                    partition,
                    offset,
                    value: acknowledged,
                    instead: Some(value),
                }),
                Some((other, false)) => found.push(Violation::Disagreement {
                    partition,
                    offset,
                    values: [other, value],
                }),
            }
        }
    }

    /// No value has two offsets.
    fn check_once(&self, found: &mut Vec<Violation>) {
        let mut offsets = BTreeMap::new();
        for (&offset, &(value, _)) in &self.content {
            if let Some(before) = offsets.insert(value, offset) {
                found.push(Violation::Duplicate {
                    partition: self.number,
                    value,
                    offsets: [before, offset],
                });
            }
        }
    }

    /// Where an operation has its place: a value at offset n between the ends n and n + 1. A value of which nobody was
    /// told where it lies has none, or the one at which it was read.
    fn places(&self) -> Vec<Option<Place>> {
        let read: BTreeMap<u64, i64> = self.content.iter().map(|(o, (v, _))| (*v, *o)).collect();
        let place = |operation: &&Operation| match operation.kind {
            Kind::Fetch { end, .. } => Some(Place {
                key: 2 * end,
                is_ended: true,
            }),
            Kind::Produce { value, outcome } => {
                let is_ended = matches!(outcome, Outcome::Acknowledged(_));
                let offset = match outcome {
                    Outcome::Acknowledged(offset) => Some(offset),
                    Outcome::Refused | Outcome::Unknown => read.get(&value).copied(),
                };
                offset.map(|offset| Place {
                    key: 2 * offset + 1,
                    is_ended,
                })
            }
        };
        self.operations.iter().map(place).collect()
    }

    /// Nothing that began after something else had ended has an earlier place.
    fn check_real_time(&self, found: &mut Vec<Violation>) {
        let places = self.places();
        let placed = |at: &usize| places[*at].is_some();
        let mut by_begin: Vec<usize> = (0..places.len()).filter(placed).collect();
        by_begin.sort_by_key(|at| self.operations[*at].began_ns);
        let ended = |at: &usize| places[*at].is_some_and(|place| place.is_ended);
        let mut by_end: Vec<usize> = (0..places.len()).filter(ended).collect();
        by_end.sort_by_key(|at| self.operations[*at].ended_ns);
        let mut by_end = by_end.into_iter().peekable();
        let mut floor = 0;
        for at in by_begin {
            let operation = self.operations[at];
            while let Some(past) =
                by_end.next_if(|past| self.operations[*past].ended_ns < operation.began_ns)
            {
                floor = floor.max(places[past].map_or(0, |place| place.key));
            }
            if places[at].is_some_and(|place| place.key < floor) {
                let (partition, operation) = (self.number, operation.clone());
                // The end that such a place means: behind the value, or where the log was told to end.
                let known_end = (floor + 1) / 2;
                found.push(match operation.kind {
                    Kind::Fetch { .. } => Violation::StaleRead {
                        partition,
                        known_end,
                        operation,
                    },
                    Kind::Produce { .. } => Violation::Reordered {
                        partition,
                        known_end,
                        operation,
                    },
                });
            }
        }
    }

    /// What was acknowledged before the last fetch lies before the end that it was told.
    fn check_all_there(&self, found: &mut Vec<Violation>) {
        let fetches = self.operations.iter().filter_map(|operation| {
            let Kind::Fetch { end, .. } = operation.kind else {
                return None;
            };
            Some((operation.began_ns, end))
        });
        let Some((began_ns, end)) = fetches.max() else {
            return;
        };
        for (&value, sent) in &self.sent {
            match sent.outcome {
                Outcome::Acknowledged(offset) if offset >= end && sent.ended_ns < began_ns => {
                    found.push(Violation::LostAcknowledgement {
                        partition: self.number,
                        offset,
                        value,
                        instead: None,
                    });
                }
                _ => {}
            }
        }
    }
}

/// A place in the one order of a partition.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: i64,
    /// It has taken place by its end; a value without an answer may do so later.
    is_ended: bool,
}
