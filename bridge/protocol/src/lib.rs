//! The bridge between edge and cloud as values: frames, sender, landing, offset map, without I/O.

pub mod fact;
pub mod landing;
