//! The edge's store: a commit log in recycled log files, and redb over it.
