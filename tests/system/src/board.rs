//! A node as it is for another architecture, out of its package and under an emulator.

use std::path::PathBuf;
use std::process::Command;

use crate::packages::VERSION;
use crate::scratch::Scratch;
use crate::workspace;

/// What a program of another architecture is run by.
#[derive(Debug)]
pub struct Board {
    pub architecture: &'static str,
    emulator: &'static str,
    /// Its C library.
    root: &'static str,
}

pub const ARM64: Board = Board {
    architecture: "arm64",
    emulator: "qemu-aarch64-static",
    root: "/usr/aarch64-linux-gnu",
};

pub const ARMHF: Board = Board {
    architecture: "armhf",
    emulator: "qemu-arm-static",
    root: "/usr/arm-linux-gnueabihf",
};

impl Board {
    /// The program in a node's package; the reason where it cannot be run here.
    pub fn program(&self, node: &str, scratch: &Scratch) -> Result<PathBuf, String> {
        let architecture = self.architecture;
        for (tool, package) in [
            (self.emulator, "qemu-user-static"),
            ("dpkg-deb", "dpkg"),
            ("mosquitto_pub", "mosquitto-clients"),
        ] {
            if !workspace::has_tool(tool) {
                return Err(format!("{tool} is missing (apt-get install {package})"));
            }
        }
        let package = format!("dist/{node}_{VERSION}_{architecture}.deb");
        let package = workspace::target().join(package);
        if !package.exists() {
            let which = node.trim_start_matches("tidegate-");
            return Err(format!(
                "{} is missing: images/build deb --arch {architecture} --profile quick --version {VERSION} {which}",
                package.display()
            ));
        }
        let unpacked = scratch.folder(node);
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(package).arg(&unpacked);
        let status = unpack.status().expect("dpkg-deb can be run");
        assert!(status.success(), "the package cannot be unpacked");
        Ok(unpacked.join("usr/bin").join(node))
    }

    /// The words before a program.
    pub fn emulator(&self) -> [&'static str; 3] {
        [self.emulator, "-L", self.root]
    }
}
