//! The world state: accounts and storage in persistent maps, so that every block keeps its own at the cost of what changed.

use std::convert::Infallible;

use alloy::{
    consensus::constants::KECCAK_EMPTY,
    eips::eip2935::{HISTORY_SERVE_WINDOW, HISTORY_STORAGE_ADDRESS},
    primitives::{Address, B256, Bytes, U256, keccak256, map::FbBuildHasher},
};
use imbl::{GenericHashMap, Vector, shared_ptr::DefaultSharedPtr};
use revm::{
    DatabaseRef,
    bytecode::Bytecode,
    primitives::AddressMap,
    state::{Account, AccountInfo},
};
use serde::{Deserialize, Serialize};

/// By addresses, slots or hashes of `N` bytes.
type Map<const N: usize, K, V> = GenericHashMap<K, V, FbBuildHasher<N>, DefaultSharedPtr>;

/// One account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    balance: U256,
    nonce: u64,
    code_hash: B256,
    storage: Map<32, U256, U256>,
}

/// All accounts after a block. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    accounts: Map<20, Address, Entry>,
    code: Map<32, B256, Bytecode>,
    /// Hashes of the blocks so far, by number.
    hashes: Vector<B256>,
}

/// One account as a dump has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DumpedAccount {
    balance: U256,
    nonce: u64,
    #[serde(default, skip_serializing_if = "no_code")]
    code: Bytes,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    storage: std::collections::BTreeMap<U256, U256>,
}

fn no_code(code: &Bytes) -> bool {
    code.is_empty()
}

/// A whole state as a dump has it.
pub(crate) type DumpedState = std::collections::BTreeMap<Address, DumpedAccount>;

impl State {
    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.accounts.get(&address).map_or(U256::ZERO, |entry| entry.balance)
    }

    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.accounts.get(&address).map_or(0, |entry| entry.nonce)
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        let code = self.accounts.get(&address).and_then(|entry| self.code.get(&entry.code_hash));
        code.map(Bytecode::original_bytes).unwrap_or_default()
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        self.accounts.get(&address).and_then(|entry| entry.storage.get(&slot)).copied().unwrap_or_default()
    }

    fn entry(&mut self, address: Address) -> &mut Entry {
        self.accounts.entry(address).or_insert_with(|| Entry { code_hash: KECCAK_EMPTY, ..Entry::default() })
    }

    pub(crate) fn set_balance(&mut self, address: Address, balance: U256) {
        self.entry(address).balance = balance;
    }

    pub(crate) fn set_nonce(&mut self, address: Address, nonce: u64) {
        self.entry(address).nonce = nonce;
    }

    pub(crate) fn set_code(&mut self, address: Address, code: Bytes) {
        let hash = keccak256(&code);
        // What begins like an EIP-7702 delegation and is none is code all the same, whose first instruction is invalid.
        let code = Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code));
        self.code.insert(hash, code);
        self.entry(address).code_hash = hash;
    }

    pub(crate) fn set_slot(&mut self, address: Address, slot: U256, value: U256) {
        let storage = &mut self.entry(address).storage;
        if value.is_zero() {
            storage.remove(&slot)
        } else {
            storage.insert(slot, value)
        };
    }

    /// Notes the hash of the newest block, for BLOCKHASH.
    pub(crate) fn push_hash(&mut self, hash: B256) {
        self.hashes.push_back(hash);
    }

    /// What the system call of EIP-2935 does at the start of block `number`: stores its parent's hash.
    pub(crate) fn store_parent_hash(&mut self, number: u64, parent: B256) {
        if number > 0 && !self.code(HISTORY_STORAGE_ADDRESS).is_empty() {
            let slot = U256::from((number - 1) % HISTORY_SERVE_WINDOW as u64);
            self.set_slot(HISTORY_STORAGE_ADDRESS, slot, parent.into());
        }
    }

    /// Takes over what a block's transactions changed.
    pub(crate) fn commit(&mut self, changes: AddressMap<Account>) {
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            // EIP-161: touched and empty accounts vanish; self-destructed ones (in their own transaction, EIP-6780), too. One that a later
            // transaction looked at is empty by then, or was created once more.
            if account.is_selfdestructed_locally() || account.is_empty() {
                self.accounts.remove(&address);
                continue;
            }
            if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty()) {
                self.code.insert(account.info.code_hash, code.clone());
            }
            let entry = self.entry(address);
            if account.is_created() {
                entry.storage.clear();
            }
            entry.balance = account.info.balance;
            entry.nonce = account.info.nonce;
            entry.code_hash = account.info.code_hash;
            for (slot, value) in account.storage {
                let value = value.present_value();
                if value.is_zero() {
                    entry.storage.remove(&slot)
                } else {
                    entry.storage.insert(slot, value)
                };
            }
        }
    }

    pub(crate) fn dump(&self) -> DumpedState {
        let dump = |(address, entry): (&Address, &Entry)| {
            let storage = entry.storage.iter().map(|(slot, value)| (*slot, *value)).collect();
            (*address, DumpedAccount { balance: entry.balance, nonce: entry.nonce, code: self.code(*address), storage })
        };
        self.accounts.iter().map(dump).collect()
    }

    pub(crate) fn load(accounts: DumpedState, hashes: impl IntoIterator<Item = B256>) -> Self {
        let mut state = Self { hashes: hashes.into_iter().collect(), ..Self::default() };
        for (address, account) in accounts {
            state.set_balance(address, account.balance);
            state.set_nonce(address, account.nonce);
            if !account.code.is_empty() {
                state.set_code(address, account.code);
            }
            for (slot, value) in account.storage {
                state.set_slot(address, slot, value);
            }
        }
        state
    }

    /// Overrides of `eth_call` and `eth_estimateGas`.
    pub(crate) fn apply(&mut self, overrides: alloy::rpc::types::state::StateOverride) {
        for (address, account) in overrides {
            if let Some(balance) = account.balance {
                self.set_balance(address, balance);
            }
            if let Some(nonce) = account.nonce {
                self.set_nonce(address, nonce);
            }
            if let Some(code) = account.code {
                self.set_code(address, code);
            }
            if let Some(storage) = account.state {
                self.entry(address).storage.clear();
                storage.into_iter().for_each(|(slot, value)| self.set_slot(address, slot.into(), value.into()));
            }
            if let Some(storage) = account.state_diff {
                storage.into_iter().for_each(|(slot, value)| self.set_slot(address, slot.into(), value.into()));
            }
        }
    }
}

impl DatabaseRef for State {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.accounts.get(&address).map(|entry| AccountInfo {
            balance: entry.balance,
            nonce: entry.nonce,
            code_hash: entry.code_hash,
            code: self.code.get(&entry.code_hash).cloned(),
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.code.get(&code_hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, index))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        Ok(usize::try_from(number).ok().and_then(|number| self.hashes.get(number)).copied().unwrap_or_default())
    }
}
