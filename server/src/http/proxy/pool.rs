//! Clients of the cluster: one for each token that is shown.
//!
//! The cluster judges a token when a client comes with it, and again whenever that counts. A client that
//! it does not want is kept for a moment, so that whoever asks again and again with a wrong token is
//! answered here and does not knock there each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_io::client::{Client, ConnectError, Options, Reading};
use tokio::sync::OnceCell;

use super::Proxy;

/// Tokens that are in use at once. One more takes the place of one that was not let in, or else of the
/// one that has been idle longest; its reads may then see less than they have seen.
pub(super) const CLIENTS_MAX: usize = 256;
/// How long a client is kept of which nobody makes use.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// How long it is remembered that the cluster does not want a client.
const REFUSED_KEPT: Duration = Duration::from_secs(2);
/// Between two looks for clients that are idle.
const SWEEP: Duration = Duration::from_secs(30);

/// A token by its hash, or none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::http) struct Shown(Option<[u8; 32]>);

impl Shown {
    pub(super) fn of(token: Option<&str>) -> Self {
        Self(token.map(|token| blake3::hash(token.as_bytes()).into()))
    }

    /// No token.
    pub(super) fn is_nothing(self) -> bool {
        self.0.is_none()
    }
}

/// All clients.
pub(super) struct Pool {
    /// How they begin, but for the token.
    options: Options,
    slots: Mutex<BTreeMap<Shown, Slot>>,
}

struct Slot {
    /// Made by the first who needs it: names are looked up then.
    client: Arc<OnceCell<Client>>,
    used: Instant,
    /// When it was first seen that the cluster does not want it.
    refused: Option<Instant>,
}

impl Pool {
    pub(super) fn new(options: Options) -> Self {
        Self { options, slots: Mutex::default() }
    }

    /// The servers to begin with, for messages.
    pub(super) fn servers(&self) -> String {
        let servers = self.options.servers.iter().map(|(host, port)| format!("{host}:{port}"));
        servers.collect::<Vec<_>>().join(", ")
    }

    /// What reads must have seen that do not say it themselves.
    pub(super) fn reading(&self) -> Reading {
        self.options.reading
    }

    /// The client for a token, which may have no server yet.
    ///
    /// # Errors
    /// No name of a server stands for an address at the moment, or TLS cannot be set up.
    pub(super) async fn client(
        &self,
        shown: Shown,
        token: Option<&str>,
    ) -> Result<Client, ConnectError> {
        let cell = self.cell(shown, Instant::now());
        let begin = || {
            let token = token.map(str::to_owned);
            Client::beginning(Options { token, ..self.options.clone() }, "", None)
        };
        cell.get_or_try_init(begin).await.cloned()
    }

    /// The client for a token, if there is one.
    pub(super) fn present(&self, shown: Shown) -> Option<Client> {
        self.slots().get(&shown).and_then(|slot| slot.client.get().cloned())
    }

    fn cell(&self, shown: Shown, now: Instant) -> Arc<OnceCell<Client>> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(&shown)
            && !slot.is_refused_for_long(now)
        {
            slot.used = now;
            return Arc::clone(&slot.client);
        }
        let mut left = slots.remove(&shown);
        if slots.len() >= CLIENTS_MAX {
            let first = slots.iter().min_by_key(|(_, slot)| (slot.is_let_in(), slot.used));
            let first = first.map(|(shown, _)| *shown);
            left = first.and_then(|first| slots.remove(&first));
        }
        let slot = Slot { client: Arc::default(), used: now, refused: None };
        let cell = Arc::clone(&slot.client);
        slots.insert(shown, slot);
        drop(slots);
        drop(left);
        cell
    }

    /// Lets those go of which nobody makes use.
    fn sweep(&self, now: Instant) {
        let idle = |slot: &Slot| now.saturating_duration_since(slot.used) >= IDLE_MAX;
        let left: Vec<(Shown, Slot)> = self.slots().extract_if(.., |_, slot| idle(slot)).collect();
        drop(left);
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<Shown, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is_refused_for_long(&mut self, now: Instant) -> bool {
        let refused = |client: &Client| client.watch().borrow().refused.is_some();
        if !self.client.get().is_some_and(refused) {
            return false;
        }
        let since = *self.refused.get_or_insert(now);
        now.saturating_duration_since(since) >= REFUSED_KEPT
    }

    fn is_let_in(&self) -> bool {
        self.client.get().is_some_and(|client| {
            let view = client.watch();
            let view = view.borrow();
            view.refused.is_none() && view.layout.cluster.is_some()
        })
    }
}

/// Lets go of idle clients, for as long as the proxy runs.
pub(super) async fn sweep(proxy: Proxy) {
    loop {
        tokio::time::sleep(SWEEP).await;
        proxy.pool.sweep(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(Options::new(vec![("127.0.0.1".to_owned(), 1)]))
    }

    #[test]
    fn a_token_has_one_client_and_another_token_another() {
        let (pool, now) = (pool(), Instant::now());
        let [one, two] = ["one", "two"].map(|token| Shown::of(Some(token)));
        let first = pool.cell(one, now);
        assert!(Arc::ptr_eq(&first, &pool.cell(one, now)));
        assert!(!Arc::ptr_eq(&first, &pool.cell(two, now)));
        assert!(!Arc::ptr_eq(&first, &pool.cell(Shown::of(None), now)));
        assert_ne!(Shown::of(None), Shown::of(Some("")), "an empty token is no missing one");
    }

    #[test]
    fn there_are_so_many_clients_and_the_idlest_goes_first() {
        let (pool, now) = (pool(), Instant::now());
        let shown = |number: usize| Shown::of(Some(&number.to_string()));
        let at = |number: usize| now + Duration::from_millis(number as u64);
        let cells: Vec<_> = (0..CLIENTS_MAX).map(|n| pool.cell(shown(n), at(n))).collect();
        // The first is used again: the second is the idlest now.
        assert!(Arc::ptr_eq(&cells[0], &pool.cell(shown(0), at(CLIENTS_MAX))));
        pool.cell(shown(CLIENTS_MAX), at(CLIENTS_MAX + 1));
        assert_eq!(pool.slots().len(), CLIENTS_MAX);
        assert!(pool.slots().contains_key(&shown(0)) && !pool.slots().contains_key(&shown(1)));
        pool.sweep(at(CLIENTS_MAX) + IDLE_MAX);
        assert_eq!(pool.slots().len(), 1, "all others were idle for too long");
    }
}
