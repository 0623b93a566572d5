//! A cloud with doors as an operator makes them: TLS with SCRAM, PLAIN without TLS, and certificates; with a user and a
//! certificate that have all rights, and a user and a certificate that have none. Clients come in, or are refused.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use crate::certificates::Certificates;
use crate::cli;
use crate::node::Cloud;

/// Who has all rights, by password and by certificate, and who has none.
const ADA: (&str, &str) = ("ada", "pencil");
const EVE: (&str, &str) = ("eve", "chalk");
const WITH_RIGHTS: [&str; 2] = ["User:ada", "User:O=Tide,CN=press"];

/// The listeners of a cloud beside the first one, which asks nobody who they are.
#[derive(Debug)]
pub struct Doors {
    pub certificates: Certificates,
    /// TLS, and SCRAM-SHA-512.
    pub sasl_ssl: SocketAddr,
    /// PLAIN, without TLS.
    pub sasl_plaintext: SocketAddr,
    /// Certificates.
    pub mutual: SocketAddr,
}

impl Doors {
    /// Of a cloud that is not started yet; certificates go to `folder`.
    pub fn of(cloud: &Cloud, folder: &Path) -> Self {
        let certificates = Certificates::new(folder);
        let tls = certificates.yaml();
        let scram = format!("{tls}, authentication: sasl, sasl_mechanisms: [SCRAM-SHA-512]");
        Self {
            sasl_ssl: cloud.listen_kafka(&scram),
            sasl_plaintext: cloud.listen_kafka("authentication: sasl, sasl_mechanisms: [PLAIN]"),
            mutual: cloud.listen_kafka(&certificates.mutual_yaml()),
            certificates,
        }
    }

    /// Makes the users, once the cloud runs.
    #[track_caller]
    pub fn add_users(cloud: &Cloud) {
        for (name, password) in [ADA, EVE] {
            administer(cloud, &["user", "add", name, "--password-stdin"], password);
        }
    }

    /// Makes the rules.
    #[track_caller]
    pub fn give_rights(cloud: &Cloud) {
        for principal in WITH_RIGHTS {
            for resource in [&["--topic", "*"][..], &["--group", "*"], &["--cluster"]] {
                let rule = ["acl", "add", "--principal", principal, "--allow", "all"];
                administer(cloud, &[&rule[..], resource].concat(), "");
            }
        }
    }

    /// What a program of `tests/interop/kafka` is told of each door: who has rights comes first.
    pub fn arguments(&self) -> Vec<String> {
        let Certificates {
            ca,
            client_certificate,
            client_key,
            stranger_certificate,
            stranger_key,
            ..
        } = &self.certificates;
        let ca = format!("ca={}", ca.display());
        let user = |(name, password)| format!("user={name},password={password}");
        let pair = |certificate: &Path, key: &Path| {
            format!(
                "certificate={},key={}",
                certificate.display(),
                key.display()
            )
        };
        let scram = format!(
            "address={},protocol=SASL_SSL,mechanism=SCRAM-SHA-512,{ca}",
            self.sasl_ssl
        );
        let plain = format!(
            "address={},protocol=SASL_PLAINTEXT,mechanism=PLAIN",
            self.sasl_plaintext
        );
        let mutual = format!("address={},protocol=SSL,{ca}", self.mutual);
        let doors = [
            (&scram, user(ADA), user(EVE)),
            (&plain, user(ADA), user(EVE)),
            (
                &mutual,
                pair(client_certificate, client_key),
                pair(stranger_certificate, stranger_key),
            ),
        ];
        let both = |(door, with, without): (&String, String, String)| {
            [
                format!("{door},{with},rights=all"),
                format!("{door},{without},rights=none"),
            ]
        };
        let doors = doors.into_iter().flat_map(both);
        doors.flat_map(|door| ["--door".to_owned(), door]).collect()
    }
}

/// The command `tidegate` with the node's own token, and a line of input.
#[track_caller]
fn administer(cloud: &Cloud, words: &[&str], input: &str) {
    let mut command = cli::command(cloud.http, words);
    let token = cloud.data.join("admin-token");
    command.env("TIDEGATE_TOKEN", format!("@{}", token.display()));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = command.spawn().expect("tidegate can be run");
    let mut stdin = process.stdin.take().expect("it is piped");
    // Where it reads nothing it may have ended already.
    let _ = writeln!(stdin, "{input}");
    drop(stdin);
    let status = process.wait().expect("it ends");
    assert!(status.success(), "tidegate {words:?}: {status}");
}
