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
        let built = || {
            let [path] = build(["quorate"], How { release, target: None, flags: None });
            path
        };
        std::env::var_os("QUORATE_BIN").map_or_else(built, PathBuf::from)
    })
}

/// The path of the simulator, built for speed.
///
/// # Panics
/// If it does not build.
pub fn simulator() -> &'static Path {
    static PATHS: OnceLock<[PathBuf; 1]> = OnceLock::new();
    let how = How { release: true, target: None, flags: None };
    let [path] = PATHS.get_or_init(|| build(["quorate-sim"], how));
    path
}

/// The path of a simulator of its own whose core has the deliberate faults.
///
/// # Panics
/// If it does not build.
pub fn simulator_with_faults() -> &'static Path {
    let [simulator, _] = with_faults();
    simulator
}

/// The path of a model checker of its own whose core has the deliberate faults.
///
/// # Panics
/// If it does not build.
pub fn model_with_faults() -> &'static Path {
    let [_, model] = with_faults();
    model
}

/// Both at once, so that they share one core.
fn with_faults() -> &'static [PathBuf; 2] {
    static PATHS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let how = How {
        release: true,
        // A directory of its own: nothing of it can get into what is shipped.
        target: Some("target/faults"),
        flags: Some("--cfg quorate_faults"),
    };
    PATHS.get_or_init(|| build(["quorate-sim", "quorate-model"], how))
}

struct How {
    release: bool,
    target: Option<&'static str>,
    flags: Option<&'static str>,
}

/// Where the binaries are that are named like the packages which they are of.
fn build<const N: usize>(packages: [&str; N], how: How) -> [PathBuf; N] {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--message-format", "json-render-diagnostics"]);
    command.args(packages.iter().flat_map(|package| ["--package", package, "--bin", package]));
    command.args(how.release.then_some("--release"));
    command.args(how.target.iter().flat_map(|dir| ["--target-dir", dir]));
    command.envs(how.flags.map(|flags| ("RUSTFLAGS", flags)));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = command.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{packages:?} do not build:\n{said}");
    let said = String::from_utf8_lossy(&output.stdout);
    let built: Vec<serde_json::Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    packages.map(|package| {
        let mut paths = built.iter().filter(|message| message["target"]["name"] == package);
        let path = paths.find_map(|message| message["executable"].as_str().map(PathBuf::from));
        path.unwrap_or_else(|| panic!("cargo does not name the binary {package}"))
    })
}
