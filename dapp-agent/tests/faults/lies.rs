//! Endpoints that lie: of two, one tells what it likes. And chains that change their mind.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use alloy::{
    primitives::B256,
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::{
        client::RpcClient,
        json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest},
    },
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use conun_agent::{
    chain::{BatchStage, Follower, Index},
    requester::{JobFile, Prepared, assemble},
};
use conun_bindings::{abi::JobRegistry, deploy::TOKEN};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    Item, Plan,
    crash::{self, Work},
    machine::Machine,
    market::{HELLO, Market, PATIENCE, greetings_for},
    random::Random,
};

pub(crate) fn items(plan: &Plan, round: u64) -> Vec<Item> {
    let mut items = Vec::new();
    for (first, name) in [(true, "the first"), (false, "the second")] {
        let anvil = plan.anvil.clone();
        items.push(Item {
            kind: format!("of two endpoints {name} lies, 10,000 events"),
            name: format!("seed {round}"),
            always: first,
            run: Box::pin(lied_to(anvil, first, round)),
        });
    }
    items
}

/// Re-orgs of each depth. Those under an agent not on anvil, where no transaction comes back after one.
pub(crate) fn reorgs(plan: &Plan, round: u64) -> Vec<Item> {
    let mut items = Vec::new();
    for first in (1..=64).step_by(4) {
        items.push(Item {
            kind: "re-org that takes away a job, its lease, result and payment".to_owned(),
            name: format!("depths from {first}, round {round}"),
            always: first == 5,
            run: Box::pin(lost_branches(plan.anvil.clone(), first..first + 4)),
        });
    }
    if plan.anvil.is_none() {
        for depth in 1..=64 {
            items.push(Item {
                kind: "re-org under an agent at work".to_owned(),
                name: format!("depth {depth}, seed {round}"),
                always: [3, 17].contains(&depth),
                run: Box::pin(crash::run_with_reorg(
                    if depth % 2 == 0 { Work::Once } else { Work::Voted },
                    depth,
                    round,
                )),
            });
        }
    }
    items
}

/// Leases and their releases in a transaction.
const BATCHES: u32 = 100;

/// Events, at least.
const EVENTS: u64 = 10_000;

fn many_batches() -> Prepared {
    let text = "program = 'hello.wasm'\nprice = '1'\nbatch-size = 1\nfuel-limit = 1000\nlease-seconds = 1200\nwindow-seconds = 60\n";
    let inputs = (0..BATCHES).map(|task| format!("Person {task}\n").into()).collect();
    assemble(&JobFile::parse(text).unwrap(), HELLO.into(), inputs, Vec::new(), TOKEN).unwrap()
}

