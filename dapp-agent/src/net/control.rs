//! Both sides of the control protocol.

use std::{fmt, sync::Arc, time::Duration};

use iroh::{
    endpoint::{Connection, ReadToEndError, RecvStream, SendStream},
    protocol::{AcceptError, ProtocolHandler},
};
use iroh_blobs::Hash;
use tokio::time::timeout;

use super::{
    Failure, Gate, Node, PeerContact,
    cache::Cache,
    crowd::{self, Breach, Crowd},
    gate::Door,
    gossip::{self, Forged, Gossip},
    limit::Limit,
    wire::{
        Answer, CONTROL_ALPN, MAX_ANSWER, MAX_HASHES, MAX_NOTICES, MAX_REQUEST, NoMessage, Refusal, Report, Request,
        VERSION,
    },
    wire::{decode, encode},
};

/// Most time from the beginning of a message to its end, and to that of its answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A connection without a request for so long is closed; the next one opens another.
const IDLE: Duration = Duration::from_secs(60);

/// Connections of one endpoint.
const CONNECTIONS: usize = 1;

/// Requests a second that are answered: of all peers, and of each.
const REQUESTS: (u64, u64) = (1_000, 50);

/// The answering side.
#[derive(Debug)]
pub(super) struct Control {
    cache: Arc<Cache>,
    door: Arc<Door>,
    gossip: Option<Arc<Gossip>>,
    limit: Limit,
    crowd: Crowd,
}

impl Control {
    pub(super) fn new(cache: Arc<Cache>, door: Arc<Door>, gossip: Option<Arc<Gossip>>) -> Self {
        Self { cache, door, gossip, limit: Limit::new(REQUESTS.0, REQUESTS.1), crowd: Crowd::new(CONNECTIONS) }
    }

    async fn serve(&self, connection: &Connection) -> Result<(), Breach> {
        let peer = *connection.remote_id().as_bytes();
        loop {
            let Ok(Ok((send, receive))) = timeout(IDLE, connection.accept_bi()).await else { return Ok(()) };
            // Whoever asks too often is answered later.
            self.limit.wait(&peer, 1).await;
            if !self.door.admits(&peer) {
                return Err(Breach::Stranger);
            }
            timeout(DEADLINE, self.answer(peer, send, receive)).await.map_err(|_| Breach::TooSlow)??;
        }
    }

    async fn answer(&self, peer: [u8; 32], mut send: SendStream, mut receive: RecvStream) -> Result<(), Breach> {
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
                    // What it may not have is not here for it.
                    have.push(self.cache.has(Hash::from_bytes(hash)).await && self.door.grants(&peer, &hash).await);
                }
                Answer::Have(have)
            }
            Ok(Request::Report(report)) => {
                let gate = self.door.gate().cloned();
                let taking = move || gate.map_or(Err(Refusal::NotYours), |gate| gate.take(&peer, report));
                match tokio::task::spawn_blocking(taking).await.unwrap_or(Err(Refusal::NotKept)) {
                    Ok(()) => Answer::Taken,
                    Err(refusal) => Answer::Refused(refusal),
                }
            }
            Ok(Request::Exchange(notices)) if notices.len() > MAX_NOTICES => Answer::Refused(Refusal::TooMany),
            Ok(Request::Exchange(notices)) => {
                let book = self.door.gate().and_then(|gate| gate.book());
                match self.gossip.as_ref().zip(book) {
                    Some((gossip, book)) => {
                        let news = gossip.answer(&peer, &book, &notices).map_err(|Forged| Breach::Forged)?;
                        Answer::Notices(news)
                    }
                    None => Answer::Refused(Refusal::NoGossip),
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
        crowd::serve(&connection, (&self.door, &self.crowd), self.serve(&connection)).await;
        Ok(())
    }
}

impl Node {
    /// Serves from now on, whom and as far as `gate` says. The first gate stays.
    pub fn open_to(&self, gate: Arc<dyn Gate>) {
        if self.inner.door.open(gate) && self.gossip().is_some() {
            let gossiping = tokio::spawn(gossip::run(Arc::downgrade(&self.inner)));
            // It is the first.
            let _ = self.inner.gossiping.set(gossiping.abort_handle());
        }
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
            _ => Err(Failure::NotDelivered("another answer than to what was asked".to_owned())),
        }
    }

    pub(super) async fn ask(&self, peer: &PeerContact, request: &Request) -> Result<Answer, Failure> {
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
