//! Blobs that go when there are too many of them, in real stores.

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use conun_agent::{manifest::BlobHash, net::Node};

use crate::net::{files, holder, node, noise, rotten};

const MIB: usize = 1 << 20;

/// Bytes of a folder's files that are as large as a blob here.
fn large(folder: &Path) -> usize {
    files(folder).into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "data")).count()
}

async fn here(node: &Node, hashes: &[BlobHash]) -> Vec<bool> {
    let mut found = Vec::new();
    for hash in hashes {
        found.push(node.get(hash).await.unwrap().is_some());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_cap_blobs_go_that_were_not_used_for_longest_also_after_a_restart_and_pinned_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(folder.path()).await;
    let mut hashes = Vec::new();
    for seed in 0..6 {
        hashes.push(first.put(noise(seed, MIB)).await.unwrap());
    }
    let (all, none) = (6 * MIB as u64, HashSet::new());
    let cleaned = first.clean(all, &none).await.unwrap();
    assert_eq!((cleaned.dropped, cleaned.bytes), (0, all), "not above the cap");
    first.shutdown().await;
    drop(first);

    // The second blob is used after the restart, the first one is pinned.
    let second = node(folder.path()).await;
    second.get(&hashes[1]).await.unwrap().unwrap();
    let cleaned = second.clean(all - 1, &[hashes[0]].into()).await.unwrap();
    assert_eq!((cleaned.dropped, cleaned.dropped_bytes, cleaned.bytes), (1, MIB as u64, all - MIB as u64));
    assert_eq!(here(&second, &hashes).await, [true, true, false, true, true, true]);
    assert_eq!(large(folder.path()), 5, "it is gone from the disk");
    second.shutdown().await;
    drop(second);

    // All were used just now; what was put last was used last.
    let third = node(folder.path()).await;
    let late = third.put(noise(9, MIB)).await.unwrap();
    let cleaned = third.clean(2 * MIB as u64, &[hashes[4]].into()).await.unwrap();
    assert_eq!((cleaned.dropped, cleaned.bytes), (5, MIB as u64), "nine tenths of the cap are less than two blobs");
    assert_eq!(here(&third, &[hashes[4], late]).await, [true, false]);
    let cleaned = third.clean(0, &hashes.iter().copied().collect()).await.unwrap();
    assert_eq!((cleaned.dropped, cleaned.bytes), (0, MIB as u64), "pinned ones stay whatever the cap is");
    // What went can be had again.
    let (other, _other_folder) = holder(&noise(9, MIB)).await;
    assert_eq!(third.fetch(&late, &[other.contact()], u64::MAX).await.unwrap(), noise(9, MIB));
    for node in [third, other] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_blob_counts_and_stays_while_there_is_room() {
    let bytes = noise(1, 4 * MIB);
    let hash = conun_agent::manifest::blob_hash(&bytes);
    let (late, _late_folder) = rotten(&bytes, 3 * MIB as u64).await;
    let (early, _early_folder) = rotten(&bytes, MIB as u64).await;
    let folder = tempfile::tempdir().unwrap();
    let bob = node(folder.path()).await;
    let old = bob.put(noise(2, MIB)).await.unwrap();
    let none = HashSet::new();
    // How much of it arrives before the peer's failure does is up to the network; the next attempt goes on from there.
    let mut kept = 0;
    for _ in 0..20 {
        bob.fetch(&hash, &[late.contact()], u64::MAX).await.unwrap_err();
        kept = bob.clean(0, &[hash].into()).await.unwrap().bytes;
        if kept >= 2 * MIB as u64 {
            break;
        }
    }
    assert!(kept >= 2 * MIB as u64, "{kept} bytes of it are kept");
    assert_eq!(here(&bob, &[old]).await, [false]);
    // Only both peers together deliver, the second from where the first one stopped.
    assert_eq!(bob.fetch(&hash, &[early.contact()], u64::MAX).await.unwrap(), bytes);
    bob.clean(0, &none).await.unwrap();
    assert_eq!((here(&bob, &[hash]).await, large(folder.path())), (vec![false], 0));
    for node in [late, early, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_node_is_dropped_without_a_word_can_be_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = node(folder.path()).await;
    first.clean(0, &HashSet::new()).await.unwrap();
    drop(first);
    let start = Instant::now();
    let opening = async {
        loop {
            let config = crate::net::config(folder.path());
            match Node::start(config).await {
                Ok(node) => return node,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let opened = tokio::time::timeout(crate::world::PATIENCE, opening).await;
    opened.unwrap_or_else(|_| panic!("still locked after {:?}", start.elapsed())).shutdown().await;
}
