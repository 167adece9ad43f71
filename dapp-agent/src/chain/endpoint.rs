//! Connections to Ethereum endpoints.

use std::time::Duration;

use alloy::{
    network::EthereumWallet,
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::client::{ClientBuilder, RpcClient},
    signers::local::PrivateKeySigner,
    transports::{
        TransportError, TransportErrorKind, TransportResult,
        layers::{RateLimitRetryPolicy, RetryBackoffLayer, RetryPolicy},
    },
};

/// How often a request is sent again because the endpoint says that there were too many.
const RETRIES: u32 = 5;

/// Milliseconds before the first time; longer each time.
const BACKOFF_MILLIS: u64 = 250;

/// Compute units a second that public endpoints give away freely: what the time between retries is reckoned with.
const UNITS_PER_SECOND: u64 = 330;

/// Waits out too many requests, by status 429 or in words. Not alloy's own policy: that takes -32005 for it as well, which is also
/// what endpoints answer to a query of too many blocks or logs; waiting does not make that smaller.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooManyRequests;

impl RetryPolicy for TooManyRequests {
    fn should_retry(&self, error: &TransportError) -> bool {
        match error {
            TransportError::Transport(TransportErrorKind::HttpError(answer)) => matches!(answer.status, 429 | 503),
            TransportError::ErrorResp(payload) => {
                let message = payload.message.to_lowercase();
                let words = ["too many requests", "rate limit", "requests per second", "request count exceeded"];
                payload.code == 429 || words.iter().any(|words| message.contains(words))
            }
            _ => false,
        }
    }

    fn backoff_hint(&self, error: &TransportError) -> Option<Duration> {
        RateLimitRetryPolicy::default().backoff_hint(error)
    }
}

async fn client(url: &str) -> TransportResult<RpcClient> {
    let retry = RetryBackoffLayer::new_with_policy(RETRIES, BACKOFF_MILLIS, UNITS_PER_SECOND, TooManyRequests);
    ClientBuilder::default().layer(retry).connect(url).await
}

/// An endpoint to read from. Answers of 429 are waited out.
pub(crate) async fn reader(url: &str) -> TransportResult<DynProvider> {
    Ok(ProviderBuilder::new().connect_client(client(url).await?).erased())
}

/// An endpoint that `signer` sends through.
pub(crate) async fn writer(url: &str, signer: &PrivateKeySigner) -> TransportResult<DynProvider> {
    let wallet = EthereumWallet::from(signer.clone());
    Ok(ProviderBuilder::new().wallet(wallet).connect_client(client(url).await?).erased())
}
