//! The cloud's decisions as values: the ledger, consumer groups, fetch planning, without I/O.
