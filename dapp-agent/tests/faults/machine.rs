//! A computer that can lose its power at any point: its journal's disk, and its line to the chain.
//!
//! The disk keeps writes to itself until they are synced, as a disk's cache does, and the line counts transactions. Whoever asks
//! for anything after the power went gets no answer, so that nothing happens after the crash that could not have happened before.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alloy::{
    consensus::{Transaction as _, TxEnvelope, transaction::SignerRecoverable},
    eips::Decodable2718,
    primitives::{Address, B256, Bytes, TxKind},
    providers::{DynProvider, Provider},
};
use axum::{Json, Router, extract::State, routing::post};
use redb::{DatabaseError, StorageBackend, backends::FileBackend};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

use crate::{market::Chain, random::Random};

/// When a machine's power goes; syncs and transactions are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// At this sync of the journal, before anything of it is durable.
    BeforeSync(u64),
    /// At this sync, once a part of what was written is on the disk, perhaps half of a page.
    TornSync(u64),
    /// At this sync, once it is durable, before the agent hears of it.
    AfterSync(u64),
    /// At this transaction, before it leaves.
    BeforeSend(u64),
    /// At this transaction, once it is mined, before the agent hears of it.
    AfterSend(u64),
    /// At this transaction, once the node has it; it is mined only after the agent has come back.
    WaitingSend(u64),
}

impl Point {
    /// All points of a life with so many syncs and transactions.
    pub(crate) fn all((syncs, sends): (u64, u64)) -> Vec<Self> {
        let syncs = (1..=syncs).flat_map(|n| [Self::BeforeSync(n), Self::TornSync(n), Self::AfterSync(n)]);
        let sends = (1..=sends).flat_map(|n| [Self::BeforeSend(n), Self::AfterSend(n), Self::WaitingSend(n)]);
        syncs.chain(sends).collect()
    }

    pub(crate) fn is_sync(self) -> bool {
        matches!(self, Self::BeforeSync(_) | Self::TornSync(_) | Self::AfterSync(_))
    }

    /// At which sync or transaction.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::BeforeSync(number) | Self::TornSync(number) | Self::AfterSync(number) => number,
            Self::BeforeSend(number) | Self::AfterSend(number) | Self::WaitingSend(number) => number,
        }
    }

    /// The kind in words.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::BeforeSync(_) => "before a write of the journal is durable",
            Self::TornSync(_) => "while a write of the journal is half durable",
            Self::AfterSync(_) => "after a write of the journal is durable",
            Self::BeforeSend(_) => "before a transaction leaves",
            Self::AfterSend(_) => "after a transaction is mined, unheard",
            Self::WaitingSend(_) => "while a transaction waits at the node",
        }
    }
}

/// A transaction that the node has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) signer: Address,
    pub(crate) nonce: u64,
    pub(crate) to: TxKind,
    pub(crate) input: Bytes,
    pub(crate) hash: B256,
}

#[derive(Debug, Default)]
struct Counted {
    syncs: u64,
    sends: u64,
    at: Option<Point>,
    /// What an operation of the disk fails with now.
    disk: Option<io::ErrorKind>,
    failures: u64,
    reached: Vec<Reached>,
}

/// One computer's power, disk and line. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    counted: Arc<Mutex<Counted>>,
    dead: watch::Sender<bool>,
    asleep: watch::Sender<bool>,
    seed: u64,
}

