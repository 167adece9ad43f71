//! Blob stores that a power cut has torn: what is there is right or not there, and what is needed comes back.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use conun_agent::{core::Policy, manifest::blob_hash, net::Node, provider::Running};

use crate::{
    net::{config, node, noise},
    world::{Agent, HELLO, World, assert_greeted, follow, greetings},
};

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Numbers that are the same in each run: xorshift (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("blobs/blobs.db")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Some sectors of `new`, and of the others what was there before.
fn mix(old: &[u8], new: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mixed = new.to_vec();
    for (number, sector) in mixed.chunks_mut(SECTOR).enumerate() {
        if random.below(4) == 0 {
            let from = (number * SECTOR).min(old.len());
            let until = (from + sector.len()).min(old.len());
            sector.fill(0);
            sector[..until - from].copy_from_slice(&old[from..until]);
        }
    }
    mixed
}

/// What a disk may have of a folder that was `old` when everything was on it for the last time.
fn tear(old: &Path, folder: &Path, random: &mut Random) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let before = old.join(path.file_name().unwrap());
        if path.is_dir() {
            tear(&before, &path, random);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        match (fs::read(&before), random.below(5)) {
            (Ok(old), 0..3) => fs::write(&path, mix(&old, &bytes, random)).unwrap(),
            (Err(_), 0) => fs::remove_file(&path).unwrap(),
            // Names are written before what is in the files.
            (Err(_), 1) => fs::write(&path, mix(&[], &bytes, random)).unwrap(),
            (Err(_), 2) => fs::write(&path, "").unwrap(),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_torn_store_has_is_right_or_not_there_and_can_be_put_again() {
    let blobs: Vec<_> = (0..12).map(|seed| noise(seed, [20, 5_000, 100_000, 1 << 20][seed as usize % 4])).collect();
    let all: HashSet<_> = blobs.iter().map(|bytes| blob_hash(bytes)).collect();
    let (mut there, mut gone) = (0, 0);
    for seed in 1..=12 {
        let mut random = Random(0x9e37_79b9 * seed);
        let [old, new, torn] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let first = node(new.path()).await;
        for (bytes, image) in [(&blobs[..4], &old), (&blobs[4..], &torn)] {
            for bytes in bytes {
                first.put(bytes.clone()).await.unwrap();
            }
            // Sweeping, the store writes what waits to be written.
            first.clean(0, &all).await.unwrap();
            copy(new.path(), image.path());
        }
        first.shutdown().await;
        tear(&old.path().join("blobs"), &torn.path().join("blobs"), &mut random);

        let second = Node::start(config(torn.path())).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(second.damage().is_some(), torn.path().join("blobs.damaged").exists());
        for bytes in &blobs {
            match second.get(&blob_hash(bytes)).await.unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
                Some(found) => {
                    assert!(found == *bytes, "seed {seed}: other bytes than the hash says");
                    there += 1;
                }
                None => gone += 1,
            }
        }
        for bytes in &blobs {
            let hash = second.put(bytes.clone()).await.unwrap();
            assert!(second.get(&hash).await.unwrap().is_some_and(|found| found == *bytes), "seed {seed}");
        }
        second.shutdown().await;
    }
    assert!(there > 0 && gone > 0, "{there} blobs were there, {gone} gone");
}

/// Waits for an event with these words.
async fn told(agent: &mut Agent, words: &str) {
    agent.until(|event| matches!(event, Running::Trouble(text) if text.contains(words)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_a_torn_store_has_lost_are_made_anew_and_paid() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut requester = world.requester().await;
    let mut agent = seat.start();
    agent.ready().await;
    let posted = requester.post(&greetings(4)).await.unwrap();
    agent.until(|event| matches!(event, Running::Submitted(_, batches) if batches.len() == 2).then_some(())).await;
    agent.kill().await;
    fs::write(database(&seat.folder), noise(1, 100_000)).unwrap();

    let mut agent = seat.start();
    told(&mut agent, "is damaged").await;
    agent.ready().await;
    assert!(seat.folder.join("blobs.damaged").is_dir());
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 4);
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_at_what_it_reads_is_set_aside_and_an_agent_that_cannot_start_anew_tries_it_again() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut requester = world.requester().await;
    let mut agent = seat.start();
    agent.ready().await;
    let posted = requester.post(&greetings(2)).await.unwrap();
    follow(&mut requester, posted.job, &world.folder("first")).await;
    agent.stop().await.unwrap();
    // The page that has the program's name, in a database that was closed well.
    let path = database(&seat.folder);
    let mut bytes = fs::read(&path).unwrap();
    let hash = blob_hash(HELLO);
    let places: Vec<_> = (0..bytes.len() - 32).filter(|at| bytes[*at..at + 32] == hash).collect();
    assert!(!places.is_empty(), "the store knows the program");
    for at in places {
        let page = at / 4096 * 4096;
        bytes[page..page + 4096].fill(0xff);
    }
    fs::write(&path, bytes).unwrap();

    let mut agent = seat.start();
    agent.ready().await;
    // What it needs at its next start, and cannot have.
    let events = seat.folder.join("events.jsonl");
    fs::remove_file(&events).unwrap();
    fs::create_dir(&events).unwrap();
    let posted = requester.post(&greetings(4)).await.unwrap();
    told(&mut agent, "it is tried again").await;
    fs::remove_dir(&events).unwrap();
    told(&mut agent, "set aside").await;
    let out = world.folder("second");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 4);
    agent.stop().await.unwrap();
}
