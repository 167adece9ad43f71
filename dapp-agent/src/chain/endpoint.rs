//! Connections to Ethereum endpoints.

use std::time::Duration;

use alloy::{
    network::EthereumWallet,
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::client::{BuiltInConnectionString, ClientBuilder, RpcClient},
    transports::{
        TransportError, TransportErrorKind, TransportResult,
        http::reqwest,
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

/// An http endpoint that has not answered within this time has failed. The follower, and whoever sends, wait less.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

async fn client(url: &str) -> TransportResult<RpcClient> {
    let retry = RetryBackoffLayer::new_with_policy(RETRIES, BACKOFF_MILLIS, UNITS_PER_SECOND, TooManyRequests);
    let builder = ClientBuilder::default().layer(retry);
    match url.parse()? {
        BuiltInConnectionString::Http(url) => Ok(builder.http_with_client(http(url.scheme() == "https")?, url)),
        other => builder.connect_with(other).await,
    }
}

/// Not the client that alloy would make: without root certificates on the computer that one panics, even when none is needed.
fn http(secure: bool) -> TransportResult<reqwest::Client> {
    let builder = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
    let builder = if secure { builder } else { builder.tls_certs_only([]) };
    builder.build().map_err(|error| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        TransportErrorKind::custom_str(&format!(
            "https needs root certificates (Debian: package ca-certificates): {reason}"
        ))
    })
}

/// An endpoint to read from. Answers of 429 are waited out.
///
/// # Errors
/// If `url` is none, or https is not possible here.
pub async fn reader(url: &str) -> TransportResult<DynProvider> {
    Ok(ProviderBuilder::new().connect_client(client(url).await?).erased())
}

/// An endpoint that `wallet`, or a single signer, sends through.
///
/// # Errors
/// As [`reader`].
pub async fn writer(url: &str, wallet: impl Into<EthereumWallet>) -> TransportResult<DynProvider> {
    Ok(ProviderBuilder::new().wallet(wallet.into()).connect_client(client(url).await?).erased())
}
