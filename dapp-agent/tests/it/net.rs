//! Blobs between real endpoints on loopback, and peers that are dead, silent, rotten or generous.

use std::{
    net::UdpSocket,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use conun_agent::{
    manifest::blob_hash,
    net::{
        Error, Gate, NetworkSettings, Node, NodeConfig, PeerContact, Rights,
        wire::{Refusal, Report},
    },
};
use iroh::{Endpoint, RelayMode, SecretKey, endpoint::presets};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::world::{PATIENCE, loopback};

const MIB: usize = 1 << 20;

/// Bytes without a pattern that a file system or a hash tree could profit from.
pub(crate) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn config(folder: &Path) -> NodeConfig {
    NodeConfig { data_dir: folder.to_owned(), bind: loopback(), network: NetworkSettings::default() }
}

/// Lets everybody have everything: what the chain says is others' matter here.
#[derive(Debug)]
pub(crate) struct Everybody;

impl Gate for Everybody {
    fn rights(&self, _: &[u8; 32]) -> Option<Arc<Rights>> {
        Some(Arc::new(Rights::All))
    }

    fn news(&self) -> watch::Receiver<()> {
        watch::Sender::default().subscribe()
    }

    fn take(&self, _: &[u8; 32], _: Report) -> Result<(), Refusal> {
        Err(Refusal::NotYours)
    }
}

pub(crate) async fn open_node(config: NodeConfig) -> Node {
    let node = Node::start(config).await.unwrap();
    node.open_to(Arc::new(Everybody));
    node
}

pub(crate) async fn node(folder: &Path) -> Node {
    open_node(config(folder)).await
}

/// A node that has `bytes`, and its folder.
pub(crate) async fn holder(bytes: &[u8]) -> (Node, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path()).await;
    node.put(bytes.to_vec()).await.unwrap();
    (node, folder)
}

/// A node that has `bytes` on a disk that has changed one of them, at `position`.
pub(crate) async fn rotten(bytes: &[u8], position: u64) -> (Node, TempDir) {
    let (healthy, folder) = holder(bytes).await;
    healthy.shutdown().await;
    let data = files(folder.path()).into_iter().find(|(_, length)| *length == bytes.len() as u64).unwrap().0;
    let file = std::fs::OpenOptions::new().write(true).open(data).unwrap();
    file.write_all_at(&[!bytes[position as usize]], position).unwrap();
    (node(folder.path()).await, folder)
}

/// A free UDP port below those that systems give out by themselves.
fn unlikely_port() -> u16 {
    let start = 10_000 + (std::process::id() % 20_000) as u16;
    (start..u16::MAX).find(|port| UdpSocket::bind((loopback().ip(), *port)).is_ok()).unwrap()
}

/// Every file below a folder, and its length in bytes.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found
}