/// Follows 10,000 events with one endpoint of two lying; the index is the one of who hears the truth alone. Returns the number of lies.
async fn lied_to(anvil: Option<PathBuf>, first: bool, seed: u64) -> u64 {
    let market = Market::open(anvil.as_deref()).await;
    let seat = market.seat(1, Machine::new(None, seed)).await;
    let mut requester = market.requester().await;
    let posted = requester.post(&many_batches()).await.unwrap().job;
    let job = market.follower().await.index().job(&posted).unwrap().job.clone();
    let registry = JobRegistry::new(market.contracts.jobs, market.chain.wallet(std::slice::from_ref(&seat.signer)));

    registry.provider().client().set_poll_interval(Duration::from_millis(10));
    let lies = Arc::new(AtomicU64::new(0));
    let truth = market.chain.provider();
    let bent = Bent {
        provider: truth.clone(),
        random: Arc::new(Mutex::new(Random::new(seed))),
        // Each costs the agent's whole patience.
        hangs: Arc::new(AtomicU64::new(u64::from(!first))),
        lies: lies.clone(),
    };
    let bent = ProviderBuilder::new().connect_client(RpcClient::new(bent, true)).erased();
    let (one, two) = if first { (bent, truth.clone()) } else { (truth.clone(), bent) };
    let mut follower = loop {
        // It may be lied to at once.
        if let Ok(follower) = Follower::new(one.clone(), market.contracts, 0).await
            && let Ok(follower) = follower.with_witness(two.clone()).await
        {
            break follower;
        }
    };
    let mut honest = market.follower().await;
    let mut events = 0;
    while events < EVENTS {
        let batches: Vec<_> = (0..BATCHES).collect();
        // A batch that was given back can be leased again a second later. Anvil takes a transaction before it has mined it.
        market.chain.skip(1).await;
        let leased = registry.lease(job.clone(), batches.clone()).send().await.unwrap();
        assert!(leased.get_receipt().await.unwrap().status());
        let released = registry.release(job.clone(), batches).send().await.unwrap();
        assert!(released.get_receipt().await.unwrap().status());
        events += u64::from(BATCHES) + 1;
        for _ in 0..4 {
            // What it takes in is true, or nothing.
            if let Ok(head) = follower.poll().await {
                honest.poll().await.unwrap();
                if honest.head() == Some(head) {
                    assert_eq!(canonical(follower.index()), canonical(honest.index()), "after {events} events");
                }
            }
        }
    }
    // It comes to the end as long as the liar tells the truth now and then.
    let target = honest.poll().await.unwrap().number;
    let catching_up = async {
        while follower.head().is_none_or(|head| head.number < target) {
            // Errors are what lies come to.
            let _ = follower.poll().await;
        }
    };
    tokio::time::timeout(PATIENCE, catching_up).await.expect("it comes to the end");
    market.chain.stop(true);
    let mut equal = false;
    for _ in 0..1_000 {
        let mut fresh = market.follower().await;
        let head = fresh.poll().await.unwrap();
        if follower.poll().await.is_ok_and(|found| found == head) {
            assert_eq!(canonical(follower.index()), canonical(fresh.index()));
            equal = true;
            break;
        }
    }
    assert!(equal, "it never comes to the head");
    let seen = follower.index().job(&posted).unwrap().transactions.len() as u64;
    assert!(seen > 2 * EVENTS / u64::from(BATCHES + 1), "{seen} transactions are in the index");
    requester.shutdown().await;
    lies.load(Ordering::Relaxed)
}

/// A job is posted, leased, handed in and paid in the last blocks, which are then replaced by empty ones; the index is that of who has
/// seen the new chain alone.
async fn lost_branches(anvil: Option<PathBuf>, depths: std::ops::Range<u64>) -> u64 {
    let market = Market::open(anvil.as_deref()).await;
    let seat = market.seat(1, Machine::new(None, 0)).await;
    market.chain.stop(true);
    let mut follower = market.follower().await;
    let count = depths.end - depths.start;
    for depth in depths {
        // Neither remembers the nonces of blocks that are gone.
        let registry = JobRegistry::new(market.contracts.jobs, market.chain.wallet(std::slice::from_ref(&seat.signer)));
        let mut requester = market.requester().await;
        let posted = requester.post(&greetings_for(TOKEN + u128::from(depth), None)).await.unwrap().job;
        follower.poll().await.unwrap();
        let job = follower.index().job(&posted).unwrap().job.clone();
        let _ = registry.lease(job.clone(), vec![0, 1]).send().await.unwrap();
        follow_to(&mut follower, posted, BatchStage::Leased).await;
        let result =
            |batch| JobRegistry::Result { batch, root: B256::from([1; 32]), fuel: 5, outputs: B256::from([2; 32]) };
        let _ = registry.submit(job, vec![result(0), result(1)]).send().await.unwrap();
        follow_to(&mut follower, posted, BatchStage::Submitted).await;
        requester.accept(posted, None).await.unwrap();
        if let Some(more) = depth.checked_sub(4).filter(|more| *more > 0) {
            market.chain.rpc("anvil_mine", json!([more])).await;
        }
        follower.poll().await.unwrap();
        assert!(follower.index().job(&posted).unwrap().is_over());
        requester.shutdown().await;

        market.chain.rpc("anvil_reorg", json!([depth, []])).await;
        let head = follower.poll().await.unwrap();
        let fresh = market.follower().await;
        assert_eq!(Some(head), fresh.head());
        assert_eq!(canonical(follower.index()), canonical(fresh.index()), "depth {depth}");
        assert!(follower.index().job(&posted).is_none_or(|entry| depth < 4 && !entry.is_over()), "depth {depth}");
        // What is left of it does not stand in the next one's way.
        market.chain.rpc("anvil_mine", json!([64])).await;
        follower.poll().await.unwrap();
    }
    count
}

