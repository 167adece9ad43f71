//! Blobs over bad lines: a proxy that delays packets, loses them in bursts, is cut, and forgets who was who, as a router does.
//!
//! One end has an IPv4 address alone, the other an IPv6 one, so that there is no way around the proxy. `LINK_BYTES` sets the size of the blob;
//! `scripts/long links` moves 100 MB.

mod nat;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use conun_agent::{
    manifest::BlobHash,
    net::{Node, NodeConfig, PeerContact},
};
use tempfile::TempDir;
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{
    net::{config, node, noise, open_node},
    world::{PATIENCE, loopback},
};

/// One way.
const DELAY: Duration = Duration::from_millis(10);

/// Packets that wait at most: everywhere, and before a line that carries only so many.
const QUEUE: usize = 4096;
const SHORT_QUEUE: usize = 128;

/// A line as bad as may be is given so much time for each byte.
const PATIENCE_OF_A_MIB: Duration = Duration::from_secs(20);

fn length() -> usize {
    std::env::var("LINK_BYTES").map_or(4 << 20, |text| text.parse().expect("LINK_BYTES is a number"))
}

/// An address of IPv6's loopback, if this machine has it; else says so, aloud.
fn other_end() -> Option<SocketAddr> {
    let address: SocketAddr = "[::1]:0".parse().unwrap();
    let has_it = std::net::UdpSocket::bind(address);
    if let Err(error) = &has_it {
        eprintln!("SKIPPED: bad lines are not tested, this machine has no IPv6 loopback: {error}");
    }
    has_it.is_ok().then_some(address)
}

/// Loses packets in bursts: a chain of two states (Gilbert), with numbers that are the same in each run.
struct Losses {
    state: u64,
    bad: bool,
    /// Of a thousand packets, how many begin a burst.
    begin: u64,
}

impl Losses {
    fn next(&mut self) -> bool {
        // Xorshift (Marsaglia, 2003).
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let draw = self.state % 1_000;
        // A burst has five packets on average.
        self.bad = if self.bad { draw >= 200 } else { draw < self.begin };
        self.bad
    }
}

/// What happens on the line, and what has.
#[derive(Debug, Default)]
struct Line {
    /// Of a thousand packets, how many begin a burst of losses.
    losses: u64,
    /// Bytes a second that it carries to the asker; 0 for as many as come.
    rate: u64,
    cut: AtomicBool,
    /// How often the router has given the connection another port.
    ports: AtomicU64,
    /// Bytes that came through to who asked.
    bytes: AtomicU64,
    lost: AtomicU64,
    passed: AtomicU64,
}

/// Packets, with the time at which they arrive. Those that find too many before them are lost.
type Packets = mpsc::Receiver<(Instant, Vec<u8>)>;

impl Line {
    /// Whether a packet comes through.
    fn passes(&self, losses: &mut Losses) -> bool {
        let passes = !losses.next() && !self.cut.load(Ordering::Relaxed);
        let count = if passes { &self.passed } else { &self.lost };
        count.fetch_add(1, Ordering::Relaxed);
        passes
    }

    fn losses(&self, seed: u64) -> Losses {
        Losses { state: seed, bad: false, begin: self.losses }
    }

    /// Carries what comes from the asker.
    async fn up(self: Arc<Self>, mut packets: Packets, to: SocketAddr, down: mpsc::Sender<(Instant, Vec<u8>)>) {
        let mut losses = self.losses(0x9e37_79b9);
        let mut readers = JoinSet::new();
        let mut back: Option<(u64, Arc<UdpSocket>, AbortHandle)> = None;
        while let Some((due, packet)) = packets.recv().await {
            tokio::time::sleep_until(due).await;
            let port = self.ports.load(Ordering::Relaxed);
            let same = back.take_if(|(of, ..)| *of == port);
            if same.is_none()
                && let Some((.., reader)) = back.take()
            {
                // What is sent to the old port reaches nobody.
                reader.abort();
            }
            let (of, socket, reader) = match same {
                Some(same) => same,
                None => {
                    let any =
                        if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
                    let socket = Arc::new(UdpSocket::bind((any, 0)).await.unwrap());
                    let down = down.clone();
                    let reading =
                        read(socket.clone(), move |_, packet| drop(down.try_send((Instant::now() + DELAY, packet))));
                    (port, socket, readers.spawn(reading))
                }
            };
            if self.passes(&mut losses) {
                // A full buffer is one more loss.
                let _ = socket.send_to(&packet, to).await;
            }
            back = Some((of, socket, reader));
        }
    }

