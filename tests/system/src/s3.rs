//! An S3 server on loopback with one empty bucket; it ends with its guard.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::node::Cloud;
use crate::process::Process;
use crate::s3_relay::Relay;
use crate::scratch::Scratch;
use crate::{ports, wait, workspace};

const BUCKET: &str = "tidegate";

/// What the real one is made of.
const REAL: [&str; 5] = ["radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph"];

#[derive(Debug)]
pub struct S3 {
    pub process: Process,
    address: SocketAddr,
    /// Where others find it: its own address, or that of a relay.
    endpoint: SocketAddr,
}

impl S3 {
    /// moto: it starts at once.
    pub fn start(scratch: &Scratch) -> Self {
        Self::start_with(scratch, &[], wait::SOON * 4)
    }

    /// Ceph's radosgw, with TIDEGATE_TEST_FULL=1 and where it is installed; else moto.
    pub fn start_real(scratch: &Scratch) -> Self {
        let is_full = std::env::var("TIDEGATE_TEST_FULL").as_deref() == Ok("1");
        let missing = REAL.iter().find(|tool| !workspace::has_tool(tool));
        match missing {
            None if is_full => {
                println!("the S3 server is radosgw");
                let script = workspace::root().join("cloud/broker/tests/object_store/radosgw");
                let folder = scratch.path().join("radosgw");
                let real = [script.as_os_str(), folder.as_os_str()];
                Self::start_with(scratch, &real, wait::SOON * 16)
            }
            _ => {
                println!("the S3 server is moto");
                Self::start(scratch)
            }
        }
    }

    fn start_with(scratch: &Scratch, real: &[&OsStr], within: Duration) -> Self {
        let address = ports::free();
        let mut command = workspace::python("s3_server.py");
        command.arg(address.port().to_string()).arg(BUCKET);
        command.args(real);
        let log = scratch.path().join("s3.log");
        let process = Process::start("s3_server.py", command, &log);
        process.wait_for_log("ready", within);
        Self {
            process,
            address,
            endpoint: address,
        }
    }

    /// A relay before it, through which others find it from now on.
    pub fn relay(&mut self) -> Relay {
        let relay = Relay::new(self.address);
        self.endpoint = relay.address();
        relay
    }

    /// The URL of a prefix in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// A cloud finds it from its next start on.
    pub fn found_by(&self, cloud: &mut Cloud) {
        for (name, value) in self.variables() {
            cloud.set_variable(name, value);
        }
    }

    /// Has a cloud keep its segments here, below a prefix, from its next start on.
    pub fn serve(&self, cloud: &mut Cloud, prefix: &str) {
        self.found_by(cloud);
        cloud.configure(&format!("object_store: {}\n", self.url(prefix)));
    }

    /// A command that finds it.
    pub fn known_to(&self, mut command: Command) -> Command {
        command.envs(self.variables());
        command
    }

    /// Deletes the first object below a prefix; returns its key.
    pub fn delete_first(&self, prefix: &str) -> String {
        let program =
            "key = list(prefix)[0]['Key']\ns3.delete_object(Bucket=bucket, Key=key)\nprint(key)";
        self.boto(prefix, program)
    }

    /// Flips a bit in the middle of the first object below a prefix; returns its key.
    pub fn damage_first(&self, prefix: &str) -> String {
        let program = "key = list(prefix)[0]['Key']\n\
             body = bytearray(s3.get_object(Bucket=bucket, Key=key)['Body'].read())\n\
             body[len(body) // 2] ^= 1\n\
             s3.put_object(Bucket=bucket, Key=key, Body=bytes(body))\nprint(key)";
        self.boto(prefix, program)
    }

    /// How many objects there are below a prefix.
    pub fn count(&self, prefix: &str) -> usize {
        let said = self.boto(prefix, "print(len(list(prefix)))");
        said.parse().expect("it prints a number")
    }

    /// Asks the server itself, whatever is before it.
    fn boto(&self, prefix: &str, program: &str) -> String {
        let program = format!(
            "import boto3\nbucket, prefix = '{BUCKET}', '{prefix}'\n\
             s3 = boto3.client('s3', endpoint_url='http://{}')\n\
             list = lambda prefix: s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get('Contents', [])\n\
             {program}",
            self.address
        );
        let mut python = workspace::python_at(Path::new("-c"));
        python.arg(program);
        let output = self.known_to(python).output().expect("python can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn variables(&self) -> [(&'static str, String); 6] {
        [
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.endpoint)),
        ]
    }
}