/// Reads on until all batches are so far: anvil mines a moment after it has taken a transaction.
async fn follow_to(follower: &mut Follower, job: B256, stage: BatchStage) {
    let coming = async {
        while !follower.index().job(&job).is_some_and(|entry| entry.batches.iter().all(|batch| batch.stage == stage)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            follower.poll().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, coming).await.expect("it is mined");
}

/// Everything in an index, in an order that does not depend on hashing.
pub(crate) fn canonical(index: &Index) -> String {
    let jobs: BTreeMap<B256, _> = index.jobs.iter().map(|(id, entry)| (*id, entry)).collect();
    format!("{:?}", (&index.rules, jobs, &index.order, &index.providers, &index.cases))
}

/// An endpoint in front of a true one.
#[derive(Clone)]
struct Bent {
    provider: DynProvider,
    random: Arc<Mutex<Random>>,
    /// Requests that are never answered, still to come.
    hangs: Arc<AtomicU64>,
    lies: Arc<AtomicU64>,
}

impl Bent {
    fn below(&self, bound: u64) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }

    fn lie(&self) {
        self.lies.fetch_add(1, Ordering::Relaxed);
    }

    async fn answer(self, request: SerializedRequest) -> Result<ResponsePacket, TransportError> {
        let mut params: Value =
            request.params().map_or(json!([]), |params| serde_json::from_str(params.get()).unwrap());
        if self.below(20) == 0 {
            self.lie();
            return Err(TransportErrorKind::http_error(429, "slow down".to_owned()));
        }
        let hangs = self.below(50) == 0
            && self.hangs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if hangs {
            self.lie();
            std::future::pending::<()>().await;
        }
        if params[0] == "latest" && self.below(4) == 0 {
            self.lie();
            let height = self.provider.get_block_number().await?;
            params[0] = format!("{:#x}", height.saturating_sub(self.below(20))).into();
        }
        let method = request.method().to_owned();
        let payload = match self.provider.raw_request::<_, Value>(method.clone().into(), params).await {
            Ok(mut answer) => {
                self.bend(&method, &mut answer);
                ResponsePayload::Success(to_raw_value(&answer).unwrap())
            }
            Err(error) => match error.as_error_resp() {
                Some(payload) => ResponsePayload::Failure(payload.clone()),
                None => return Err(error),
            },
        };
        Ok(ResponsePacket::Single(Response { id: request.id().clone(), payload }))
    }

    fn bend(&self, method: &str, answer: &mut Value) {
        if method == "eth_getBlockByNumber" && answer["hash"].is_string() && self.below(20) == 0 {
            self.lie();
            answer["hash"] = json!(B256::from([7; 32]));
        }
        let Some(logs) = answer.as_array_mut().filter(|logs| method == "eth_getLogs" && !logs.is_empty()) else {
            return;
        };
        if self.below(3) != 0 {
            return;
        }
        for _ in 0..=self.below(3) {
            let count = logs.len() as u64;
            if count == 0 {
                return;
            }
            self.lie();
            let (at, to) = (self.below(count) as usize, self.below(count) as usize);
            match self.below(5) {
                0 => drop(logs.remove(at)),
                1 => logs.insert(to, logs[at].clone()),
                2 if at != to => logs.swap(at, to),
                3 => logs[at]["transactionHash"] = json!(B256::from([8; 32])),
                _ => logs[at]["data"] = "0x1234".into(),
            }
        }
    }
}

impl tower::Service<RequestPacket> for Bent {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let RequestPacket::Single(request) = packet else { panic!("nothing here sends batches") };
        Box::pin(self.clone().answer(request))
    }
}
