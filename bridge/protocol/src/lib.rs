//! The bridge between edge and cloud as values: frames, sender, landing, offset map, without I/O.
//!
//! The [`sender::Sender`] is the edge's end, the [`hub::HubConnection`] the cloud's. Both take frames
//! and results in and give frames and wishes out; drivers around them (`edge/node`, `cloud/broker`)
//! own sockets, the journal and the ledger. [`landing`] is the rule by which the ledger accepts.

pub mod broken;
pub mod fact;
pub mod frame;
pub mod hello_gate;
pub mod hub;
pub mod keyed;
pub mod landing;
pub mod lanes;
pub mod limits;
pub mod reply_code;
pub mod sender;
