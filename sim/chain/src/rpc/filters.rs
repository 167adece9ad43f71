//! Logs, and the filters that clients poll.

use std::collections::HashMap;

use alloy::{
    primitives::{B256, U256},
    rpc::types::{Filter, FilterBlockOption, Log},
};

use super::{answer, params::number};
use crate::{Answer, Error, RpcError, chain::Chain, error::unknown_hash};

/// Most logs in one answer.
const MAX_LOGS: usize = 100_000;

/// What a client polls for.
enum Polled {
    Blocks,
    Logs(Box<Filter>),
    Pending(Vec<B256>),
}

/// Installed filters and the block up to which each has been answered.
#[derive(Default)]
pub(crate) struct Filters {
    live: HashMap<U256, (Polled, u64)>,
    next: u64,
}

impl Filters {
    fn add(&mut self, polled: Polled, height: u64) -> U256 {
        self.next += 1;
        let id = U256::from(self.next);
        self.live.insert(id, (polled, height));
        id
    }

    pub(super) fn add_logs(&mut self, filter: Filter, height: u64) -> U256 {
        self.add(Polled::Logs(Box::new(filter)), height)
    }

    pub(super) fn add_blocks(&mut self, height: u64) -> U256 {
        self.add(Polled::Blocks, height)
    }

    pub(super) fn add_pending(&mut self, height: u64) -> U256 {
        self.add(Polled::Pending(Vec::new()), height)
    }

    pub(super) fn remove(&mut self, id: U256) -> bool {
        self.live.remove(&id).is_some()
    }

    /// A transaction was taken in.
    pub(super) fn note_pending(&mut self, hash: B256) {
        for (polled, _) in self.live.values_mut() {
            if let Polled::Pending(hashes) = polled {
                hashes.push(hash);
            }
        }
    }

    /// Blocks after `height` are new to everybody: others than before, or none yet.
    pub(crate) fn rewind(&mut self, height: u64) {
        self.live.values_mut().for_each(|(_, seen)| *seen = height.min(*seen));
    }

    /// What is new since the last call.
    pub(super) fn changes(&mut self, id: U256, chain: &Chain) -> Answer {
        let (polled, seen) = self.live.get_mut(&id).ok_or_else(not_found)?;
        let from = *seen + 1;
        *seen = chain.height();
        match polled {
            Polled::Pending(hashes) => answer(&std::mem::take(hashes)),
            Polled::Blocks => {
                let blocks = (from..=chain.height()).filter_map(|number| chain.block(number));
                answer(&blocks.map(|block| block.header.hash).collect::<Vec<_>>())
            }
            Polled::Logs(filter) => {
                let (first, last) = range(filter, chain)?;
                answer(&scan(chain, filter, from.max(first), last)?)
            }
        }
    }

    pub(super) fn all_logs(&self, id: U256, chain: &Chain) -> Result<Vec<Log>, RpcError> {
        match self.live.get(&id) {
            Some((Polled::Logs(filter), _)) => logs(chain, filter),
            _ => Err(not_found()),
        }
    }
}

fn not_found() -> RpcError {
    RpcError { code: -32000, message: "filter not found".to_owned(), data: None }
}

/// First and last block of a filter; an open end is the latest block.
fn range(filter: &Filter, chain: &Chain) -> Result<(u64, u64), RpcError> {
    match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = chain.block_by_hash(hash).ok_or_else(|| unknown_hash(hash))?;
            Ok((block.number(), block.number()))
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let latest = chain.height();
            // Blocks still to come are allowed, and empty.
            let resolve = |tag: Option<alloy::eips::BlockNumberOrTag>| match tag {
                Some(alloy::eips::BlockNumberOrTag::Number(number)) => Ok(number),
                Some(tag) => number(tag, chain).map(|number| number.unwrap_or(latest)),
                None => Ok(latest),
            };
            let (first, last) = (resolve(from_block)?, resolve(to_block)?);
            if first > last && to_block.is_some() {
                return Err(RpcError::params(format!("the block range is empty: {first} to {last}")));
            }
            Ok((first, last.min(latest)))
        }
    }
}

fn scan(chain: &Chain, filter: &Filter, first: u64, last: u64) -> Result<Vec<Log>, RpcError> {
    let blocks = (first..=last).filter_map(|number| chain.block(number));
    let blocks = blocks.filter(|block| filter.matches_bloom(block.header.logs_bloom));
    let mut found = Vec::new();
    for log in blocks.flat_map(|block| block.logs()).filter(|log| filter.matches(&log.inner)) {
        if found.len() == MAX_LOGS {
            return Err(Error::TooManyLogs(MAX_LOGS).into());
        }
        found.push(log.clone());
    }
    Ok(found)
}

/// All logs that match.
pub(super) fn logs(chain: &Chain, filter: &Filter) -> Result<Vec<Log>, RpcError> {
    let (first, last) = range(filter, chain)?;
    scan(chain, filter, first, last)
}
