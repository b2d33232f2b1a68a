//! Random schemas and statements end the same on three copies: the one that runs them, one that
//! gets every entry, one that gets many at a time with restarts in between.
//!
//! `QUORATE_ENGINE_SEEDS` says how many seeds to run, `QUORATE_ENGINE_SEED` with which to begin.

use std::fmt::Write as _;

use super::*;

/// A small generator of numbers, the same everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Columns that every generated table has, whatever it is.
const COLUMNS: [&str; 4] = ["k", "u", "n", "x"];

struct World {
    dice: Dice,
    tables: Vec<String>,
    made: usize,
    full_text: bool,
}

impl World {
    fn table(&mut self) -> String {
        let at = self.dice.below(self.tables.len());
        self.tables[at].clone()
    }

    fn column(&mut self) -> &'static str {
        self.dice.pick(&COLUMNS)
    }

    fn value(&mut self) -> String {
        let small = self.dice.below(12);
        match self.dice.below(14) {
            0 => "NULL".into(),
            1..=4 => small.to_string(),
            5 => format!("{small}.5"),
            6 => format!("{small}.0"),
            7 => format!("'t{small}'"),
            8 => format!("'T{small}'"),
            9 => format!("x'0{:x}ff'", small.min(15)),
            10 => "random()".into(),
            11 => format!("randomblob({})", small * 20),
            12 => "datetime('now', 'subsec')".into(),
            _ => format!("'{small}'"),
        }
    }

    fn condition(&mut self) -> String {
        let column = self.column();
        match self.dice.below(5) {
            0 => format!("{column} IS NULL"),
            1 => format!("{column} = {}", self.value()),
            2 => format!("{column} < {}", self.dice.below(12)),
            3 => format!("abs(random()) % 3 = 0 OR {column} = 1"),
            _ => format!("{column} LIKE 't%'"),
        }
    }

    fn or(&mut self) -> &'static str {
        self.dice.pick(&[
            "",
            "",
            "",
            "OR REPLACE ",
            "OR IGNORE ",
            "OR FAIL ",
            "OR ROLLBACK ",
            "OR ABORT ",
        ])
    }

    fn create(&mut self) -> String {
        self.made += 1;
        let name = format!("t{}", self.made);
        let on = self.dice.pick(&["", "", " ON CONFLICT REPLACE", " ON CONFLICT IGNORE"]);
        let key = match self.dice.below(7) {
            0 => "k INTEGER PRIMARY KEY".to_owned(),
            1 => "k INTEGER PRIMARY KEY AUTOINCREMENT".to_owned(),
            2 => format!("k TEXT PRIMARY KEY{on}"),
            3 => "k INTEGER PRIMARY KEY DESC".to_owned(),
            4 => "k TEXT COLLATE NOCASE PRIMARY KEY".to_owned(),
            _ => "k".to_owned(),
        };
        let without =
            key.contains("PRIMARY KEY") && !key.contains("AUTOINCREMENT") && self.dice.one_in(3);
        let unique =
            self.dice.pick(&["", " UNIQUE", " UNIQUE ON CONFLICT REPLACE", " NOT NULL DEFAULT 3"]);
        let number =
            self.dice.pick(&["", " INT", " REAL", " NUMERIC", " TEXT", " REAL DEFAULT (random())"]);
        let mut extra = String::new();
        if self.dice.one_in(3) {
            extra.push_str(", g AS (n || 'v'), s AS (coalesce(u, 0) + 1) STORED");
        }
        if self.dice.one_in(2) {
            let parent = self.table();
            let action = self.dice.pick(&["CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION"]);
            let when = self.dice.pick(&["", " DEFERRABLE INITIALLY DEFERRED"]);
            let _ = write!(
                extra,
                ", p REFERENCES {parent}(u) ON DELETE {action} ON UPDATE {action}{when}"
            );
        }
        self.tables.push(name.clone());
        let end = if without { " WITHOUT ROWID" } else { "" };
        format!("CREATE TABLE {name}({key}, u{unique}, n{number}, x{extra}){end}")
    }

    fn trigger(&mut self) -> String {
        self.made += 1;
        let (table, other) = (self.table(), self.table());
        let when = self.dice.pick(&["BEFORE", "AFTER"]);
        let what = self.dice.pick(&["INSERT", "UPDATE", "DELETE"]);
        let row = if what == "DELETE" { "OLD" } else { "NEW" };
        let body = match self.dice.below(4) {
            0 => format!(
                "INSERT OR IGNORE INTO {other}(k, u, x) VALUES({row}.n, random() % 50, {row}.x)"
            ),
            1 => format!("UPDATE OR IGNORE {other} SET x = {row}.k WHERE u = {row}.u"),
            2 => format!("DELETE FROM {other} WHERE n = {row}.n"),
            _ => format!("SELECT RAISE(IGNORE) WHERE {row}.n = 3"),
        };
        format!("CREATE TRIGGER g{} {when} {what} ON {table} BEGIN {body}; END", self.made)
    }

    fn schema(&mut self) -> String {
        let table = self.table();
        match self.dice.below(18) {
            15 => format!("ALTER TABLE {table} DROP COLUMN a{}", self.dice.below(self.made + 1)),
            16 => {
                self.made += 1;
                let from = self.dice.below(self.made);
                format!("ALTER TABLE {table} RENAME COLUMN a{from} TO a{}", self.made)
            }
            17 => "REINDEX".into(),
            0..=2 => self.create(),
            3 => self.trigger(),
            4 => {
                self.made += 1;
                let column = self.column();
                let unique = self.dice.pick(&["", "UNIQUE "]);
                format!("CREATE {unique}INDEX i{} ON {table}({column}, n)", self.made)
            }
            5 => {
                self.made += 1;
                let name = format!("c{}", self.made);
                self.tables.push(name.clone());
                format!(
                    "CREATE TABLE {name} AS SELECT k, u, n, x, random() AS r FROM {table} LIMIT 20"
                )
            }
            6 => {
                self.made += 1;
                format!(
                    "ALTER TABLE {table} ADD COLUMN a{} DEFAULT {}",
                    self.made,
                    self.dice.below(9)
                )
            }
            7 if self.tables.len() > 3 => {
                let name = format!("r{}", self.made);
                self.made += 1;
                self.tables.retain(|known| *known != table);
                self.tables.push(name.clone());
                format!("ALTER TABLE {table} RENAME TO {name}")
            }
            8 if self.tables.len() > 3 => {
                self.tables.retain(|known| *known != table);
                format!("DROP TABLE {table}")
            }
            9 => "ANALYZE".into(),
            10 => format!("PRAGMA foreign_keys = {}", self.dice.pick(&["ON", "OFF"])),
            11 => "PRAGMA defer_foreign_keys = ON".into(),
            12 => format!("PRAGMA user_version = {}", self.dice.below(99)),
            13 => format!("CREATE TABLE IF NOT EXISTS {table}(other)"),
            _ if !self.full_text => {
                self.full_text = true;
                "CREATE VIRTUAL TABLE ft USING fts5(x, prefix=2)".into()
            }
            _ => "INSERT INTO ft(ft) VALUES('optimize')".into(),
        }
    }

    fn write(&mut self) -> String {
        let (table, or) = (self.table(), self.or());
        match self.dice.below(12) {
            0..=3 => {
                let rows: Vec<String> = (0..=self.dice.below(4))
                    .map(|_| {
                        let values: Vec<String> = (0..4).map(|_| self.value()).collect();
                        format!("({})", values.join(", "))
                    })
                    .collect();
                format!("INSERT {or}INTO {table}(k, u, n, x) VALUES{}", rows.join(", "))
            }
            4 => {
                let other = self.table();
                format!(
                    "INSERT {or}INTO {table}(k, u, n, x) SELECT k, u, x, n FROM {other} WHERE {}",
                    self.condition()
                )
            }
            5 | 6 => {
                let (column, value) = (self.column(), self.value());
                format!("UPDATE {or}{table} SET {column} = {value} WHERE {}", self.condition())
            }
            7 => {
                let column = self.column();
                format!("UPDATE {or}{table} SET {column} = {column} + 1, x = k")
            }
            8 => format!("DELETE FROM {table} WHERE {}", self.condition()),
            9 if self.full_text => match self.dice.below(4) {
                0 => format!("INSERT INTO ft SELECT x FROM {table}"),
                1 => "DELETE FROM ft WHERE rowid % 4 = 1".into(),
                2 => format!("UPDATE ft SET x = {} WHERE rowid % 5 = 2", self.value()),
                _ => format!(
                    "INSERT INTO ft VALUES('word{} and {}')",
                    self.dice.below(30),
                    self.dice.below(9)
                ),
            },
            10 => format!(
                "INSERT INTO {table}(k, u, n) VALUES({}, {}, 1) ON CONFLICT DO UPDATE SET n = coalesce(n, 0) + 1",
                self.value(),
                self.value()
            ),
            11 if self.dice.one_in(4) => {
                format!("UPDATE sqlite_sequence SET seq = seq + {} ", self.dice.below(5))
            }
            _ => format!("INSERT {or}INTO {table}(x) VALUES({})", self.value()),
        }
    }

    fn transaction(&mut self) -> Transaction {
        let statements = (0..=self.dice.below(4))
            .map(|_| if self.dice.one_in(6) { self.schema() } else { self.write() })
            .map(Statement::new)
            .collect();
        Transaction { statements }
    }
}

