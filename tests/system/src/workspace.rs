//! Where things are: the repository, the binaries under test, the client scripts, the tools.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's top folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("tests/system has two parents")
        .to_owned()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// A product binary: from `TIDEGATE_BIN_DIR`, else the newest of `target/{debug,release}`.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("TIDEGATE_BIN_DIR") {
        let path = PathBuf::from(folder).join(name);
        assert!(path.exists(), "TIDEGATE_BIN_DIR has no {}", path.display());
        return path;
    }
    let built = ["debug", "release"].map(|profile| target().join(profile).join(name));
    let modified = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    let newest = built
        .into_iter()
        .filter(|path| path.exists())
        .max_by_key(modified);
    newest
        .unwrap_or_else(|| panic!("{name} is not built: use tests/run, or cargo build --workspace"))
}

/// A script of `tests/system/clients`, under the Python that has the client packages.
pub fn python(script: &str) -> Command {
    python_at(&root().join("tests/system/clients").join(script))
}

/// A script that lies elsewhere.
pub fn python_at(script: &Path) -> Command {
    let interpreter = match std::env::var_os("TIDEGATE_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => target().join("tests/venv/bin/python"),
    };
    assert!(
        interpreter.exists(),
        "{} is missing: tests/run makes it",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command.arg(script);
    command
}

/// A program of this machine's: on the path, or where what root needs is.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

pub fn has_tool(name: &str) -> bool {
    tool(name).is_some()
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}
