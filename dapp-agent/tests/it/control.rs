//! The control protocol between agents on a chain, and peers that misuse it.

use std::{path::Path, time::Duration};

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use conun_agent::{
    chain::BatchStage,
    core::Policy,
    manifest::blob_hash,
    net::{
        Node, PeerContact,
        wire::{
            Answer, CONTROL_ALPN, MAX_HASHES, MAX_REQUEST, Refusal, Report, Request, TaskReport, TaskState, VERSION,
        },
    },
    provider::Running,
    requester::{JobFile, LogReader, LogRecord, LogState, Prepared, assemble},
};
use conun_bindings::{abi::JobRegistry, deploy::TOKEN};
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey,
    endpoint::{Connection, presets},
};

use crate::{
    ballots::voted,
    net::{config, holder, node, noise, rotten},
    world::{HELLO, PATIENCE, World, assert_greeted, follow, greetings, loopback},
};

/// An endpoint that speaks QUIC and nothing of CONUN.
pub(crate) struct Raw {
    pub(crate) endpoint: Endpoint,
    contact: PeerContact,
}

impl Raw {
    pub(crate) async fn new(key: SecretKey, contact: PeerContact) -> Self {
        let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).secret_key(key);
        let endpoint = builder.clear_ip_transports().bind_addr(loopback()).unwrap().bind().await.unwrap();
        Self { endpoint, contact }
    }

    /// With the key of an agent that does not run.
    pub(crate) async fn of(folder: &Path, contact: PeerContact) -> Self {
        let key = std::fs::read_to_string(folder.join("endpoint.key")).unwrap();
        Self::new(key.trim().parse().unwrap(), contact).await
    }

    async fn connect(&self) -> Connection {
        let id = EndpointId::from_bytes(&self.contact.endpoint).unwrap();
        let address = EndpointAddr::new(id).with_ip_addr(self.contact.hints[0]);
        self.endpoint.connect(address, CONTROL_ALPN).await.unwrap()
    }

    /// The answer to these bytes as a message.
    async fn say(&self, bytes: &[u8]) -> Answer {
        Self::say_on(&self.connect().await, bytes).await
    }

    async fn say_on(connection: &Connection, bytes: &[u8]) -> Answer {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let answer = receive.read_to_end(1 << 20).await.unwrap();
        assert_eq!(answer[0], VERSION);
        postcard::from_bytes(&answer[1..]).unwrap()
    }

    pub(crate) async fn ask(&self, request: &Request) -> Answer {
        self.say(&message(request)).await
    }

    /// Sends bytes without an end to them, and waits for the peer to end the connection; with which words.
    pub(crate) async fn ended(&self, bytes: &[u8], finish: bool) -> String {
        let connection = self.connect().await;
        // The peer may end it at any time: before there is a stream, and in the middle of one.
        let mut stream = connection.open_bi().await;
        if let Ok((send, _)) = &mut stream {
            let _ = send.write_all(bytes).await;
            if finish {
                let _ = send.finish();
            }
        }
        let closed = tokio::time::timeout(PATIENCE, connection.closed()).await;
        closed.expect("the peer ends it").to_string()
    }
}

pub(crate) fn message(request: &Request) -> Vec<u8> {
    postcard::to_extend(request, vec![VERSION]).unwrap()
}

fn done(job: B256, batch: u32, tasks: &[u32]) -> Request {
    let state = TaskState::Done { exit_code: Some(3), fuel: 5, stderr: b"\x1b[2Jlies".to_vec() };
    let tasks = tasks.iter().map(|task| TaskReport { task: *task, state: state.clone() }).collect();
    Request::Report(Report { job: job.0, batch, tasks })
}

