//! What a chain starts from.

use std::{path::Path, time::Duration};

use alloy::{
    eips::eip2935::{HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE},
    primitives::{Address, Bytes, U256, address, b256, bytes},
    signers::local::PrivateKeySigner,
};

use crate::{Error, dump::Dump, state::State};

/// Arachnid's deterministic deployment proxy, which most public chains have.
const CREATE2_FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
const CREATE2_FACTORY_CODE: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// Ether that each devnet account starts with.
const DEV_ETHER: u64 = 10_000;

/// Where block time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's clock, plus what `evm_increaseTime` added.
    System,
    /// Starts at this UNIX time, seconds, and goes on only when told to: the same calls give the same chain.
    Manual(u64),
}

/// A chain's parameters and genesis.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// EIP-155 chain id; default 31337.
    pub chain_id: u64,
    /// Most gas in a block; default 60 million.
    pub gas_limit: u64,
    /// Base fee of the first block, wei; default 1 gwei.
    pub base_fee: u64,
    /// Where block time comes from; default the system's clock.
    pub clock: Clock,
    /// Mine an empty block this often while the chain is served; default never.
    pub block_time: Option<Duration>,
    /// Accounts with ether at genesis.
    pub balances: Vec<(Address, U256)>,
    /// Blocks of which the state after them is kept; default 1,024. No re-org goes deeper, and no call looks further back.
    pub kept_states: u64,
    /// Blocks and state to start from instead of a genesis; see [`ChainConfig::load`].
    pub dump: Option<Box<Dump>>,
}

impl Default for ChainConfig {
    fn default() -> Self {
        let ether = U256::from(DEV_ETHER) * U256::from(10).pow(U256::from(18));
        Self {
            chain_id: 31337,
            gas_limit: 60_000_000,
            base_fee: 1_000_000_000,
            clock: Clock::System,
            block_time: None,
            balances: dev_accounts().iter().map(|signer| (signer.address(), ether)).collect(),
            kept_states: 1_024,
            dump: None,
        }
    }
}

impl ChainConfig {
    /// Starts from a file that [`SharedChain::dump`](crate::SharedChain::dump) wrote instead of from genesis.
    ///
    /// # Errors
    /// If the file cannot be read, is no dump, or is one of another chain id.
    pub fn load(mut self, path: &Path) -> Result<Self, Error> {
        let dump = Dump::read(path)?;
        if dump.chain_id != self.chain_id {
            return Err(Error::OtherChain { path: path.to_owned(), found: dump.chain_id, expected: self.chain_id });
        }
        self.dump = Some(Box::new(dump));
        Ok(self)
    }

    pub(crate) fn genesis(&self) -> State {
        let mut state = State::default();
        for (address, balance) in &self.balances {
            state.set_balance(*address, *balance);
        }
        for (address, code) in
            [(CREATE2_FACTORY, CREATE2_FACTORY_CODE), (HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CODE.clone())]
        {
            state.set_code(address, code);
            state.set_nonce(address, 1);
        }
        state
    }
}

/// The ten accounts of the mnemonic "test test test test test test test test test test test junk" (m/44'/60'/0'/0/i), which
/// every Ethereum development chain has. The whole world knows their keys.
pub fn dev_accounts() -> Vec<PrivateKeySigner> {
    [
        b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
        b256!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
        b256!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
        b256!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
        b256!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
        b256!("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
        b256!("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
        b256!("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
        b256!("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
        b256!("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
    ]
    .iter()
    .map(|key| PrivateKeySigner::from_bytes(key).expect("the keys are below the curve's order"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accounts_are_the_well_known_ones() {
        let addresses: Vec<_> = dev_accounts().iter().map(PrivateKeySigner::address).collect();
        assert_eq!(addresses[0], address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
        assert_eq!(addresses[9], address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"));
        assert_eq!(addresses.len(), 10);
    }
}
