//! Serves blobs, each to those who may have it.
//!
//! iroh-blobs reads requests and writes answers; what is between them is here. Only single blobs are given: a blob that is taken for a list of
//! hashes would lead to others, which nobody has looked at.

use std::{future::pending, sync::Arc, time::Duration};

use iroh::{
    endpoint::{Connection, RecvStream, SendStream},
    protocol::{AcceptError, ProtocolHandler},
};
use iroh_blobs::{
    protocol::{ERR_PERMISSION, GetRequest, Request},
    provider::{
        StreamPair,
        events::{EventMask, EventSender, ProviderMessage, ThrottleMode},
        handle_get,
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    cache::Cache,
    crowd::{self, Breach, Crowd},
    gate::Door,
    limit::Limit,
};

/// Most time that a request takes to arrive.
const DEADLINE: Duration = Duration::from_secs(5);

/// Most time in which a peer takes the next 16 KiB.
const STALL: Duration = Duration::from_secs(20);

/// Most time in which a peer takes the last of an answer, once all is on its way.
const LINGER: Duration = Duration::from_secs(300);

/// A connection without a request for so long is closed; the next one opens another.
const IDLE: Duration = Duration::from_secs(60);

/// Connections of one endpoint: while one hangs, another can take its place.
pub(super) const CONNECTIONS: usize = 4;

/// iroh-blobs is to ask before it sends the next part of an answer.
const EVENTS: EventMask = EventMask { throttle: ThrottleMode::Intercept, ..EventMask::DEFAULT };

/// The protocol.
#[derive(Debug)]
pub(super) struct Blobs {
    pub(super) cache: Arc<Cache>,
    pub(super) door: Arc<Door>,
    /// Bytes of blobs.
    pub(super) limit: Arc<Limit>,
    pub(super) crowd: Crowd,
}

/// What answering a request needs.
#[derive(Clone, Debug)]
struct Answering {
    cache: Arc<Cache>,
    door: Arc<Door>,
    limit: Arc<Limit>,
    peer: [u8; 32],
}

impl Answering {
    async fn answer(self, mut send: SendStream, receive: RecvStream) -> Result<(), Breach> {
        let (events, parts) = EventSender::channel(1, EVENTS);
        let mut pair = StreamPair::new(0, receive, &mut send, events);
        let request = match timeout(DEADLINE, pair.read_request()).await {
            Err(_) => return Err(Breach::TooSlow),
            Ok(Err(_)) => return Err(Breach::Malformed),
            Ok(Ok(request)) => request,
        };
        match request {
            Request::Get(request)
                if is_blob(&request) && self.door.will_allow(&self.peer, Some(request.hash.as_bytes())).await =>
            {
                let lent = self.cache.lent.store(&request.hash).await;
                let (store, _room) = match lent {
                    Some((store, room)) => (store, Some(room)),
                    None => (self.cache.store.clone().into(), None),
                };
                tokio::select! {
                    // What goes wrong is told to the peer, and is the peer's matter.
                    _ = handle_get(pair, store, request) => {}
                    breach = self.pace(parts) => return Err(breach),
                }
                // Whoever does not wait for the end does not need it.
                let _ = send.finish();
                let _ = timeout(LINGER, send.stopped()).await;
            }
            _ => {
                drop(pair);
                // The same.
                let _ = send.reset(ERR_PERMISSION);
            }
        }
        Ok(())
    }

    /// Has the parts of an answer go as fast as the limits allow, until the peer takes them too slowly.
    async fn pace(&self, mut parts: mpsc::Receiver<ProviderMessage>) -> Breach {
        loop {
            match timeout(STALL, parts.recv()).await {
                Err(_) => return Breach::TooSlow,
                Ok(Some(ProviderMessage::Throttle(part))) => {
                    self.limit.wait(&self.peer, part.inner.size).await;
                    // The answer may have been given up meanwhile.
                    let _ = part.tx.send(Ok(())).await;
                }
                Ok(Some(_)) => {}
                // The answer is complete.
                Ok(None) => return pending().await,
            }
        }
    }
}

fn is_blob(request: &GetRequest) -> bool {
    request.ranges.as_single().is_some_and(|(offset, _)| offset == 0)
}

impl Blobs {
    async fn serve(&self, connection: &Connection) -> Result<(), Breach> {
        let peer = *connection.remote_id().as_bytes();
        let (cache, door, limit) = (self.cache.clone(), self.door.clone(), self.limit.clone());
        let answering = Answering { cache, door, limit, peer };
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = answers.join_next() => ended.unwrap_or(Ok(()))?,
                asked = connection.accept_bi() => {
                    let Ok((send, receive)) = asked else { return Ok(()) };
                    if !self.door.admits(&peer) {
                        return Err(Breach::Stranger);
                    }
                    answers.spawn(answering.clone().answer(send, receive));
                }
                () = sleep(IDLE), if answers.is_empty() => return Ok(()),
            }
        }
    }
}

impl ProtocolHandler for Blobs {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        crowd::serve(&connection, (&self.door, &self.crowd), self.serve(&connection)).await;
        Ok(())
    }

    async fn shutdown(&self) {
        // It may be closed already.
        let _ = self.cache.store.shutdown().await;
    }
}
