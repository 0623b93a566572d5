//! The files that say who comes in and who may do what: read as a start would, and nothing written.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use tidegate_shared::fleet::EdgeSpec;

use super::Finding;
use super::owners::{Owner, unreadable};
use crate::mqtt::examine_doors;

const CHECK: &str = "doors";

pub(super) fn look(spec: &EdgeSpec) -> Vec<Finding> {
    let mqtt = &spec.mqtt;
    let jwt = mqtt.jwt.as_ref();
    let secret = jwt.and_then(|jwt| jwt.secret.as_ref());
    let mut files: Vec<_> = mqtt.users.iter().chain(&mqtt.acl).chain(secret).collect();
    files.extend(&mqtt.blocked);
    files.extend(
        jwt.iter()
            .flat_map(|jwt| jwt.public_key.iter().chain(&jwt.jwks)),
    );
    let mut findings = unreadable(CHECK, &files, Owner::of(&spec.data).as_ref());
    for (key, read) in examine_doors(mqtt) {
        findings.push(match read {
            Ok(count) => Finding::ok(CHECK, format!("{key} loads: {count} of them")),
            Err(error) => Finding::problem(
                CHECK,
                format!("{error:#}"),
                "correct the file. A node that runs keeps what was there before; one that starts does not start",
            ),
        });
    }
    findings.extend(mqtt.users.iter().chain(secret).filter_map(public));
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            "no mqtt.users, mqtt.jwt, mqtt.acl or mqtt.blocked is configured",
        ));
    }
    findings
}

/// A file of secrets that everybody on this machine may read.
fn public(path: &PathBuf) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.mode();
    let advice = "chmod o= FILE, and give it to the group of the service's user";
    (mode & 0o004 != 0).then(|| {
        let found = format!(
            "{} can be read by everybody on this machine",
            path.display()
        );
        Finding::warning(CHECK, found, advice)
    })
}
