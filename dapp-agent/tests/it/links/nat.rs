//! Peers in network namespaces, each behind a router that translates its addresses (nftables) and lets nobody in unasked.
//!
//! ```text
//! asker 10.1.0.2 -- router 198.51.100.1 -- internet 192.0.2.1 -- router 203.0.113.1 -- holder 10.2.0.2
//! ```

use std::{
    fs::File,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    process::Command,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use conun_agent::{
    manifest::BlobHash,
    net::{NetworkSettings, NodeConfig, PeerContact, RelayServer},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{net::UdpSocket, sync::oneshot, time::Instant};

use super::{Line, PATIENCE_OF_A_MIB, length};
use crate::{
    net::{config, noise, open_node},
    world::PATIENCE,
};

/// Where the relay and the bad line are.
const INTERNET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What the holder's router gives on to it, where it does.
const FORWARDED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 4433);

/// Whether there can be such networks here.
const TRY: &str = "ip netns add ${P}try && ip netns exec ${P}try nft list ruleset && ip netns del ${P}try";

/// Lays the namespaces, whose names begin with `$P`. Ports are drawn by lot, so that nobody can guess how to get in.
const LAY: &str = r#"
set -e
for n in asker ra internet rb holder; do ip netns add $P$n; ip -n $P$n link set lo up; done
link() { # namespace, name, address, namespace, name, address
  ip link add $2 netns $P$1 type veth peer name $5 netns $P$4
  ip -n $P$1 addr add $3 dev $2; ip -n $P$4 addr add $6 dev $5
  ip -n $P$1 link set $2 up; ip -n $P$4 link set $5 up
}
link asker eth0 10.1.0.2/24 ra lan 10.1.0.1/24
link holder eth0 10.2.0.2/24 rb lan 10.2.0.1/24
link ra wan 198.51.100.1/24 internet one 198.51.100.254/24
link rb wan 203.0.113.1/24 internet two 203.0.113.254/24
ip -n ${P}internet addr add 192.0.2.1/32 dev lo
ip -n ${P}asker route add default via 10.1.0.1
ip -n ${P}holder route add default via 10.2.0.1
ip -n ${P}ra route add default via 198.51.100.254
ip -n ${P}rb route add default via 203.0.113.254
for n in ra rb internet; do ip netns exec $P$n sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'; done
for n in ra rb; do
  ip netns exec $P$n nft -f - <<END
table ip nat {
  chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade fully-random; }
  chain in { type nat hook prerouting priority dstnat; }
}
table ip filter {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "lan" accept
    ct status dnat accept
  }
}
END
done
"#;

/// Namespaces; gone with this.
struct Net {
    prefix: String,
}

