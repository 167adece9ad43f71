//! Peers that find each other without an address from the chain: by a relay of their own, and in the local network.

use std::{net::SocketAddr, path::Path, process::Command};

use conun_agent::{
    manifest::blob_hash,
    net::{NetworkSettings, NodeConfig, PeerContact, RelayServer},
};

use crate::{
    net::{config, noise, open_node},
    world::{PATIENCE, loopback},
};

fn with(folder: &Path, bind: SocketAddr, network: &NetworkSettings) -> NodeConfig {
    NodeConfig { bind, network: network.clone(), ..config(folder) }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_cannot_dial_each_other_meet_at_their_own_relay_and_only_there() {
    // One has an IPv4 address alone, the other an IPv6 one: nothing goes from one to the other directly.
    let other_end: SocketAddr = "[::1]:0".parse().unwrap();
    if let Err(error) = std::net::UdpSocket::bind(other_end) {
        eprintln!("SKIPPED: relays are not tested, this machine has no IPv6 loopback: {error}");
        return;
    }
    let relay = RelayServer::start(loopback(), 0).await.unwrap();
    let url = relay.url(None).unwrap();
    let network = NetworkSettings { relay: url.parse().unwrap(), ..NetworkSettings::default() };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let bytes = noise(1, 4 << 20);
    let hash = blob_hash(&bytes);
    let alice = open_node(with(folders[0].path(), other_end, &network)).await;
    alice.put(bytes.clone()).await.unwrap();
    let peers = [alice.contact()];

    let alone = open_node(config(folders[1].path())).await;
    let error = alone.fetch(&hash, &peers, u64::MAX).await.unwrap_err();
    assert!(error.to_string().contains("not reached"), "{error}");

    let bob = open_node(with(folders[2].path(), loopback(), &network)).await;
    let fetching = async {
        // She may be on her way to the relay still.
        loop {
            match bob.fetch(&hash, &peers, u64::MAX).await {
                Ok(fetched) => return fetched,
                Err(error) => assert!(error.is_peer_fault(), "{error}"),
            }
        }
    };
    let fetched = tokio::time::timeout(PATIENCE, fetching).await.expect("they meet");
    assert!(fetched == bytes);
    for node in [alice, alone, bob] {
        node.shutdown().await;
    }
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_says_what_to_write_and_why_it_cannot_listen() {
    let relay = RelayServer::start(loopback(), 0).await.unwrap();
    let url = relay.url(None).unwrap();
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let port = address.port();
    assert_eq!(relay.url(Some("relay.example")).unwrap(), format!("http://relay.example:{port}"));
    assert_eq!(relay.url(Some("2001:db8::1")).unwrap(), format!("http://[2001:db8::1]:{port}"));
    let error = RelayServer::start(address, 0).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{address} (TCP)")), "{error}");
    relay.shutdown().await;
}

#[test]
fn peers_in_one_network_find_each_other_without_an_address() {
    // In a network of its own, so that nothing of it is heard outside.
    let test = std::env::current_exe().unwrap();
    let inside = format!(
        "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec '{}' --exact discovery::inside --ignored --nocapture",
        test.display()
    );
    let ran = Command::new("unshare").args(["--net", "sh", "-c", "ip link set lo up"]).output();
    if let Some(why) = match ran {
        Ok(ran) if ran.status.success() => None,
        Ok(ran) => Some(String::from_utf8_lossy(&ran.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    } {
        eprintln!(
            "SKIPPED: local discovery is not tested, no network of its own can be made here (root, iproute2): {why}"
        );
        return;
    }
    let ran = Command::new("unshare").args(["--net", "sh", "-c", &inside]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains("1 passed"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test runs it in a network of its own"]
async fn inside() {
    let network = NetworkSettings { local_discovery: true, ..NetworkSettings::default() };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let bytes = noise(1, 1 << 20);
    let hash = blob_hash(&bytes);
    let alice = open_node(with(folders[0].path(), loopback(), &network)).await;
    alice.put(bytes.clone()).await.unwrap();
    let nowhere = [PeerContact { hints: Vec::new(), ..alice.contact() }];

    let deaf = open_node(config(folders[1].path())).await;
    let error = deaf.fetch(&hash, &nowhere, u64::MAX).await.unwrap_err();
    assert!(error.to_string().contains("not reached"), "{error}");

    let bob = open_node(with(folders[2].path(), loopback(), &network)).await;
    let fetching = async {
        // She may not have announced herself yet.
        loop {
            match bob.fetch(&hash, &nowhere, u64::MAX).await {
                Ok(fetched) => return fetched,
                Err(error) => assert!(error.is_peer_fault(), "{error}"),
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, fetching).await.expect("they find each other") == bytes);
    for node in [alice, deaf, bob] {
        node.shutdown().await;
    }
}