    /// Carries what comes for the asker.
    async fn down(self: Arc<Self>, mut packets: Packets, front: Arc<UdpSocket>, to: SocketAddr) {
        let (mut losses, mut free) = (self.losses(0x7f4a_7c15), Instant::now());
        while let Some((due, packet)) = packets.recv().await {
            tokio::time::sleep_until(due).await;
            if self.rate != 0 {
                free = free.max(Instant::now()) + Duration::from_secs_f64(packet.len() as f64 / self.rate as f64);
                tokio::time::sleep_until(free).await;
            }
            if self.passes(&mut losses) {
                self.bytes.fetch_add(packet.len() as u64, Ordering::Relaxed);
                let _ = front.send_to(&packet, to).await;
            }
        }
    }

    /// Carries what comes to `front`, and what is answered, as long as it is polled.
    async fn carry(self: Arc<Self>, front: Arc<UdpSocket>, to: SocketAddr) {
        let mut clients: HashMap<SocketAddr, mpsc::Sender<_>> = HashMap::new();
        let mut carriers = JoinSet::new();
        let answering = front.clone();
        read(front, |from, packet| {
            let up = clients.entry(from).or_insert_with(|| {
                let (up, rising) = mpsc::channel(QUEUE);
                let (down, falling) = mpsc::channel(if self.rate == 0 { QUEUE } else { SHORT_QUEUE });
                carriers.spawn(self.clone().up(rising, to, down));
                carriers.spawn(self.clone().down(falling, answering.clone(), from));
                up
            });
            let _ = up.try_send((Instant::now() + DELAY, packet));
        })
        .await;
    }

    /// Of a hundred packets, how many were lost.
    fn lost_percent(&self) -> f64 {
        let [lost, passed] = [&self.lost, &self.passed].map(|count| count.load(Ordering::Relaxed) as f64);
        lost * 100.0 / (lost + passed)
    }

    /// Waits until `part` of `length` bytes came through.
    async fn until(&self, length: usize, part: f64) {
        while (self.bytes.load(Ordering::Relaxed) as f64) < length as f64 * part {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn read(socket: Arc<UdpSocket>, mut take: impl FnMut(SocketAddr, Vec<u8>)) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        // Nobody there yet is an error here, and no end.
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            take(from, buffer[..length].to_vec());
        }
    }
}

/// A holder of a blob behind a line.
struct Behind {
    bytes: Vec<u8>,
    hash: BlobHash,
    line: Arc<Line>,
    /// Where the line begins.
    contact: PeerContact,
    holder: Node,
    _folder: TempDir,
    _tasks: JoinSet<()>,
}

impl Behind {
    async fn new(line: Line) -> Option<Self> {
        let bind = other_end()?;
        let folder = tempfile::tempdir().unwrap();
        let holder = open_node(NodeConfig { bind, ..config(folder.path()) }).await;
        let bytes = noise(1, length());
        let hash = holder.put(bytes.clone()).await.unwrap();
        let to = holder.contact();
        let front = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let contact = PeerContact { endpoint: to.endpoint, hints: vec![front.local_addr().unwrap()] };
        let line = Arc::new(line);
        let mut tasks = JoinSet::new();
        tasks.spawn(line.clone().carry(front, to.hints[0]));
        Some(Self { bytes, hash, line, contact, holder, _folder: folder, _tasks: tasks })
    }

    fn patience(&self) -> Duration {
        PATIENCE + PATIENCE_OF_A_MIB * (self.bytes.len() >> 20) as u32
    }

    /// Fetches the blob into a folder, however often that takes; how often it took.
    async fn fetch(&self, folder: &Path) -> u32 {
        let asker = node(folder).await;
        let peers = [self.contact.clone()];
        let mut attempts = 1;
        let fetching = async {
            loop {
                match asker.fetch(&self.hash, &peers, u64::MAX).await {
                    Ok(fetched) => return fetched,
                    Err(error) => assert!(error.is_peer_fault(), "{error}"),
                }
                attempts += 1;
            }
        };
        let fetched = tokio::time::timeout(self.patience(), fetching).await.expect("it comes through at last");
        assert!(fetched == self.bytes);
        asker.shutdown().await;
        attempts
    }

