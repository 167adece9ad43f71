//! Blocks in the EVM: system calls, transactions, withdrawals.

use std::collections::BTreeSet;

use alloy::{
    consensus::{Header, Typed2718},
    eips::{
        eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS, eip4895::Withdrawal,
        eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    },
    network::TransactionResponse,
    primitives::{Address, Bytes, Log, TxKind, U256},
    rpc::types::Transaction,
    sol_types::SolCall,
};
use conun_chain::{block_env, tx_env};
use revm::{
    Context, Database, DatabaseCommit, ExecuteEvm, InspectEvm, MainBuilder, MainContext, MainnetEvm, SystemCallEvm,
    context::{
        TxEnv,
        result::{EVMError, ExecutionResult, ResultAndState},
    },
    database::CacheDB,
    handler::MainnetContext,
    primitives::hardfork::SpecId,
};

use crate::{Error, state::Before, trace::Watch};

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) success: bool,
    pub(crate) gas: u64,
    pub(crate) logs: Vec<Log>,
    /// What it returned or reverted with.
    pub(crate) output: Bytes,
    /// Slots whose value it changed.
    pub(crate) slots: BTreeSet<(Address, U256)>,
}

/// The chain from the first block on.
pub(crate) struct Chain {
    pub(crate) db: CacheDB<Before>,
    pub(crate) chain_id: u64,
    pub(crate) spec: SpecId,
    /// Nonces may have gaps, and senders may be poor: some transactions are left out.
    pub(crate) lenient: bool,
}

type Evm<'a> = MainnetEvm<MainnetContext<&'a mut CacheDB<Before>>>;

impl Chain {
    fn context(&mut self, header: &Header) -> MainnetContext<&mut CacheDB<Before>> {
        let (chain_id, spec, lenient) = (self.chain_id, self.spec, self.lenient);
        let context = Context::mainnet().with_db(&mut self.db).with_block(block_env(header));
        context.modify_cfg_chained(|cfg| {
            cfg.chain_id = chain_id;
            cfg.set_spec_and_mainnet_gas_params(spec);
            // Nodes for tests let contracts send.
            cfg.disable_eip3607 = true;
            cfg.disable_nonce_check = lenient;
            cfg.disable_balance_check = lenient;
        })
    }

    fn evm(&mut self, header: &Header) -> Evm<'_> {
        self.context(header).build_mainnet()
    }

    fn system_call(&mut self, header: &Header, contract: Address, data: Bytes) -> Result<(), Error> {
        let code = self.db.basic(contract)?.is_some_and(|info| !info.is_empty_code_hash());
        if code {
            let done = self.evm(header).system_call(contract, data).map_err(refused)?;
            self.db.commit(done.state);
        }
        Ok(())
    }

    /// What happens before a block's first transaction: EIP-4788 and EIP-2935.
    pub(crate) fn begin(&mut self, header: &Header) -> Result<(), Error> {
        if let Some(root) = header.parent_beacon_block_root {
            self.system_call(header, BEACON_ROOTS_ADDRESS, root.0.into())?;
        }
        self.system_call(header, HISTORY_STORAGE_ADDRESS, header.parent_hash.0.into())
    }

    /// What happens after its last one: EIP-7002, EIP-7251 and withdrawals.
    pub(crate) fn end(&mut self, header: &Header, withdrawals: &[Withdrawal]) -> Result<(), Error> {
        for contract in [WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS] {
            self.system_call(header, contract, Bytes::new())?;
        }
        for withdrawal in withdrawals {
            let mut info = self.db.basic(withdrawal.address)?.unwrap_or_default();
            info.balance += U256::from(withdrawal.amount) * U256::from(1_000_000_000_u64);
            self.db.insert_account_info(withdrawal.address, info);
        }
        Ok(())
    }

    /// Executes a block's transaction, and keeps what it changes.
    pub(crate) fn execute(&mut self, header: &Header, tx: &Transaction) -> Result<Done, Error> {
        if tx.ty() > 4 {
            return Err(Error::Kind { block: header.number, kind: tx.ty() });
        }
        let done = self.evm(header).transact(tx_env(tx.from(), tx)).map_err(refused)?;
        Ok(self.keep(done))
    }

    /// Executes a block's transaction before the eyes of `watch`.
    pub(crate) fn watch(&mut self, header: &Header, tx: &Transaction, watch: &mut Watch) -> Result<Done, Error> {
        let mut evm = self.context(header).build_mainnet_with_inspector(watch);
        let done = evm.inspect_tx(tx_env(tx.from(), tx)).map_err(refused)?;
        Ok(self.keep(done))
    }

    /// Executes a call of `from` as if it were a transaction of the block, for nothing.
    pub(crate) fn send(&mut self, header: &Header, from: Address, to: Address, data: Bytes) -> Result<Done, Error> {
        let nonce = self.db.basic(from)?.map_or(0, |info| info.nonce);
        let tx = TxEnv {
            caller: from,
            kind: TxKind::Call(to),
            data,
            nonce,
            chain_id: Some(self.chain_id),
            gas_limit: 1 << 24,
            ..TxEnv::default()
        };
        let mut evm = self.evm(header);
        evm.ctx.cfg.disable_base_fee = true;
        let done = evm.transact(tx).map_err(refused)?;
        Ok(self.keep(done))
    }

    fn keep(&mut self, done: ResultAndState) -> Done {
        let ResultAndState { result, state } = done;
        let changed = state
            .iter()
            .flat_map(|(address, account)| account.changed_storage_slots().map(|(slot, _)| (*address, *slot)));
        let slots = changed.collect();
        self.db.commit(state);
        let gas = result.tx_gas_used();
        let success = result.is_success();
        let (logs, output) = match result {
            ExecutionResult::Success { logs, output, .. } => (logs, output.into_data()),
            ExecutionResult::Revert { output, .. } => (Vec::new(), output),
            ExecutionResult::Halt { .. } => (Vec::new(), Bytes::new()),
        };
        Done { success, gas, logs, output, slots }
    }

    /// What a contract answers after what was executed so far; `None` where there is no contract yet.
    pub(crate) fn ask<C: SolCall>(
        &mut self,
        header: &Header,
        contract: Address,
        call: &C,
    ) -> Result<Option<C::Return>, Error> {
        if self.db.basic(contract)?.is_none_or(|info| info.is_empty_code_hash()) {
            return Ok(None);
        }
        let tx = TxEnv {
            kind: TxKind::Call(contract),
            data: call.abi_encode().into(),
            chain_id: Some(self.chain_id),
            gas_limit: 1 << 24,
            ..TxEnv::default()
        };
        let mut evm = self.evm(header);
        evm.ctx.cfg.disable_base_fee = true;
        evm.ctx.cfg.disable_nonce_check = true;
        let output = evm.transact(tx).map_err(refused)?.result.into_output().unwrap_or_default();
        C::abi_decode_returns(&output).map(Some).map_err(|error| Error::Evm(format!("{}: {error}", C::SIGNATURE)))
    }

    /// A slot's value after what was executed so far.
    pub(crate) fn slot(&mut self, address: Address, slot: U256) -> Result<U256, Error> {
        self.db.storage(address, slot)
    }
}

fn refused(error: EVMError<Error>) -> Error {
    match error {
        EVMError::Database(error) => error,
        error => Error::Evm(error.to_string()),
    }
}
