//! Fetching blobs, from whoever has them.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all};
use iroh::endpoint::{Connection, ConnectionError};
use iroh_blobs::{
    Hash,
    api::remote::GetProgressItem,
    get::{GetError, request::get_verified_size},
    protocol::ERR_PERMISSION,
};

use super::{Error, Failure, Node, PeerContact, PeerFailure, hex};
use crate::manifest::BlobHash;

/// A peer that does not begin to answer within this time is given up; QUIC alone would wait for 30 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A transfer without a byte of progress for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts at what is not granted, and the time between them.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

impl Node {
    /// A blob from here or else from the first of `peers` that delivers it, at most `max_bytes` long. It is kept and served
    /// from here, too.
    ///
    /// The first peer is asked first, unless it could not be reached a moment ago. If it does not deliver and there are several
    /// others, these are asked whether they have the blob, all at once, and those that do not are passed over. Where a peer sees nothing on the
    /// chain by which it may be had, it is asked again some seconds later: its view of the chain may be older than this one.
    ///
    /// # Errors
    /// If no peer delivers it, each with its reason, or the store fails.
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived is kept, and the next call goes on from there, whoever it was from.
    pub async fn fetch(&self, hash: &BlobHash, peers: &[PeerContact], max_bytes: u64) -> Result<bytes::Bytes, Error> {
        for _ in 1..ATTEMPTS {
            match self.fetch_once(hash, peers, max_bytes).await {
                Err(Error::Unavailable { failures, .. })
                    if failures.iter().any(|failure| matches!(failure.what, Failure::NotGranted)) =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
        self.fetch_once(hash, peers, max_bytes).await
    }

    async fn fetch_once(&self, hash: &BlobHash, peers: &[PeerContact], max_bytes: u64) -> Result<bytes::Bytes, Error> {
        let mut failures = Vec::new();
        if let Some(bytes) = self.get(hash).await? {
            if bytes.len() as u64 <= max_bytes {
                return Ok(bytes);
            }
            let what = Failure::TooLarge { size: bytes.len() as u64, max: max_bytes };
            failures.push(PeerFailure { endpoint: self.contact().endpoint, what });
            return Err(Error::Unavailable { hash: *hash, failures });
        }
        let (present, away): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| !self.inner.peers.is_away(peer));
        let (first, others) = present.split_at(present.len().min(1));
        if let Some(bytes) = self.fetch_from_each(hash, first, max_bytes, &mut failures).await? {
            return Ok(bytes);
        }
        let others = self.holders(hash, others, &mut failures).await;
        if let Some(bytes) = self.fetch_from_each(hash, &others, max_bytes, &mut failures).await? {
            return Ok(bytes);
        }
        if let Some(bytes) = self.fetch_from_each(hash, &away, max_bytes, &mut failures).await? {
            return Ok(bytes);
        }
        Err(Error::Unavailable { hash: *hash, failures })
    }

    /// Those of several peers that may have a blob: first those that say so, then those that do not say.
    async fn holders<'a>(
        &self,
        hash: &BlobHash,
        peers: &[&'a PeerContact],
        failures: &mut Vec<PeerFailure>,
    ) -> Vec<&'a PeerContact> {
        if peers.len() < 2 {
            return peers.to_vec();
        }
        let asking = peers.iter().map(|peer| async move { (*peer, self.ask_for(peer, &[*hash]).await) });
        let (mut holders, mut silent) = (Vec::new(), Vec::new());
        for (peer, answer) in join_all(asking).await {
            let failure = match answer {
                Ok(have) if have == [true] => {
                    holders.push(peer);
                    continue;
                }
                Ok(_) => Failure::NotDelivered("it does not have it".to_owned()),
                Err(failure @ Failure::Unreachable(_)) if self.inner.peers.is_away(peer) => failure,
                Err(_) => {
                    silent.push(peer);
                    continue;
                }
            };
            failures.push(PeerFailure { endpoint: peer.endpoint, what: failure });
        }
        holders.append(&mut silent);
        holders
    }

