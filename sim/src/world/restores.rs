//! Operators who keep the content of shards as files, and give such files to nodes to be the content.

use std::time::Duration;

use quorate_core::engine::memory::Memory;
use quorate_core::engine::{Engine as _, Position, SqlLimits, Statement, Transaction, Value};
use quorate_core::node::SqlRequest;
use quorate_core::shard::{SqlKind, Upload};
use quorate_core::{Index, LogId};

use super::World;
use crate::checks::workloads::Operation;
use crate::counts::Count;
use crate::disk::DirId;
use crate::outcome::Verdict;
use crate::plan::{Content, DatabaseOrder};
use crate::trace::tell;
use crate::view::{Kind, Told};

/// How many files are kept.
const BACKUPS_MAX: usize = 8;
/// How long an operator waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// The table that makes each file another one.
const MARKS: &str = "m";

impl World {
    /// Carries out an order that is about files; false if it is not.
    pub(super) fn file_order(
        &mut self,
        host: usize,
        database: u8,
        order: &DatabaseOrder,
    ) -> Result<bool, crate::Violation> {
        let name = format!("db{database}");
        match order {
            DatabaseOrder::BackUp(shard) => {
                self.back_content_up(host, &name, shard)?;
                Ok(true)
            }
            DatabaseOrder::Restore(shard, content) => {
                self.restore_content(host, name, shard, *content)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The committed content of the copy that a node has open, if that is whole.
    fn open_content(&mut self, host: usize, dir: DirId, log: LogId) -> Option<Vec<u8>> {
        let open = self.hosts[host].engines.get(&log)?.open?;
        let files = self.disks.get_mut(dir).files(log);
        let sound = files.is_sound(open);
        files.copy(open).filter(|_| sound).map(|copy| copy.to_file())
    }

    fn back_content_up(&mut self, host: usize, database: &str, shard: &str) -> Verdict {
        let found = self.shard_at(host, database, shard).zip(self.hosts[host].dir);
        let Some(((cluster, log), dir)) = found else { return Ok(()) };
        let Some(file) = self.open_content(host, dir, log) else { return Ok(()) };
        tell!(
            self,
            Told::Log(host, Kind::Copies, log),
            "host {host} keeps {log:?} as a file of {} bytes",
            file.len()
        );
        self.counts.add(Count::Backups);
        if let (Some(held), Some(ledger)) =
            (Memory::from_file(&file), self.checks.shard(cluster, log))
        {
            ledger.content.agrees(&format!("the backup of host {host}"), &held.hash())?;
        }
        if self.backups.len() >= BACKUPS_MAX {
            self.backups.remove(0);
        }
        self.backups.push(file);
        Ok(())
    }

    fn restore_content(
        &mut self,
        host: usize,
        database: String,
        shard: &'static str,
        content: Content,
    ) -> Verdict {
        let found = self.shard_at(host, &database, shard).zip(self.hosts[host].dir);
        let Some((of, dir)) = found else { return Ok(()) };
        let number = self.clients.next();
        let held = match content {
            Content::Rubbish => None,
            Content::Nothing => Some(Memory::default()),
            Content::Backup(ago) => {
                let Some(file) = self.backups.iter().rev().nth(ago) else { return Ok(()) };
                Memory::from_file(file)
            }
        };
        let held = held.map(|held| marked(held, number));
        if let Some(held) = &held {
            self.checks.gives_file(of, number, held);
        }
        let file = held.map_or_else(|| b"rubbish".to_vec(), |held| held.to_file());
        self.disks.get_mut(dir).files(of.1).held.uploads.insert(number, file);
        self.counts.add(Count::ContentRestores);
        let upload = Upload { node: self.disks.get(dir).node, number };
        let request = SqlRequest {
            database,
            shard: Some(shard.to_owned()),
            transaction: Transaction::default(),
            kind: SqlKind::Restore(upload),
            timeout: PATIENCE,
        };
        self.ask(host, None, of, Operation::Restore(number), request)?;
        Ok(())
    }
}

/// The same content with a row that no other file has.
fn marked(mut held: Memory, number: u64) -> Memory {
    let table = Statement::new(format!("CREATE TABLE {MARKS} (k INTEGER PRIMARY KEY, v)"));
    let args = [i64::try_from(number).unwrap_or(i64::MAX), 1].map(Value::Integer);
    let row = Statement::with(format!("INSERT INTO {MARKS} (k, v) VALUES (?, ?)"), args);
    for statement in [table, row] {
        let batch = [Transaction { statements: vec![statement] }];
        let at = held.position();
        let next = Position { index: Index(at.index.0 + 1), term: at.term };
        // The table may be there, from a file before: then there is nothing to commit.
        let ran = held.execute(&batch, &SqlLimits::default());
        let _empty = ran.and_then(|_| held.commit(next, &[]));
    }
    let synced = held.sync();
    assert!(synced.is_ok(), "nothing fails here");
    held
}