struct Seed {
    dir: TempDir,
    owner: SqliteEngine,
    follower: SqliteEngine,
    late: SqliteEngine,
    waiting: Vec<Effect>,
    index: u64,
    done: [usize; 2],
    /// Interactive transactions that came to their end.
    finished: usize,
}

impl Seed {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let create = |name| SqliteEngine::create(&dir.path().join(name)).unwrap();
        let (owner, follower, late) = (create("a.db"), create("b.db"), create("c.db"));
        Self {
            dir,
            owner,
            follower,
            late,
            waiting: Vec::new(),
            index: 0,
            done: [0; 2],
            finished: 0,
        }
    }

    fn batch(&mut self, batch: &[Transaction], in_steps: bool) {
        let limits = SqlLimits { effect_bytes: 20_000, ..SqlLimits::default() };
        let executed = match in_steps {
            true => self.steps(batch, &limits),
            false => self.owner.execute(batch, &limits).unwrap(),
        };
        for outcome in &executed.outcomes {
            self.done[usize::from(outcome.is_err())] += 1;
            if let Err(error) = outcome {
                assert_ne!(error.kind, SqlErrorKind::Engine, "{error}");
            }
        }
        if executed.effects.is_empty() {
            return;
        }
        self.index += 1;
        let effect = Effect { at: at(self.index), effects: executed.effects };
        self.owner.commit(effect.at, &[]).unwrap();
        self.follower.apply(std::slice::from_ref(&effect), &[]).unwrap_or_else(|fault| {
            panic!("{fault}\n{batch:#?}");
        });
        let same = self.owner.content_hash().unwrap() == self.follower.content_hash().unwrap();
        assert!(same, "differs after {batch:#?}");
        self.waiting.push(effect);
    }

    /// All of them as steps of one interactive transaction; the others go on where one has failed.
    fn steps(&mut self, batch: &[Transaction], limits: &SqlLimits) -> Executed {
        self.owner.begin(limits).unwrap();
        for statements in batch {
            let stepped = self.owner.step(statements).unwrap();
            if let Some(error) = &stepped.error {
                assert_ne!(error.kind, SqlErrorKind::Engine, "{error}");
                assert_eq!(error.statement, stepped.rows.len());
            }
            if stepped.lost {
                return Executed { outcomes: Vec::new(), effects: Vec::new().into() };
            }
        }
        self.finished += 1;
        self.owner.finish().unwrap()
    }

    fn catch_up(&mut self, dice: &mut Dice) {
        self.late.apply(&self.waiting, &[]).unwrap();
        self.waiting.clear();
        assert_eq!(self.late.content_hash().unwrap(), self.owner.content_hash().unwrap());
        let path = self.late.path().to_owned();
        if dice.one_in(2) {
            self.late = SqliteEngine::open(&path).unwrap();
        }
        match dice.below(4) {
            0 => std::mem::swap(&mut self.owner, &mut self.follower),
            1 => std::mem::swap(&mut self.owner, &mut self.late),
            2 => {
                let path = self.owner.path().to_owned();
                self.owner = SqliteEngine::open(&path).unwrap();
            }
            _ => {}
        }
    }
}

