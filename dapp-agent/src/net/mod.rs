//! Program, inputs and outputs, peer to peer: one iroh endpoint that serves and fetches blobs by their BLAKE3 hash.
//!
//! Everything fetched is verified while it streams, its size is known before its body is asked for, and every wait has an
//! end. Without a relay and without discovery a peer is reached by the addresses that it published on chain.

mod contact;
mod traffic;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey,
    endpoint::{Connection, presets},
    protocol::Router,
};
use iroh_blobs::{
    BlobsProtocol, Hash, api::remote::GetProgressItem, get::request::get_verified_size, store::fs::FsStore,
};
use tokio::sync::Mutex;

pub use contact::PeerContact;
use traffic::{Counted, Traffic};

use crate::manifest::{BlobHash, blob_hash};

/// A peer that does not answer within this time is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A transfer without a byte of progress for this long is given up; QUIC alone would wait for 30 s.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node needs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Holds `endpoint.key`, `endpoint.port` and `blobs/`.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes the last one used here if it is free, else any.
    pub bind: SocketAddr,
    /// Whether to use public relays and discovery where a peer cannot be dialled directly.
    pub relay: bool,
}

/// Why a blob cannot be had or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the data folder cannot be used.
    #[error("cannot access {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("{0} is not an endpoint key: move it away and a new one is made")]
    BadKey(PathBuf),
    /// The endpoint cannot listen.
    #[error("cannot listen on {bind} (UDP): {reason}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The blob store failed.
    #[error("the blob store in {path} failed: {reason}")]
    Store {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// No peer delivered the blob.
    #[error("blob {} could not be fetched: {}", hex(.hash), list(.failures))]
    Unavailable {
        /// The blob.
        hash: BlobHash,
        /// Each peer's failure; empty if nobody was known.
        failures: Vec<PeerFailure>,
    },
}

/// What one peer did.
#[derive(Debug)]
pub struct PeerFailure {
    /// Its endpoint id.
    pub endpoint: [u8; 32],
    /// What happened.
    pub what: Failure,
}

/// How a transfer failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It could not be reached.
    #[error("not reached ({0})")]
    Unreachable(String),
    /// It sent nothing for too long.
    #[error("stalled")]
    Stalled,
    /// The blob is larger than allowed.
    #[error("offers {size} bytes where at most {max} are allowed")]
    TooLarge {
        /// Its size, bytes.
        size: u64,
        /// Most bytes allowed.
        max: u64,
    },
    /// It does not have the blob, or sent something else.
    #[error("did not deliver it ({0})")]
    NotDelivered(String),
}

