//! The suite that every engine has to pass, on files; and beside the engine in memory, on which the
//! simulator rests: what that one answers, SQLite answers.

use quorate_core::engine::conformance::{self, Bench, InMemory};

use super::*;

/// Copies in files.
struct OnFiles {
    dir: TempDir,
    made: usize,
}

impl OnFiles {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), made: 0 }
    }
}

impl Bench for OnFiles {
    type Copy = SqliteEngine;

    fn fresh(&mut self) -> SqliteEngine {
        self.made += 1;
        SqliteEngine::create(&self.dir.path().join(format!("{}.db", self.made))).unwrap()
    }

    fn restart(&mut self, copy: SqliteEngine) -> SqliteEngine {
        let path = copy.path().to_owned();
        drop(copy);
        SqliteEngine::open(&path).unwrap()
    }

    fn query(&mut self, copy: &mut SqliteEngine, asked: &Transaction) -> (Position, Outcome) {
        copy.reader().unwrap().query(asked, &SqlLimits::default()).unwrap()
    }
}

#[test]
fn it_keeps_what_every_engine_promises() {
    for (promise, case) in conformance::cases() {
        println!("{promise}");
        case(&mut OnFiles::new());
    }
}

#[test]
fn it_answers_what_the_engine_in_memory_answers() {
    for seed in 0..40 {
        let files = conformance::transcript(&mut OnFiles::new(), seed, 40);
        let memory = conformance::transcript(&mut InMemory, seed, 40);
        for (step, (on_file, in_memory)) in files.iter().zip(&memory).enumerate() {
            assert_eq!(on_file, in_memory, "seed {seed}, step {step}");
        }
    }
}
