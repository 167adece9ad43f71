//! Both sides of the control protocol.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use iroh::{
    EndpointId,
    endpoint::{Connection, ReadToEndError, RecvStream, SendStream, VarInt},
    protocol::{AcceptError, ProtocolHandler},
};
use iroh_blobs::Hash;
use tokio::time::timeout;

use super::{
    Failure, Node, PeerContact,
    cache::Cache,
    wire::{Answer, CONTROL_ALPN, MAX_ANSWER, MAX_HASHES, MAX_REQUEST, NoMessage, Refusal, Report, Request, VERSION},
    wire::{decode, encode},
};

/// Most time from the beginning of a message to its end, and to that of its answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A connection without a request for so long is closed; the next one opens another.
const IDLE: Duration = Duration::from_secs(60);

/// Most connections at once.
const MAX_CONNECTIONS: usize = 256;

/// Decides who may connect, and takes what they tell.
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// Whether the chain knows this endpoint as somebody's who may have to do with this one.
    fn admits(&self, endpoint: &[u8; 32]) -> bool;

    /// Takes a report from an endpoint. It may block.
    ///
    /// # Errors
    /// If the report is not wanted; the reporter is told why.
    fn take(&self, endpoint: &[u8; 32], report: Report) -> Result<(), Refusal>;
}

/// Why a connection is closed; its number and words are what the peer sees.
#[derive(Clone, Copy, Debug)]
enum Breach {
    Stranger = 1,
    TooLong = 2,
    TooSlow = 3,
    Malformed = 4,
    Crowded = 5,
    Replaced = 6,
}

impl Breach {
    fn words(self) -> &'static str {
        match self {
            Self::Stranger => "stranger: no provider and no requester on the chain has this endpoint",
            Self::TooLong => "the message is too long",
            Self::TooSlow => "the message took too long",
            Self::Malformed => "the message is malformed",
            Self::Crowded => "too many connections",
            Self::Replaced => "replaced by a later connection",
        }
    }

    fn close(self, connection: &Connection) {
        connection.close(VarInt::from_u32(self as u32), self.words().as_bytes());
    }
}

/// The answering side.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) cache: Arc<Cache>,
    /// Nobody is admitted without one.
    pub(super) gate: Arc<OnceLock<Arc<dyn Gate>>>,
    open: Arc<Mutex<HashMap<EndpointId, Connection>>>,
}

impl Control {
    pub(super) fn new(cache: Arc<Cache>, gate: Arc<OnceLock<Arc<dyn Gate>>>) -> Self {
        Self { cache, gate, open: Arc::default() }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<EndpointId, Connection>> {
        // Nothing here can fail half-way.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection an endpoint, and a limit to all: what a peer can take of this node is bounded.
    fn enter(&self, connection: &Connection) -> Result<(), Breach> {
        let mut open = self.open();
        open.retain(|_, connection| connection.close_reason().is_none());
        let id = connection.remote_id();
        if open.len() >= MAX_CONNECTIONS && !open.contains_key(&id) {
            return Err(Breach::Crowded);
        }
        if let Some(before) = open.insert(id, connection.clone()) {
            Breach::Replaced.close(&before);
        }
        Ok(())
    }

    async fn serve(&self, connection: &Connection) -> Result<(), Breach> {
        let peer = *connection.remote_id().as_bytes();
        loop {
            let gate = self.gate.get().filter(|gate| gate.admits(&peer)).ok_or(Breach::Stranger)?;
            let Ok(Ok((send, receive))) = timeout(IDLE, connection.accept_bi()).await else { return Ok(()) };
            timeout(DEADLINE, self.answer(gate, peer, send, receive)).await.map_err(|_| Breach::TooSlow)??;
        }
    }

    async fn answer(
        &self,
        gate: &Arc<dyn Gate>,
        peer: [u8; 32],
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), Breach> {
        let bytes = match receive.read_to_end(MAX_REQUEST).await {
            Ok(bytes) => bytes,
            Err(ReadToEndError::TooLong) => return Err(Breach::TooLong),
            // It has ended the stream, or the connection.
            Err(_) => return Ok(()),
        };
        let answer = match decode(&bytes) {
            Ok(Request::Have(hashes)) if hashes.len() > MAX_HASHES => Answer::Refused(Refusal::TooMany),
            Ok(Request::Have(hashes)) => {
                let mut have = Vec::with_capacity(hashes.len());
                for hash in hashes {
                    // A store that fails has nothing to give.
                    have.push(self.cache.store.blobs().has(Hash::from_bytes(hash)).await.unwrap_or(false));
                }
                Answer::Have(have)
            }
            Ok(Request::Report(report)) => {
                let gate = gate.clone();
                let taken = tokio::task::spawn_blocking(move || gate.take(&peer, report)).await;
                match taken.unwrap_or(Err(Refusal::NotKept)) {
                    Ok(()) => Answer::Taken,
                    Err(refusal) => Answer::Refused(refusal),
                }
            }
            Err(NoMessage::Version(_)) => Answer::Refused(Refusal::Version(VERSION)),
            Err(NoMessage::Malformed) => return Err(Breach::Malformed),
        };
        // Whoever does not wait for the answer does not need it.
        if send.write_all(&encode(&answer)).await.is_ok() && send.finish().is_ok() {
            let _ = send.stopped().await;
        }
        Ok(())
    }
}

impl ProtocolHandler for Control {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let admitted = self.gate.get().is_some_and(|gate| gate.admits(connection.remote_id().as_bytes()));
        let served = match admitted.then(|| self.enter(&connection)) {
            None => Err(Breach::Stranger),
            Some(Err(breach)) => Err(breach),
            Some(Ok(())) => self.serve(&connection).await,
        };
        match served {
            Ok(()) => connection.close(VarInt::from_u32(0), b"idle"),
            Err(breach) => {
                tracing::debug!(target: "conun::net", peer = %connection.remote_id(), reason = breach.words(), "ended");
                breach.close(&connection);
            }
        }
        Ok(())
    }
}

impl Node {
    /// Has the control protocol answered from now on, to those whom `gate` admits. The first gate stays.
    pub fn open_to(&self, gate: Arc<dyn Gate>) {
        // The first stays.
        let _ = self.inner.gate.set(gate);
    }

