//! The handle that everybody holds.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use alloy::{
    network::EthereumWallet,
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::client::RpcClient,
    signers::local::PrivateKeySigner,
};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::{
    ChainConfig, Error, RpcError, ServerHandle,
    chain::Chain,
    config::dev_accounts,
    rpc::{self, Filters},
    server,
    transport::{Answer, InProcess},
};

/// Heads that a subscriber may lag behind before it misses some.
const HEAD_BUFFER: usize = 1024;

/// Chain and clients' filters, behind one lock.
pub(crate) struct Inner {
    pub(crate) chain: Chain,
    pub(crate) filters: Filters,
}

/// Something that subscribers hear of.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// A block was mined: its number.
    Block(u64),
    /// A transaction was taken in.
    Pending(alloy::primitives::B256),
}

/// A chain that many tasks share. Cloning gives another handle to the same chain.
#[derive(Clone)]
pub struct SharedChain {
    inner: Arc<Mutex<Inner>>,
    notices: broadcast::Sender<Notice>,
    block_time: Option<std::time::Duration>,
}

impl std::fmt::Debug for SharedChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedChain").field("height", &self.height()).finish_non_exhaustive()
    }
}

impl SharedChain {
    /// Starts a chain.
    pub fn new(config: ChainConfig) -> Self {
        let inner = Inner { chain: Chain::new(&config), filters: Filters::default() };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            notices: broadcast::Sender::new(HEAD_BUFFER),
            block_time: config.block_time,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock is a bug in this crate; what it left behind is still a chain.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Number of the latest block.
    pub fn height(&self) -> u64 {
        self.lock().chain.height()
    }

    /// Answers a JSON-RPC call.
    ///
    /// # Errors
    /// As a node would answer: unknown methods, wrong parameters, refused transactions, reverted calls.
    pub fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.answer(method, params).map(|raw| serde_json::from_str(raw.get()).expect("an answer is JSON"))
    }

    /// The same, as text.
    ///
    /// # Errors
    /// As [`Self::handle`].
    pub fn answer(&self, method: &str, params: Value) -> Answer {
        let mut inner = self.lock();
        let before = inner.chain.height();
        let result = rpc::handle(&mut inner, method, params);
        let after = inner.chain.height();
        // Blocks that replace others are news as well.
        let before = inner.chain.rewound.take().map_or(before, |common| common.min(before));
        inner.filters.rewind(before);
        drop(inner);
        if method.starts_with("eth_send")
            && let Ok(hash) = &result
            && let Ok(hash) = serde_json::from_str(hash.get())
        {
            self.tell(Notice::Pending(hash));
        }
        (before + 1..=after).for_each(|number| self.tell(Notice::Block(number)));
        result
    }

    /// The block time has passed: mines as [`Self::mine`], unless blocks are to be mined by hand only, or the next one is to have a
    /// time of its own.
    pub(crate) fn tick(&self) {
        let waits = {
            let inner = self.lock();
            !inner.chain.automine || inner.chain.has_next_timestamp()
        };
        if !waits {
            self.mine();
        }
    }

    /// Mines a block of what is waiting, empty if nothing is.
    pub fn mine(&self) {
        let number = self.lock().chain.mine().number();
        self.tell(Notice::Block(number));
    }

    fn tell(&self, notice: Notice) {
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }

    /// A client of this chain without a socket.
    pub fn rpc_client(&self) -> RpcClient {
        let chain = self.clone();
        RpcClient::new(InProcess(move |method: &str, params| Ok(chain.answer(method, params))), true)
    }

    /// An alloy provider without a socket; it only reads.
    pub fn provider(&self) -> DynProvider {
        ProviderBuilder::new().connect_client(self.rpc_client()).erased()
    }

    /// An alloy provider without a socket that signs for `signer`.
    pub fn provider_for(&self, signer: PrivateKeySigner) -> DynProvider {
        ProviderBuilder::new().wallet(EthereumWallet::from(signer)).connect_client(self.rpc_client()).erased()
    }

    /// An alloy provider without a socket that signs for all [`dev_accounts`]; the first is the default sender.
    pub fn dev_provider(&self) -> DynProvider {
        let mut accounts = dev_accounts().into_iter();
        let mut wallet = EthereumWallet::from(accounts.next().expect("there are ten"));
        accounts.for_each(|account| wallet.register_signer(account));
        ProviderBuilder::new().wallet(wallet).connect_client(self.rpc_client()).erased()
    }

    /// Serves JSON-RPC over HTTP and WebSocket on `address`, and mines a block every `block_time` if that was configured.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn serve(&self, address: std::net::SocketAddr) -> Result<ServerHandle, Error> {
        server::spawn(self.clone(), address, self.block_time).await
    }

    /// Writes the whole chain into a file, for [`ChainConfig::load`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn dump(&self, path: &Path) -> Result<(), Error> {
        let dump = self.lock().chain.dump();
        dump.write(path)
    }
}
