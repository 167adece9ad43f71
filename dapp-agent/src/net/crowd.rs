//! How many peers a protocol serves.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use iroh::{
    EndpointId,
    endpoint::{Connection, VarInt},
};

use super::gate::Door;

/// Most endpoints at once.
const MAX_PEERS: usize = 256;

/// Why a connection is closed; its number and words are what the peer sees.
#[derive(Clone, Copy, Debug)]
pub(super) enum Breach {
    Stranger = 1,
    TooLong = 2,
    TooSlow = 3,
    Malformed = 4,
    Crowded = 5,
    Replaced = 6,
    Forged = 7,
}

impl Breach {
    fn words(self) -> &'static str {
        match self {
            Self::Stranger => "stranger: no provider and no requester on the chain has this endpoint",
            Self::TooLong => "the message is too long",
            Self::TooSlow => "the message took too long",
            Self::Malformed => "the message is malformed",
            Self::Crowded => "too many peers",
            Self::Replaced => "replaced by a later connection",
            Self::Forged => "it passes on what nobody has signed",
        }
    }

    fn close(self, connection: &Connection) {
        connection.close(VarInt::from_u32(self as u32), self.words().as_bytes());
    }
}

/// Serves the connection of somebody whom the chain knows, if there is room for it, and ends it.
pub(super) async fn serve(
    connection: &Connection,
    (door, crowd): (&Door, &Crowd),
    serving: impl Future<Output = Result<(), Breach>>,
) {
    let served = if door.will_allow(connection.remote_id().as_bytes(), None).await {
        match crowd.enter(connection) {
            Ok(()) => serving.await,
            crowded => crowded,
        }
    } else {
        Err(Breach::Stranger)
    };
    match served {
        Ok(()) => connection.close(VarInt::from_u32(0), b"idle"),
        Err(breach) => {
            tracing::debug!(target: "conun::net", peer = %connection.remote_id(), reason = breach.words(), "ended");
            breach.close(connection);
        }
    }
}

/// The connections that are open: few an endpoint, and a limit to all, so that what peers can take of this node is bounded.
#[derive(Debug)]
pub(super) struct Crowd {
    each: usize,
    open: Mutex<HashMap<EndpointId, VecDeque<Connection>>>,
}

impl Crowd {
    /// At most `each` connections an endpoint.
    pub(super) fn new(each: usize) -> Self {
        Self { each, open: Mutex::default() }
    }

    /// Counts a connection. The oldest of its endpoint's goes if it is one too many.
    fn enter(&self, connection: &Connection) -> Result<(), Breach> {
        // Nothing here can fail half-way.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, connections| {
            connections.retain(|connection| connection.close_reason().is_none());
            !connections.is_empty()
        });
        let id = connection.remote_id();
        if open.len() >= MAX_PEERS && !open.contains_key(&id) {
            return Err(Breach::Crowded);
        }
        let connections = open.entry(id).or_default();
        connections.push_back(connection.clone());
        if connections.len() > self.each
            && let Some(before) = connections.pop_front()
        {
            Breach::Replaced.close(&before);
        }
        Ok(())
    }
}
