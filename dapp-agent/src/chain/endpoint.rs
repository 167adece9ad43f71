//! Connections to Ethereum endpoints.

use alloy::{
    network::EthereumWallet,
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::client::{ClientBuilder, RpcClient},
    signers::local::PrivateKeySigner,
    transports::{TransportResult, layers::RetryBackoffLayer},
};

/// How often a request is sent again because the endpoint says that there were too many.
const RETRIES: u32 = 5;

/// Milliseconds before the first time; longer each time.
const BACKOFF_MILLIS: u64 = 250;

/// Compute units a second that public endpoints give away freely: what the time between retries is reckoned with.
const UNITS_PER_SECOND: u64 = 330;

async fn client(url: &str) -> TransportResult<RpcClient> {
    let retry = RetryBackoffLayer::new(RETRIES, BACKOFF_MILLIS, UNITS_PER_SECOND);
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
