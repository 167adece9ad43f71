//! Keeps an [`Index`] current by polling, and takes back what a re-org has undone.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::IntoFuture,
    time::Duration,
};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::B256,
    providers::{DynProvider, Provider},
    rpc::types::{Filter, Log},
    sol_types::SolEvent,
};
use conun_bindings::{
    Contracts, Rules,
    abi::{Deployment, ReplicaRegistry},
};

use super::{Error, Index};

/// Blocks asked for at once; halved where an endpoint refuses.
const RANGE: u64 = 10_000;

/// Blocks that a re-org may undo without the whole index being read again.
const KEPT_BLOCKS: u64 = 256;

/// An endpoint that does not answer within this time has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a poll starts again because the chain changed under it.
const ATTEMPTS: u32 = 3;

/// The chain's latest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, UNIX seconds.
    pub timestamp: u64,
}

/// An index and how far it goes.
///
/// Beside the index it keeps a second one that lags [`KEPT_BLOCKS`] behind, and the logs in between: after a re-org the second
/// one and the logs up to the fork give the first anew.
#[derive(Debug)]
pub struct Follower {
    provider: DynProvider,
    /// A second endpoint: only what both tell is taken in.
    witness: Option<DynProvider>,
    contracts: Contracts,
    /// Blocks that must lie above a block before it is read.
    confirmations: u64,
    index: Index,
    /// The index as of `seen[0]`; empty before anything is read.
    base: Index,
    /// Logs after `seen[0]`, in the order of the chain.
    tail: VecDeque<Log>,
    /// Heads that the index went through, oldest first.
    seen: VecDeque<Head>,
    /// How often a re-org took something back.
    reorgs: u64,
    /// Blocks that the last one took back.
    reorg_depth: u64,
}

impl Follower {
    /// A follower that has read nothing yet.
    ///
    /// # Errors
    /// If the endpoint fails, serves another chain, or the contracts are not there.
    pub async fn new(provider: DynProvider, contracts: Contracts, confirmations: u64) -> Result<Self, Error> {
        let found = ask(provider.get_chain_id()).await?;
        if found != contracts.chain_id {
            return Err(Error::WrongChain { found, expected: contracts.chain_id });
        }
        for address in
            [contracts.jobs, contracts.providers, contracts.replicas, contracts.disputes, contracts.deployment]
        {
            if ask(provider.get_code_at(address)).await?.is_empty() {
                return Err(Error::NoContracts(address));
            }
        }
        let deployment = Deployment::new(contracts.deployment, &provider);
        let settings = ask(async { deployment.settings().call().await }).await?;
        let index = Index::new(Rules::from(&settings));
        let base = index.clone();
        Ok(Self {
            provider,
            witness: None,
            contracts,
            confirmations,
            index,
            base,
            tail: VecDeque::new(),
            seen: VecDeque::new(),
            reorgs: 0,
            reorg_depth: 0,
        })
    }

    /// What has been read.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Up to where, once something has been read.
    pub fn head(&self) -> Option<Head> {
        self.seen.back().copied()
    }

    /// How often a re-org took something back since the start.
    pub fn reorgs(&self) -> u64 {
        self.reorgs
    }

    /// Blocks that the last of them took back.
    pub fn reorg_depth(&self) -> u64 {
        self.reorg_depth
    }

    /// The same, but only what `witness` tells as well is taken in: blocks that both have, and the same logs of them.
    ///
    /// # Errors
    /// If the second endpoint fails or serves another chain.
    pub async fn with_witness(self, witness: DynProvider) -> Result<Self, Error> {
        let found = ask(witness.get_chain_id()).await.map_err(second)?;
        if found != self.contracts.chain_id {
            return Err(second(Error::WrongChain { found, expected: self.contracts.chain_id }));
        }
        Ok(Self { witness: Some(witness), ..self })
    }