/// Words about a peer in an error's text.
fn named(peer: &PeerContact) -> String {
    format!(
        "peer {:02x}{:02x}{:02x}{:02x}{:02x} ",
        peer.endpoint[0], peer.endpoint[1], peer.endpoint[2], peer.endpoint[3], peer.endpoint[4]
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_any_size_are_fetched_and_then_served_by_who_fetched_them() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let alice = node(folders[0].path()).await;
    let bob = node(folders[1].path()).await;
    let carol = node(folders[2].path()).await;
    let mut hashes = Vec::new();
    for (seed, length) in [(1, 0), (2, 1), (3, 1024), (4, 100_000), (5, 20 * MIB)] {
        let bytes = noise(seed, length);
        let hash = alice.put(bytes.clone()).await.unwrap();
        assert_eq!(hash, blob_hash(&bytes));
        assert_eq!(bob.get(&hash).await.unwrap().is_some(), length == 0, "only the empty blob is everywhere");
        let fetched = bob.fetch(&hash, &[alice.contact()], length as u64).await.unwrap();
        assert_eq!(fetched, bytes, "{length} bytes");
        assert_eq!(bob.get(&hash).await.unwrap().unwrap(), bytes);
        hashes.push((hash, bytes));
    }
    alice.shutdown().await;
    for (hash, bytes) in hashes {
        // What is here needs no peer; who got it passes it on.
        assert_eq!(bob.fetch(&hash, &[], bytes.len() as u64).await.unwrap(), bytes);
        assert_eq!(carol.fetch(&hash, &[bob.contact()], bytes.len() as u64).await.unwrap(), bytes);
    }
    bob.shutdown().await;
    carol.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_port_and_blobs_outlive_the_process_and_the_key_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let first = node(folder.path()).await;
    let (contact, hash) = (first.contact(), first.put(noise(1, MIB)).await.unwrap());
    assert_eq!(contact.hints.len(), 1);
    assert_ne!(contact.hints[0].port(), 0);
    first.shutdown().await;
    drop(first);
    let mode = std::fs::metadata(folder.path().join("endpoint.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Tests beside this one take ports at random: one that nobody is given by chance stands for the last one used.
    let port = unlikely_port();
    std::fs::write(folder.path().join("endpoint.port"), port.to_string()).unwrap();
    let second = node(folder.path()).await;
    assert_eq!(second.contact().endpoint, contact.endpoint);
    assert_eq!(second.contact().hints[0].port(), port);
    assert_eq!(second.get(&hash).await.unwrap().unwrap(), noise(1, MIB));
    let contact = second.contact();
    second.shutdown().await;
    drop(second);

    // Somebody else has the port now: another one does as well. An endpoint lets go of its own a moment after its end.
    let taken = async {
        loop {
            match UdpSocket::bind(contact.hints[0]) {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                bound => return bound.unwrap(),
            }
        }
    };
    let _taken = tokio::time::timeout(PATIENCE, taken).await.unwrap();
    let third = node(folder.path()).await;
    assert_eq!(third.contact().endpoint, contact.endpoint);
    assert_ne!(third.contact().hints, contact.hints);
    third.shutdown().await;

    std::fs::write(folder.path().join("endpoint.key"), "not a key").unwrap();
    let refused = Node::start(config(folder.path())).await.unwrap_err();
    assert!(matches!(&refused, Error::BadKey(path) if path.ends_with("endpoint.key")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_listens_everywhere_publishes_addresses_that_can_be_dialled() {
    let folder = tempfile::tempdir().unwrap();
    let bind = ([0, 0, 0, 0], 0).into();
    let node = Node::start(NodeConfig { bind, ..config(folder.path()) }).await.unwrap();
    let contact = node.contact();
    assert!(!contact.hints.iter().any(|hint| hint.ip().is_unspecified()), "{contact:?}");
    assert_eq!(
        PeerContact::parse(contact.endpoint, &contact.hint_text()),
        node.contact(),
        "as it comes back from the chain"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_above_the_limit_is_refused_before_its_body_is_downloaded() {
    let bytes = noise(1, 20 * MIB);
    let (alice, _alice_folder) = holder(&bytes).await;
    let folder = tempfile::tempdir().unwrap();
    let bob = node(folder.path()).await;
    let hash = blob_hash(&bytes);
    let limit = bytes.len() as u64 - 1;
    let refused = bob.fetch(&hash, &[alice.contact()], limit).await.unwrap_err();
    assert!(refused.to_string().contains("offers 20971520 bytes where at most 20971519 are allowed"), "{refused}");
    assert!(refused.is_peer_fault());
    assert_eq!(bob.get(&hash).await.unwrap(), None);
    bob.shutdown().await;
    let largest =
        files(folder.path()).into_iter().filter(|(path, _)| !path.ends_with("blobs.db")).map(|file| file.1).max();
    assert!(largest < Some(MIB as u64), "{:?}", files(folder.path()));

    // The same limit holds for what is already here.
    let refused = alice.fetch(&hash, &[], limit).await.unwrap_err();
    assert!(refused.to_string().contains("at most 20971519"), "{refused}");
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_peer_delivers_when_others_are_dead_silent_or_without_the_blob() {
    let bytes = noise(1, MIB);
    let (holder, _holder_folder) = holder(&bytes).await;
    let (ignorant_folder, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ignorant = node(ignorant_folder.path()).await;
    // Listens, but speaks no QUIC.
    let deaf = UdpSocket::bind(loopback()).unwrap();
    let deaf_contact =
        PeerContact { endpoint: *SecretKey::generate().public().as_bytes(), hints: vec![deaf.local_addr().unwrap()] };
    // No point of the curve, and no address.
    let nonsense = PeerContact { endpoint: [0xff; 32], hints: Vec::new() };
    let nowhere = PeerContact { endpoint: *SecretKey::generate().public().as_bytes(), hints: Vec::new() };
    let silent = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![iroh_blobs::ALPN.to_vec()])
        .clear_ip_transports()
        .bind_addr(loopback())
        .unwrap()
        .bind()
        .await
        .unwrap();
    let silent_contact = PeerContact { endpoint: *silent.id().as_bytes(), hints: silent.bound_sockets() };
    let accepting = tokio::spawn({
        let silent = silent.clone();
        async move {
            let mut kept = Vec::new();
            while let Some(incoming) = silent.accept().await {
                kept.push(incoming.await);
            }
        }
    });

    let bob = node(folder.path()).await;
    let useless = [nonsense, nowhere, ignorant.contact(), deaf_contact, silent_contact];
    let hash = blob_hash(&bytes);
    let start = Instant::now();
    let failed = bob.fetch(&hash, &useless, u64::MAX).await.unwrap_err();
    let took = start.elapsed();
    let text = failed.to_string();
    assert!(failed.is_peer_fault());
    for peer in &useless {
        assert!(text.contains(&named(peer)), "{text} does not name {}", named(peer));
    }
    assert!(text.contains("no answer") && text.contains("stalled"), "{text}");
    assert!(took < Duration::from_secs(15), "two peers of five seconds each, but {took:?}");

    let everybody: Vec<_> = useless.into_iter().chain([holder.contact()]).collect();
    assert_eq!(bob.fetch(&hash, &everybody, MIB as u64).await.unwrap(), bytes);
    silent.close().await;
    accepting.await.unwrap();
    for node in [bob, ignorant, holder] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_blob_is_an_error_that_names_the_peer_and_the_blob() {
    let (alice, _alice_folder) = holder(b"something else").await;
    let folder = tempfile::tempdir().unwrap();
    let bob = node(folder.path()).await;
    let failed = bob.fetch(&[0xab; 32], &[alice.contact()], u64::MAX).await.unwrap_err().to_string();
    assert!(failed.contains(&"ab".repeat(32)) && failed.contains(&named(&alice.contact())), "{failed}");
    assert!(failed.contains("did not deliver it"), "{failed}");
    let failed = bob.fetch(&[0xab; 32], &[], u64::MAX).await.unwrap_err().to_string();
    assert!(failed.contains("no peer is known"), "{failed}");
    for node in [alice, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_rotted_on_a_peers_disk_are_never_accepted() {
    let bytes = noise(1, 4 * MIB);
    let hash = blob_hash(&bytes);
    let (bad, _bad_folder) = rotten(&bytes, 3 * MIB as u64).await;
    let folder = tempfile::tempdir().unwrap();
    let bob = node(folder.path()).await;
    let failed = bob.fetch(&hash, &[bad.contact()], u64::MAX).await.unwrap_err();
    assert!(failed.is_peer_fault() && failed.to_string().contains(&named(&bad.contact())), "{failed}");
    assert_eq!(bob.get(&hash).await.unwrap(), None);
    for node in [bad, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_peer_delivered_before_it_failed_is_not_fetched_again() {
    let bytes = noise(1, 4 * MIB);
    let hash = blob_hash(&bytes);
    // Each lacks a part that the other has: only both together deliver, each from where the other stopped.
    let (late, _late_folder) = rotten(&bytes, 3 * MIB as u64).await;
    let (early, _early_folder) = rotten(&bytes, MIB as u64).await;
    let folder = tempfile::tempdir().unwrap();
    let bob = node(folder.path()).await;
    let failed = bob.fetch(&hash, &[late.contact()], u64::MAX).await.unwrap_err();
    assert!(failed.is_peer_fault(), "{failed}");
    // The part outlives the process.
    bob.shutdown().await;
    let bob = node(folder.path()).await;
    assert_eq!(bob.fetch(&hash, &[early.contact()], u64::MAX).await.unwrap(), bytes);
    for node in [late, early, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_killed_and_started_anew_is_dialled_anew_in_the_same_fetch() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let bob = node(folders[0].path()).await;
    let alice = node(folders[1].path()).await;
    let hashes = [alice.put(&b"first"[..]).await.unwrap(), alice.put(&b"second"[..]).await.unwrap()];
    // On disk for certain from here on.
    alice.shutdown().await;
    // A runtime of its own can end as a process does: without a word to anybody.
    let process = tokio::runtime::Runtime::new().unwrap();
    let path = folders[1].path().to_owned();
    let contact = process
        .spawn(async move {
            let alice = node(&path).await;
            let contact = alice.contact();
            // It lives as long as its process.
            tokio::spawn(async move {
                let _alice = alice;
                std::future::pending::<()>().await;
            });
            contact
        })
        .await
        .unwrap();
    let peers = [contact];
    bob.fetch(&hashes[0], &peers, u64::MAX).await.unwrap();
    tokio::task::spawn_blocking(move || process.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    let alice = node(folders[1].path()).await;
    assert_eq!(alice.contact(), peers[0]);
    assert_eq!(bob.fetch(&hashes[1], &peers, u64::MAX).await.unwrap(), &b"second"[..]);
    for node in [alice, bob] {
        node.shutdown().await;
    }
}

/// Threads of stores in this process.
#[cfg(target_os = "linux")]
fn store_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    // One may have ended meanwhile.
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.starts_with("iroh-blob-store")).count()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ended_leaves_no_threads_behind() {
    let folder = tempfile::tempdir().unwrap();
    let before = store_threads();
    for _ in 0..64 {
        node(folder.path()).await.shutdown().await;
    }
    // Other tests' stores begin and end meanwhile; each has at least a thread.
    let ended = async {
        while store_threads() >= before + 48 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_bytes_a_second_hold_for_each_peer_and_for_all() {
    let bytes = noise(1, 256 << 10);
    let hash = blob_hash(&bytes);
    // Half a second's worth comes at once.
    let least = Duration::from_secs(3);
    for (all, each, peers) in [(64 << 10, 0, 1), (0, 64 << 10, 2), (128 << 10, 0, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let network =
            NetworkSettings { max_bytes_sec_up: all, max_bytes_sec_up_per_peer: each, ..NetworkSettings::default() };
        let slow = open_node(NodeConfig { network, ..config(folder.path()) }).await;
        slow.put(bytes.clone()).await.unwrap();
        let start = Instant::now();
        let fetching = (0..peers).map(async |_| {
            let folder = tempfile::tempdir().unwrap();
            let bob = node(folder.path()).await;
            assert!(bob.fetch(&hash, &[slow.contact()], u64::MAX).await.unwrap() == bytes);
            bob.shutdown().await;
        });
        futures_util::future::join_all(fetching).await;
        assert!(start.elapsed() >= least, "{all}, {each}: {:?}", start.elapsed());
        slow.shutdown().await;
    }
}
