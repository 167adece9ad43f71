//! alloy's transport without a socket.

use std::task::{Context, Poll};

use alloy::{
    rpc::json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest},
    transports::{TransportError, TransportFut},
};
use serde_json::{Value, value::to_raw_value};

use crate::SharedChain;

/// Answers requests in the calling task.
#[derive(Clone)]
pub(crate) struct InProcess(pub(crate) SharedChain);

impl InProcess {
    fn answer(&self, request: &SerializedRequest) -> Response {
        let params = request.params().map_or(Value::Null, |params| {
            serde_json::from_str(params.get()).expect("a serialised request holds valid JSON")
        });
        let payload = match self.0.handle(request.method(), params) {
            Ok(result) => ResponsePayload::Success(to_raw_value(&result).expect("a JSON value is serialisable")),
            Err(error) => ResponsePayload::Failure(error.into()),
        };
        Response { id: request.id().clone(), payload }
    }
}

impl tower::Service<RequestPacket> for InProcess {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let answer = match packet {
            RequestPacket::Single(request) => ResponsePacket::Single(self.answer(&request)),
            RequestPacket::Batch(requests) => {
                ResponsePacket::Batch(requests.iter().map(|request| self.answer(request)).collect())
            }
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}