fn sh(script: &str, prefix: &str) -> Result<String, String> {
    let ran = Command::new("sh").args(["-c", script]).env("P", prefix).output().map_err(|error| error.to_string())?;
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

impl Net {
    /// None, said aloud, where this cannot be had.
    fn lay(name: &str) -> Option<Self> {
        let net = Self { prefix: format!("conun-{}-{name}-", std::process::id()) };
        match sh(TRY, &net.prefix) {
            Ok(_) => {
                sh(LAY, &net.prefix).unwrap();
                Some(net)
            }
            Err(why) => {
                eprintln!(
                    "SKIPPED: peers behind routers are not tested, no such networks can be made here (root, iproute2, nftables): {why}"
                );
                None
            }
        }
    }

    /// Runs something in a namespace, on threads of its own.
    fn run<T: Send + 'static, F: Future<Output = T>>(
        &self,
        space: &str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> JoinHandle<T> {
        let path = format!("/run/netns/{}{space}", self.prefix);
        std::thread::spawn(move || {
            let space = File::open(path).unwrap();
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            // Its threads are where the one is that starts them.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let done = runtime.block_on(work());
            runtime.shutdown_timeout(Duration::from_secs(5));
            done
        })
    }

    /// Bytes that the asker's router got from outside.
    fn received(&self) -> u64 {
        let text = sh("ip netns exec ${P}ra cat /sys/class/net/wan/statistics/rx_bytes", &self.prefix).unwrap();
        text.trim().parse().unwrap()
    }

    /// A holder of the blob.
    fn holder(&self, port: u16, network: NetworkSettings) -> Holder {
        let (told, contact) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let thread = self.run("holder", move || async move {
            let folder = tempfile::tempdir().unwrap();
            let bind = (Ipv4Addr::UNSPECIFIED, port).into();
            let node = open_node(NodeConfig { bind, network, ..config(folder.path()) }).await;
            let hash = node.put(noise(1, length())).await.unwrap();
            told.send((node.contact(), hash)).unwrap();
            let _ = ended.await;
            node.shutdown().await;
        });
        let (contact, hash) = contact.recv().unwrap();
        Holder { contact, hash, end, thread }
    }

    /// Fetches the blob, or says at once why not; how many seconds it took.
    fn fetch(&self, hash: BlobHash, peer: PeerContact, network: NetworkSettings, once: bool) -> Result<f64, String> {
        let asking = move || async move {
            let folder = tempfile::tempdir().unwrap();
            let bind = (Ipv4Addr::UNSPECIFIED, 0).into();
            let node = open_node(NodeConfig { bind, network, ..config(folder.path()) }).await;
            let start = Instant::now();
            let fetching = async {
                loop {
                    match node.fetch(&hash, std::slice::from_ref(&peer), u64::MAX).await {
                        Ok(bytes) => return Ok(bytes),
                        Err(error) if once => return Err(error.to_string()),
                        Err(error) => assert!(error.is_peer_fault(), "{error}"),
                    }
                }
            };
            let patience = PATIENCE + PATIENCE_OF_A_MIB * (length() >> 20) as u32;
            let bytes = tokio::time::timeout(patience, fetching).await.expect("it comes through at last")?;
            assert!(bytes == noise(1, length()));
            let took = start.elapsed().as_secs_f64();
            node.shutdown().await;
            Ok(took)
        };
        self.run("asker", asking).join().unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = sh("for n in try asker ra internet rb holder; do ip netns del $P$n; done", &self.prefix);
    }
}

struct Holder {
    contact: PeerContact,
    hash: BlobHash,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Holder {
    fn end(self) {
        let _ = self.end.send(());
        self.thread.join().unwrap();
    }
}

#[test]
fn a_blob_comes_from_behind_one_router_to_behind_another_by_their_relay_and_not_without() {
    let Some(net) = Net::lay("relay") else { return };
    let (told, url) = mpsc::channel();
    let (end, ended) = oneshot::channel::<()>();
    let relay = net.run("internet", move || async move {
        let relay = RelayServer::start((INTERNET, 0).into(), 0).await.unwrap();
        told.send(relay.url(None).unwrap()).unwrap();
        let _ = ended.await;
        relay.shutdown().await;
    });
    let network = NetworkSettings { relay: url.recv().unwrap().parse().unwrap(), ..NetworkSettings::default() };
    let holder = net.holder(0, network.clone());
    let error = net.fetch(holder.hash, holder.contact.clone(), NetworkSettings::default(), true).unwrap_err();
    assert!(error.contains("not reached"), "{error}");
    let before = net.received();
    let seconds = net.fetch(holder.hash, holder.contact.clone(), network, false).unwrap();
    let (length, received) = (length() as u64, net.received() - before);
    assert!(received >= length, "it came through the router: {received} bytes");
    let again = (received - length) * 100 / length;
    println!(
        "links: two routers, by the relay: {length} bytes in {seconds:.1} s, {again} % of the bytes more than the blob's"
    );
    holder.end();
    let _ = end.send(());
    relay.join().unwrap();
}

#[test]
fn a_blob_comes_through_two_routers_one_of_which_forwards_a_port_over_a_line_that_loses_packets_in_bursts() {
    let Some(net) = Net::lay("port") else { return };
    sh("ip netns exec ${P}rb nft add rule ip nat in iifname wan udp dport 4433 dnat to 10.2.0.2:4433", &net.prefix)
        .unwrap();
    let holder = net.holder(FORWARDED.port(), NetworkSettings::default());
    let line = Arc::new(Line { losses: 11, ..Line::default() });
    let (told, front) = mpsc::channel();
    let (end, ended) = oneshot::channel::<()>();
    let carried = line.clone();
    let proxy = net.run("internet", move || async move {
        let socket = Arc::new(UdpSocket::bind((INTERNET, 0)).await.unwrap());
        told.send(socket.local_addr().unwrap()).unwrap();
        tokio::select! {
            () = carried.carry(socket, FORWARDED) => {}
            _ = ended => {}
        }
    });
    let contact = PeerContact { endpoint: holder.contact.endpoint, hints: vec![front.recv().unwrap()] };
    let seconds = net.fetch(holder.hash, contact, NetworkSettings::default(), false).unwrap();
    let lost = line.lost_percent();
    assert!(lost >= 2.0, "the line was bad: {lost} % of the packets lost");
    println!(
        "links: two routers, a port forwarded, bursty loss: {} bytes in {seconds:.1} s, {lost:.1} % of the packets lost",
        length()
    );
    holder.end();
    let _ = end.send(());
    proxy.join().unwrap();
}
