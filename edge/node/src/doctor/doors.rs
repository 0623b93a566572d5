//! The files that say who comes in and who may do what: read as a start would, and nothing written.

use tidegate_shared::fleet::EdgeSpec;

use super::Finding;
use super::owners::{Owner, public, unreadable};
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
    let secrets = mqtt.users.iter().chain(secret);
    findings.extend(secrets.filter_map(|path| public(CHECK, path)));
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            "no mqtt.users, mqtt.jwt, mqtt.acl or mqtt.blocked is configured",
        ));
    }
    findings
}
