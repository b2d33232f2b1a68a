//! One attempt of an operation in a session: what is sent, to whom, and when the next is due.

use std::time::Duration;

use quorate_core::Index;
use quorate_core::engine::Transaction;
use quorate_core::node::SqlRequest;
use quorate_core::shard::{Once, SqlKind};

use super::World;
use super::clients::{Acknowledged, Request};
use super::sessions::Attempt;
use crate::checks::Meant;
use crate::checks::workloads::Operation;
use crate::counts::Count;
use crate::network::MS;
use crate::outcome::Verdict;

/// Attempts of one operation that may be under way.
const ATTEMPTS_MAX: usize = 4;

/// The deliberate fault of clients.
fn takes_new_sequences() -> bool {
    #[cfg(quorate_faults)]
    return quorate_core::has_fault(quorate_core::Fault::RetryWithNewSequence);
    #[cfg(not(quorate_faults))]
    false
}

impl World {
    /// Sends an operation, for the first time or again.
    pub(super) fn attempt(&mut self, number: u64, host: usize) -> Verdict {
        let Some(doing) = self.clients.sessions.doing.get(&number) else { return Ok(()) };
        let which = doing.client;
        let plan = self.clients.plan(which).clone();
        let Some(sessions) = plan.sessions.clone() else { return Ok(()) };
        let patience = 1 + self.session_dice.tailed(sessions.patience_ms * MS);
        // Once all faults have ended an answer comes soon.
        let patience = if self.peace.is_some() { patience.min(1_000 * MS) } else { patience };
        let name = format!("db{}", plan.database);
        let there = self.shard_at(host, &name, plan.shard).is_some();
        if !there || doing.open.len() >= ATTEMPTS_MAX {
            self.once_again(number, patience.min(500 * MS));
            return Ok(());
        }
        let timeout_ms = match self.session_dice.below(3) {
            0 => plan.timeout_ms,
            1 => sessions.patience_ms.max(50),
            _ => sessions.patience_ms * 2 + 50,
        };
        let timeout_ms = if self.peace.is_some() { timeout_ms.min(3_000) } else { timeout_ms };
        let lags = self.session_dice.chance(sessions.lag_ppm);
        let races = self.session_dice.chance(sessions.race_ppm);
        let Some((once, meant)) = self.next_attempt(number, lags) else { return Ok(()) };
        let ledger = self.checks.ledger_of(once.cluster, once.log);
        let sent = (once.session.key(), once.sequence);
        ledger.content.sessions.sends(sent, meant, once.acknowledged);
        let id = self.clients.peek_next();
        let Some(doing) = self.clients.sessions.doing.get_mut(&number) else { return Ok(()) };
        doing.open.insert(id);
        let (asked, statements) = (doing.asked.clone(), doing.statements.clone());
        let request = SqlRequest {
            database: name,
            shard: Some(plan.shard.to_owned()),
            transaction: Transaction { statements },
            kind: SqlKind::Once(once),
            timeout: Duration::from_millis(timeout_ms),
        };
        let after = if races { self.session_dice.below(20 * MS) } else { patience };
        self.once_again(number, after);
        let (session, sequence) = (once.session, once.sequence);
        let until = self.now + timeout_ms * MS;
        let attempt = Attempt { operation: number, session, sequence, until };
        let by = self.run_of(host);
        let held = Request {
            client: Some(which),
            by,
            at: self.now,
            asked,
            promises: Acknowledged::Once,
            attempt: Some(attempt),
            shown: Index::ZERO,
            timeout: request.timeout,
        };
        self.hand_over_request(host, held, request)?;
        Ok(())
    }

    /// What is sent next for an operation.
    fn next_attempt(&mut self, number: u64, lags: bool) -> Option<(Once, Meant)> {
        let sessions = &mut self.clients.sessions;
        let doing = sessions.doing.get_mut(&number)?;
        let open = sessions.open.get_mut(&doing.client);
        let open = open.filter(|open| open.is(doing.of, doing.session));
        let mut acknowledged = 0;
        if let Some(open) = open {
            acknowledged = open.acknowledged;
            if doing.sent > 0 && takes_new_sequences() {
                open.last += 1;
                doing.sequence = open.last;
            }
        }
        if doing.sent > 0 && !doing.over {
            self.counts.add(Count::AttemptsAgain);
            if !doing.open.is_empty() {
                self.counts.add(Count::AttemptsRaced);
            }
        }
        doing.sent += 1;
        let acknowledged = if lags { acknowledged / 2 } else { acknowledged };
        // One that comes late says what it said then.
        let acknowledged = acknowledged.min(doing.sequence - 1);
        let ((cluster, log), session, sequence) = (doing.of, doing.session, doing.sequence);
        let adds = match doing.asked.operation {
            Operation::Count(row) => Some(row),
            _ => None,
        };
        let once = Once { cluster, log, session, sequence, acknowledged };
        Some((once, Meant { operation: number, adds }))
    }
}
