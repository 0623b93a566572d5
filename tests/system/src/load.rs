//! Devices that publish at QoS 1 through three real client libraries at once, reconnect until all
//! is acknowledged, and keep a log of what they sent and what was acknowledged.

mod rumqttc;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::account::Sent;
use crate::process::Process;
use crate::{wait, workspace};

/// What each device does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub devices_per_client: usize,
    pub messages_per_device: u64,
    /// Messages per second and device. A device that was held up catches up.
    pub rate: f64,
}

/// The running clients.
#[derive(Debug)]
pub struct Load {
    scripts: Vec<(Process, PathBuf)>,
    threads: Option<rumqttc::Publishers>,
}

/// The topic of a device.
pub fn topic(device: &str) -> String {
    format!("plant/{device}")
}

/// Long enough to be a message of its size, and says which one it is.
fn payload(device: &str, number: u64) -> String {
    format!("{device}:{number}:{:.>100}", "")
}

impl Plan {
    /// How many messages all clients send.
    pub fn messages(&self, clients: usize) -> u64 {
        (clients * self.devices_per_client) as u64 * self.messages_per_device
    }

    /// How long the load takes at least.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.messages_per_device as f64 / self.rate)
    }

    fn devices(&self, client: &str) -> Vec<String> {
        (0..self.devices_per_client)
            .map(|device| format!("{client}-{device}"))
            .collect()
    }
}

impl Load {
    /// Starts paho (Python), rumqttc, and mosquitto_pub where it is installed.
    pub fn start(broker: SocketAddr, plan: Plan, folder: &Path) -> Self {
        let mut scripts = vec![script("paho", "paho_publish.py", broker, plan, folder)];
        if workspace::has_tool("mosquitto_pub") {
            scripts.push(script(
                "mosquitto",
                "mosquitto_publish.py",
                broker,
                plan,
                folder,
            ));
        }
        let threads = Some(rumqttc::Publishers::start(broker, plan));
        Self { scripts, threads }
    }

    /// How many clients take part.
    pub fn clients(&self) -> usize {
        self.scripts.len() + 1
    }

    /// Whether a client is still publishing.
    pub fn is_running(&mut self) -> bool {
        let threads = self
            .threads
            .as_ref()
            .is_some_and(rumqttc::Publishers::is_running);
        threads
            || self
                .scripts
                .iter_mut()
                .any(|(process, _)| process.exited().is_none())
    }

    /// Waits until all is acknowledged.
    #[track_caller]
    pub fn finish(mut self, within: Duration) -> Sent {
        wait::until("all clients have their acknowledgements", within, || {
            (!self.is_running()).then_some(())
        });
        let mut sent = self.threads.take().expect("finish is called once").finish();
        for (process, log) in &mut self.scripts {
            let status = process.wait(wait::SOON);
            assert!(
                status.success(),
                "{}: {status}\n{}",
                log.display(),
                process.log()
            );
            let text = std::fs::read_to_string(&*log).expect("a client writes its log");
            sent.add(Sent::read_log(&text));
        }
        sent
    }
}

fn script(
    client: &str,
    name: &str,
    broker: SocketAddr,
    plan: Plan,
    folder: &Path,
) -> (Process, PathBuf) {
    let log = folder.join(format!("{client}.sent"));
    let mut command: Command = workspace::python(name);
    command
        .args(["--port", &broker.port().to_string()])
        .args(["--messages", &plan.messages_per_device.to_string()])
        .args(["--rate", &plan.rate.to_string()])
        .arg("--log")
        .arg(&log)
        .args(plan.devices(client));
    (
        Process::start(client, command, &folder.join(format!("{client}.log"))),
        log,
    )
}
