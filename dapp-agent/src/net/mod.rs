//! Program, inputs and outputs, peer to peer: one iroh endpoint that serves and fetches blobs by their BLAKE3 hash, and speaks a small
//! protocol beside them ([`wire`]), with those only whom the chain knows.
//!
//! Everything fetched is verified while it streams, its size is known before its body is asked for, and every wait has an
//! end. Without a relay and without discovery a peer is reached by the addresses that it published on chain.

mod cache;
mod contact;
mod control;
mod crowd;
mod fetch;
mod gate;
mod gossip;
mod lent;
mod limit;
mod peers;
mod relay;
mod serve;
mod settings;
mod traffic;
pub mod wire;

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use iroh::{Endpoint, RelayConfig, RelayMode, SecretKey, endpoint::presets, protocol::Router};
use iroh_blobs::Hash;
use iroh_mdns_address_lookup::MdnsAddressLookup;
use tokio::{task::AbortHandle, time::timeout};

use cache::Cache;
pub use cache::Cleaned;
pub use contact::PeerContact;
use control::Control;
use crowd::Crowd;
use gate::Door;
pub use gate::{Gate, Rights, Share};
pub use gossip::Book;
use gossip::Gossip;
use limit::Limit;
use peers::Peers;
pub use relay::RelayServer;
use serve::Blobs;
pub use settings::{NetworkSettings, Relay};
use traffic::{Counted, Traffic};
use wire::{CONTROL_ALPN, Refusal};

use crate::{
    files::{FileError, io_error},
    manifest::BlobHash,
};

/// Most time in which an endpoint is bound.
const BIND_TIMEOUT: Duration = Duration::from_secs(30);

/// Most time that peers and the store are given to end in good order. What has to be durable is so before.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// What endpoints announce themselves as in the local network.
const SERVICE: &str = "conun";

/// What a node needs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Holds `endpoint.key`, `endpoint.port` and `blobs/`.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes the last one used here if it is free, else any.
    pub bind: SocketAddr,
    /// How others are reached, and how much they are given.
    pub network: NetworkSettings,
}

/// Why a blob cannot be had or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
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
    /// A relay cannot listen.
    #[error("a relay cannot listen on {listen} (TCP): {reason}")]
    Relay {
        /// The address.
        listen: SocketAddr,
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
    /// It sees nothing on the chain by which this endpoint may have the blob.
    #[error("does not give it: it sees nothing on the chain, or not yet, by which this endpoint may have it")]
    NotGranted,
    /// It does not want to.
    #[error("refused: {0}")]
    Refused(Refusal),
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

/// An endpoint and its blobs. Clones share both.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    router: Router,
    cache: Arc<Cache>,
    damage: Option<String>,
    door: Arc<Door>,
    gossip: Option<Arc<Gossip>>,
    /// Ends the rounds of gossip.
    gossiping: OnceLock<AbortHandle>,
    folder: PathBuf,
    peers: Peers,
    traffic: Traffic,
}

impl Node {
    /// Starts the endpoint. It serves what the store holds once it is [open](Node::open_to) to somebody.
    ///
    /// # Errors
    /// If the folder cannot be used or the address not be listened on.
    pub async fn start(config: NodeConfig) -> Result<Self, Error> {
        let folder = std::path::absolute(&config.data_dir).map_err(io_error(&config.data_dir))?;
        let (key_file, port_file) = (folder.join("endpoint.key"), folder.join("endpoint.port"));
        let folder = folder.join("blobs");
        std::fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let key = key(&key_file)?;
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
        let loaded = Cache::load(&folder).await.map_err(|reason| Error::Store { path: folder.clone(), reason })?;
        let (cache, damage) = (Arc::new(loaded.0), loaded.1);
        if let Some(damage) = &damage {
            tracing::warn!(target: "conun::net", "{damage}");
        }
        let (door, traffic) = (Arc::new(Door::new(cache.clone())), Traffic::default());
        let NetworkSettings { max_bytes_sec_up, max_bytes_sec_up_per_peer, .. } = config.network;
        let limit = Arc::new(Limit::new(max_bytes_sec_up, max_bytes_sec_up_per_peer));
        let crowd = Crowd::new(serve::CONNECTIONS);
        let blobs = Blobs { cache: cache.clone(), door: door.clone(), limit, crowd };
        let served = Counted { protocol: blobs, traffic: traffic.clone() };
        let gossip = config.network.gossip.then(|| Arc::new(Gossip::new(key)));
        let control = Control::new(cache.clone(), door.clone(), gossip.clone());
        let control = Counted { protocol: control, traffic: traffic.clone() };
        let router = Router::builder(endpoint.clone()).accept(iroh_blobs::ALPN, served).accept(CONTROL_ALPN, control);
        let (router, peers) = (router.spawn(), Peers::new(config.network.relay.url()));
        let gossiping = OnceLock::new();
        let inner = Inner { endpoint, router, cache, damage, door, gossip, gossiping, folder, peers, traffic };
        Ok(Self { inner: Arc::new(inner) })
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

    /// That its store was damaged when it started, so that it began with an empty one: what it had is to be had again.
    pub fn damage(&self) -> Option<&str> {
        self.inner.damage.as_deref()
    }

    /// Connections to peers that are open.
    pub fn peers(&self) -> usize {
        self.inner.traffic.open()
    }

    /// What is heard of others, and who they are, if this node takes part in that.
    fn gossip(&self) -> Option<(Arc<Gossip>, Arc<Book>)> {
        let book = self.inner.door.gate()?.book()?;
        Some((self.inner.gossip.clone()?, book))
    }

    /// Members of the deployment's gossip that were heard of lately.
    pub fn heard(&self) -> usize {
        self.inner.gossip.as_ref().map_or(0, |gossip| gossip.heard())
    }

    /// Peers that say they hold a blob, a few at most. They need not.
    pub fn heard_to_hold(&self, hash: &BlobHash) -> Vec<PeerContact> {
        let Some((gossip, book)) = self.gossip() else { return Vec::new() };
        // Where each says it is comes to that when it is dialled.
        gossip.holders(hash).iter().filter_map(|holder| book.members.get(holder).cloned()).collect()
    }

    /// Has others told that these blobs are here, the most wanted first; no more than [`wire::MAX_HOLDS`] are.
    pub fn tell_of(&self, blobs: Vec<BlobHash>) {
        if let Some(gossip) = &self.inner.gossip {
            gossip.hold(blobs);
        }
    }

    /// Bytes that all connections since the start have sent and got.
    pub fn traffic_bytes(&self) -> u64 {
        self.inner.traffic.bytes()
    }

    fn store_error(&self, error: impl std::fmt::Display) -> Error {
        Error::Store { path: self.inner.folder.clone(), reason: error.to_string() }
    }

    /// Stores a blob, and serves it to those who may have it, until [`Node::clean`] drops it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put(&self, bytes: impl Into<bytes::Bytes>) -> Result<BlobHash, Error> {
        let cache = &self.inner.cache;
        // Held until it has a tag of its own.
        let held = cache.store.blobs().add_bytes(bytes).temp_tag().await.map_err(|error| self.store_error(error))?;
        cache.touch(held.hash()).await.map_err(|error| self.store_error(error))?;
        Ok(*held.hash().as_bytes())
    }

