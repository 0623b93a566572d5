//! S3 servers on loopback, each ended with the test that has it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_cloud::store::{Retry, Store, StoreMetrics, StoreOptions};

pub(crate) const SKIPPED: &str =
    "SKIPPED: moto is missing: `tests/run cloud` makes the Python that has it";

const BUCKET: &str = "tidegate";
const ACCESS_KEY: &str = "tidegate-test";
const SECRET_KEY: &str = "tidegate-test-secret";
const STARTED: Duration = Duration::from_secs(180);

/// A server with one empty bucket.
pub(crate) struct S3 {
    child: Child,
    /// Ends all that it has started once its input ends; else it is one process.
    is_script: bool,
    pub(crate) address: SocketAddr,
    _scratch: TempDir,
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if !self.is_script {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The Python that has moto and boto3.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("TIDEGATE_TEST_PYTHON")?);
    let mut look = Command::new(&python);
    look.args(["-c", "import moto.server, boto3"])
        .stderr(Stdio::null());
    has_succeeded(&mut look).then_some(python)
}

fn has_succeeded(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl S3 {
    /// `None` where it is not installed.
    pub(crate) fn moto() -> Option<Self> {
        let python = python()?;
        let address = free_address();
        let port = address.port().to_string();
        let child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            child,
            is_script: false,
            address,
            _scratch: tempfile::tempdir().unwrap(),
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < STARTED, "moto does not listen");
            std::thread::yield_now();
        }
        server.make_bucket();
        Some(server)
    }

    /// The real one; `None`, and it says why, where it is not installed or not asked for.
    pub(crate) fn radosgw() -> Option<Self> {
        if std::env::var("TIDEGATE_TEST_FULL").as_deref() != Ok("1") {
            println!("SKIPPED: radosgw takes its time: it runs with tests/run --full");
            return None;
        }
        let tools = ["radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph"];
        if let Some(tool) = tools.iter().find(|tool| {
            let mut which = Command::new("sh");
            !has_succeeded(which.args(["-c", &format!("command -v {tool} >/dev/null")]))
        }) {
            println!(
                "SKIPPED: {tool} is missing (apt-get install radosgw ceph-mon ceph-osd ceph-mgr ceph-common)"
            );
            return None;
        }
        if python().is_none() {
            println!("{SKIPPED}");
            return None;
        }
        let scratch = tempfile::tempdir().unwrap();
        let address = free_address();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/object_store/radosgw");
        let mut child = Command::new(script)
            .arg(scratch.path())
            .args([&address.port().to_string(), ACCESS_KEY, SECRET_KEY])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            let _ = child.wait();
            let log = scratch.path().join("output.log");
            panic!(
                "radosgw does not start: {}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
        }
        let server = Self {
            child,
            is_script: true,
            address,
            _scratch: scratch,
        };
        server.make_bucket();
        Some(server)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A store reached by an endpoint: the server's own, or a relay's.
    pub(crate) fn store(&self, url: &str, endpoint: &str) -> Store {
        self.store_with(url, endpoint, Retry::default())
    }

    pub(crate) fn store_with(&self, url: &str, endpoint: &str, retry: Retry) -> Store {
        let variables = [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ];
        let options = StoreOptions {
            environment: variables
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            retry,
        };
        Store::open(&url.parse().unwrap(), &options, &StoreMetrics::default()).unwrap()
    }

    fn make_bucket(&self) {
        self.boto("s3.create_bucket(Bucket=bucket)");
    }

    /// Uploads in parts that were begun and neither completed nor aborted.
    pub(crate) fn uploads(&self) -> usize {
        let count = "print(len(s3.list_multipart_uploads(Bucket=bucket).get('Uploads', [])))";
        self.boto(count).trim().parse().unwrap()
    }

    fn boto(&self, program: &str) -> String {
        let program = format!(
            "import boto3\nbucket = '{BUCKET}'\ns3 = boto3.client('s3', endpoint_url='{}', \
             region_name='us-east-1', aws_access_key_id='{ACCESS_KEY}', \
             aws_secret_access_key='{SECRET_KEY}')\n{program}",
            self.endpoint()
        );
        let output = Command::new(python().unwrap())
            .args(["-c", &program])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}
