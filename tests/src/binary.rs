//! Where the binary under test is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary `quorate`, built from the present sources, in the profile of this test.
/// `QUORATE_BIN` names another one instead, such as the one that is shipped.
///
/// # Panics
/// If it does not build.
pub fn quorate() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let release = !cfg!(debug_assertions);
        let built = || build(Build { package: "quorate", release, target: None, flags: None });
        std::env::var_os("QUORATE_BIN").map_or_else(built, PathBuf::from)
    })
}

/// The path of the simulator, built for speed.
///
/// # Panics
/// If it does not build.
pub fn simulator() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let what = Build { package: "quorate-sim", release: true, target: None, flags: None };
    PATH.get_or_init(|| build(what))
}

/// The path of a simulator of its own whose core has the deliberate faults.
///
/// # Panics
/// If it does not build.
pub fn simulator_with_faults() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let what = Build {
        package: "quorate-sim",
        release: true,
        // A directory of its own: nothing of it can get into what is shipped.
        target: Some("target/faults"),
        flags: Some("--cfg quorate_faults"),
    };
    PATH.get_or_init(|| build(what))
}

struct Build {
    package: &'static str,
    release: bool,
    target: Option<&'static str>,
    flags: Option<&'static str>,
}

fn build(what: Build) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", what.package, "--bin", what.package]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.args(what.release.then_some("--release"));
    command.args(what.target.iter().flat_map(|dir| ["--target-dir", dir]));
    command.envs(what.flags.map(|flags| ("RUSTFLAGS", flags)));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = command.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not build:\n{said}", what.package);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == what.package)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary it has built")
}