    /// Where the contracts are.
    pub fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// The contracts' logs of the blocks `from` to `to`, whatever has been read.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn history(&self, from: u64, to: u64) -> Result<Vec<Log>, Error> {
        self.logs(&self.provider, from, to).await
    }

    /// Reads what is new. On an error the index stays as it was.
    ///
    /// # Errors
    /// If the endpoint fails or contradicts itself.
    ///
    /// # Cancel safety
    /// Cancel safe: the index changes only once everything is there.
    pub async fn poll(&mut self) -> Result<Head, Error> {
        for _ in 0..ATTEMPTS {
            let mut head = self.block(BlockNumberOrTag::Latest).await?.ok_or(Error::NoHead)?;
            if let Some(witness) = &self.witness {
                let other = block(witness, BlockNumberOrTag::Latest).await.map_err(second)?.ok_or(Error::NoHead)?;
                if other.number < head.number {
                    head = self.block(other.number.into()).await?.ok_or(Error::NoHead)?;
                }
            }
            if self.confirmations > 0 {
                let number = head.number.saturating_sub(self.confirmations);
                head = self.block(number.into()).await?.ok_or(Error::NoHead)?;
            }
            if let Some(witness) = &self.witness {
                let other = block(witness, head.number.into()).await.map_err(second)?;
                if other != Some(head) {
                    return Err(Error::Disagreement { block: head.number, what: "its hash" });
                }
            }
            if self.head() == Some(head) {
                return Ok(head);
            }
            let kept = self.still_there().await?;
            let last = kept.checked_sub(1).map(|at| self.seen[at]);
            if let Some(last) = last
                && last.number >= head.number
                && kept == self.seen.len()
            {
                // Another server behind the same address lags behind.
                return Ok(last);
            }
            let from = last.map_or(self.contracts.block, |last| last.number + 1);
            // A long way is gone in two steps, so that the lagging index has a block to stand on.
            let pause = head.number.saturating_sub(KEPT_BLOCKS);
            let steps = if from < pause {
                vec![self.block(pause.into()).await?.ok_or(Error::NoHead)?, head]
            } else {
                vec![head]
            };
            let logs = self.logs(&self.provider, from, head.number).await?;
            if let Some(witness) = &self.witness {
                let others = self.logs(witness, from, head.number).await.map_err(second)?;
                if let Some(block) = difference(&logs, &others) {
                    return Err(Error::Disagreement { block, what: "the contracts' logs" });
                }
            }
            // The answers may come from different forks if the chain changed meanwhile.
            if self.block(head.number.into()).await? == Some(head) {
                self.advance(kept, &steps, logs);
                return Ok(head);
            }
        }
        Err(Error::Unsteady)
    }

    /// How many of the heads seen are still on the chain.
    async fn still_there(&self) -> Result<usize, Error> {
        let mut kept = self.seen.len();
        while let Some(at) = kept.checked_sub(1) {
            if self.block(self.seen[at].number.into()).await? == Some(self.seen[at]) {
                break;
            }
            kept = at;
        }
        Ok(kept)
    }

    /// Takes back all but the first `kept` heads seen, and goes on through `steps`.
    fn advance(&mut self, kept: usize, steps: &[Head], logs: Vec<Log>) {
        if kept < self.seen.len() {
            self.reorgs += 1;
            let last = self.seen.back().map_or(0, |head| head.number);
            let stands = kept.checked_sub(1).map_or(0, |at| self.seen[at].number);
            self.reorg_depth = last - stands;
            let undone = self.seen[kept];
            tracing::warn!(target: "conun::chain", block = undone.number, hash = %undone.hash, "re-org: what followed is taken back");
            if kept == 0 {
                (self.base, self.tail) = (Index::new(self.index.rules), VecDeque::new());
            }
            self.seen.truncate(kept);
            let last = self.seen.back().map_or(0, |head| head.number);
            self.tail.retain(|log| log.block_number.is_some_and(|number| number <= last));
            let mut index = self.base.clone();
            index.replaces(&self.index);
            self.index = index;
            self.tail.iter().for_each(|log| self.index.apply(&self.contracts, log));
        }
        logs.iter().for_each(|log| self.index.apply(&self.contracts, log));
        self.tail.extend(logs);
        self.seen.extend(steps);
        // The lagging index moves up to the newest head that lies deep enough.
        let Some(deep) = self.seen.back().map(|head| head.number.saturating_sub(KEPT_BLOCKS)) else { return };
        let below = self.seen.partition_point(|head| head.number <= deep);
        if let Some(at) = below.checked_sub(1) {
            self.seen.drain(..at);
            let settled =
                self.tail.partition_point(|log| log.block_number.is_some_and(|number| number <= self.seen[0].number));
            let before = self.base.revision();
            self.tail.drain(..settled).for_each(|log| self.base.apply(&self.contracts, &log));
            self.base.share(&self.index, before, self.seen[0].number);
        }
    }

    async fn block(&self, number: BlockNumberOrTag) -> Result<Option<Head>, Error> {
        block(&self.provider, number).await
    }

    /// The contracts' logs of the blocks `from` to `to`.
    async fn logs(&self, provider: &DynProvider, mut from: u64, to: u64) -> Result<Vec<Log>, Error> {
        let filter = Filter::new().address(vec![
            self.contracts.jobs,
            self.contracts.providers,
            self.contracts.replicas,
            self.contracts.disputes,
        ]);
        let mut found = Vec::new();
        let mut range = RANGE;
        while from <= to {
            let end = to.min(from + range - 1);
            match ask(provider.get_logs(&filter.clone().from_block(from).to_block(end))).await {
                Ok(logs) => {
                    found.extend(logs);
                    from = end + 1;
                }
                // Endpoints limit ranges or results, each in its own words.
                Err(Error::Rpc(error)) if error.is_error_resp() && end > from => range = (end - from).div_ceil(2),
                Err(error) => return Err(error),
            }
        }
        self.date(&mut found).await?;
        Ok(found)
    }

    /// Completes logs of which the endpoint does not tell the time of their block, where that counts.
    async fn date(&self, logs: &mut [Log]) -> Result<(), Error> {
        let mut known = HashMap::new();
        for log in logs {
            let is_commit = log.topic0() == Some(&ReplicaRegistry::Committed::SIGNATURE_HASH);
            let (true, None, Some(number)) = (is_commit, log.block_timestamp, log.block_number) else { continue };
            if let Entry::Vacant(slot) = known.entry(number) {
                slot.insert(self.block(number.into()).await?.ok_or(Error::Unsteady)?.timestamp);
            }
            log.block_timestamp = known.get(&number).copied();
        }
        Ok(())
    }
}

async fn block(provider: &DynProvider, number: BlockNumberOrTag) -> Result<Option<Head>, Error> {
    let block = ask(provider.get_block_by_number(number)).await?;
    Ok(block.map(|block| Head {
        number: block.header.number,
        hash: block.header.hash,
        timestamp: block.header.timestamp,
    }))
}

fn second(error: Error) -> Error {
    Error::Second(Box::new(error))
}

/// The first block about which two endpoints tell different logs.
fn difference(logs: &[Log], others: &[Log]) -> Option<u64> {
    let told = |log: &Log| (log.block_hash, log.transaction_hash, log.log_index, log.inner.clone());
    let at = (0..logs.len().max(others.len())).find(|at| logs.get(*at).map(told) != others.get(*at).map(told))?;
    [logs.get(at), others.get(at)].into_iter().flatten().filter_map(|log| log.block_number).min()
}

/// An endpoint's answer, if it comes in time.
async fn ask<T, E>(request: impl IntoFuture<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    match tokio::time::timeout(REQUEST_TIMEOUT, request.into_future()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::NoAnswer(REQUEST_TIMEOUT)),
    }
}

#[cfg(test)]
mod lies;
#[cfg(test)]
mod tests;
