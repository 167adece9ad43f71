//! How much goes over the network.

use std::sync::{Arc, Mutex, PoisonError};

use iroh::{
    endpoint::{Connection, ConnectionStats, WeakConnectionHandle},
    protocol::{AcceptError, ProtocolHandler},
};

/// Bytes of all connections of a node, both ways, as UDP carries them. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// Bytes of connections that are closed.
    closed: u64,
    next: u64,
    open: Vec<(u64, WeakConnectionHandle)>,
}

fn bytes(stats: &ConnectionStats) -> u64 {
    stats.udp_rx.bytes + stats.udp_tx.bytes
}

impl Traffic {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        // Nothing here can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, too, until it is closed.
    pub(super) fn add(&self, connection: &Connection) {
        let handle = connection.weak_handle();
        let closed = handle.closed();
        let number = {
            let mut counts = self.counts();
            counts.next += 1;
            let number = counts.next;
            counts.open.push((number, handle));
            number
        };
        let traffic = self.clone();
        tokio::spawn(async move {
            let closed = closed.await;
            let mut counts = traffic.counts();
            counts.closed += closed.map_or(0, |closed| bytes(&closed.stats));
            counts.open.retain(|(open, _)| *open != number);
        });
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.counts().open.len()
    }

    /// Bytes sent and got since the start.
    pub(super) fn bytes(&self) -> u64 {
        let counts = self.counts();
        let open = counts.open.iter().filter_map(|(_, handle)| handle.upgrade());
        counts.closed + open.map(|connection| bytes(&connection.stats())).sum::<u64>()
    }
}

/// A protocol whose connections are counted.
#[derive(Debug)]
pub(super) struct Counted<P> {
    pub(super) protocol: P,
    pub(super) traffic: Traffic,
}

impl<P: ProtocolHandler> ProtocolHandler for Counted<P> {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.traffic.add(&connection);
        self.protocol.accept(connection).await
    }

    async fn shutdown(&self) {
        self.protocol.shutdown().await;
    }
}