/// Everybody who tries what ends a connection; the peer is none the worse for it.
async fn misuse(raw: &Raw) {
    let request = message(&Request::Have(vec![[7; 32]]));
    assert!(raw.ended(&request[..20], false).await.contains("took too long"));
    assert!(raw.ended(&vec![VERSION; MAX_REQUEST + 1], false).await.contains("too long"));
    assert!(raw.ended(&[&request[..], &[0]].concat(), true).await.contains("malformed"));
    assert!(raw.ended(&[VERSION, 0xff, 0xff, 0xff], true).await.contains("malformed"));
    for version in [0, VERSION + 1, 255] {
        assert_eq!(raw.say(&[version, 1, 2, 3]).await, Answer::Refused(Refusal::Version(VERSION)));
    }
    assert_eq!(raw.say(&[]).await, Answer::Refused(Refusal::Version(VERSION)));
    let many = Request::Have(vec![[7; 32]; MAX_HASHES + 1]);
    assert_eq!(raw.ask(&many).await, Answer::Refused(Refusal::TooMany));
    // A connection replaces the one before it.
    let before = raw.connect().await;
    Raw::say_on(&before, &request).await;
    let _after = raw.connect().await;
    let closed = tokio::time::timeout(PATIENCE, before.closed()).await.unwrap();
    assert!(closed.to_string().contains("replaced"), "{closed}");
    assert_eq!(raw.ask(&Request::Have(vec![[7; 32]])).await, Answer::Have(vec![false]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_refuses_strangers_and_misuse_and_goes_on_working() {
    let world = World::new().await;
    let (seat, idle) = (world.register(1, Policy::default()).await, world.register(2, Policy::default()).await);
    let mut agent = seat.start();
    let contact = agent
        .until(|event| match event {
            Running::Ready { contact, .. } => Some(contact.clone()),
            _ => None,
        })
        .await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(4)).await.unwrap();
    let out = world.folder("out");
    agent.until(|event| matches!(event, Running::Submitted(..)).then_some(())).await;

    let stranger = Raw::new(SecretKey::generate(), contact.clone()).await;
    let request = message(&Request::Have(vec![blob_hash(HELLO)]));
    assert!(stranger.ended(&request, true).await.contains("stranger: no provider and no requester"));

    let known = Raw::of(&idle.folder, contact).await;
    let hashes = vec![blob_hash(HELLO), [7; 32], blob_hash(b"Person 0\n")];
    assert_eq!(known.ask(&Request::Have(hashes)).await, Answer::Have(vec![true, false, true]));
    assert_eq!(known.ask(&done(posted.job, 0, &[0])).await, Answer::Refused(Refusal::NotYours));
    misuse(&known).await;

    // Once the job is over nobody else needs what it was made of.
    follow(&mut requester, posted.job, &out).await;
    let over = async { while known.ask(&Request::Have(vec![blob_hash(HELLO)])).await != Answer::Have(vec![false]) {} };
    tokio::time::timeout(PATIENCE, over).await.unwrap();
    let posted = requester.post(&greetings(4)).await.unwrap();
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 4);
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_takes_logs_from_who_holds_the_batch_and_from_nobody_else() {
    let world = World::new().await;
    let rogue = world.register(2, Policy::default()).await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(6)).await.unwrap();
    let contact = requester.follower().index().jobs[&posted.job].contact.clone();
    let folder = requester.folder().to_owned();
    let out = world.folder("out");
    let following = tokio::spawn({
        let out = out.clone();
        async move {
            let told = follow(&mut requester, posted.job, &out).await;
            requester.shutdown().await;
            told
        }
    });

    let stranger = Raw::new(SecretKey::generate(), contact.clone()).await;
    assert!(stranger.ended(&message(&done(posted.job, 0, &[0])), true).await.contains("stranger"));
    let raw = Raw::of(&rogue.folder, contact).await;
    misuse(&raw).await;
    assert_eq!(raw.ask(&done(posted.job, 0, &[0])).await, Answer::Refused(Refusal::NotLeased));
    assert_eq!(raw.ask(&done(posted.job, 99, &[0])).await, Answer::Refused(Refusal::NotLeased));
    assert_eq!(raw.ask(&done(B256::ZERO, 0, &[0])).await, Answer::Refused(Refusal::NotYours));

    // It holds a batch now: it can tell of that one, once.
    lease(&world, &rogue.signer, posted.job, 1).await;
    let taking = async {
        while raw.ask(&done(posted.job, 1, &[0, 2, 3, 4])).await != Answer::Taken {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taking).await.unwrap();
    assert_eq!(raw.ask(&done(posted.job, 1, &[2])).await, Answer::Taken);
    assert_eq!(raw.ask(&done(posted.job, 0, &[0])).await, Answer::Refused(Refusal::NotLeased));
    let record = |task| LogRecord {
        batch: 1,
        task,
        provider: rogue.signer.address(),
        state: LogState::Done { exit_code: Some(3), fuel: 5, stderr: "\u{1b}[2Jlies".to_owned() },
    };
    assert_eq!(LogReader::new(&folder, posted.job).read().unwrap(), [record(2), record(3)]);

    // It gives the batch back, and an honest agent does all of them.
    let job = world.follower().await.index().jobs[&posted.job].job.clone();
    let registry = JobRegistry::new(world.contracts.jobs, world.chain.provider_for(rogue.signer.clone()));
    registry.release(job, vec![1]).send().await.unwrap().get_receipt().await.unwrap();
    let mut agent = world.register(1, Policy::default()).await.start();
    agent.ready().await;
    following.await.unwrap();
    assert_greeted(&out, 6);
    agent.stop().await.unwrap();
}

pub(crate) async fn lease(world: &World, signer: &PrivateKeySigner, id: B256, batch: u32) {
    let job = world.follower().await.index().jobs[&id].job.clone();
    let registry = JobRegistry::new(world.contracts.jobs, world.chain.provider_for(signer.clone()));
    registry.lease(job, vec![batch]).send().await.unwrap().get_receipt().await.unwrap();
}

/// What a job's log says of each task of `provider`, in the order of tasks and of what can happen to one.
fn log(folder: &Path, job: B256, provider: Address) -> Vec<(u32, LogState)> {
    let records = LogReader::new(folder, job).read().unwrap();
    let rank = |state: &LogState| match state {
        LogState::Started => 0,
        LogState::Ended => 1,
        _ => 2,
    };
    let own = records.into_iter().filter(|record| record.provider == provider);
    let mut states: Vec<_> = own.map(|record| (record.task, record.state)).collect();
    states.sort_by_key(|(task, state)| (*task, rank(state)));
    states
}

/// As `greetings(1)`, and one task without a name, which the program complains of.
fn nameless() -> Prepared {
    let text = "program = 'hello.wasm'\nprice = '1'\nbatch-size = 2\nfuel-limit = 1000000\nlease-seconds = 60\nwindow-seconds = 120";
    let inputs = vec!["Person 0\n".into(), "".into()];
    assemble(&JobFile::parse(text).unwrap(), HELLO.into(), inputs, Vec::new(), TOKEN).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_error_of_a_strangers_computer_is_in_the_requesters_log() {
    let world = World::new().await;
    let mut agent = world.register(1, Policy::default()).await.start();
    let provider = agent.ready().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&nameless()).await.unwrap();
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    let folder = requester.folder().to_owned();
    let telling = async {
        while log(&folder, posted.job, provider).len() < 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, telling).await.unwrap();
    let states = log(&folder, posted.job, provider);
    let said = |state: &LogState, code: u32, text: &str| match state {
        LogState::Done { exit_code, stderr, fuel } => *exit_code == Some(code) && stderr == text && *fuel > 0,
        _ => false,
    };
    assert_eq!(states.iter().map(|(task, _)| *task).collect::<Vec<_>>(), [0, 0, 1, 1]);
    assert_eq!((&states[0].1, &states[2].1), (&LogState::Started, &LogState::Started));
    assert!(
        said(&states[1].1, 0, "") && said(&states[3].1, 1, "hello: write a name to standard input\n"),
        "{states:?}"
    );
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_a_vote_are_told_once_its_result_is_believed() {
    let world = World::new().await;
    let mut seats = Vec::new();
    for account in 1..=3 {
        seats.push(world.register(account, Policy::default()).await);
    }
    let mut requester = world.requester().await;
    let posted = requester.post(&voted(2, "replicas = 3\nlimit = 4\nwiden-seconds = 2")).await.unwrap();
    let (folder, out) = (requester.folder().to_owned(), world.folder("out"));
    let logged = async |provider: Address, count: usize| {
        while log(&folder, posted.job, provider).len() < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let voting = async {
        let mut agents = Vec::new();
        for seat in &seats[..2] {
            let mut agent = seat.start();
            agent.ready().await;
            agent.until(|event| matches!(event, Running::Did("commit", ..)).then_some(())).await;
            logged(seat.signer.address(), 4).await;
            agents.push(agent);
        }
        // Two of three have voted: whoever knew what they found could spare itself the work.
        for seat in &seats[..2] {
            let states = log(&folder, posted.job, seat.signer.address());
            let states: Vec<_> = states.into_iter().map(|(_, state)| state).collect();
            assert_eq!(states, [LogState::Started, LogState::Ended, LogState::Started, LogState::Ended]);
        }
        let mut agent = seats[2].start();
        agent.ready().await;
        agents.push(agent);
        for seat in &seats {
            logged(seat.signer.address(), 6).await;
        }
        agents
    };
    let voting = tokio::time::timeout(PATIENCE, voting);
    let (agents, _) = tokio::join!(voting, follow(&mut requester, posted.job, &out));
    assert_greeted(&out, 2);
    for seat in &seats {
        let states = log(&folder, posted.job, seat.signer.address());
        assert!(matches!(&states[5].1, LogState::Done { exit_code: Some(0), .. }), "{states:?}");
    }
    for agent in agents.expect("all is told") {
        agent.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_some_withhold_or_have_rotten_is_had_from_another_holder() {
    let bytes = noise(1, 4 << 20);
    let hash = blob_hash(&bytes);
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let gone = PeerContact {
        endpoint: *SecretKey::generate().public().as_bytes(),
        hints: vec![std::net::UdpSocket::bind(loopback()).unwrap().local_addr().unwrap()],
    };
    let ignorant = node(folders[0].path()).await;
    // It answers nobody: it was never opened.
    let silent_folder = tempfile::tempdir().unwrap();
    let silent = Node::start(config(silent_folder.path())).await.unwrap();
    let (bad, _bad_folder) = rotten(&bytes, 3 << 20).await;
    let (good, _good_folder) = holder(&bytes).await;
    assert_eq!(good.ask_for(&ignorant.contact(), &[hash]).await.unwrap(), [false]);
    assert_eq!(ignorant.ask_for(&good.contact(), &[[7; 32], hash]).await.unwrap(), [false, true]);

    let others = [ignorant.contact(), silent.contact(), bad.contact()];
    let useless: Vec<_> = [gone].into_iter().chain(others).collect();
    let bob = node(folders[1].path()).await;
    let failed = bob.fetch(&hash, &useless, u64::MAX).await.unwrap_err().to_string();
    assert!(failed.contains("not reached") && failed.contains("sees nothing on the chain"), "{failed}");
    assert_eq!(failed.matches("peer ").count(), 4, "each has its reason: {failed}");

    // What the rotten one had is here already; who was not reached is asked last.
    let all: Vec<_> = useless.into_iter().chain([good.contact()]).collect();
    assert_eq!(bob.fetch(&hash, &all, u64::MAX).await.unwrap(), bytes);
    let carol = node(folders[2].path()).await;
    assert_eq!(carol.fetch(&hash, &all, u64::MAX).await.unwrap(), bytes);
    for node in [ignorant, silent, bad, good, bob, carol] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_gets_program_and_inputs_from_another_when_the_requester_is_gone() {
    let world = World::new().await;
    let seats = [world.register(1, Policy::default()).await, world.register(2, Policy::default()).await];
    // All tasks have the same input, so that whoever has done one has what all need.
    let text = "program = 'hello.wasm'\nprice = '1'\nbatch-size = 1\nfuel-limit = 1000000\nlease-seconds = 60\nwindow-seconds = 120";
    let inputs = vec!["Person 0\n".into(); 2];
    let prepared = assemble(&JobFile::parse(text).unwrap(), HELLO.into(), inputs, Vec::new(), TOKEN).unwrap();
    let mut requester = world.requester().await;
    let posted = requester.post(&prepared).await.unwrap();
    // Somebody else holds the second batch while the first agent is there.
    lease(&world, &seats[1].signer, posted.job, 1).await;
    let mut first = seats[0].start();
    first.ready().await;
    first.until(|event| matches!(event, Running::Submitted(..)).then_some(())).await;
    requester.shutdown().await;
    // It takes nothing new, but serves what it has.
    conun_agent::provider::set_paused(&seats[0].folder, true).unwrap();
    first.until(|event| matches!(event, Running::Guest(text) if text.contains("paused")).then_some(())).await;

    let job = world.follower().await.index().jobs[&posted.job].job.clone();
    let registry = JobRegistry::new(world.contracts.jobs, world.chain.provider_for(seats[1].signer.clone()));
    registry.release(job, vec![1]).send().await.unwrap().get_receipt().await.unwrap();
    let third = world.register(3, Policy::default()).await;
    let mut second = third.start();
    second.ready().await;
    second.until(|event| matches!(event, Running::Submitted(..)).then_some(())).await;

    let follower = world.follower().await;
    let batches = &follower.index().jobs[&posted.job].batches;
    assert!(batches.iter().all(|batch| batch.stage == BatchStage::Submitted), "{batches:?}");
    assert_eq!(batches[1].provider, third.signer.address());
    let mut requester = world.requester().await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    for task in 0..2 {
        assert_eq!(std::fs::read_to_string(out.join(task.to_string())).unwrap(), "Hello, Person 0! (2 words)\n");
    }
    for agent in [first, second] {
        agent.stop().await.unwrap();
    }
}
