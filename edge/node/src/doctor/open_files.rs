//! Open files: what the configuration asks for beside what the system allows.

use rustix::process::{Resource, getrlimit};
use tidegate_shared::fleet::EdgeSpec;

use super::{Finding, Standing};
use crate::edge::log_files_max;
use crate::limits::FILES_RESERVED;
use crate::open_files::possible;

const CHECK: &str = "files";
const RAISE: &str = "raise LimitNOFILE= of the service (systemctl edit tidegate-edge), or ulimit -Hn; or lower mqtt.connections_max and journal.bytes_max";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenFiles {
    /// As far as a node raises it by itself; `None` is no bound.
    files_max: Option<u64>,
    /// Of the node that runs, rather than of this shell.
    is_of_node: bool,
    connections_max: usize,
    journal_files_max: usize,
}

pub(super) fn look(spec: &EdgeSpec, standing: &Standing) -> OpenFiles {
    let of_node = standing
        .proc_file("limits")
        .and_then(|text| hard_limit(&text));
    OpenFiles {
        files_max: of_node.unwrap_or_else(|| getrlimit(Resource::Nofile).maximum),
        is_of_node: of_node.is_some(),
        connections_max: spec.mqtt.connections_max,
        journal_files_max: log_files_max(spec),
    }
}

/// `Max open files            1024                 524288               files`
fn hard_limit(limits: &str) -> Option<Option<u64>> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let hard = line.split_whitespace().nth(1)?;
    Some(hard.parse().ok())
}

pub(super) fn judge(files: &OpenFiles) -> Finding {
    let OpenFiles {
        files_max,
        is_of_node,
        connections_max,
        journal_files_max,
    } = *files;
    let whose = if is_of_node { "the node" } else { "this shell" };
    let Some(max) = files_max else {
        return Finding::ok(CHECK, format!("{whose} may have any number of files open"));
    };
    let possible = possible(connections_max, files_max, journal_files_max);
    let found = format!("{whose} may have {max} files open");
    let own = FILES_RESERVED + journal_files_max as u64;
    if max < own {
        return Finding::problem(
            CHECK,
            format!(
                "{found}: a full journal alone has {journal_files_max}, and the rest of the node {FILES_RESERVED}"
            ),
            RAISE,
        );
    }
    if possible < connections_max {
        return Finding::warning(
            CHECK,
            format!(
                "{found}: that is {possible} connections, not the {connections_max} of mqtt.connections_max"
            ),
            RAISE,
        );
    }
    Finding::ok(
        CHECK,
        format!("{found}, enough for {connections_max} connections and the journal"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn too_few_files_are_too_few_connections() {
        for (files_max, level) in [
            (None, Level::Ok),
            (Some(21_536), Level::Ok),
            (Some(21_535), Level::Warning),
            (Some(1_536), Level::Warning),
            (Some(1_535), Level::Problem),
        ] {
            let files = OpenFiles {
                files_max,
                is_of_node: true,
                connections_max: 20_000,
                journal_files_max: 1_280,
            };
            assert_eq!(judge(&files).level, level, "{files_max:?}");
        }
    }

    #[test]
    fn limits_are_read_as_the_kernel_tells_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(hard_limit(text), Some(Some(524_288)));
        assert_eq!(hard_limit(&text.replace("524288", "unlimited")), Some(None));
        assert_eq!(hard_limit(""), None);
    }
}
