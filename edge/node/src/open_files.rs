//! Open files: a node that has none left cannot go on with its journal, and must stop. So connections leave
//! some.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::limits::FILES_RESERVED;

/// Raises what this process may have open as far as it may by itself, and returns it; `None` is no bound.
pub(crate) fn raise_limit() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    getrlimit(Resource::Nofile).current
}

/// How many of the connections that the configuration allows may be open, so that the journal and the uplink
/// have their files; says so where they are fewer.
pub(crate) fn connections_max(
    connections_max: usize,
    files_max: Option<u64>,
    journal_files_max: usize,
) -> usize {
    let possible = possible(connections_max, files_max, journal_files_max);
    if possible < connections_max {
        tracing::warn!(
            connections_max,
            possible,
            files_max,
            journal_files_max,
            "fewer connections than mqtt.connections_max are possible, since too few files may be open: raise \
             LimitNOFILE= of the service, or ulimit -n"
        );
    }
    possible
}

/// A full journal has all its files open. Where that leaves too little, connections get half.
pub(crate) fn possible(
    connections_max: usize,
    files_max: Option<u64>,
    journal_files_max: usize,
) -> usize {
    let Some(files_max) = files_max else {
        return connections_max;
    };
    let reserved = (FILES_RESERVED + journal_files_max as u64).min(files_max / 2);
    let left = usize::try_from(files_max - reserved).unwrap_or(usize::MAX);
    connections_max.min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_all_else() {
        let journal = 1_280;
        for (files_max, expected) in [
            (None, 20_000),
            (Some(1 << 20), 20_000),
            (Some(20_000 + FILES_RESERVED + 1_280), 20_000),
            (Some(20_000 + FILES_RESERVED + 1_279), 19_999),
            (Some(4_096), 4_096 - FILES_RESERVED as usize - 1_280),
            (Some(300), 150),
            (Some(0), 0),
        ] {
            assert_eq!(
                possible(20_000, files_max, journal),
                expected,
                "{files_max:?}"
            );
        }
    }
}