    async fn fetch_from_each(
        &self,
        hash: &BlobHash,
        peers: &[&PeerContact],
        max: u64,
        failures: &mut Vec<PeerFailure>,
    ) -> Result<Option<bytes::Bytes>, Error> {
        for peer in peers {
            let what = match self.fetch_from(*hash, peer, max).await? {
                Ok(()) => match self.get(hash).await? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => Failure::NotDelivered("the transfer ended early".to_owned()),
                },
                Err(what) => {
                    self.inner.peers.forget(peer);
                    what
                }
            };
            tracing::debug!(target: "conun::net", peer = %hex(&peer.endpoint), blob = %hex(hash), %what, "fetch failed");
            failures.push(PeerFailure { endpoint: peer.endpoint, what });
        }
        Ok(None)
    }

    /// The outer error is the store's.
    async fn fetch_from(&self, hash: BlobHash, peer: &PeerContact, max: u64) -> Result<Result<(), Failure>, Error> {
        let hash = Hash::from_bytes(hash);
        let open = self.inner.peers.open(peer, iroh_blobs::ALPN).await;
        if let Some(connection) = &open {
            match self.transfer(hash, connection, max).await? {
                // A peer that was started anew does not know the connection, and cannot tell.
                Err(Failure::Stalled) => {}
                Err(_) if connection.close_reason().is_some() => {}
                done => return Ok(done),
            }
        }
        match self.connect(peer, iroh_blobs::ALPN, open.as_ref()).await {
            Ok(connection) => self.transfer(hash, &connection, max).await,
            Err(failure) => Ok(Err(failure)),
        }
    }

    async fn transfer(&self, hash: Hash, connection: &Connection, max: u64) -> Result<Result<(), Failure>, Error> {
        let size = match tokio::time::timeout(ANSWER_TIMEOUT, get_verified_size(connection, &hash)).await {
            Err(_) => return Ok(Err(Failure::Stalled)),
            Ok(Err(error)) => return Ok(Err(failure(connection, &error))),
            Ok(Ok((size, _))) => size,
        };
        if size > max {
            return Ok(Err(Failure::TooLarge { size, max }));
        }
        let store = &self.inner.cache.store;
        // Not even a part of it is swept meanwhile, and the part that came stays for the next attempt.
        let _held = store.tags().temp_tag(hash).await.map_err(|error| self.store_error(error))?;
        self.inner.cache.touch(hash).await.map_err(|error| self.store_error(error))?;
        let mut progress = std::pin::pin!(store.remote().fetch(connection.clone(), hash).stream());
        loop {
            match tokio::time::timeout(STALL_TIMEOUT, progress.next()).await {
                Err(_) => return Ok(Err(Failure::Stalled)),
                Ok(Some(GetProgressItem::Progress(_))) => {}
                Ok(Some(GetProgressItem::Done(_)) | None) => return Ok(Ok(())),
                Ok(Some(GetProgressItem::Error(error))) => return Ok(Err(failure(connection, &error))),
            }
        }
    }

    pub(super) async fn connect(
        &self,
        peer: &PeerContact,
        alpn: &'static [u8],
        stale: Option<&Connection>,
    ) -> Result<Connection, Failure> {
        let inner = &self.inner;
        // Where it says it is may be news to the chain.
        let more = inner.gossip.as_ref().map_or_else(Vec::new, |gossip| gossip.hints(&peer.endpoint));
        inner.peers.connect(&inner.endpoint, &inner.traffic, (peer, alpn), more, stale).await
    }
}

/// What went wrong, as far as the peer says. It ends a request by that code, or, where it knows the endpoint not at all, the connection.
fn failure(connection: &Connection, error: &GetError) -> Failure {
    let closed = match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(closed)) => Some(closed),
        _ => None,
    };
    let code = error.iroh_error_code().or(closed.as_ref().map(|closed| closed.error_code));
    match (code, closed) {
        (Some(ERR_PERMISSION), _) => Failure::NotGranted,
        (_, Some(closed)) => Failure::NotDelivered(closed.to_string()),
        _ => Failure::NotDelivered(error.to_string()),
    }
}
