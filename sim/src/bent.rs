//! Endpoints that lie, lag or refuse: answers of the real chain are bent on their way.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use alloy::transports::{TransportError, TransportErrorKind};
use conun_chain::{Answer, SharedChain};
use serde_json::{Value, value::to_raw_value};

use crate::{
    random::Random,
    scenario::{Lie, Lies},
};

/// Blocks that a stale endpoint lags behind.
const STALE_BLOCKS: u64 = 10;

/// An endpoint that does not tell the truth.
pub(crate) struct Bent {
    pub(crate) chain: SharedChain,
    pub(crate) lies: Lies,
    pub(crate) random: Mutex<Random>,
    /// Answers bent so far, by all endpoints together.
    pub(crate) told: Arc<AtomicU64>,
}

impl Bent {
    fn lies_now(&self) -> bool {
        let lies = self.random.lock().unwrap_or_else(PoisonError::into_inner).chance(self.lies.chance);
        self.told.fetch_add(lies.into(), Ordering::Relaxed);
        lies
    }

    /// What it answers.
    pub(crate) fn answer(&self, method: &str, mut params: Value) -> Result<Answer, TransportError> {
        let lie = self.lies.lie;
        let asks_logs = method == "eth_getLogs";
        let asks_head = method == "eth_getBlockByNumber" && params[0] == "latest";
        if lie == Lie::Refusing && asks_logs && self.lies_now() {
            return Err(TransportErrorKind::http_error(429, "slow down".to_owned()));
        }
        if lie == Lie::Stale && asks_head && self.lies_now() {
            params[0] = format!("{:#x}", self.chain.height().saturating_sub(STALE_BLOCKS)).into();
        }
        let answer = self.chain.answer(method, params);
        if !asks_logs || !matches!(lie, Lie::Missing | Lie::Twice | Lie::Forged) {
            return Ok(answer);
        }
        Ok(answer.map(|raw| {
            let mut logs: Vec<Value> = serde_json::from_str(raw.get()).expect("logs are a list");
            if logs.is_empty() || !self.lies_now() {
                return raw;
            }
            match lie {
                Lie::Missing => drop(logs.remove(0)),
                Lie::Twice => logs.insert(0, logs[0].clone()),
                _ => {
                    let data = logs[0]["data"].as_str().unwrap_or_default().replacen("0x00", "0x01", 1);
                    logs[0]["data"] = data.into();
                }
            }
            to_raw_value(&logs).expect("a JSON value is serialisable")
        }))
    }
}
