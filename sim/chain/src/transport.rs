//! alloy's transport without a socket.

use std::{
    fmt,
    task::{Context, Poll},
};

use alloy::{
    rpc::json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest},
    transports::{TransportError, TransportFut},
};
use serde_json::{Value, value::RawValue};

use crate::RpcError;

/// What a method answers.
pub type Answer = Result<Box<RawValue>, RpcError>;

/// A transport that answers in the calling task, as a function of method and parameters says: the chain itself
/// ([`SharedChain::answer`](crate::SharedChain::answer)), or something that stands before it.
#[derive(Clone)]
pub struct InProcess<F>(pub F);

impl<F> fmt::Debug for InProcess<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl<F: Fn(&str, Value) -> Result<Answer, TransportError>> InProcess<F> {
    fn respond(&self, request: &SerializedRequest) -> Result<Response, TransportError> {
        let params = request.params().map_or(Value::Null, |params| {
            serde_json::from_str(params.get()).expect("a serialised request holds valid JSON")
        });
        let payload = match (self.0)(request.method(), params)? {
            Ok(result) => ResponsePayload::Success(result),
            Err(error) => ResponsePayload::Failure(error.into()),
        };
        Ok(Response { id: request.id().clone(), payload })
    }
}

impl<F: Fn(&str, Value) -> Result<Answer, TransportError>> tower::Service<RequestPacket> for InProcess<F> {
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
