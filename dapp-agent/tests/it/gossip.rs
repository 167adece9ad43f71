//! What members of a deployment tell each other of themselves: real endpoints, hostile ones, and agents on a chain.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use conun_agent::{
    core::Policy,
    manifest::blob_hash,
    net::{
        Book, Gate, NetworkSettings, Node, NodeConfig, PeerContact, Rights,
        wire::{Answer, CONTROL_ALPN, MAX_NOTICES, Notice, Refusal, Report, Request, SignedNotice, VERSION},
    },
    provider::{ProviderConfig, Running, read_status},
    requester::{JobFile, assemble},
};
use conun_bindings::deploy::TOKEN;
use iroh::SecretKey;
use tokio::sync::watch;

use crate::{
    control::{Raw, message},
    net::{Everybody, config, noise, open_node},
    world::{Agent, HELLO, PATIENCE, World, greetings},
};

const DEPLOYMENT: [u8; 28] = [5; 28];

/// Everybody may have everything, and these gossip.
#[derive(Debug)]
struct Members(Mutex<Arc<Book>>);

impl Gate for Members {
    fn rights(&self, _: &[u8; 32]) -> Option<Arc<Rights>> {
        Some(Arc::new(Rights::All))
    }

    fn news(&self) -> watch::Receiver<()> {
        watch::Sender::default().subscribe()
    }

    fn book(&self) -> Option<Arc<Book>> {
        Some(self.0.lock().unwrap().clone())
    }

    fn take(&self, _: &[u8; 32], _: Report) -> Result<(), Refusal> {
        Err(Refusal::NotYours)
    }
}

fn book(members: &[&PeerContact], partners: &[&PeerContact]) -> Book {
    let members = members.iter().map(|contact| (contact.endpoint, (*contact).clone())).collect::<HashMap<_, _>>();
    let partners = partners.iter().map(|contact| contact.endpoint).collect();
    Book { deployment: DEPLOYMENT, time: 1_000_000, members, partners, requesters: HashSet::new() }
}

fn gate(book: Book) -> Arc<Members> {
    Arc::new(Members(Mutex::new(Arc::new(book))))
}

/// Signed as it is documented.
fn signed(key: &SecretKey, holds: Vec<[u8; 32]>) -> SignedNotice {
    let notice = Notice { author: *key.public().as_bytes(), time: 1_000_000, clock: 7, hints: Vec::new(), holds };
    let body = postcard::to_allocvec(&notice).unwrap();
    let signature = key.sign(&[b"conun notice 1", &DEPLOYMENT[..], &body].concat());
    SignedNotice { body, signature }
}

