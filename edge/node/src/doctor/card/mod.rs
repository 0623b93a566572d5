//! `tidegate-edge doctor disk`: what a commit costs, how long the card lasts, and whether it keeps its word: a disk that
//! says "it is stored" before it is loses acknowledged messages with the power, whatever a journal does.
//!
//! To find out, blocks are written one by one, each synced, and then a *promise* in another place that says so, synced as
//! well; only then is the number shown. Then somebody pulls the plug. What is there afterwards is read into [`Facts`], and
//! judged by [`judge`], by a function. The node does so by itself at its next start.

mod check;
mod cost;
mod judge;
mod pattern;
mod plug;
mod wear;
mod writes;

pub use check::{check, judge_at_start, judge_what_is_left, kept_verdict};
pub use cost::{Cost, measure};
pub use judge::{Facts, Kept, LIES_ADVICE, Verdict, judge};
pub use plug::{PlugTest, Progress};
pub use wear::{Load, Measured, Wear, device_of, loads, shown_years};
pub use writes::{Amount, AmountError};
