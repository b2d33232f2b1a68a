//! Says what is missing when SQLite would be built without what the engine needs.

/// Compiled into SQLite, it reports every row that changes.
const HOOK: &str = "SQLITE_ENABLE_PREUPDATE_HOOK";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    if std::env::var_os("CARGO_FEATURE_NODE").is_none() {
        return;
    }
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag.trim_start_matches("-D") == HOOK) {
        println!(
            "cargo::error=SQLite must be built with {HOOK}: set LIBSQLITE3_FLAGS=\"-D{HOOK}\" in the \
             environment or in the [env] section of .cargo/config.toml (cargo reads that file only \
             from the directory it is started in and those above, not from a dependency), or build \
             without the feature `node`"
        );
    }
}