    /// Waits until what was put is on disk: the store says that it has a blob before it has written that down.
    ///
    /// # Errors
    /// If the store fails: then what was put may be lost.
    pub(crate) async fn sync(&self) -> Result<(), Error> {
        self.inner.cache.store.sync_db().await.map_err(|error| self.store_error(error))
    }

    /// Serves the file of a blob to those who may have it, beside the store, until [`Node::take_back`].
    pub(crate) fn lend(&self, hash: &BlobHash, file: PathBuf) {
        self.inner.cache.lent.lend(Hash::from_bytes(*hash), file);
    }

    /// Serves no file of a folder any more.
    pub(crate) fn take_back(&self, folder: &Path) {
        self.inner.cache.lent.take_back(folder);
    }

    /// A blob that is completely here.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn get(&self, hash: &BlobHash) -> Result<Option<bytes::Bytes>, Error> {
        let bytes = self.look_at(hash).await?;
        if bytes.is_some() {
            self.inner.cache.touch(Hash::from_bytes(*hash)).await.map_err(|error| self.store_error(error))?;
        }
        Ok(bytes)
    }

    /// The same without counting as a use.
    pub(crate) async fn look_at(&self, hash: &BlobHash) -> Result<Option<bytes::Bytes>, Error> {
        self.inner.cache.read(Hash::from_bytes(*hash)).await.map_err(|error| self.store_error(error))
    }

    /// Drops blobs that are not `pinned`, the least recently used first, if all together have more than `most` bytes.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn clean(&self, most: u64, pinned: &HashSet<BlobHash>) -> Result<Cleaned, Error> {
        self.inner.cache.clean(most, pinned).await.map_err(|error| self.store_error(error))
    }

    /// Ends the endpoint and closes the store; gives up after [`SHUTDOWN_TIMEOUT`] each.
    pub async fn shutdown(&self) {
        let Inner { router, cache, gossiping, .. } = &*self.inner;
        if let Some(gossiping) = gossiping.get() {
            gossiping.abort();
        }
        // Both may have been closed before by another clone.
        if timeout(SHUTDOWN_TIMEOUT, router.shutdown()).await.is_err() {
            tracing::warn!(target: "conun::net", "the endpoint did not close within {SHUTDOWN_TIMEOUT:?}");
        }
        if timeout(SHUTDOWN_TIMEOUT, cache.store.shutdown()).await.is_err() {
            tracing::warn!(target: "conun::net", "the blob store did not close within {SHUTDOWN_TIMEOUT:?}");
        }
    }
}

/// Has the next start in a data folder begin with an empty store: this one, in its folder `blobs`, is of no use any more. Where it is then.
///
/// # Errors
/// If the folder cannot be renamed.
pub(crate) fn set_aside(blobs: &Path) -> Result<PathBuf, Error> {
    Ok(cache::set_aside(blobs).map_err(io_error(blobs))?)
}

async fn bind(config: &NodeConfig, key: &SecretKey, address: SocketAddr) -> Result<Endpoint, Error> {
    let refused = |reason: String| Error::Bind { bind: address, reason };
    let own = |mode| Endpoint::builder(presets::Minimal).relay_mode(mode);
    let builder = match &config.network.relay {
        Relay::N0 => Endpoint::builder(presets::N0),
        Relay::None => own(RelayMode::Disabled),
        relay @ Relay::Own(_) => {
            // It has no QUIC side.
            let relays = relay.url().map(|url| RelayConfig::new(url, None));
            own(RelayMode::Custom(relays.into_iter().collect()))
        }
    };
    let builder = if config.network.local_discovery {
        builder.address_lookup(MdnsAddressLookup::builder().service_name(SERVICE))
    } else {
        builder
    };
    let builder = builder
        .secret_key(key.clone())
        .clear_ip_transports()
        .bind_addr(address)
        .map_err(|error| refused(error.to_string()))?;
    match timeout(BIND_TIMEOUT, builder.bind()).await {
        Ok(bound) => bound.map_err(|error| refused(error.to_string())),
        Err(_) => Err(refused(format!("not ready after {BIND_TIMEOUT:?}"))),
    }
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
        Err(error) => Err(io_error(path)(error).into()),
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