    /// Which of some blobs a peer has.
    ///
    /// # Errors
    /// If the peer is not reached or does not say.
    pub async fn ask_for(&self, peer: &PeerContact, hashes: &[[u8; 32]]) -> Result<Vec<bool>, Failure> {
        let mut have = Vec::with_capacity(hashes.len());
        for hashes in hashes.chunks(MAX_HASHES) {
            match self.ask(peer, &Request::Have(hashes.to_vec())).await? {
                Answer::Have(answer) if answer.len() == hashes.len() => have.extend(answer),
                Answer::Refused(refusal) => return Err(Failure::Refused(refusal)),
                _ => return Err(Failure::NotDelivered("another answer than to what was asked".to_owned())),
            }
        }
        Ok(have)
    }

    /// Tells a peer how a batch is doing.
    ///
    /// # Errors
    /// If the peer is not reached or does not take it.
    pub async fn report(&self, peer: &PeerContact, report: Report) -> Result<(), Failure> {
        match self.ask(peer, &Request::Report(report)).await? {
            Answer::Taken => Ok(()),
            Answer::Refused(refusal) => Err(Failure::Refused(refusal)),
            Answer::Have(_) => Err(Failure::NotDelivered("another answer than to what was asked".to_owned())),
        }
    }

    async fn ask(&self, peer: &PeerContact, request: &Request) -> Result<Answer, Failure> {
        let message = encode(request);
        let open = self.inner.peers.open(peer, CONTROL_ALPN).await;
        if let Some(connection) = &open {
            match exchange(connection, &message).await {
                Ok(answer) => return Ok(answer),
                // A peer that was started anew does not know the connection, and cannot tell.
                Err(Failure::Stalled) => {}
                Err(_) if connection.close_reason().is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
        let connection = self.connect(peer, CONTROL_ALPN, open.as_ref()).await?;
        let answered = exchange(&connection, &message).await;
        if answered.is_err() {
            self.inner.peers.forget(peer);
        }
        answered
    }
}

async fn exchange(connection: &Connection, message: &[u8]) -> Result<Answer, Failure> {
    let exchanging = async {
        let lost = |error: &dyn fmt::Display| Failure::NotDelivered(error.to_string());
        let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
        // A refusal may come before all is sent.
        let sent = async {
            send.write_all(message).await.map_err(|error| lost(&error))?;
            send.finish().map_err(|error| lost(&error))
        }
        .await;
        match receive.read_to_end(MAX_ANSWER).await {
            Ok(bytes) if !bytes.is_empty() => decode(&bytes).map_err(|_| lost(&"no message")),
            Ok(_) => Err(lost(&"no answer")),
            Err(error) => sent.and(Err(lost(&error))),
        }
    };
    let answer = timeout(DEADLINE, exchanging).await.unwrap_or(Err(Failure::Stalled));
    match connection.close_reason() {
        // The peer's own words.
        Some(reason) if answer.is_err() => Err(Failure::NotDelivered(reason.to_string())),
        _ => answer,
    }
}
