//! What members of a deployment cost each other who tell each other where they are: `cargo bench -p conun-agent --bench gossip`
//! (`-- --members N --minutes N`).
//!
//! Real endpoints on loopback. First how long it takes until all have heard of all, and of one thing that one of them says later; then what a member sends and gets
//! while nothing happens but that time passes.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use conun_agent::net::{
    Book, Gate, NetworkSettings, Node, NodeConfig, PeerContact, Rights,
    wire::{Refusal, Report},
};
use tokio::{sync::watch, time::sleep};

/// The number after an option, if it is given.
fn option(name: &str) -> Option<u64> {
    let args: Vec<_> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == name)?;
    Some(args.get(at + 1)?.parse().expect("a number"))
}

/// Everybody gossips with everybody.
#[derive(Debug)]
struct Open(Mutex<Arc<Book>>);

impl Gate for Open {
    fn rights(&self, _: &[u8; 32]) -> Option<Arc<Rights>> {
        Some(Arc::new(Rights::All))
    }

    fn news(&self) -> watch::Receiver<()> {
        watch::Sender::default().subscribe()
    }

    fn book(&self) -> Option<Arc<Book>> {
        Some(self.0.lock().expect("nothing fails with it").clone())
    }

    fn take(&self, _: &[u8; 32], _: Report) -> Result<(), Refusal> {
        Err(Refusal::NotYours)
    }
}

async fn until(mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

#[tokio::main]
async fn main() {
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let count = option("--members").unwrap_or(12) as usize;
    // A member says once in fifteen that it is there.
    let minutes = option("--minutes").unwrap_or(16);
    let folder = tempfile::tempdir().expect("a folder");
    let bind: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut nodes = Vec::new();
    for number in 0..count {
        let data_dir = folder.path().join(number.to_string());
        let config = NodeConfig { data_dir, bind, network: NetworkSettings::default() };
        nodes.push(Node::start(config).await.expect("a node"));
    }
    let members: HashMap<[u8; 32], PeerContact> =
        nodes.iter().map(Node::contact).map(|contact| (contact.endpoint, contact)).collect();
    let partners = members.keys().copied().collect();
    let mut book = Book { deployment: [1; 28], time: 1_000_000, members, partners, requesters: HashSet::new() };
    let gate = Arc::new(Open(Mutex::new(Arc::new(book.clone()))));
    nodes.iter().for_each(|node| node.open_to(gate.clone()));
    let all = until(|| nodes.iter().all(|node| node.heard() + 1 == count)).await;
    println!("{} members: all have heard of all after {:.1} s", count, all.as_secs_f64());
    // What is said once more within ten seconds waits.
    sleep(Duration::from_secs(60)).await;
    nodes[0].tell_of(vec![[7; 32]]);
    let one = until(|| nodes[1..].iter().all(|node| !node.heard_to_hold(&[7; 32]).is_empty())).await;
    println!("of what one says all have heard after {:.1} s", one.as_secs_f64());

    let bytes = || nodes.iter().map(Node::traffic_bytes).sum::<u64>();
    let (before, start) = (bytes(), Instant::now());
    while start.elapsed() < Duration::from_secs(60 * minutes) {
        sleep(Duration::from_secs(1)).await;
        book.time += 1;
        *gate.0.lock().expect("nothing fails with it") = Arc::new(book.clone());
    }
    let each = (bytes() - before) as f64 / count as f64 / start.elapsed().as_secs_f64();
    println!("then a member sends and gets {each:.0} bytes a second, {:.1} MB a day", each * 86_400.0 / 1e6);
    for node in nodes {
        node.shutdown().await;
    }
}
