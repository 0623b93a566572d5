//! A CA and a server's certificate for loopback, as an operator would put them beside `edge.yaml`.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Where the PEM files are.
#[derive(Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Of a client: `CN=press,O=Tide`.
    pub client_certificate: PathBuf,
    pub client_key: PathBuf,
    /// Of the same client and key, and over since long.
    pub ended_certificate: PathBuf,
}

impl Certificates {
    /// Writes `ca.crt`, `server.crt`, `server.key`, `client.crt` and `client.key` to a folder.
    pub fn new(folder: &Path) -> Self {
        let [ca, certificate, key] =
            ["ca.crt", "server.crt", "server.key"].map(|name| folder.join(name));
        let ca_key = key_pair();
        let mut params = parameters(&[], "a test's CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let own = params.self_signed(&ca_key).expect("a CA signs itself");
        write(&ca, &own.pem());
        let server_key = key_pair();
        let issuer = Issuer::new(params, ca_key);
        let server = parameters(&["localhost", "127.0.0.1"], "a test's edge");
        let server = server.signed_by(&server_key, &issuer).expect("a CA signs");
        write(&certificate, &server.pem());
        write(&key, &server_key.serialize_pem());
        let [client_certificate, client_key] =
            ["client.crt", "client.key"].map(|name| folder.join(name));
        let pair = key_pair();
        let mut client = parameters(&[], "press");
        client
            .distinguished_name
            .push(DnType::OrganizationName, "Tide");
        let own = client.signed_by(&pair, &issuer).expect("a CA signs");
        write(&client_certificate, &own.pem());
        client.not_before = rcgen::date_time_ymd(2019, 1, 1);
        client.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let ended = client.signed_by(&pair, &issuer).expect("a CA signs");
        let ended_certificate = folder.join("ended.crt");
        write(&ended_certificate, &ended.pem());
        write(&client_key, &pair.serialize_pem());
        Self {
            ca,
            certificate,
            key,
            client_certificate,
            client_key,
            ended_certificate,
        }
    }

    /// The same of a listener whose clients have certificates of this CA.
    pub fn mutual_yaml(&self) -> String {
        format!(
            "tls: {{certificate: {}, key: {}, client_ca: {}}}",
            self.certificate.display(),
            self.key.display(),
            self.ca.display()
        )
    }

    /// The key of a listener in `edge.yaml`.
    pub fn yaml(&self) -> String {
        format!(
            "tls: {{certificate: {}, key: {}}}",
            self.certificate.display(),
            self.key.display()
        )
    }
}

fn key_pair() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

fn parameters(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names are names");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
