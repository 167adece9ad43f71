//! Endpoints that lie, lag, limit or refuse: in front of a real chain, answers are bent on their way.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use alloy::{
    providers::ProviderBuilder,
    rpc::client::RpcClient,
    transports::{TransportError, TransportErrorKind, layers::RetryBackoffLayer},
};
use conun_chain::{Answer, InProcess, RpcError};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    super::endpoint::TooManyRequests,
    tests::{Net, ports},
    *,
};

/// What an endpoint does to the truth.
#[derive(Clone, Debug)]
enum Lie {
    /// It leaves out the first log of an answer.
    Missing,
    /// It tells the first log twice.
    Twice,
    /// It changes a log's data.
    Forged,
    /// Its latest block is this many blocks old.
    Stale(u64),
    /// It gives logs of at most so many blocks.
    Range(u64),
    /// It refuses so many requests: too many.
    TooMany(Arc<AtomicU64>),
}

#[derive(Clone)]
struct Bent {
    chain: conun_chain::SharedChain,
    lie: Lie,
}

fn failure(message: &str) -> Answer {
    Err(RpcError { code: -32005, message: message.to_owned(), data: None })
}

impl Bent {
    fn answer(&self, method: &str, mut params: Value) -> Result<Answer, TransportError> {
        let number = |value: &Value| u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        match (method, &self.lie) {
            (_, Lie::TooMany(left))
                if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() =>
            {
                return Err(TransportErrorKind::http_error(429, "slow down".to_owned()));
            }
            ("eth_getBlockByNumber", Lie::Stale(age)) if params[0] == "latest" => {
                params[0] = format!("{:#x}", self.chain.height() - age).into();
            }
            ("eth_getLogs", Lie::Range(most))
                if number(&params[0]["toBlock"]) - number(&params[0]["fromBlock"]) >= *most =>
            {
                return Ok(failure("query exceeds the range limit"));
            }
            _ => {}
        }
        let answer = self.chain.handle(method, params).map(|mut answer| {
            if let ("eth_getLogs", Some(logs)) = (method, answer.as_array_mut().filter(|logs| !logs.is_empty())) {
                match self.lie {
                    Lie::Missing => drop(logs.remove(0)),
                    Lie::Twice => logs.insert(0, logs[0].clone()),
                    Lie::Forged => {
                        let data = logs[0]["data"].as_str().unwrap().replacen("0x00", "0x01", 1);
                        logs[0]["data"] = data.into();
                    }
                    _ => {}
                }
            }
            to_raw_value(&answer).unwrap()
        });
        Ok(answer)
    }
}

impl Net {
    fn bent(&self, lie: Lie) -> DynProvider {
        let bent = Bent { chain: self.chain.clone(), lie };
        let transport = tower::ServiceBuilder::new()
            .layer(RetryBackoffLayer::new_with_policy(5, 1, 1_000_000, TooManyRequests))
            .service(InProcess(move |method: &str, params| bent.answer(method, params)));
        ProviderBuilder::new().connect_client(RpcClient::new(transport, true)).erased()
    }
}

#[tokio::test]
async fn what_only_one_of_two_endpoints_tells_is_not_believed_whichever_lies() {
    let net = Net::new().await;
    net.register(1, 1).await;
    for lie in [Lie::Missing, Lie::Twice, Lie::Forged] {
        for liar_first in [false, true] {
            let (one, two) = (net.bent(lie.clone()), net.chain.provider());
            let (first, witness) = if liar_first { (one, two) } else { (two, one) };
            let follower = Follower::new(first, net.contracts, 0).await.unwrap();
            let mut follower = follower.with_witness(witness).await.unwrap();
            let error = follower.poll().await.unwrap_err();
            assert!(matches!(error, Error::Disagreement { .. }), "{lie:?}: {error}");
            assert!(follower.index().providers.is_empty(), "{lie:?}: nothing is taken in");
        }
    }
    // Two that tell the same.
    let mut follower = net.follower().await.with_witness(net.chain.provider()).await.unwrap();
    follower.poll().await.unwrap();
    assert_eq!(ports(&follower), [1]);
}

#[tokio::test]
async fn of_two_endpoints_the_one_that_lags_sets_the_pace_and_forks_are_told_apart() {
    let net = Net::new().await;
    net.register(1, 1).await;
    net.rpc("anvil_mine", json!([3]));
    net.register(2, 2).await;
    let stale = net.bent(Lie::Stale(3));
    let mut follower = net.follower().await.with_witness(stale).await.unwrap();
    let head = follower.poll().await.unwrap();
    assert_eq!((head.number + 3, ports(&follower)), (net.chain.height(), vec![1]));
    // Another chain of the same id and contracts, with blocks of its own.
    let fork = Net::new().await;
    fork.register(3, 3).await;
    fork.rpc("anvil_mine", json!([9]));
    let mut follower = net.follower().await.with_witness(fork.chain.provider()).await.unwrap();
    let error = follower.poll().await.unwrap_err();
    assert!(matches!(error, Error::Disagreement { what: "its hash", .. }), "{error}");
}

#[tokio::test]
async fn range_limits_are_found_out_and_too_many_requests_are_waited_out() {
    let net = Net::new().await;
    for port in [1, 2, 3] {
        net.register(usize::from(port), port).await;
        net.rpc("anvil_mine", json!([50]));
    }
    for lie in [Lie::Range(7), Lie::Range(1), Lie::TooMany(Arc::new(AtomicU64::new(4)))] {
        let mut follower = Follower::new(net.bent(lie.clone()), net.contracts, 0).await.unwrap();
        follower.poll().await.unwrap();
        assert_eq!(ports(&follower), [1, 2, 3], "{lie:?}");
    }
}
