//! Who may have which blob: hostile endpoints with keys of their own, before agents on a chain.

use std::{path::Path, time::Duration};

use alloy::{primitives::B256, signers::local::PrivateKeySigner};
use conun_agent::{
    chain::BatchStage,
    core::Policy,
    manifest::{BlobHash, blob_hash},
    net::{Node, PeerContact},
    provider::Running,
    requester::{JobFile, Prepared, Requester, assemble},
};
use conun_bindings::{abi::JobRegistry, deploy::TOKEN};
use futures_util::future::join_all;
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey,
    endpoint::{Connection, RecvStream, SendStream, presets},
};
use iroh_blobs::{
    Hash,
    protocol::{ChunkRangesSeq, GetManyRequest, GetRequest, ObserveRequest},
};

use crate::{
    control::lease,
    net::{config, holder, noise},
    world::{HELLO, PATIENCE, World, assert_greeted, follow, greetings, loopback},
};

const SECONDS: &str = "lease-seconds = 60\nwindow-seconds = 120";

/// Greetings, two tasks a batch, whose inputs are for their holders alone.
fn private(tasks: usize) -> Prepared {
    let text = format!(
        "program = 'hello.wasm'\nprice = '1'\nprivate = true\nbatch-size = 2\nfuel-limit = 1000000\n{SECONDS}\n\
         files = {{ 'a' = 'a' }}"
    );
    let inputs = (0..tasks).map(|task| format!("Person {task}\n").into()).collect();
    assemble(&JobFile::parse(&text).unwrap(), HELLO.into(), inputs, vec!["shared".into()], TOKEN).unwrap()
}

/// A task each, a batch each, for everybody to look at.
fn public(inputs: Vec<bytes::Bytes>) -> Prepared {
    let text = format!("program = 'hello.wasm'\nprice = '1'\nbatch-size = 1\nfuel-limit = 1000000\n{SECONDS}");
    assemble(&JobFile::parse(&text).unwrap(), HELLO.into(), inputs, Vec::new(), TOKEN).unwrap()
}

fn input(task: usize) -> BlobHash {
    blob_hash(format!("Person {task}\n").as_bytes())
}

fn blob(hash: BlobHash) -> GetRequest {
    GetRequest::blob(Hash::from_bytes(hash))
}

/// Speaks the blobs' protocol as it likes.
struct Raw {
    endpoint: Endpoint,
    to: EndpointAddr,
}

impl Raw {
    async fn new(key: SecretKey, contact: &PeerContact) -> Self {
        let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).secret_key(key);
        let endpoint = builder.clear_ip_transports().bind_addr(loopback()).unwrap().bind().await.unwrap();
        let id = EndpointId::from_bytes(&contact.endpoint).unwrap();
        Self { endpoint, to: EndpointAddr::new(id).with_ip_addr(contact.hints[0]) }
    }

    /// With the key of an agent that does not run.
    async fn of(folder: &Path, contact: &PeerContact) -> Self {
        let key = std::fs::read_to_string(folder.join("endpoint.key")).unwrap();
        Self::new(key.trim().parse().unwrap(), contact).await
    }

    async fn connect(&self) -> Connection {
        self.endpoint.connect(self.to.clone(), iroh_blobs::ALPN).await.unwrap()
    }

    /// Sends bytes as a request.
    async fn say(connection: &Connection, bytes: &[u8], finish: bool) -> Result<(SendStream, RecvStream), String> {
        let (mut send, receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
        send.write_all(bytes).await.map_err(|error| error.to_string())?;
        if finish {
            send.finish().map_err(|error| error.to_string())?;
        }
        Ok((send, receive))
    }

    /// The whole answer to a request of that kind, or why there is none.
    async fn answer(connection: &Connection, kind: u8, request: impl serde::Serialize) -> Result<Vec<u8>, String> {
        let bytes = postcard::to_extend(&request, vec![kind]).unwrap();
        let (_send, mut receive) = Self::say(connection, &bytes, true).await?;
        let answer = tokio::time::timeout(PATIENCE, receive.read_to_end(1 << 20)).await.expect("there is an answer");
        answer.map_err(|error| format!("{error}; {:?}", connection.close_reason()))
    }

    async fn ask(&self, kind: u8, request: impl serde::Serialize) -> Result<Vec<u8>, String> {
        Self::answer(&self.connect().await, kind, request).await
    }

    /// Of each blob, whether it is given.
    async fn gets(&self, hashes: &[BlobHash]) -> Vec<bool> {
        let connection = self.connect().await;
        join_all(hashes.iter().map(async |hash| Self::answer(&connection, 0, blob(*hash)).await.is_ok())).await
    }

    /// Sends bytes without an end to them, or reads nothing of the answer, until the other side ends it all; with which words.
    async fn dawdles(&self, bytes: &[u8], finish: bool) -> String {
        let connection = self.connect().await;
        let _streams = Self::say(&connection, bytes, finish).await.unwrap();
        tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the other side ends it").to_string()
    }
}

