//! The simulator's command line: see [`quorate_sim`].

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_sim::cli::main()
}
