//! What all tasks of a transport share.

use std::collections::HashMap;
use std::mem::Discriminant;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_core::NodeId;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::bind::Outbound;
use super::config::NetLimits;
use super::credentials::Credentials;
use super::events::{NetCounters, NetEvent, Trouble};
use super::limits::Gate;
use super::links::Links;

/// A trouble of one kind with one address is said again after so long.
const TROUBLE_AGAIN: Duration = Duration::from_secs(60);
/// For how many addresses that is remembered.
const TROUBLES_MAX: usize = 256;

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) credentials: Credentials,
    pub(crate) limits: NetLimits,
    pub(crate) outbound: Outbound,
    pub(crate) events: mpsc::Sender<NetEvent>,
    pub(crate) links: Links,
    pub(crate) gate: Arc<Gate>,
    pub(crate) tasks: Tasks,
    pub(crate) stop: watch::Receiver<bool>,
    counters: Mutex<NetCounters>,
    said: Mutex<HashMap<(Discriminant<Trouble>, IpAddr), Instant>>,
}

impl Shared {
    pub(crate) fn new(
        me: NodeId,
        credentials: Credentials,
        limits: NetLimits,
        outbound: Outbound,
        events: mpsc::Sender<NetEvent>,
        tasks: Tasks,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            me,
            credentials,
            outbound,
            links: Links::new(events.clone(), &limits),
            gate: Gate::new(limits.clone()),
            limits,
            events,
            tasks,
            stop,
            counters: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// Ends when the transport stops.
    pub(crate) async fn stopped(&self) {
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut NetCounters)) {
        change(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn counters(&self) -> NetCounters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says it, unless the runtime is so far behind that nothing more fits: nobody waits for it.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        let _ = self.events.try_send(NetEvent::Trouble(trouble));
    }

    /// Says it once a minute for each kind and address.
    pub(crate) fn trouble_with(&self, ip: IpAddr, trouble: Trouble) {
        let key = (std::mem::discriminant(&trouble), ip.to_canonical());
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&key).is_some_and(|at| now.duration_since(*at) < TROUBLE_AGAIN) {
            return;
        }
        if said.len() >= TROUBLES_MAX {
            said.retain(|_, at| now.duration_since(*at) < TROUBLE_AGAIN);
        }
        if said.len() >= TROUBLES_MAX {
            return;
        }
        said.insert(key, now);
        drop(said);
        self.trouble(trouble);
    }
}

/// Starts tasks, and knows when all of them have ended.
pub(crate) struct Tasks {
    runtime: Handle,
    /// Each task holds a clone.
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

impl Tasks {
    /// The receiver yields `None` once no task runs and none can be started.
    pub(crate) fn new(runtime: Handle) -> (Self, mpsc::Receiver<()>) {
        let (alive, ended) = mpsc::channel(1);
        (Self { runtime, alive: Mutex::new(Some(alive)) }, ended)
    }

    /// Starts a task, unless the transport stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(alive) = alive else { return };
        self.runtime.spawn(async move {
            task.await;
            drop(alive);
        });
    }

    /// From here on no task is started.
    pub(crate) fn close(&self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
