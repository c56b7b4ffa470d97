//! Programs of others, from npm and PyPI. Each is pinned, so that a release elsewhere breaks no test here;
//! where one cannot be had, the test fails and says what the installer said.

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Makes a Python of its own that has `packages`, and returns it.
pub(crate) async fn python_with(name: &str, packages: &[&str]) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = place.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&place)).await;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(install).args(packages)).await;
    python
}

/// Makes a directory of its own in which Node finds `packages`, and returns it.
pub(crate) async fn node_with(name: &str, packages: &[&str]) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let install = ["install", "--loglevel=error", "--no-fund", "--no-audit", "--prefix"];
    run(Command::new("npm").args(install).arg(&place).args(packages)).await;
    place
}

/// Runs a program to its end, and returns what it says.
pub(crate) async fn run(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said.into_owned()
}

/// Returns a script of ours that uses them.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(name)
}
