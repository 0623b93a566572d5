//! Why a group refuses a member. The broker maps these to Kafka's error codes.

use thiserror::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    #[error("the member must join again with the id given to it (KIP-394)")]
    MemberIdRequired,
    #[error("the group does not know the member")]
    UnknownMember,
    #[error("another member with the same group.instance.id is newer (KIP-345)")]
    FencedInstance,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the member's protocols have nothing in common with the group's")]
    InconsistentProtocol,
    #[error("the session timeout is outside the limits")]
    InvalidSessionTimeout,
    #[error("the group has as many members as it may have")]
    GroupFull,
    #[error("the group's generation is larger than what can be kept")]
    TooLarge,
    #[error("the group's generation cannot be kept now")]
    NotKept,
    #[error("there are as many groups as there may be")]
    TooManyGroups,
}
