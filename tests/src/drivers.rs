//! The libSQL drivers of other languages, and what drives a browser, installed once and then found under
//! `target/drivers`.
//!
//! Their versions, and the hashes of what is fetched, are pinned by the files beside the scripts that use
//! them. `npm` and `pip` fetch them as they are configured to; nothing here names a registry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

/// Where the scripts are, and the files that say what they need.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/hrana");
/// The same of those that drive a browser.
const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/view");

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
                installed("javascript", SCRIPTS, &["package.json", "package-lock.json"], npm)
            });
            (PathBuf::from("node"), beside(dir, SCRIPTS, name))
        }
        Language::Python => {
            let dir = PYTHON.get_or_init(|| {
                installed("python", SCRIPTS, &["requirements.txt"], |dir| {
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

/// What a Chromium is called, by those who package it.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What looks at a page in the browser of this machine.
#[derive(Clone, Debug)]
pub struct Browser {
    /// The program that runs the script.
    pub node: PathBuf,
    /// The script.
    pub script: PathBuf,
    /// The browser, for the script to start.
    pub chromium: PathBuf,
}

/// A script that drives the browser of this machine, with what it needs.
///
/// # Panics
/// If there is no Chromium, or what drives it cannot be installed: without `npm`, or without a way to a
/// registry the first time.
#[must_use]
pub fn browser(name: &str) -> Browser {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = |name| std::env::split_paths(&path).map(move |dir| dir.join(name));
    let Some(chromium) = CHROMIUM.iter().flat_map(places).find(|file| file.is_file()) else {
        panic!(
            "no browser on PATH ({CHROMIUM:?}): this test looks at pages with one; apt-get install chromium"
        );
    };
    let dir = DIR
        .get_or_init(|| installed("browser", PAGES, &["package.json", "package-lock.json"], npm));
    Browser { node: PathBuf::from("node"), script: beside(dir, PAGES, name), chromium }
}

fn npm(dir: &Path) {
    let args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run(Command::new("npm").args(args).current_dir(dir));
}

/// A script beside what it needs, where it looks for it.
fn beside(dir: &Path, scripts: &str, name: &str) -> PathBuf {
    let script = dir.join(name);
    put(&Path::new(scripts).join(name), &script);
    script
}

/// The directory in which `install` has installed what these files of `scripts` say; done once for each
/// version of them, whoever comes first.
fn installed(name: &str, scripts: &str, files: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let mut hash = blake3::Hasher::new();
    for file in files {
        hash.update(&fs::read(Path::new(scripts).join(file)).expect("what is needed is written"));
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
            put(&Path::new(scripts).join(file), &dir.join(file));
        }
        install(&dir);
        File::create(done).expect("marked as done");
    }
    dir
}

/// Copies a file, at once as a whole: others may be using the one that is there.
fn put(from: &Path, to: &Path) {
    // Other processes do the same, and other tests of this one.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let part = to.with_extension(format!("{}-{count}.part", std::process::id()));
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
