//! JSON-RPC 2.0 over HTTP and WebSocket, on one port.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use alloy::{
    primitives::{B256, U256},
    rpc::types::Filter,
};
use axum::{
    Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequestParts, Request, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{Answer, Error, RpcError, SharedChain, rpc, shared::Notice};

/// Largest request, bytes.
const MAX_BODY: usize = 16 << 20;

/// Most requests in one batch.
const MAX_BATCH: usize = 1000;

/// Time for requests under way when the server ends.
const GRACE: Duration = Duration::from_secs(2);

/// A running server. Dropping it ends the server as well.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ServerHandle {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For HTTP clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For WebSocket clients.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends the server: requests under way are answered, clients that do not finish theirs within [`GRACE`] are cut off.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // It was asked to end; a panic in it has been reported already.
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

pub(crate) async fn spawn(
    chain: SharedChain,
    address: SocketAddr,
    block_time: Option<Duration>,
) -> Result<ServerHandle, Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
    let (stop, stopped) = watch::channel(false);
    let app = Router::new()
        .route("/", any(serve))
        .layer(from_fn(guard))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state((chain.clone(), stopped.clone()));
    let mut done = stopped.clone();
    let server = async move {
        let graceful = axum::serve(listener, app).with_graceful_shutdown(async move {
            // The handle was dropped if this fails, which ends the server as well.
            let _ = done.wait_for(|stop| *stop).await;
        });
        if let Err(error) = graceful.await {
            tracing::error!(target: "conun::chain", %error, "the JSON-RPC server ended");
        }
    };
    let mut done = stopped;
    let miner = async move {
        let Some(period) = block_time else { return };
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => chain.tick(),
                _ = done.wait_for(|stop| *stop) => return,
            }
        }
    };
    let task = tokio::spawn(async move {
        tokio::join!(server, miner);
    });
    Ok(ServerHandle { address, stop, task })
}

/// Refuses requests under a foreign host name: a web page must not reach the chain by having its own name resolve to loopback
/// (DNS rebinding). Wallets in browsers get the CORS headers they ask for.
async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name != "localhost" && name.parse::<std::net::IpAddr>().is_err() {
        return (StatusCode::FORBIDDEN, "use localhost or an IP address as host name\n").into_response();
    }
    let preflight = request.method() == axum::http::Method::OPTIONS;
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, header::HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, header::HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, header::HeaderValue::from_static("POST, GET, OPTIONS"));
    response
}

async fn serve(State((chain, stopped)): State<(SharedChain, watch::Receiver<bool>)>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if is_upgrade(&parts.headers) {
        return match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade.max_message_size(MAX_BODY).on_upgrade(move |socket| session(chain, stopped, socket)),
            Err(refusal) => refusal.into_response(),
        };
    }
    if parts.method != axum::http::Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "POST JSON-RPC 2.0 requests here, or open a WebSocket\n")
            .into_response();
    }
    let body: Bytes = match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(_) => return (StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than 16 MiB\n").into_response(),
    };
    // The EVM may take a while: other connections go on meanwhile.
    let answered =
        tokio::task::spawn_blocking(move || answer(&body, |method, params| chain.answer(method, params))).await;
    match answered {
        Ok(Some(answer)) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[derive(Deserialize)]
struct Call {
    jsonrpc: Option<String>,
    method: String,
    #[serde(default)]
    params: Value,
}

/// An answer, successful or not.
#[derive(Serialize)]
struct Reply {
    jsonrpc: &'static str,
    id: Value,
    #[serde(flatten)]
    what: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    Result(Box<RawValue>),
    Error(RpcError),
}

fn reply(id: Value, answer: Answer) -> String {
    let what = answer.map_or_else(Outcome::Error, Outcome::Result);
    serde_json::to_string(&Reply { jsonrpc: "2.0", id, what }).expect("a reply is serialisable")
}

/// Answers a request or a batch; `None` if it holds notifications only.
fn answer(body: &[u8], mut handle: impl FnMut(&str, Value) -> Answer) -> Option<String> {
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            let error = RpcError { code: -32700, message: format!("parse error: {error}"), data: None };
            return Some(reply(Value::Null, Err(error)));
        }
    };
    let mut one = |request: Value| {
        let is_notification = request.get("id").is_none();
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        match serde_json::from_value::<Call>(request) {
            Ok(call) if call.jsonrpc.as_deref() == Some("2.0") => {
                let result = handle(&call.method, call.params);
                (!is_notification).then(|| reply(id, result))
            }
            Ok(_) => Some(reply(id, Err(RpcError::request("`jsonrpc` must be \"2.0\"")))),
            Err(error) => Some(reply(id, Err(RpcError::request(format!("not a JSON-RPC request: {error}"))))),
        }
    };
    match request {
        Value::Array(requests) if requests.is_empty() || requests.len() > MAX_BATCH => {
            Some(reply(Value::Null, Err(RpcError::request(format!("a batch holds 1 to {MAX_BATCH} requests")))))
        }
        Value::Array(requests) => {
            let answers: Vec<_> = requests.into_iter().filter_map(one).collect();
            (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
        }
        request => one(request),
    }
}

