//! Open files: each log file is one, while it is there.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises what this process may have open as far as it may by itself.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}