fn run(seed: u64, batches: usize) -> [usize; 2] {
    let mut world = World { dice: Dice(seed), tables: Vec::new(), made: 0, full_text: false };
    let mut copies = Seed::new();
    copies.batch(
        &[transaction(&["CREATE TABLE t0(k INTEGER PRIMARY KEY AUTOINCREMENT, u UNIQUE, n, x)"])],
        false,
    );
    world.tables.push("t0".into());
    for _ in 0..batches {
        let batch: Vec<Transaction> =
            (0..=world.dice.below(5)).map(|_| world.transaction()).collect();
        let in_steps = world.dice.one_in(3);
        copies.batch(&batch, in_steps);
        if world.dice.one_in(8) {
            copies.owner.execute(&batch, &SqlLimits::default()).unwrap();
            copies.owner.rollback().unwrap();
            copies.owner.begin(&SqlLimits::default()).unwrap();
            copies.owner.step(&batch[0]).unwrap();
            copies.owner.rollback().unwrap();
        }
        if world.dice.one_in(6) {
            copies.catch_up(&mut world.dice);
        }
        // What was dropped, or never came to be, is no longer written to.
        let there = query(&copies.owner, "SELECT name FROM sqlite_schema WHERE type = 'table'");
        world.tables.retain(|table| there.contains(&vec![text(table)]));
        world.full_text = there.contains(&vec![text("ft")]);
        if world.tables.is_empty() {
            let made = world.made;
            copies.batch(
                &[transaction(&[&format!("CREATE TABLE e{made}(k, u UNIQUE, n, x)")])],
                false,
            );
            world.tables.push(format!("e{made}"));
        }
    }
    copies.catch_up(&mut world.dice);
    for copy in [&copies.owner, &copies.follower, &copies.late] {
        assert_eq!(query(copy, "PRAGMA integrity_check"), [[text("ok")]]);
    }
    assert!(copies.dir.path().exists());
    assert!(copies.finished > 0, "no interactive transaction came to its end");
    copies.done
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_schemas_and_statements_end_the_same_on_three_copies() {
    let first = from_environment("QUORATE_ENGINE_SEED", 1);
    let count = from_environment("QUORATE_ENGINE_SEEDS", 12);
    let mut done = [0; 2];
    for seed in first..first + count {
        let result = std::panic::catch_unwind(|| run(seed, 60));
        let [ok, failed] = result.unwrap_or_else(|_| panic!("QUORATE_ENGINE_SEED={seed}"));
        done[0] += ok;
        done[1] += failed;
    }
    println!("{} transactions done, {} refused", done[0], done[1]);
    assert!(done[0] > done[1] / 2, "hardly anything works: {done:?}");
}