    /// Says how it went; what came through more than once, percent.
    async fn end(self, name: &str, start: Instant) -> u64 {
        let through = self.line.bytes.load(Ordering::Relaxed);
        let length = self.bytes.len() as u64;
        assert!(through >= length, "it went over the line: {through} bytes");
        let again = (through - length) * 100 / length;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "links: {name}: {length} bytes in {seconds:.1} s, {:.1} % of the packets lost, {again} % of the bytes more than the blob's",
            self.line.lost_percent()
        );
        self.holder.shutdown().await;
        again
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_comes_over_a_line_that_loses_one_packet_in_twenty_in_bursts() {
    let Some(behind) = Behind::new(Line { losses: 11, ..Line::default() }).await else { return };
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    behind.fetch(folder.path()).await;
    assert!(
        behind.line.lost_percent() >= 2.0,
        "the line was bad: {} % of the packets lost",
        behind.line.lost_percent()
    );
    behind.end("bursty loss", start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_over_a_line_that_is_cut_and_returns_goes_on_where_it_was() {
    let Some(behind) = Behind::new(Line::default()).await else { return };
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let line = behind.line.clone();
    let asker = node(folder.path()).await;
    let peers = [behind.contact.clone()];
    let cutting = async {
        line.until(behind.bytes.len(), 0.5).await;
        line.cut.store(true, Ordering::Relaxed);
    };
    let (first, ()) = tokio::join!(asker.fetch(&behind.hash, &peers, u64::MAX), cutting);
    let error = first.unwrap_err();
    assert!(error.is_peer_fault() && error.to_string().contains("stalled"), "{error}");
    asker.shutdown().await;
    line.cut.store(false, Ordering::Relaxed);
    behind.fetch(folder.path()).await;
    // Packets' own bytes and what was on its way when the line was cut, but not the half that was here.
    let again = behind.end("cut and return", start).await;
    assert!(again < 40, "{again} %");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_outlives_a_router_that_gives_it_another_port() {
    let Some(behind) = Behind::new(Line::default()).await else { return };
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let line = behind.line.clone();
    let rebinding = async {
        for part in [0.3, 0.6] {
            line.until(behind.bytes.len(), part).await;
            line.ports.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::join!(behind.fetch(folder.path()), rebinding);
    let again = behind.end("another port, twice", start).await;
    assert!(again < 40, "{again} %");
}

/// Environment of a receiver that is to be killed: its folder, the blob, and where that is.
const RECEIVER: &str = "CONUN_TEST_RECEIVER";

/// A process that fetches, and is killed when this goes.
struct Receiver(Child);

impl Receiver {
    fn start(folder: &Path, hash: &BlobHash, from: &PeerContact) -> Self {
        let words = [
            folder.to_str().unwrap().to_owned(),
            alloy::primitives::hex::encode(hash),
            alloy::primitives::hex::encode(from.endpoint),
            from.hint_text(),
        ];
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "links::receiver", "--ignored"]).env(RECEIVER, words.join(" "));
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the process that another test starts and kills"]
async fn receiver() {
    let words = std::env::var(RECEIVER).expect("another test starts it");
    let words: Vec<_> = words.split(' ').collect();
    let id = |text: &str| alloy::primitives::hex::decode(text).unwrap().try_into().unwrap();
    let (hash, from) = (id(words[1]), PeerContact::parse(id(words[2]), words[3]));
    node(Path::new(words[0])).await.fetch(&hash, &[from], u64::MAX).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_does_not_fetch_again_what_it_had() {
    // What came in the last second may not be on disk yet.
    let Some(behind) = Behind::new(Line { rate: 1 << 20, ..Line::default() }).await else { return };
    let (folder, start) = (tempfile::tempdir().unwrap(), Instant::now());
    for part in [0.4, 0.8] {
        let receiver = Receiver::start(folder.path(), &behind.hash, &behind.contact);
        tokio::time::timeout(behind.patience(), behind.line.until(behind.bytes.len(), part))
            .await
            .expect("it receives");
        drop(receiver);
    }
    behind.fetch(folder.path()).await;
    let again = behind.end("receiver killed, twice", start).await;
    assert!(again < 60, "{again} % although without what it had it would be 120 %");
}