impl Machine {
    pub(crate) fn new(at: Option<Point>, seed: u64) -> Self {
        let counted = Counted { at, ..Counted::default() };
        Self {
            counted: Arc::new(Mutex::new(counted)),
            dead: watch::Sender::new(false),
            asleep: watch::Sender::new(false),
            seed,
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power does not go any more; syncs and transactions of this life.
    pub(crate) fn spare(&self) -> (u64, u64) {
        let mut counted = self.counted();
        counted.at = None;
        (counted.syncs, counted.sends)
    }

    /// What of this machine's the node has taken.
    pub(crate) fn reached(&self) -> Vec<Reached> {
        self.counted().reached.clone()
    }

    /// Has every operation of the disk fail from now on, or work again; how many failed so far.
    pub(crate) fn fail_disk(&self, with: Option<io::ErrorKind>) -> u64 {
        let mut counted = self.counted();
        counted.disk = with;
        counted.failures
    }

    /// Resolves when the power has gone.
    pub(crate) async fn died(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is here.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    /// Whether the point was reached.
    pub(crate) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Power again, which goes at another point, counted from now on.
    pub(crate) fn revive(&self, at: Option<Point>) {
        let mut counted = self.counted();
        (counted.syncs, counted.sends, counted.at) = (0, 0, at);
        drop(counted);
        self.dead.send_replace(false);
    }

    /// Falls asleep, or wakes up: what was under way goes on then.
    pub(crate) fn sleep(&self, on: bool) {
        self.asleep.send_replace(on);
    }

    fn die(&self) {
        self.dead.send_replace(true);
    }

    /// The disk, for the journal's file.
    pub(crate) fn disk(&self, file: File) -> Result<Disk, DatabaseError> {
        let backend = FileBackend::new(file)?;
        let mut image = vec![0; backend.len()? as usize];
        backend.read(0, &mut image)?;
        Ok(Disk { machine: self.clone(), backend, cache: Mutex::new(Cache { image, unsynced: Vec::new() }) })
    }

    /// A line to the chain; ends with the task.
    pub(crate) async fn line(&self, chain: &Chain) -> (String, JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let line = Line { machine: self.clone(), provider: chain.provider(), chain: chain.clone() };
        let app = Router::new().route("/", post(relay)).with_state(line);
        (url, tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }))
    }
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

/// What a database sees: the file with all that was written since the last sync.
#[derive(Debug)]
struct Cache {
    image: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Debug)]
pub(crate) struct Disk {
    machine: Machine,
    backend: FileBackend,
    cache: Mutex<Cache>,
}

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

impl Disk {
    fn cache(&self) -> io::Result<MutexGuard<'_, Cache>> {
        if self.machine.is_dead() {
            return Err(io::Error::other("the power is gone"));
        }
        let mut counted = self.machine.counted();
        if let Some(kind) = counted.disk {
            counted.failures += 1;
            return Err(kind.into());
        }
        Ok(self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn land(&self, write: &Write) -> io::Result<()> {
        match write {
            Write::Bytes(at, data) => self.backend.write(*at, data),
            Write::Length(len) => self.backend.set_len(*len),
        }
    }

    /// Some of the sectors, in no order: what a disk may have of its cache when the power goes.
    fn tear(&self, unsynced: Vec<Write>, seed: u64) -> io::Result<()> {
        let mut random = Random::new(seed);
        for write in unsynced {
            let Write::Bytes(at, data) = &write else {
                // A file system writes lengths before what lies beyond the old ones.
                self.land(&write)?;
                continue;
            };
            for (sector, part) in data.chunks(SECTOR).enumerate() {
                if random.below(2) == 0 {
                    self.backend.write(at + (sector * SECTOR) as u64, part)?;
                }
            }
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.cache()?.image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let cache = self.cache()?;
        let from = offset as usize;
        let found = cache.image.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut cache = self.cache()?;
        cache.image.resize(len as usize, 0);
        cache.unsynced.push(Write::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut cache = self.cache()?;
        let (number, at) = {
            let mut counted = self.machine.counted();
            counted.syncs += 1;
            (counted.syncs, counted.at)
        };
        let unsynced = std::mem::take(&mut cache.unsynced);
        match at {
            Some(Point::BeforeSync(point)) if point == number => {}
            Some(Point::TornSync(point)) if point == number => self.tear(unsynced, self.machine.seed ^ number)?,
            at => {
                unsynced.iter().try_for_each(|write| self.land(write))?;
                if at != Some(Point::AfterSync(number)) {
                    return Ok(());
                }
            }
        }
        self.machine.die();
        Err(io::Error::other("the power is gone"))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut cache = self.cache()?;
        let from = offset as usize;
        let place = cache.image.get_mut(from..from + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(data);
        cache.unsynced.push(Write::Bytes(offset, data.to_vec()));
        Ok(())
    }
}

#[derive(Clone)]
struct Line {
    machine: Machine,
    provider: DynProvider,
    chain: Chain,
}

async fn relay(State(line): State<Line>, Json(request): Json<Value>) -> Json<Value> {
    match line.answer(&request).await {
        Some(answer) => Json(answer),
        None => std::future::pending().await,
    }
}

impl Line {
    /// None if the power has gone meanwhile.
    async fn answer(&self, request: &Value) -> Option<Value> {
        // The sender is here.
        let _ = self.machine.asleep.subscribe().wait_for(|asleep| !asleep).await;
        if self.machine.is_dead() {
            return None;
        }
        let method = request["method"].as_str().unwrap().to_owned();
        let number = (method == "eth_sendRawTransaction").then(|| {
            let mut counted = self.machine.counted();
            counted.sends += 1;
            counted.sends
        });
        let at = self.machine.counted().at;
        let is = |point: fn(u64) -> Point| number.is_some_and(|number| at == Some(point(number)));
        if is(Point::BeforeSend) {
            self.machine.die();
            return None;
        }
        if is(Point::WaitingSend) {
            self.chain.hold(true).await;
        }
        let answer = self.provider.raw_request::<_, Value>(method.into(), request["params"].clone()).await;
        if number.is_some() && answer.is_ok() {
            self.machine.counted().reached.push(decode(&request["params"][0]));
        }
        if is(Point::AfterSend) || is(Point::WaitingSend) {
            self.machine.die();
        }
        if self.machine.is_dead() {
            return None;
        }
        Some(match answer {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }),
            Err(error) => {
                let error = error.as_error_resp().unwrap_or_else(|| panic!("the node fails: {error}"));
                json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
            }
        })
    }
}

fn decode(raw: &Value) -> Reached {
    let raw: Bytes = serde_json::from_value(raw.clone()).unwrap();
    let tx = TxEnvelope::decode_2718_exact(&raw).unwrap();
    Reached {
        signer: tx.recover_signer().unwrap(),
        nonce: tx.nonce(),
        to: tx.kind(),
        input: tx.input().clone(),
        hash: *tx.tx_hash(),
    }
}