/// Waits longer than elsewhere: on a busy machine a member that answers late is left alone for a minute, maybe twice.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(3 * PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn news_goes_from_member_to_member_and_finds_one_whose_address_has_changed() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut nodes = Vec::new();
    for folder in &folders {
        nodes.push(Node::start(config(folder.path())).await.unwrap());
    }
    let contacts: Vec<_> = nodes.iter().map(Node::contact).collect();
    let [alice, bob, carol] = &contacts[..] else { unreachable!() };
    // Alice and Carol speak with Bob alone.
    let all = [alice, bob, carol];
    let gates = [(); 3].map(|()| gate(book(&all, &[])));
    let bytes = noise(1, 100_000);
    let hash = nodes[0].put(bytes.clone()).await.unwrap();
    for (node, gate) in nodes.iter().zip(&gates) {
        node.open_to(gate.clone());
    }
    // Once all are open: whoever is not yet is left alone for a minute.
    for (gate, partners) in gates.iter().zip([&[bob][..], &[alice, carol], &[bob]]) {
        *gate.0.lock().unwrap() = Arc::new(book(&all, partners));
    }
    until("all have heard of each other", async || nodes.iter().all(|node| node.heard() == 2)).await;
    assert_eq!(nodes[2].heard_to_hold(&hash), []);
    nodes[0].tell_of(vec![hash]);
    until("Carol hears who has it", async || nodes[2].heard_to_hold(&hash) == [alice.clone()]).await;

    // Alice comes back elsewhere, with another port.
    nodes[0].shutdown().await;
    std::fs::remove_file(folders[0].path().join("endpoint.port")).unwrap();
    let _taken = std::net::UdpSocket::bind(alice.hints[0]);
    let back = Node::start(config(folders[0].path())).await.unwrap();
    assert_ne!(back.contact(), *alice);
    back.open_to(gates[0].clone());
    // The chain says still what it said.
    let fetched =
        async || nodes[2].fetch(&hash, std::slice::from_ref(alice), u64::MAX).await.is_ok_and(|got| got == bytes);
    until("Carol finds Alice where she is now", fetched).await;
    for node in [&back, &nodes[1], &nodes[2]] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_members_are_ended_and_what_they_invent_goes_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path())).await.unwrap();
    let keys = [1, 2].map(|byte| SecretKey::from_bytes(&[byte; 32]));
    let member = PeerContact::parse(*keys[0].public().as_bytes(), "");
    node.open_to(gate(book(&[&node.contact(), &member], &[])));
    let raw = Raw::new(keys[0].clone(), node.contact()).await;
    let tell = |notices: Vec<SignedNotice>| Request::Exchange(notices);

    let good = signed(&keys[0], vec![[1; 32]]);
    let mut forged = good.clone();
    forged.body[40] ^= 1;
    let borrowed = SignedNotice { signature: signed(&keys[1], vec![[1; 32]]).signature, ..good.clone() };
    for notices in [vec![forged.clone()], vec![borrowed], vec![signed(&keys[1], Vec::new()), forged]] {
        assert!(raw.ended(&message(&tell(notices)), true).await.contains("nobody has signed"));
    }
    assert_eq!(raw.ask(&tell(vec![good.clone(); MAX_NOTICES + 1])).await, Answer::Refused(Refusal::TooMany));
    assert!(raw.ended(&message(&tell(vec![good.clone()]))[..80], true).await.contains("malformed"));
    let Answer::Notices(_) = raw.ask(&tell(vec![good.clone()])).await else { panic!("no answer") };
    // One of nobody whom the chain knows is passed over.
    let Answer::Notices(_) = raw.ask(&tell(vec![signed(&keys[1], vec![[2; 32]])])).await else { panic!("no answer") };
    assert_eq!((node.heard_to_hold(&[1; 32]).len(), node.heard_to_hold(&[2; 32])), (1, vec![]));
    // Whoever asks without a pause is answered with nothing.
    let connection_news = async || match raw.ask(&tell(Vec::new())).await {
        Answer::Notices(notices) => notices.len(),
        answer => panic!("{answer:?}"),
    };
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(connection_news().await);
    }
    assert!(answers.iter().filter(|news| **news > 0).count() <= 5, "{answers:?}");

    let quiet = tempfile::tempdir().unwrap();
    let network = NetworkSettings { gossip: false, ..NetworkSettings::default() };
    let quiet = Node::start(NodeConfig { network, ..config(quiet.path()) }).await.unwrap();
    quiet.open_to(gate(book(&[&member, &quiet.contact()], &[&member])));
    let raw = Raw::new(keys[0].clone(), quiet.contact()).await;
    assert_eq!(raw.ask(&tell(vec![good])).await, Answer::Refused(Refusal::NoGossip));
    quiet.tell_of(vec![[1; 32]]);
    assert_eq!((quiet.heard(), quiet.heard_to_hold(&[1; 32])), (0, vec![]));
    quiet.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_answers_with_lies_is_left_alone() {
    let answers = |key: &SecretKey| {
        let mut forged = signed(key, vec![[1; 32]]);
        forged.body[40] ^= 1;
        let many = vec![signed(key, vec![[1; 32]]); MAX_NOTICES + 1];
        [Answer::Notices(vec![forged]), Answer::Notices(many), Answer::Taken, Answer::Have(vec![true])]
    };
    for lie in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(config(folder.path())).await.unwrap();
        let key = SecretKey::generate();
        let raw = Raw::new(key.clone(), node.contact()).await;
        raw.endpoint.set_alpns(vec![CONTROL_ALPN.to_vec()]);
        let hints = raw.endpoint.bound_sockets().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let liar = PeerContact::parse(*key.public().as_bytes(), &hints);
        node.open_to(gate(book(&[&node.contact(), &liar], &[&liar])));
        let asked = async {
            let connection = raw.endpoint.accept().await.unwrap().await.unwrap();
            let (mut send, mut receive) = connection.accept_bi().await.unwrap();
            let request = receive.read_to_end(1 << 20).await.unwrap();
            let Ok(Request::Exchange(told)) = postcard::from_bytes(&request[1..]) else { panic!("{request:?}") };
            assert_eq!(told.len(), 1, "it says that it is there");
            let answer = answers(&key)[lie].clone();
            send.write_all(&postcard::to_extend(&answer, vec![VERSION]).unwrap()).await.unwrap();
            send.finish().unwrap();
            let _ = send.stopped().await;
            // Its own rounds come every second now, and not to this one again.
            let again = async {
                if connection.accept_bi().await.is_err() {
                    raw.endpoint.accept().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(4), again).await
        };
        let again = tokio::time::timeout(PATIENCE, asked).await.expect("it is asked");
        assert!(again.is_err(), "asked again after lie {lie}");
        assert_eq!((node.heard(), node.heard_to_hold(&[1; 32])), (0, vec![]), "lie {lie}");
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_part_refuses_to_and_serves_all_the_same() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let node = open_node(config(folders[0].path())).await;
    let hash = node.put(noise(2, 1_000)).await.unwrap();
    let other = Node::start(config(folders[1].path())).await.unwrap();
    // The other's chain names it as a partner; its own gate has no book.
    assert!(Gate::book(&Everybody).is_none());
    other.open_to(gate(book(&[&node.contact(), &other.contact()], &[&node.contact()])));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((other.heard(), node.heard()), (0, 0));
    assert_eq!(other.fetch(&hash, &[node.contact()], u64::MAX).await.unwrap().len(), 1_000);
    node.shutdown().await;
    other.shutdown().await;
}

/// Where an agent is.
async fn ready(agent: &mut Agent) -> PeerContact {
    let contact = |event: &Running| match event {
        Running::Ready { contact, .. } => Some(contact.clone()),
        _ => None,
    };
    agent.until(contact).await
}

/// How many others an agent says it has heard of.
fn heard(folder: &Path) -> u64 {
    let status = read_status(folder).unwrap();
    status.and_then(|status| status["heard"].as_u64()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_and_who_works_for_it_hear_of_each_other() {
    let world = World::new().await;
    let (seat, idle) = (world.register(1, Policy::default()).await, world.register(2, Policy::default()).await);
    let mut requester = world.requester().await;
    let agent = seat.start();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(heard(&seat.folder), 0, "there is nobody");
    requester.post(&greetings(4)).await.unwrap();
    let hears = async || {
        requester.refresh().await.unwrap();
        heard(&seat.folder) == 1
    };
    until("the provider hears of its requester", hears).await;
    // Another provider hears of the first, and not of a requester that it has nothing to do with.
    let blocked = idle.config();
    let policy = Policy { blocked: [requester.account()].into(), ..Policy::default() };
    ProviderConfig { policy, ..blocked }.write(&idle.folder).unwrap();
    let other = idle.start();
    until("both providers hear of each other", async || {
        requester.refresh().await.unwrap();
        (heard(&seat.folder), heard(&idle.folder)) == (2, 1)
    })
    .await;
    for agent in [agent, other] {
        agent.stop().await.unwrap();
    }
    requester.shutdown().await;
}

/// Whether the data folder of an agent that has ended has a blob.
async fn has(folder: &Path, blob: &[u8]) -> bool {
    let node = Node::start(config(folder)).await.unwrap();
    let found = node.get(&blob_hash(blob)).await.unwrap().is_some();
    node.shutdown().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_requester_is_away_is_had_from_a_provider_that_only_prepared_it() {
    let world = World::new().await;
    let seats = [world.register(1, Policy::default()).await, world.register(2, Policy::default()).await];
    let quiet = world.register(3, Policy::default()).await;
    let config = quiet.config();
    let network = NetworkSettings { gossip: false, ..NetworkSettings::default() };
    ProviderConfig { network, ..config }.write(&quiet.folder).unwrap();
    // Nobody can lease anything for ten minutes.
    let text = "program = 'hello.wasm'\nprice = '1'\nbatch-size = 1\nfuel-limit = 1000000\nlease-seconds = 60\nwindow-seconds = 120\n\
                [assurance]\nreplicas = 3\nreveal-seconds = 60\npost-seconds = 600";
    let job = assemble(&JobFile::parse(text).unwrap(), HELLO.into(), vec!["Ada\n".into()], Vec::new(), TOKEN).unwrap();
    let observer = world.register(4, Policy::default()).await;
    let mut requester = world.requester().await;
    let mut first = seats[0].start();
    let posted = requester.post(&job).await.unwrap();
    let manifest = requester.follower().index().jobs[&posted.job].spec.inputs.0;
    // Registered providers may have it of whoever has prepared it.
    let gives = async |contact: PeerContact| {
        let raw = Raw::of(&observer.folder, contact).await;
        let have = Request::Have(vec![blob_hash(HELLO), manifest, [7; 32]]);
        let gives = raw.ask(&have).await == Answer::Have(vec![true, true, false]);
        raw.endpoint.close().await;
        gives
    };
    let contact = ready(&mut first).await;
    until("the first provider gives it", async || gives(contact.clone()).await).await;
    requester.shutdown().await;
    let (mut second, mut third) = (seats[1].start(), quiet.start());
    until("the second has heard of the first", async || heard(&seats[1].folder) == 1).await;
    let trouble = third
        .until(|event| match event {
            Running::Trouble(text) if text.contains("cannot be had") => Some(text.clone()),
            _ => None,
        })
        .await;
    assert!(trouble.contains("not reached"), "{trouble}");
    let contact = ready(&mut second).await;
    until("the second provider gives it", async || gives(contact.clone()).await).await;
    for agent in [first, second, third] {
        agent.stop().await.unwrap();
    }
    assert!(has(&seats[1].folder, HELLO).await);
    assert!(!has(&quiet.folder, HELLO).await, "whom nobody tells has nobody to ask");
    assert_eq!(heard(&quiet.folder), 0);
}
