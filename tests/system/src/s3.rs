//! An S3 server on loopback with one empty bucket; it ends with its guard.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::node::Cloud;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::{ports, wait, workspace};

const BUCKET: &str = "tidegate";

#[derive(Debug)]
pub struct S3 {
    pub process: Process,
    pub address: SocketAddr,
}

impl S3 {
    pub fn start(scratch: &Scratch) -> Self {
        let address = ports::free();
        let mut command = workspace::python("s3_server.py");
        command.arg(address.port().to_string()).arg(BUCKET);
        let log = scratch.path().join("s3.log");
        let process = Process::start("s3_server.py", command, &log);
        process.wait_for_log("ready", wait::SOON * 4);
        Self { process, address }
    }

    /// The URL of a prefix in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Has a cloud keep its segments here, below a prefix, from its next start on.
    pub fn serve(&self, cloud: &mut Cloud, prefix: &str) {
        for (name, value) in self.variables() {
            cloud.set_variable(name, value);
        }
        cloud.configure(&format!("object_store: {}\n", self.url(prefix)));
    }

    /// A command that finds it.
    pub fn known_to(&self, mut command: Command) -> Command {
        command.envs(self.variables());
        command
    }

    /// Deletes the first object below a prefix; returns its key.
    pub fn delete_first(&self, prefix: &str) -> String {
        let program = format!(
            "import boto3\ns3 = boto3.client('s3', endpoint_url='http://{}')\n\
             key = s3.list_objects_v2(Bucket='{BUCKET}', Prefix='{prefix}')['Contents'][0]['Key']\n\
             s3.delete_object(Bucket='{BUCKET}', Key=key)\nprint(key)",
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
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
        ]
    }
}
