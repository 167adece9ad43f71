//! Connections to peers, one for each protocol, and who could not be reached.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use iroh::{Endpoint, EndpointAddr, EndpointId, RelayUrl, TransportAddr, endpoint::Connection};

use super::{Failure, PeerContact, traffic::Traffic};

/// A peer that does not answer within this time is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is said then.
const NO_ANSWER: &str = "no answer";

/// For so long after that, others are tried first.
const AWAY: Duration = Duration::from_secs(30);

/// A peer's place in the table. Its lock is held while it is dialled, so that those who wait for the same share what comes of it.
type Slot = Arc<tokio::sync::Mutex<Dialled>>;

/// An endpoint, and what is spoken with it.
type Line = ([u8; 32], &'static [u8]);

#[derive(Debug, Default)]
struct Dialled {
    connection: Option<Connection>,
    failed: Option<(Instant, String)>,
}

/// What is open to whom.
#[derive(Debug)]
pub(super) struct Peers {
    /// Where each of them may be, too: those who need a relay agree on one.
    relay: Option<RelayUrl>,
    slots: Mutex<HashMap<Line, Slot>>,
    /// Peers that did not answer, where they were looked for.
    away: Mutex<HashMap<PeerContact, Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing here can fail half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peers {
    pub(super) fn new(relay: Option<RelayUrl>) -> Self {
        Self { relay, slots: Mutex::default(), away: Mutex::default() }
    }

    fn slot(&self, peer: &PeerContact, alpn: &'static [u8]) -> Slot {
        lock(&self.slots).entry((peer.endpoint, alpn)).or_default().clone()
    }

    /// The connection of last time, if it is open as far as this side knows.
    pub(super) async fn open(&self, peer: &PeerContact, alpn: &'static [u8]) -> Option<Connection> {
        let slot = self.slot(peer, alpn);
        let dialled = slot.lock().await;
        dialled.connection.clone().filter(|connection| connection.close_reason().is_none())
    }

    /// A connection that is not `stale`.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        traffic: &Traffic,
        (peer, alpn): (&PeerContact, &'static [u8]),
        // Where it may be, too.
        more: Vec<SocketAddr>,
        stale: Option<&Connection>,
    ) -> Result<Connection, Failure> {
        let asked = Instant::now();
        let slot = self.slot(peer, alpn);
        let mut dialled = slot.lock().await;
        if let Some(open) = dialled.connection.as_ref().filter(|open| open.close_reason().is_none())
            && stale.is_none_or(|stale| stale.stable_id() != open.stable_id())
        {
            return Ok(open.clone());
        }
        if let Some((_, reason)) = dialled.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(Failure::Unreachable(reason.clone()));
        }
        match self.dial(endpoint, peer, more, alpn).await {
            Ok(connection) => {
                traffic.add(&connection);
                lock(&self.away).remove(peer);
                *dialled = Dialled { connection: Some(connection.clone()), failed: None };
                self.tidy();
                Ok(connection)
            }
            Err(reason) => {
                if reason == NO_ANSWER {
                    let mut away = lock(&self.away);
                    away.retain(|_, since| since.elapsed() < AWAY);
                    away.insert(peer.clone(), Instant::now());
                }
                *dialled = Dialled { connection: None, failed: Some((Instant::now(), reason.clone())) };
                self.tidy();
                Err(Failure::Unreachable(reason))
            }
        }
    }

    /// Nobody has to remember those that are not there.
    fn tidy(&self) {
        lock(&self.slots).retain(|_, slot| Arc::strong_count(slot) > 1 || is_open(slot));
    }

    async fn dial(
        &self,
        endpoint: &Endpoint,
        peer: &PeerContact,
        more: Vec<SocketAddr>,
        alpn: &[u8],
    ) -> Result<Connection, String> {
        let id = EndpointId::from_bytes(&peer.endpoint).map_err(|error| error.to_string())?;
        let direct = peer.hints.iter().copied().chain(more).map(TransportAddr::Ip);
        let relayed = self.relay.iter().cloned().map(TransportAddr::Relay);
        let connecting = endpoint.connect(EndpointAddr::from_parts(id, direct.chain(relayed)), alpn);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        connected.map_err(|_| NO_ANSWER.to_owned())?.map_err(|error| error.to_string())
    }

    /// Whether it was not reached a moment ago.
    pub(super) fn is_away(&self, peer: &PeerContact) -> bool {
        lock(&self.away).get(peer).is_some_and(|since| since.elapsed() < AWAY)
    }

    /// Another connection is wanted next time.
    pub(super) fn forget(&self, peer: &PeerContact) {
        lock(&self.slots).retain(|(endpoint, _), _| *endpoint != peer.endpoint);
    }
}

fn is_open(slot: &Slot) -> bool {
    slot.try_lock()
        .map_or(true, |dialled| dialled.connection.as_ref().is_some_and(|open| open.close_reason().is_none()))
}
