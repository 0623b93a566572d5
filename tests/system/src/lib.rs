//! Whole processes by path, real clients, faults; no workspace dependency.
