//! The libSQL drivers of other languages, installed once and then found under `target/drivers`.
//!
//! Their versions, and the hashes of what is fetched, are pinned by the files beside the scripts that use
//! them. `npm` and `pip` fetch them as they are configured to; nothing here names a registry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

/// Where the scripts are, and the files that say what they need.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/hrana");

/// A driver of another language, ready to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// `@libsql/client` of npm.
    JavaScript,
    /// `libsql-client` and `libsql` of PyPI.
    Python,
}

/// A script and the program that runs it: what to call it by, and its own path.
///
/// # Panics
/// If the drivers cannot be installed: without `npm` or `python3`, or without a way to a registry the
/// first time.
#[must_use]
pub fn script(language: Language, name: &str) -> (PathBuf, PathBuf) {
    static JAVASCRIPT: OnceLock<PathBuf> = OnceLock::new();
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    match language {
        Language::JavaScript => {
            let dir = JAVASCRIPT.get_or_init(|| {
                installed("javascript", &["package.json", "package-lock.json"], |dir| {
                    let args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
                    run(Command::new("npm").args(args).current_dir(dir));
                })
            });
            // It looks for the driver beside itself.
            let script = dir.join(name);
            put(&Path::new(SCRIPTS).join(name), &script);
            (PathBuf::from("node"), script)
        }
        Language::Python => {
            let dir = PYTHON.get_or_init(|| {
                installed("python", &["requirements.txt"], |dir| {
                    run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(dir));
                    let args = ["install", "--quiet", "--no-deps", "--require-hashes"];
                    let mut pip = Command::new(dir.join("venv/bin/pip"));
                    run(pip
                        .args(args)
                        .args(["--requirement", "requirements.txt"])
                        .current_dir(dir));
                })
            });
            (dir.join("venv/bin/python"), Path::new(SCRIPTS).join(name))
        }
    }
}

/// The directory in which `install` has installed what these files say; done once for each version of
/// them, whoever comes first.
fn installed(name: &str, files: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let mut hash = blake3::Hasher::new();
    for file in files {
        hash.update(&fs::read(Path::new(SCRIPTS).join(file)).expect("what is needed is written"));
    }
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/drivers");
    fs::create_dir_all(&all).expect("a directory");
    let all = all.canonicalize().expect("a path");
    let lock = File::create(all.join(format!("{name}.lock"))).expect("a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let dir = all.join(format!("{name}-{}", &hash.finalize().to_hex()[..16]));
    let done = dir.join("installed");
    if !done.exists() {
        // What an attempt that was cut short has left.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a directory");
        for file in files {
            put(&Path::new(SCRIPTS).join(file), &dir.join(file));
        }
        install(&dir);
        File::create(done).expect("marked as done");
    }
    dir
}

/// Copies a file, at once as a whole: others may be using the one that is there.
fn put(from: &Path, to: &Path) {
    let part = to.with_extension(format!("{}.part", std::process::id()));
    fs::copy(from, &part).expect("copied");
    fs::rename(&part, to).expect("renamed");
}

fn run(command: &mut Command) {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "`{name}` does not run ({error}): these tests need node with npm, and python3 with venv \
             (apt-get install nodejs npm python3-venv)"
        )
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{name}` failed: {said}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also how to have them installed before tests run where no registry can be reached.
    #[test]
    fn drivers_are_installed_once_and_their_scripts_can_be_run() {
        // Read and compiled, and nothing written: where a compiled file would go is not ours to say.
        let compiles = ["-c", "import sys; p = sys.argv[1]; compile(open(p).read(), p, 'exec')"];
        for (language, name, question) in [
            (Language::JavaScript, "javascript.mjs", ["--check"].as_slice()),
            (Language::Python, "python1.py", &compiles),
            (Language::Python, "python3.py", &compiles),
        ] {
            let (program, path) = script(language, name);
            assert_eq!(script(language, name), (program.clone(), path.clone()));
            run(Command::new(program).args(question).arg(path));
        }
    }
}
