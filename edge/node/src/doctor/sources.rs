//! The brokers that this node is a client of: what it proves itself with, the way there, and whether it is let in.

use tidegate_shared::fleet::{EdgeSpec, MqttSourceSpec, SourceSpec};

use super::Finding;
use super::owners::{Owner, public, unreadable};
use crate::source::{Trial, try_once};

const CHECK: &str = "sources";

pub(super) async fn look(spec: &EdgeSpec) -> Vec<Finding> {
    let owner = Owner::of(&spec.data);
    let mut findings = Vec::new();
    for source in &spec.sources {
        let SourceSpec { name, mqtt } = source;
        let tls = &mqtt.tls;
        let secrets = mqtt.password_file.iter().chain(&tls.key);
        let files: Vec<_> = secrets
            .clone()
            .chain(&tls.ca)
            .chain(&tls.certificate)
            .collect();
        findings.extend(unreadable(CHECK, &files, owner.as_ref()));
        findings.extend(secrets.filter_map(|path| public(CHECK, path)));
        let trial = try_once(mqtt).await;
        findings.push(judge(name.as_str(), mqtt, &trial));
    }
    findings
}

fn judge(name: &str, mqtt: &MqttSourceSpec, trial: &Trial) -> Finding {
    let server = &mqtt.server;
    let (host, port) = (&server.host, server.port);
    let (found, advice) = match trial {
        Trial::LetIn => {
            return Finding::ok(CHECK, format!("{name}: {server} lets this node in"));
        }
        Trial::NoProof(why) => (
            format!("{name}: {why}"),
            "password_file and the files of tls are read at each attempt to connect: the service's user must be able to read them".to_owned(),
        ),
        Trial::Unresolved(why) => (
            format!("{name}: {host} is not resolved: {why}"),
            format!("try `getent hosts {host}`: correct server, the name's record, or /etc/hosts"),
        ),
        Trial::Unreached(why) => (
            format!("{name}: {server} is not reached by TCP: {why}"),
            format!("start the broker, open port {port} on the way, or correct server. The broker keeps what comes meanwhile, if it has this node's session"),
        ),
        Trial::Refused(why) => (
            format!("{name}: {server} does not let this node in: {why}"),
            "for what TLS says: tls.ca, and the name in the broker's certificate. For the rest: user and password_file as the broker has them, version, and the broker's log. (The doctor comes under a client id of its own, `tidegate-doctor-…`: a broker that has a list of those must allow it)".to_owned(),
        ),
    };
    Finding::problem(CHECK, found, advice)
}
