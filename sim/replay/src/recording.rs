//! A range of a deployment's blocks, and what a replay looked at beside them: complete enough to replay it without an endpoint.

use std::{collections::BTreeMap, path::Path};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, U256},
    providers::{DynProvider, Provider},
    rpc::types::{Block, Log, TransactionReceipt},
};
use conun_agent::chain::{Follower, Index};
use conun_bindings::{
    Contracts, Rules,
    abi::Deployment::{self, Settings},
};
use serde::{Deserialize, Serialize};

use crate::{Error, state::Known};

/// A block and what the chain says came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) block: Block,
    pub(crate) receipts: Vec<TransactionReceipt>,
    /// Of the slots of CONUN's contracts that a replay wrote: their values after the block, as the chain says.
    #[serde(default)]
    pub(crate) slots: BTreeMap<Address, BTreeMap<U256, U256>>,
}

/// A range of blocks of a chain with a deployment on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recording {
    pub(crate) contracts: Contracts,
    pub(crate) settings: Settings,
    /// The contracts' logs before the first block.
    pub(crate) history: Vec<Log>,
    pub(crate) blocks: Vec<Recorded>,
    /// The state before the first block, as far as a replay has looked at it.
    #[serde(default)]
    pub(crate) before: Known,
}

impl Recording {
    /// Fetches the blocks `first` to `last` (the latest block if it is `None`).
    ///
    /// # Errors
    /// If the endpoint fails, serves another chain or lacks a block, or there is no such range.
    pub async fn take(
        provider: &DynProvider,
        contracts: Contracts,
        first: u64,
        last: Option<u64>,
    ) -> Result<Self, Error> {
        let latest = provider.get_block_number().await?;
        let last = last.unwrap_or(latest);
        if first == 0 || first > last || last > latest {
            return Err(Error::Range { first, last });
        }
        let follower = Follower::new(provider.clone(), contracts, 0).await?;
        let settings = Deployment::new(contracts.deployment, provider).settings().call().await;
        let settings = settings.map_err(conun_agent::chain::Error::from)?;
        let history =
            if contracts.block < first { follower.history(contracts.block, first - 1).await? } else { Vec::new() };
        let mut blocks = Vec::new();
        for number in first..=last {
            let at = BlockNumberOrTag::Number(number);
            let block = provider.get_block_by_number(at).full().await?.ok_or(Error::NoBlock(number))?;
            let receipts = provider.get_block_receipts(at.into()).await?.ok_or(Error::NoBlock(number))?;
            if block.transactions.as_transactions().map(<[_]>::len) != Some(receipts.len()) && !receipts.is_empty() {
                return Err(Error::Receipts(number));
            }
            blocks.push(Recorded { block, receipts, slots: BTreeMap::new() });
        }
        Ok(Self { contracts, settings, history, blocks, before: Known::default() })
    }

    /// Reads what [`Recording::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read or is no recording.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |reason: String| Error::File { path: path.to_owned(), reason };
        let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| failed(format!("no recording of `conun replay --save`: {error}")))
    }

    /// Writes it to a file, as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |reason: String| Error::File { path: path.to_owned(), reason };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.to_string()))?;
        std::fs::write(path, text).map_err(|error| failed(error.to_string()))
    }

    /// First and last block.
    pub fn range(&self) -> (u64, u64) {
        let number = |recorded: Option<&Recorded>| recorded.map_or(0, |recorded| recorded.block.header.number);
        (number(self.blocks.first()), number(self.blocks.last()))
    }

    /// The contracts.
    pub fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// The index before the first block.
    pub(crate) fn index(&self) -> Index {
        let mut index = Index::new(Rules::from(&self.settings));
        self.history.iter().for_each(|log| index.apply(&self.contracts, log));
        index
    }
}