/// A requester that serves until its job is over.
async fn serving(world: &World, prepared: &Prepared) -> (tokio::task::JoinHandle<()>, PeerContact, B256) {
    let (mut requester, contact, id) = posted(world, prepared).await;
    let out = world.folder("out");
    let task = tokio::spawn(async move {
        follow(&mut requester, id, &out).await;
        requester.shutdown().await;
    });
    (task, contact, id)
}

async fn posted(world: &World, prepared: &Prepared) -> (Requester, PeerContact, B256) {
    let mut requester = world.requester().await;
    let posted = requester.post(prepared).await.unwrap();
    let contact = requester.follower().index().jobs[&posted.job].contact.clone();
    (requester, contact, posted.job)
}

async fn release(world: &World, signer: &PrivateKeySigner, id: B256, batch: u32) {
    let job = world.follower().await.index().jobs[&id].job.clone();
    let registry = JobRegistry::new(world.contracts.jobs, world.chain.provider_for(signer.clone()));
    registry.release(job, vec![batch]).send().await.unwrap().get_receipt().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn private_inputs_are_for_those_who_hold_their_batch_and_an_agent_executes_such_a_job() {
    let world = World::new().await;
    let rogue = world.register(2, Policy::default()).await;
    let prepared = private(4);
    let (following, contact, id) = serving(&world, &prepared).await;
    let (program, manifest) = (prepared.spec.program.0, prepared.spec.inputs.0);
    let all = [program, manifest, blob_hash(b"shared"), input(0), input(1), input(2), input(3)];

    // Whom the chain does not know gets nothing; a provider what it needs to know what it would take.
    let stranger = Raw::new(SecretKey::generate(), &contact).await;
    assert!(stranger.ask(0, blob(program)).await.unwrap_err().contains("stranger"));
    let raw = Raw::of(&rogue.folder, &contact).await;
    assert_eq!(raw.gets(&all).await, [true, true, false, false, false, false, false]);
    lease(&world, &rogue.signer, id, 1).await;
    assert_eq!(raw.gets(&all).await, [true, true, true, false, false, true, true]);
    release(&world, &rogue.signer, id, 1).await;
    while raw.gets(&all).await != [true, true, false, false, false, false, false] {}

    let mut agent = world.register(1, Policy::default()).await.start();
    let provider = agent.ready().await;
    following.await.unwrap();
    assert_greeted(&world.folder("out"), 4);

    // The job is over: the provider has all of it on its disk, and gives none of it away.
    let contact = world.follower().await.index().providers[&provider].contact.clone();
    let raw = Raw::of(&rogue.folder, &contact).await;
    while raw.gets(&all).await != [false; 7] {}
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_of_a_strangers_gets_at_what_another_keeps_private() {
    let world = World::new().await;
    let mut agent = world.register(1, Policy::default()).await.start();
    let provider = agent.ready().await;
    let (following, _, id) = serving(&world, &private(2)).await;
    following.await.unwrap();
    let index = world.follower().await.index().clone();
    assert!(index.jobs[&id].batches.iter().all(|batch| batch.stage == BatchStage::Settled));

    // The manifest is known to every provider: a thief posts a public job with the same input, which the agent, who has it, takes.
    let (thief, _, bait) = posted(&world, &public(vec!["Person 0\n".into(), "bait\n".into()])).await;
    agent.until(|event| matches!(event, Running::Submitted(job, _) if *job == bait).then_some(())).await;
    // Nobody but the agent serves it any more.
    thief.shutdown().await;
    let accomplice = world.register(3, Policy::default()).await;
    let raw = Raw::of(&accomplice.folder, &index.providers[&provider].contact).await;
    assert_eq!(raw.gets(&[blob_hash(b"bait\n"), input(0)]).await, [true, false]);
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_an_agent_has_only_prepared_keeps_nothing_from_others() {
    let world = World::new().await;
    let mut agent = world.register(1, Policy::default()).await.start();
    let provider = agent.ready().await;
    let observer = world.register(2, Policy::default()).await;
    let (mut requester, _, known) = posted(&world, &public(vec!["Person 0\n".into()])).await;
    agent.until(|event| matches!(event, Running::Submitted(job, _) if *job == known).then_some(())).await;

    // The same input and another one, both private, in a job that nobody can lease for ten minutes.
    let text = format!(
        "program = 'hello.wasm'\nprice = '1'\nprivate = true\nbatch-size = 1\nfuel-limit = 1000000\n{SECONDS}\n\
         [assurance]\nreplicas = 3\nreveal-seconds = 60\npost-seconds = 600"
    );
    let inputs = (0..2).map(|task| format!("Person {task}\n").into()).collect();
    let hidden = assemble(&JobFile::parse(&text).unwrap(), HELLO.into(), inputs, Vec::new(), TOKEN).unwrap();
    let hidden = requester.post(&hidden).await.unwrap();
    let index = world.follower().await.index().clone();
    let manifest = index.jobs[&hidden.job].spec.inputs.0;
    let raw = Raw::of(&observer.folder, &index.providers[&provider].contact).await;
    let prepared = async { while raw.gets(&[manifest]).await != [true] {} };
    tokio::time::timeout(PATIENCE, prepared).await.expect("the agent prepares it");
    assert_eq!(raw.gets(&[input(0), input(1)]).await, [true, false]);
    agent.stop().await.unwrap();
    requester.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_single_blobs_is_given_and_a_list_of_hashes_leads_nowhere() {
    let world = World::new().await;
    let rogue = world.register(2, Policy::default()).await;
    // An input that everybody may have is, to iroh-blobs, also a list of one hash: of an input that is private.
    let list = input(0).to_vec();
    let (mut requester, contact, _) = posted(&world, &public(vec![list.clone().into()])).await;
    let posted = requester.post(&private(2)).await.unwrap();
    let raw = Raw::of(&rogue.folder, &contact).await;
    let hash = Hash::from_bytes(blob_hash(&list));

    let answer = raw.ask(0, GetRequest::blob(hash)).await.unwrap();
    assert_eq!(answer, [&32u64.to_le_bytes()[..], &list].concat());
    for refused in [blob(input(0)), GetRequest::all(hash)] {
        let error = raw.ask(0, refused).await.unwrap_err();
        assert!(error.contains("reset"), "{error}");
    }
    assert!(raw.ask(1, ObserveRequest::new(hash)).await.is_err());
    assert!(raw.ask(9, GetManyRequest::new(vec![hash], ChunkRangesSeq::all())).await.is_err());
    assert!(raw.dawdles(&[0, 1, 2], false).await.contains("took too long"));
    assert!(raw.dawdles(&[255; 99], true).await.contains("malformed"));

    // Whoever misbehaves is served as before.
    lease(&world, &rogue.signer, posted.job, 0).await;
    requester.refresh().await.unwrap();
    let answer = raw.ask(0, blob(input(0))).await.unwrap();
    assert!(answer.ends_with(b"Person 0\n"), "{answer:?}");
    requester.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_blob_and_does_not_take_it_is_sent_away_and_others_are_served() {
    let bytes = noise(1, 8 << 20);
    let (node, _folder) = holder(&bytes).await;
    let raw = Raw::new(SecretKey::generate(), &node.contact()).await;
    let hash = blob_hash(&bytes);
    let request = postcard::to_extend(&blob(hash), vec![0]).unwrap();
    let other = tempfile::tempdir().unwrap();
    let other = crate::net::node(other.path()).await;
    let peers = [node.contact()];
    let (said, fetched) = tokio::join!(raw.dawdles(&request, true), other.fetch(&hash, &peers, u64::MAX));
    assert!(said.contains("took too long"), "{said}");
    assert!(fetched.unwrap() == bytes);
    for node in [node, other] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_for_their_requester_and_not_for_other_providers() {
    let world = World::new().await;
    let rogue = world.register(2, Policy::default()).await;
    let mut agent = world.register(1, Policy::default()).await.start();
    let provider = agent.ready().await;
    let (mut requester, _, id) = posted(&world, &greetings(2)).await;
    agent.until(|event| matches!(event, Running::Submitted(..)).then_some(())).await;
    let index = world.follower().await.index().clone();
    let (outputs, contact) = (index.jobs[&id].batches[0].outputs, &index.providers[&provider].contact);
    // The job is not over: its inputs are for providers, its outputs are not.
    let wanted = [input(0), outputs, blob_hash(b"Hello, Person 0! (2 words)\n")];
    assert_eq!(Raw::of(&rogue.folder, contact).await.gets(&wanted).await, [true, false, false]);
    let out = world.folder("out");
    follow(&mut requester, id, &out).await;
    assert_greeted(&out, 2);
    // The requester itself is let in also when it is over.
    let folder = requester.folder().to_owned();
    requester.shutdown().await;
    assert_eq!(Raw::of(&folder, contact).await.gets(&wanted[1..2]).await, [true]);
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_before_the_block_that_names_it_is_let_in_with_that_block() {
    let world = World::new().await;
    // A requester that looks at the chain only when it is told to.
    let (mut requester, contact, id) = posted(&world, &private(2)).await;
    let late = world.register(2, Policy::default()).await;
    lease(&world, &late.signer, id, 0).await;
    let asker = Node::start(config(&late.folder)).await.unwrap();
    let (hash, peers) = (input(0), [contact]);
    let mut fetching = std::pin::pin!(asker.fetch(&hash, &peers, u64::MAX));
    // Time for it to be refused, and to ask again.
    assert!(tokio::time::timeout(Duration::from_secs(4), &mut fetching).await.is_err(), "nothing has named it yet");
    requester.refresh().await.unwrap();
    assert_eq!(fetching.await.unwrap(), "Person 0\n");
    // Nothing names it ever: that has an end, and a reason.
    let error = asker.fetch(&[7; 32], &peers, u64::MAX).await.unwrap_err().to_string();
    assert!(error.contains("sees nothing on the chain, or not yet"), "{error}");
    asker.shutdown().await;
    requester.shutdown().await;
}
