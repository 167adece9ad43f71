//! An Ethereum chain in the process: blocks, receipts, logs, filters, time control, snapshots and re-orgs on revm.
//!
//! It serves two masters through the same JSON-RPC methods: tests and simulations, as an alloy provider without a socket
//! ([`SharedChain::provider`]), and people and wallets, as the devnet's HTTP and WebSocket server ([`SharedChain::serve`]).
//! A simulation that mines by hand also reaches the chain directly ([`SharedChain::mine_at`]).
//!
//! # What differs from a public chain
//!
//! - A transaction is mined at once, in a block of its own, unless automining is off.
//! - Headers carry real hashes, transaction and receipt roots, but no state root: there are no state proofs.
//! - Blocks within one second share their timestamp, so that block time never runs ahead of the clock.
//! - No blobs. Everything else follows the rules of Osaka.
//!
//! # Example
//!
//! ```
//! use alloy::providers::Provider;
//! use conun_chain::{ChainConfig, SharedChain, dev_accounts};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let chain = SharedChain::new(ChainConfig::default());
//! let balance = chain.provider().get_balance(dev_accounts()[0].address()).await.unwrap();
//! assert_eq!(balance.to_string(), "10000000000000000000000");
//! # });
//! ```

mod bloom;
mod chain;
mod config;
mod direct;
mod dump;
mod error;
mod execute;
mod pool;
mod rpc;
mod server;
mod shared;
mod state;
mod transport;

pub use config::{ChainConfig, Clock, dev_accounts};
pub use direct::{Dropped, Mined};
pub use dump::Dump;
pub use error::{Error, RpcError};
pub use execute::{block_env, tx_env};
pub use server::ServerHandle;
pub use shared::SharedChain;
pub use transport::{Answer, InProcess};
