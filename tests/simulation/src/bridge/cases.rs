//! The hard cases that a run can meet, and how often each came.

/// What happens to a run beside its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Case {
    LinkCut,
    LateFrames,
    FramesDoubled,
    EdgePowerCut,
    PowerCutInCommit,
    PowerCutInCheckpoint,
    EdgeRestored,
    EdgeCloned,
    Quarantined,
    EdgeStoreLost,
    EdgeDiskFull,
    DroppedInFlight,
    WrongClock,
    LongOffline,
    CloudPowerCut,
    CloudRestored,
    LogStalls,
    HubFailover,
    TwoHubs,
    TopicDeleted,
    TopicMadeAgain,
    TopicGrown,
    LanesCut,
    // What is only seen to happen.
    IdleTold,
    LanesGrown,
    LanesHeld,
    LanesLetGo,
    LanesStoredHeld,
    LanesEdgeRestored,
    LanesCloudRestored,
    LanesTopicNarrower,
}

impl Case {
    pub const ALL: [Self; 31] = [
        Self::LinkCut,
        Self::LateFrames,
        Self::FramesDoubled,
        Self::EdgePowerCut,
        Self::PowerCutInCommit,
        Self::PowerCutInCheckpoint,
        Self::EdgeRestored,
        Self::EdgeCloned,
        Self::Quarantined,
        Self::EdgeStoreLost,
        Self::EdgeDiskFull,
        Self::DroppedInFlight,
        Self::WrongClock,
        Self::LongOffline,
        Self::CloudPowerCut,
        Self::CloudRestored,
        Self::LogStalls,
        Self::HubFailover,
        Self::TwoHubs,
        Self::TopicDeleted,
        Self::TopicMadeAgain,
        Self::TopicGrown,
        Self::LanesCut,
        Self::IdleTold,
        Self::LanesGrown,
        Self::LanesHeld,
        Self::LanesLetGo,
        Self::LanesStoredHeld,
        Self::LanesEdgeRestored,
        Self::LanesCloudRestored,
        Self::LanesTopicNarrower,
    ];

    /// Whether it is brought about; the others come of these.
    pub fn is_fault(self) -> bool {
        self <= Self::LanesCut
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::LinkCut => "link cut at any byte",
            Self::LateFrames => "frames of an old connection come late",
            Self::FramesDoubled => "frames come twice",
            Self::EdgePowerCut => "power cut at the edge",
            Self::PowerCutInCommit => "power cut in the middle of a commit",
            Self::PowerCutInCheckpoint => "power cut in the middle of a checkpoint",
            Self::EdgeRestored => "edge restored from an old backup",
            Self::EdgeCloned => "cloned card, two nodes",
            Self::Quarantined => "nodes of one identity fight, quarantine",
            Self::EdgeStoreLost => "edge's store lost",
            Self::EdgeDiskFull => "edge's disk full, publishes refused",
            Self::DroppedInFlight => "edge's disk full, oldest dropped",
            Self::WrongClock => "wrong clock at the edge",
            Self::LongOffline => "60 days offline",
            Self::CloudPowerCut => "power cut at the cloud",
            Self::CloudRestored => "cloud restored from an old state",
            Self::LogStalls => "order log down",
            Self::HubFailover => "hub dies, the other takes over",
            Self::TwoHubs => "two hubs propose at once",
            Self::TopicDeleted => "topic deleted",
            Self::TopicMadeAgain => "topic made again",
            Self::TopicGrown => "topic grown",
            Self::LanesCut => "lanes: power cut while they are made",
            Self::IdleTold => "older connection closed at once",
            Self::LanesGrown => "lanes: topic grown",
            Self::LanesHeld => "lanes: barrier held",
            Self::LanesLetGo => "lanes: barrier let go",
            Self::LanesStoredHeld => "lanes: start behind a barrier",
            Self::LanesEdgeRestored => "lanes: edge restored to fewer",
            Self::LanesCloudRestored => "lanes: cloud restored to fewer partitions",
            Self::LanesTopicNarrower => "lanes: topic made again, narrower",
        }
    }
}

/// How often each case came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaseCounts([u64; Case::ALL.len()]);

impl CaseCounts {
    pub fn note(&mut self, case: Case) {
        self.0[case as usize] += 1;
    }

    pub fn of(&self, case: Case) -> u64 {
        self.0[case as usize]
    }

    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}