/// What a WebSocket client has subscribed to.
enum Subscription {
    Heads,
    Logs(Box<Filter>),
    /// Whether whole transactions are wanted, or their hashes.
    Pending(bool),
}

#[derive(Default)]
struct Subscriptions {
    live: HashMap<U256, Subscription>,
}

impl Subscriptions {
    fn add(&mut self, params: Value) -> Answer {
        let kind = params.get(0).and_then(Value::as_str).unwrap_or_default();
        let subscription = match kind {
            "newHeads" => Subscription::Heads,
            "newPendingTransactions" => Subscription::Pending(params.get(1) == Some(&json!(true))),
            "logs" => {
                let filter = params.get(1).cloned().unwrap_or_else(|| json!({}));
                let filter = serde_json::from_value(filter)
                    .map_err(|error| RpcError::params(format!("not a log filter: {error}")))?;
                Subscription::Logs(Box::new(filter))
            }
            _ => return Err(RpcError::params("expected newHeads, logs or newPendingTransactions")),
        };
        let id = U256::from(1 + self.live.len() as u64) | (U256::from(rand_bits()) << 64);
        self.live.insert(id, subscription);
        rpc::answer(&id)
    }

    fn remove(&mut self, params: &Value) -> Answer {
        let id = params.get(0).cloned().unwrap_or_default();
        let id: U256 = serde_json::from_value(id).map_err(|_| RpcError::params("expected a subscription's id"))?;
        rpc::answer(&self.live.remove(&id).is_some())
    }

    /// What each subscription has to hear of `notice`.
    fn messages(&self, chain: &SharedChain, notice: &Notice) -> Vec<String> {
        let mut messages = Vec::new();
        let mut tell = |id: &U256, result: Value| {
            messages.push(json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": { "subscription": id, "result": result } }).to_string());
        };
        let inner = chain.lock();
        for (id, subscription) in &self.live {
            match (subscription, notice) {
                (Subscription::Pending(false), Notice::Pending(hash)) => tell(id, json!(hash)),
                (Subscription::Pending(true), Notice::Pending(hash)) => {
                    if let Some(transaction) = crate::rpc::transaction(&inner.chain, *hash) {
                        tell(id, json!(transaction));
                    }
                }
                (Subscription::Heads, Notice::Block(number)) => {
                    if let Some(block) = inner.chain.block(*number) {
                        tell(id, json!(block.header));
                    }
                }
                (Subscription::Logs(filter), Notice::Block(number)) => {
                    let block = inner.chain.block(*number);
                    let logs = block.iter().flat_map(|block| block.logs()).filter(|log| filter.matches(&log.inner));
                    logs.for_each(|log| tell(id, json!(log)));
                }
                _ => {}
            }
        }
        messages
    }
}

/// Bits that differ between connections, so that ids are not mixed up.
fn rand_bits() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(B256::ZERO)
}

/// One WebSocket connection.
async fn session(chain: SharedChain, mut stopped: watch::Receiver<bool>, socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let mut notices = chain.notices();
    let mut subscriptions = Subscriptions::default();
    loop {
        let outgoing = tokio::select! {
            message = stream.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    let answer = answer(&message.into_data(), |method, params| match method {
                        "eth_subscribe" => subscriptions.add(params),
                        "eth_unsubscribe" => subscriptions.remove(&params),
                        _ => chain.answer(method, params),
                    });
                    answer.into_iter().collect()
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Vec::new(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            notice = notices.recv() => match notice {
                Ok(notice) => subscriptions.messages(&chain, &notice),
                // It lagged behind by more than the buffer: it goes on with what comes now.
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => Vec::new(),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        for message in outgoing {
            if sink.send(Message::text(message)).await.is_err() {
                return;
            }
        }
    }
}
