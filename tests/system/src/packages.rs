//! The packages that `tests/run --full` makes: of each node, in two versions.

use std::path::PathBuf;

use crate::workspace;

/// What `tests/run` has them made as.
pub const VERSION: &str = "0.0.1~tests";
pub const NEXT_VERSION: &str = "0.0.2~tests";

pub const NODES: [&str; 2] = ["tidegate-cloud", "tidegate-edge"];

/// The files, or which one is missing.
pub fn all() -> Result<Vec<PathBuf>, String> {
    let mut packages = Vec::new();
    for node in NODES {
        for version in [VERSION, NEXT_VERSION] {
            let name = format!("dist/{node}_{version}_amd64.deb");
            let package = workspace::target().join(name);
            if !package.exists() {
                let shown = package.display();
                return Err(format!("{shown} is missing: tests/run --full makes it"));
            }
            packages.push(package);
        }
    }
    Ok(packages)
}
