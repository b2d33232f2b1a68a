//! `quorate-model`: searches small worlds of the consensus machine to their end.
#![forbid(unsafe_code)]

#[cfg(quorate_faults)]
mod mutants;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_model::{Cluster, Outcome, Search, World, search};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every state that a small cluster can reach, of the consensus machine as it is.
#[derive(Debug, Parser)]
#[command(name = "quorate-model", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Search worlds to their end, and say what there was.
    Check(Check),
    /// List the worlds.
    Worlds,
    /// Switch on each deliberate fault, and find it.
    #[cfg(quorate_faults)]
    Mutants(mutants::Mutants),
}

#[derive(Debug, Args)]
struct Check {
    /// Which worlds; `small`: those that take seconds; `all`: each.
    #[arg(long, default_value = "small", value_delimiter = ',')]
    world: Vec<String>,
    /// In which order states are looked at.
    #[arg(long, value_enum, default_value = "depth-first")]
    search: Order,
    /// How many threads.
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Give a world up after so many generated states.
    #[arg(long)]
    states_max: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Order {
    /// The least memory.
    DepthFirst,
    /// The shortest path to what is wrong, with one thread.
    BreadthFirst,
}

impl Check {
    fn run(&self) -> ExitCode {
        let known = |name: &&String| {
            World::named(name).is_some() || ["all", "small"].contains(&name.as_str())
        };
        if let Some(name) = self.world.iter().find(|name| !known(name)) {
            eprintln!("there is no world '{name}'; `quorate-model worlds` lists them");
            return ExitCode::from(2);
        }
        let mut good = true;
        println!("{}", Outcome::HEAD);
        for world in World::all() {
            let wanted = |name: &String| {
                name == "all" || name == world.name || (name == "small" && world.is_small())
            };
            if self.world.iter().any(wanted) {
                good &= self.one(world);
            }
        }
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn one(&self, world: &'static World) -> bool {
        let how = Search {
            breadth_first: self.search == Order::BreadthFirst,
            threads: self.threads,
            states_max: self.states_max,
        };
        let outcome = search(Cluster::new(world), how, |generated, unique| {
            eprintln!("{}: {generated} states generated, {unique} different", world.name);
        });
        println!("{}", outcome.line(world));
        print!("{}", outcome.trouble());
        outcome.is_good()
    }
}

fn worlds() -> ExitCode {
    for world in World::all() {
        println!("{:<16} {}\n{:<16} {}", world.name, world.about, "", world.bound());
    }
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(check) => check.run(),
        Command::Worlds => worlds(),
        #[cfg(quorate_faults)]
        Command::Mutants(mutants) => mutants.run(),
    }
}
