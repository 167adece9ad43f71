//! The state before the first block, read where it is looked at and kept.

use std::{cell::RefCell, collections::BTreeMap};

use alloy::{
    network::Ethereum,
    primitives::{Address, B256, Bytes, U256},
    providers::DynProvider,
};
use revm::{
    DatabaseRef,
    database::{AlloyDB, async_db::WrapDatabaseAsync},
    state::{AccountInfo, Bytecode},
};
use serde::{Deserialize, Serialize};

use crate::Error;

/// An account as it was before the first block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    balance: U256,
    nonce: u64,
    code: Bytes,
}

/// What is known of the state before the first block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    accounts: BTreeMap<Address, Account>,
    storage: BTreeMap<Address, BTreeMap<U256, U256>>,
    hashes: BTreeMap<u64, B256>,
}

/// The state before the first block, for the EVM.
#[derive(Debug)]
pub(crate) struct Before {
    known: RefCell<Known>,
    endpoint: Option<WrapDatabaseAsync<AlloyDB<Ethereum, DynProvider>>>,
    block: u64,
}

impl Before {
    /// That after block `block`; what is not `known` is read from `endpoint`.
    pub(crate) fn new(known: Known, endpoint: Option<DynProvider>, block: u64) -> Self {
        let endpoint = endpoint.map(|provider| AlloyDB::new(provider, block.into()));
        // There is a runtime of several threads wherever commands run.
        let endpoint = endpoint.and_then(WrapDatabaseAsync::new);
        Self { known: RefCell::new(known), endpoint, block }
    }

    /// With everything that was looked at.
    pub(crate) fn into_known(self) -> Known {
        self.known.into_inner()
    }

    fn endpoint(
        &self,
        address: Address,
        what: impl FnOnce() -> String,
    ) -> Result<&impl DatabaseRef<Error: std::fmt::Display>, Error> {
        self.endpoint.as_ref().ok_or_else(|| Error::NotRecorded { what: what(), address })
    }

    fn failed(&self, error: impl std::fmt::Display) -> Error {
        Error::State { block: self.block + 1, reason: error.to_string() }
    }
}

impl DatabaseRef for Before {
    type Error = Error;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Error> {
        if let Some(known) = self.known.borrow().accounts.get(&address) {
            let code = Bytecode::new_raw(known.code.clone());
            return Ok(Some(AccountInfo::new(known.balance, known.nonce, code.hash_slow(), code)));
        }
        let endpoint = self.endpoint(address, || "the account".to_owned())?;
        let info = endpoint.basic_ref(address).map_err(|error| self.failed(error))?.unwrap_or_default();
        let code = info.code.as_ref().map(Bytecode::original_bytes).unwrap_or_default();
        let account = Account { balance: info.balance, nonce: info.nonce, code };
        self.known.borrow_mut().accounts.insert(address, account);
        Ok(Some(info))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, Error> {
        // Code comes with its account.
        Err(Error::Evm(format!("no code has the hash {hash}")))
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Error> {
        if let Some(value) = self.known.borrow().storage.get(&address).and_then(|slots| slots.get(&slot)) {
            return Ok(*value);
        }
        let endpoint = self.endpoint(address, || format!("slot {slot:#x}"))?;
        let value = endpoint.storage_ref(address, slot).map_err(|error| self.failed(error))?;
        self.known.borrow_mut().storage.entry(address).or_default().insert(slot, value);
        Ok(value)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Error> {
        if let Some(hash) = self.known.borrow().hashes.get(&number) {
            return Ok(*hash);
        }
        let endpoint = self.endpoint(Address::ZERO, || format!("the hash of block {number}"))?;
        let hash = endpoint.block_hash_ref(number).map_err(|error| self.failed(error))?;
        self.known.borrow_mut().hashes.insert(number, hash);
        Ok(hash)
    }
}
