//! The binary `quorate`: the command line, HTTP, logs. What it decides is in `quorate-core`, what
//! it does in `quorate-io`.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod clients;
mod commands;
mod configure;
mod copies;
mod databases;
mod exit;
mod gathered;
mod http;
mod listening;
mod playground;
mod presence;
mod proxy;
mod recover;
mod restore;
mod shell;
mod signals;
mod start;
mod table;
mod terminal;
mod token;
mod users;
mod verify;
mod view;

use std::process::ExitCode;

use clap::Parser;
use cli::Command;

fn main() -> ExitCode {
    let done = match cli::Cli::parse().command {
        Command::Start(args) => start::run(&args),
        Command::Status(args) => commands::status(&args),
        Command::Stop(args) => commands::stop(&args),
        Command::Server(args) => commands::server(&args),
        Command::Db(args) => databases::db(&args),
        Command::User(args) => users::user(&args),
        Command::Sql(args) => databases::sql(&args),
        Command::Shell(args) => shell::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Playground(args) => playground::run(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Sync(args) => copies::sync(&args),
        Command::Backup(args) => copies::backup(&args),
        Command::Restore(args) => restore::restore(&args),
        Command::Recover(args) => recover::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
