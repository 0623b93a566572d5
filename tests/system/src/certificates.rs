//! A CA and a server's certificate for loopback, as an operator would put them beside `edge.yaml`.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Where the PEM files are.
#[derive(Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Of a client: `O=Tide,CN=press`, as Java writes it.
    pub client_certificate: PathBuf,
    pub client_key: PathBuf,
    /// Of the same client and key, and over since long.
    pub ended_certificate: PathBuf,
    /// Of another: `O=Tide,CN=stranger`.
    pub stranger_certificate: PathBuf,
    pub stranger_key: PathBuf,
    /// Of one with alternative names alone, of which each is [`ALTERNATIVE_NAMES`]'s.
    pub alternative_certificate: PathBuf,
    pub alternative_key: PathBuf,
}

/// As `certificate_user` calls their kinds.
pub const ALTERNATIVE_NAMES: [(&str, &str); 3] = [
    ("dns_name", "press.plant.test"),
    ("email", "press@plant.test"),
    ("uri", "urn:plant:press"),
];

impl Certificates {
    /// Writes `ca.crt`, `server.crt` and `server.key`, and the same of `client` and `stranger`, to a folder.
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
        let [client_certificate, client_key] = client(folder, "client", "press", &issuer);
        let [stranger_certificate, stranger_key] = client(folder, "stranger", "stranger", &issuer);
        let [alternative_certificate, alternative_key] =
            signed(folder, "alternative", &with_alternative_names(), &issuer);
        let ended_certificate = folder.join("ended.crt");
        write(&ended_certificate, &ended(&client_key, "press", &issuer));
        Self {
            ca,
            certificate,
            key,
            client_certificate,
            client_key,
            ended_certificate,
            stranger_certificate,
            stranger_key,
            alternative_certificate,
            alternative_key,
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

/// Certificate and key of a client, in files of this name.
fn client(
    folder: &Path,
    file: &str,
    common_name: &str,
    issuer: &Issuer<'_, KeyPair>,
) -> [PathBuf; 2] {
    signed(folder, file, &of_client(common_name), issuer)
}

fn signed(
    folder: &Path,
    file: &str,
    params: &CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> [PathBuf; 2] {
    let [certificate, key] = ["crt", "key"].map(|end| folder.join(format!("{file}.{end}")));
    let pair = key_pair();
    let client = params.signed_by(&pair, issuer);
    write(&certificate, &client.expect("a CA signs").pem());
    write(&key, &pair.serialize_pem());
    [certificate, key]
}

/// A certificate of a client that has one with this key; its time is over.
fn ended(key: &Path, common_name: &str, issuer: &Issuer<'_, KeyPair>) -> String {
    let pair = std::fs::read_to_string(key).expect("it was written");
    let pair = KeyPair::from_pem(&pair).expect("it is a key");
    let mut client = of_client(common_name);
    client.not_before = rcgen::date_time_ymd(2019, 1, 1);
    client.not_after = rcgen::date_time_ymd(2020, 1, 1);
    client.signed_by(&pair, issuer).expect("a CA signs").pem()
}

fn of_client(common_name: &str) -> CertificateParams {
    let mut client = parameters(&[], common_name);
    client
        .distinguished_name
        .push(DnType::OrganizationName, "Tide");
    client
}

fn with_alternative_names() -> CertificateParams {
    let mut client = parameters(&[], "");
    client.distinguished_name = DistinguishedName::new();
    client
        .distinguished_name
        .push(DnType::OrganizationName, "Tide");
    let kinds = [SanType::DnsName, SanType::Rfc822Name, SanType::URI];
    let names = kinds.into_iter().zip(ALTERNATIVE_NAMES);
    let names = names.map(|(kind, (_, name))| kind(name.try_into().expect("it is ASCII")));
    client.subject_alt_names = names.collect();
    client
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
