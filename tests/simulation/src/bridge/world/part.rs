//! What chance is asked for in a step.

/// What chance is asked for: each part of each step has its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::bridge) enum Part {
    Begin,
    Time,
    Links,
    Hubs,
    Faults,
    Operator,
    Order,
    End,
    Node(usize),
}

impl Part {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Begin => 0,
            Self::Time => 1,
            Self::Links => 2,
            Self::Hubs => 3,
            Self::Faults => 4,
            Self::Operator => 5,
            Self::Order => 6,
            Self::End => 7,
            Self::Node(at) => 8 + at as u64,
        }
    }
}
