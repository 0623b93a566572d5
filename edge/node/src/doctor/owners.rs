//! Whose files are: where root looks, everything can be read, and yet the service may not.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Finding;

/// Who the node runs as, by the data folder that it has made; and the groups of that user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub uid: u32,
    pub gid: u32,
    groups: Vec<u32>,
    pub name: String,
}

impl Owner {
    /// `None`: there is no folder yet.
    pub(super) fn of(data: &Path) -> Option<Self> {
        let metadata = fs::metadata(data).ok()?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let name = user_name(&users, uid);
        Some(Self {
            uid,
            gid,
            groups: name
                .as_deref()
                .map_or_else(Vec::new, |name| groups_of(&groups, name)),
            name: name.unwrap_or_else(|| format!("user {uid}")),
        })
    }

    /// By owner, group and mode alone; ACLs of the file system may say otherwise.
    fn may_read(&self, uid: u32, gid: u32, mode: u32) -> bool {
        let bit = if self.uid == 0 {
            return true;
        } else if uid == self.uid {
            0o400
        } else if gid == self.gid || self.groups.contains(&gid) {
            0o040
        } else {
            0o004
        };
        mode & bit != 0
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Files that the service's user cannot read, where this is somebody who can.
pub(super) fn unreadable(
    check: &'static str,
    files: &[&PathBuf],
    owner: Option<&Owner>,
) -> Vec<Finding> {
    let Some(owner) = owner.filter(|owner| is_root() && owner.uid != 0) else {
        return Vec::new();
    };
    let refused = files.iter().filter(|path| {
        let metadata = fs::metadata(path);
        metadata.is_ok_and(|file| !owner.may_read(file.uid(), file.gid(), file.mode()))
    });
    let findings = refused.map(|path| {
        let (path, name) = (path.display(), &owner.name);
        Finding::problem(
            check,
            format!("{path} cannot be read by {name}, whose the data folder is"),
            format!("chgrp it to the group of {name}, and chmod 640"),
        )
    });
    findings.collect()
}

/// A file of secrets that everybody on this machine may read.
pub(super) fn public(check: &'static str, path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.mode();
    let advice = "chmod o= FILE, and give it to the group of the service's user";
    (mode & 0o004 != 0).then(|| {
        let found = format!(
            "{} can be read by everybody on this machine",
            path.display()
        );
        Finding::warning(check, found, advice)
    })
}

/// `name:x:uid:gid:…`
pub(super) fn user_name(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// `name:x:gid:member,member`
fn groups_of(groups: &str, user: &str) -> Vec<u32> {
    let of_user = groups.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields
            .next()?
            .split(',')
            .any(|member| member == user)
            .then_some(gid)
    });
    of_user.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_in_the_group_may_read() {
        let users = "root:x:0:0::/root:/bin/sh\ntidegate-edge:x:107:114::/:/bin/false";
        assert_eq!(user_name(users, 107).as_deref(), Some("tidegate-edge"));
        assert_eq!(user_name(users, 114), None);
        let groups = groups_of(
            "a:x:5:\nssl-cert:x:9:x,tidegate-edge\nb:x:6:tidegate",
            "tidegate-edge",
        );
        assert_eq!(groups, [9]);
        let owner = Owner {
            uid: 107,
            gid: 114,
            groups,
            name: String::new(),
        };
        for (uid, gid, mode, may) in [
            (107, 0, 0o600, true),
            (107, 0, 0o040, false),
            (0, 114, 0o640, true),
            (0, 9, 0o640, true),
            (0, 0, 0o640, false),
            (0, 0, 0o644, true),
        ] {
            assert_eq!(owner.may_read(uid, gid, mode), may, "{uid} {gid} {mode:o}");
        }
    }
}
