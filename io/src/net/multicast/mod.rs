//! Announcements: UDP multicast on every chosen interface, whatever becomes of the interfaces.

mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_core::wire::DATAGRAM_BYTES_MAX;
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval};

use self::sockets::Sender;
use super::bind::StartError;
use super::config::MulticastConfig;
use super::events::{NetEvent, Trouble};
use super::filter::AddressFilter;
use super::interfaces::{self, HostAddress, MulticastInterface};
use super::shared::Shared;

/// Membership of the group on all chosen interfaces.
pub(crate) struct Multicast {
    config: MulticastConfig,
    group: SocketAddrV4,
    bind: IpAddr,
    filter: AddressFilter,
    shared: Arc<Shared>,
    ports: Mutex<BTreeMap<MulticastInterface, Port>>,
}

/// One chosen interface.
#[derive(Default)]
struct Port {
    /// Set while the group is joined there and datagrams can be sent from there.
    sender: Option<Sender>,
    /// The last thing that was said of it, so that only changes are said.
    said: Said,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    Works,
    Failing(io::ErrorKind),
}

impl Multicast {
    /// Joins the group on all chosen interfaces that are up, and goes on looking for them.
    ///
    /// # Errors
    /// [`StartError::NotAGroup`], [`StartError::Multicast`], [`StartError::Interfaces`]. An
    /// interface that does not work is not an error, it is tried again.
    pub(crate) fn start(
        config: MulticastConfig,
        bind: IpAddr,
        filter: AddressFilter,
        shared: Arc<Shared>,
    ) -> Result<Arc<Self>, StartError> {
        if !config.group.is_multicast() {
            return Err(StartError::NotAGroup(config.group));
        }
        let group = SocketAddrV4::new(config.group, config.port);
        let failed = |error| StartError::Multicast { group: group.into(), error };
        let receiver = sockets::receiver(group).map_err(failed)?;
        let now = interfaces::list().map_err(StartError::Interfaces)?;
        let ports = Mutex::default();
        let this = Arc::new(Self { config, group, bind, filter, shared, ports });
        this.follow(&receiver, &now);
        if this.ports().is_empty() {
            this.shared.trouble(Trouble::NoMulticastInterface);
        }
        this.shared.tasks.spawn(this.clone().run(receiver));
        Ok(this)
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<MulticastInterface, Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends on every chosen interface that works.
    pub(crate) fn send(&self, datagram: &Bytes) {
        debug_assert!(datagram.len() <= DATAGRAM_BYTES_MAX, "core keeps datagrams short");
        if datagram.len() > DATAGRAM_BYTES_MAX {
            self.shared.count(|c| c.datagrams_oversized += 1);
            return;
        }
        for (interface, port) in self.ports().iter_mut() {
            let Some(sender) = &port.sender else { continue };
            match sender.send(datagram, self.group) {
                Ok(()) => self.say(interface, port, Ok(())),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.shared.count(|c| c.datagrams_dropped += 1);
                }
                Err(error) => self.say(interface, port, Err(error)),
            }
        }
    }

    /// Says how an interface does, if that is news.
    fn say(&self, interface: &MulticastInterface, port: &mut Port, now: io::Result<()>) {
        let name = format!("{} ({})", interface.name, interface.ip);
        let said = now.as_ref().map_or_else(|e| Said::Failing(e.kind()), |()| Said::Works);
        if said == port.said {
            return;
        }
        port.said = said;
        self.shared.trouble(match now {
            Ok(()) => Trouble::MulticastWorks { interface: name },
            Err(error) => Trouble::MulticastFailing { interface: name, error },
        });
    }

    /// Receives, and follows the interfaces, until the transport stops.
    async fn run(self: Arc<Self>, receiver: UdpSocket) {
        let mut poll = interval(self.config.poll.max(std::time::Duration::from_millis(10)));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One byte more than allowed, so that longer ones are noticed.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            tokio::select! {
                received = receiver.recv_from(&mut buffer) => match received {
                    Ok((bytes, from)) => self.receive(&buffer[..bytes], from),
                    // A socket that fails must not keep the processor busy.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                },
                _ = poll.tick() => match interfaces::list() {
                    Ok(now) => self.follow(&receiver, &now),
                    Err(error) => tracing::debug!(%error, "interfaces cannot be listed"),
                },
                () = self.shared.stopped() => return,
            }
        }
    }

    fn receive(&self, bytes: &[u8], from: SocketAddr) {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return self.shared.count(|c| c.datagrams_oversized += 1);
        }
        if !self.config.trusted.allows(from.ip()) {
            return self.shared.count(|c| c.datagrams_untrusted += 1);
        }
        let mine = |p: &Port| p.sender.as_ref().is_some_and(|s| s.local() == from);
        if self.ports().values().any(mine) {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        match self.shared.events.try_send(NetEvent::Datagram { from, bytes }) {
            Ok(()) => self.shared.count(|c| c.datagrams_received += 1),
            Err(_) => self.shared.count(|c| c.datagrams_dropped += 1),
        }
    }

    /// Leaves interfaces that are gone, joins those that have come, tries again what failed.
    fn follow(&self, receiver: &UdpSocket, now: &[HostAddress]) {
        let chosen: BTreeSet<MulticastInterface> =
            interfaces::for_multicast(now, self.bind, &self.filter);
        let mut ports = self.ports();
        ports.retain(|interface, port| {
            if chosen.contains(interface) {
                return true;
            }
            // An interface that is gone has taken its membership along: that error means nothing.
            let _ = sockets::leave(receiver, *self.group.ip(), interface.index);
            // Loopback is not gone: it only stood in for a network that has come back.
            if port.said != Said::Nothing && !interface.ip.is_loopback() {
                let interface = format!("{} ({})", interface.name, interface.ip);
                self.shared.trouble(Trouble::InterfaceGone { interface });
            }
            false
        });
        for interface in chosen {
            let port = ports.entry(interface.clone()).or_default();
            if port.sender.is_some() {
                continue;
            }
            let opened = sockets::join(receiver, *self.group.ip(), interface.index)
                .and_then(|()| Sender::open(&interface, &self.config));
            match opened {
                Ok(sender) => {
                    port.sender = Some(sender);
                    self.say(&interface, port, Ok(()));
                }
                Err(error) => self.say(&interface, port, Err(error)),
            }
        }
    }
}
