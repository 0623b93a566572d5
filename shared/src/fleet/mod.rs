//! Fleet types.
