//! Endpoints that lie, lag or refuse: answers of the real chain are bent on their way.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use alloy::{
    rpc::json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest},
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use conun_chain::SharedChain;
use serde_json::{Value, value::to_raw_value};

use crate::{
    random::Random,
    scenario::{Lie, Lies},
};

/// Blocks that a stale endpoint lags behind.
const STALE_BLOCKS: u64 = 10;

/// alloy's transport to an endpoint that does not tell the truth.
#[derive(Clone)]
pub(crate) struct Bent {
    pub(crate) chain: SharedChain,
    pub(crate) lies: Lies,
    pub(crate) random: Arc<Mutex<Random>>,
}

impl Bent {
    fn lies_now(&self) -> bool {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).chance(self.lies.chance)
    }

    fn answer(&self, request: &SerializedRequest) -> Result<ResponsePayload, TransportError> {
        let (method, lie) = (request.method(), self.lies.lie);
        let mut params: Value = request.params().map_or(Value::Null, |params| {
            serde_json::from_str(params.get()).expect("a serialised request holds valid JSON")
        });
        let asks_logs = method == "eth_getLogs";
        let asks_head = method == "eth_getBlockByNumber" && params[0] == "latest";
        if lie == Lie::Refusing && asks_logs && self.lies_now() {
            return Err(TransportErrorKind::http_error(429, "slow down".to_owned()));
        }
        if lie == Lie::Stale && asks_head && self.lies_now() {
            params[0] = format!("{:#x}", self.chain.height().saturating_sub(STALE_BLOCKS)).into();
        }
        let mut answer = match self.chain.handle(method, params) {
            Ok(answer) => answer,
            Err(error) => return Ok(ResponsePayload::Failure(ErrorPayload::from(error))),
        };
        if let Some(logs) = answer.as_array_mut().filter(|logs| asks_logs && !logs.is_empty()) {
            match lie {
                Lie::Missing if self.lies_now() => drop(logs.remove(0)),
                Lie::Twice if self.lies_now() => logs.insert(0, logs[0].clone()),
                Lie::Forged if self.lies_now() => {
                    let data = logs[0]["data"].as_str().unwrap_or_default().replacen("0x00", "0x01", 1);
                    logs[0]["data"] = data.into();
                }
                _ => {}
            }
        }
        Ok(ResponsePayload::Success(to_raw_value(&answer).expect("a JSON value is serialisable")))
    }

    fn respond(&self, request: &SerializedRequest) -> Result<Response, TransportError> {
        Ok(Response { id: request.id().clone(), payload: self.answer(request)? })
    }
}

impl tower::Service<RequestPacket> for Bent {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let answer = match packet {
            RequestPacket::Single(request) => self.respond(&request).map(ResponsePacket::Single),
            RequestPacket::Batch(requests) => requests
                .iter()
                .map(|request| self.respond(request))
                .collect::<Result<_, _>>()
                .map(ResponsePacket::Batch),
        };
        Box::pin(std::future::ready(answer))
    }
}