impl Error {
    /// Whether another peer, or the same one later, may do better.
    pub fn is_peer_fault(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

fn hex(bytes: &[u8]) -> String {
    alloy::primitives::hex::encode(bytes)
}

fn list(failures: &[PeerFailure]) -> String {
    if failures.is_empty() {
        return "no peer is known".to_owned();
    }
    let one = |failure: &PeerFailure| format!("peer {} {}", &hex(&failure.endpoint)[..10], failure.what);
    failures.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// An endpoint and its blobs. Clones share both.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    router: Router,
    store: FsStore,
    folder: PathBuf,
    connections: Mutex<HashMap<EndpointId, Connection>>,
    traffic: Traffic,
}

impl Node {
    /// Starts the endpoint and serves what the store holds.
    ///
    /// # Errors
    /// If the folder cannot be used or the address not be listened on.
    pub async fn start(config: NodeConfig) -> Result<Self, Error> {
        let folder = std::path::absolute(&config.data_dir).map_err(io_error(&config.data_dir))?;
        let blobs = folder.join("blobs");
        std::fs::create_dir_all(&blobs).map_err(io_error(&blobs))?;
        let key = key(&folder.join("endpoint.key"))?;
        let port_file = folder.join("endpoint.port");
        let last = std::fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse().ok());
        let mut endpoint = None;
        if let (0, Some(port)) = (config.bind.port(), last) {
            // Somebody else may have taken it meanwhile.
            endpoint = bind(&config, &key, SocketAddr::new(config.bind.ip(), port)).await.ok();
        }
        let endpoint = match endpoint {
            Some(endpoint) => endpoint,
            None => bind(&config, &key, config.bind).await?,
        };
        if let Some(address) = endpoint.bound_sockets().first() {
            std::fs::write(&port_file, address.port().to_string()).map_err(io_error(&port_file))?;
        }
        let store = FsStore::load(&blobs)
            .await
            .map_err(|error| Error::Store { path: blobs.clone(), reason: error.to_string() })?;
        let traffic = Traffic::default();
        let protocol = Counted { protocol: BlobsProtocol::new(&store, None), traffic: traffic.clone() };
        let router = Router::builder(endpoint.clone()).accept(iroh_blobs::ALPN, protocol).spawn();
        let connections = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { endpoint, router, store, folder: blobs, connections, traffic }) })
    }

    /// Where others can reach this node, as it comes back from the chain: the addresses it listens on; those of this
    /// machine where it listens on all.
    pub fn contact(&self) -> PeerContact {
        let endpoint = &self.inner.endpoint;
        let mut hints = endpoint.bound_sockets();
        if hints.iter().any(|hint| hint.ip().is_unspecified()) {
            hints.extend(endpoint.addr().ip_addrs());
            hints.retain(|hint| !hint.ip().is_unspecified());
        }
        PeerContact::new(*endpoint.id().as_bytes(), hints)
    }

    /// Connections to peers that are open.
    pub fn peers(&self) -> usize {
        self.inner.traffic.open()
    }

    /// Bytes that all connections since the start have sent and got.
    pub fn traffic_bytes(&self) -> u64 {
        self.inner.traffic.bytes()
    }

    fn store_error(&self, error: impl std::fmt::Display) -> Error {
        Error::Store { path: self.inner.folder.clone(), reason: error.to_string() }
    }

    /// Stores a blob and serves it until [`Node::forget`].
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put(&self, bytes: impl Into<bytes::Bytes>) -> Result<BlobHash, Error> {
        let bytes = bytes.into();
        let hash = blob_hash(&bytes);
        let adding = self.inner.store.blobs().add_bytes(bytes).with_named_tag(hash);
        adding.await.map_err(|error| self.store_error(error))?;
        Ok(hash)
    }

    /// A blob that is completely here.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn get(&self, hash: &BlobHash) -> Result<Option<bytes::Bytes>, Error> {
        let blobs = self.inner.store.blobs();
        let hash = Hash::from_bytes(*hash);
        if !blobs.has(hash).await.map_err(|error| self.store_error(error))? {
            return Ok(None);
        }
        blobs.get_bytes(hash).await.map(Some).map_err(|error| self.store_error(error))
    }

    /// Gives up the claim to keep a blob. It is served until the store is cleaned, which no node does by itself.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget(&self, hash: &BlobHash) -> Result<(), Error> {
        let deleting = self.inner.store.tags().delete(hash);
        deleting.await.map(drop).map_err(|error| self.store_error(error))
    }

    /// A blob from here or else from the first of `peers` that delivers it, at most `max_bytes` long. It is kept and served
    /// from here, too.
    ///
    /// # Errors
    /// If no peer delivers it, each with its reason, or the store fails.
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived is kept, and the next call goes on from there.
    pub async fn fetch(&self, hash: &BlobHash, peers: &[PeerContact], max_bytes: u64) -> Result<bytes::Bytes, Error> {
        let mut failures = Vec::new();
        if let Some(bytes) = self.get(hash).await? {
            if bytes.len() as u64 <= max_bytes {
                return Ok(bytes);
            }
            let what = Failure::TooLarge { size: bytes.len() as u64, max: max_bytes };
            failures.push(PeerFailure { endpoint: self.contact().endpoint, what });
            return Err(Error::Unavailable { hash: *hash, failures });
        }
        for peer in peers {
            match self.fetch_from(Hash::from_bytes(*hash), peer, max_bytes).await {
                Ok(()) => match self.get(hash).await? {
                    Some(bytes) => {
                        let tagging = self.inner.store.tags().set(hash, Hash::from_bytes(*hash));
                        tagging.await.map_err(|error| self.store_error(error))?;
                        return Ok(bytes);
                    }
                    None => failures.push(PeerFailure {
                        endpoint: peer.endpoint,
                        what: Failure::NotDelivered("the transfer ended early".to_owned()),
                    }),
                },
                Err(what) => {
                    self.inner.connections.lock().await.retain(|id, _| id.as_bytes() != &peer.endpoint);
                    tracing::debug!(target: "conun::net", peer = %hex(&peer.endpoint), blob = %hex(hash), %what, "fetch failed");
                    failures.push(PeerFailure { endpoint: peer.endpoint, what });
                }
            }
        }
        Err(Error::Unavailable { hash: *hash, failures })
    }

    async fn fetch_from(&self, hash: Hash, peer: &PeerContact, max: u64) -> Result<(), Failure> {
        if let Some(connection) = self.open_connection(peer).await {
            match self.transfer(hash, connection.clone(), max).await {
                // A peer that was started anew does not know the connection, and cannot tell.
                Err(Failure::Stalled) => {}
                Err(_) if connection.close_reason().is_some() => {}
                done => return done,
            }
        }
        self.transfer(hash, self.connect(peer).await?, max).await
    }

    async fn transfer(&self, hash: Hash, connection: Connection, max: u64) -> Result<(), Failure> {
        let sized = tokio::time::timeout(STALL_TIMEOUT, get_verified_size(&connection, &hash)).await;
        let (size, _) =
            sized.map_err(|_| Failure::Stalled)?.map_err(|error| Failure::NotDelivered(error.to_string()))?;
        if size > max {
            return Err(Failure::TooLarge { size, max });
        }
        let mut progress = std::pin::pin!(self.inner.store.remote().fetch(connection, hash).stream());
        loop {
            match tokio::time::timeout(STALL_TIMEOUT, progress.next()).await {
                Err(_) => return Err(Failure::Stalled),
                Ok(Some(GetProgressItem::Progress(_))) => {}
                Ok(Some(GetProgressItem::Done(_)) | None) => return Ok(()),
                Ok(Some(GetProgressItem::Error(error))) => return Err(Failure::NotDelivered(error.to_string())),
            }
        }
    }

    /// The connection of last time, if it is open as far as this side knows.
    async fn open_connection(&self, peer: &PeerContact) -> Option<Connection> {
        let id = EndpointId::from_bytes(&peer.endpoint).ok()?;
        let connections = self.inner.connections.lock().await;
        connections.get(&id).filter(|connection| connection.close_reason().is_none()).cloned()
    }

    async fn connect(&self, peer: &PeerContact) -> Result<Connection, Failure> {
        let unreachable = |reason: &dyn std::fmt::Display| Failure::Unreachable(reason.to_string());
        let id = EndpointId::from_bytes(&peer.endpoint).map_err(|error| unreachable(&error))?;
        let address = peer.hints.iter().fold(EndpointAddr::new(id), |address, hint| address.with_ip_addr(*hint));
        let connecting = self.inner.endpoint.connect(address, iroh_blobs::ALPN);
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let connection = connection.map_err(|_| unreachable(&"no answer"))?.map_err(|error| unreachable(&error))?;
        self.inner.traffic.add(&connection);
        self.inner.connections.lock().await.insert(id, connection.clone());
        Ok(connection)
    }

    /// Ends the endpoint and closes the store.
    pub async fn shutdown(&self) {
        // Both may have been closed before by another clone.
        let _ = self.inner.router.shutdown().await;
        let _ = self.inner.store.shutdown().await;
    }
}

async fn bind(config: &NodeConfig, key: &SecretKey, address: SocketAddr) -> Result<Endpoint, Error> {
    let refused = |reason: String| Error::Bind { bind: address, reason };
    let builder = if config.relay {
        Endpoint::builder(presets::N0)
    } else {
        Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled)
    };
    let builder = builder
        .secret_key(key.clone())
        .clear_ip_transports()
        .bind_addr(address)
        .map_err(|error| refused(error.to_string()))?;
    builder.bind().await.map_err(|error| refused(error.to_string()))
}

/// The endpoint's key from its file, or a new one.
fn key(path: &Path) -> Result<SecretKey, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| Error::BadKey(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SecretKey::generate();
            write_secret(path, &hex(&key.to_bytes())).map_err(io_error(path))?;
            Ok(key)
        }
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}
