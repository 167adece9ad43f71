//! Transactions in the EVM.

use std::convert::Infallible;

use alloy::{
    consensus::{Header, Transaction},
    primitives::{Address, Bytes, TxKind, U256},
    rpc::types::TransactionRequest,
};
use revm::{
    Context, DatabaseRef, ExecuteEvm, MainBuilder, MainContext, MainnetEvm,
    context::{
        BlockEnv, TxEnv,
        either::Either,
        result::{EVMError, ExecutionResult, InvalidTransaction},
    },
    context_interface::block::BlobExcessGasAndPrice,
    database_interface::WrapDatabaseRef,
    handler::MainnetContext,
    primitives::hardfork::SpecId,
};

use crate::{Error, state::State};

/// The rules that blocks follow.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;

/// Most gas in one transaction (EIP-7825).
pub(crate) const TX_GAS_CAP: u64 = 1 << 24;

/// How strictly a transaction is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// As in a block.
    All,
    /// As in a block, for a sender that is impersonated: it may be a contract.
    Impersonated,
    /// As in a call: neither nonce nor fee nor the sender's code matter, and what gas costs need not be there.
    Call,
}

/// An EVM at a block.
type Evm<DB> = MainnetEvm<MainnetContext<WrapDatabaseRef<DB>>>;

fn evm<DB: DatabaseRef>(state: DB, chain_id: u64, block: BlockEnv, check: Check) -> Evm<DB> {
    let context = Context::mainnet().with_ref_db(state).with_block(block).modify_cfg_chained(|cfg| {
        cfg.chain_id = chain_id;
        cfg.set_spec_and_mainnet_gas_params(SPEC);
        if check == Check::Call {
            cfg.disable_nonce_check = true;
            cfg.disable_balance_check = true;
            cfg.disable_base_fee = true;
            cfg.disable_block_gas_limit = true;
        }
        cfg.disable_eip3607 = check != Check::All;
    });
    context.build_mainnet()
}

/// Executes a transaction; what it changes stays in the journal.
fn transact<DB: DatabaseRef<Error = Infallible>>(evm: &mut Evm<DB>, tx: TxEnv) -> Result<ExecutionResult, Error> {
    let (caller, nonce, cap) = (tx.caller, tx.nonce, tx.gas_price);
    let base_fee = evm.ctx.block.basefee;
    evm.transact_one(tx).map_err(|error| match error {
        EVMError::Transaction(InvalidTransaction::NonceTooLow { state, .. }) => {
            Error::NonceTooLow { address: caller, tx: nonce, state }
        }
        EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
            Error::InsufficientFunds { address: caller, have: *balance, want: *fee }
        }
        EVMError::Transaction(InvalidTransaction::GasPriceLessThanBasefee) => {
            Error::FeeTooLow { address: caller, cap, base_fee }
        }
        // In geth's words.
        EVMError::Transaction(
            error @ (InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
            | InvalidTransaction::GasFloorMoreThanGasLimit { .. }),
        ) => Error::Invalid(format!("intrinsic gas too low: {error}")),
        EVMError::Transaction(
            error @ (InvalidTransaction::TxGasLimitGreaterThanCap { .. }
            | InvalidTransaction::CallerGasLimitMoreThanBlock),
        ) => Error::Invalid(format!("intrinsic gas too high: {error}")),
        EVMError::Transaction(error) => Error::Invalid(error.to_string()),
        error => Error::Invalid(error.to_string()),
    })
}

/// Executes `tx` on `state` without changing it.
pub(crate) fn execute(
    state: &State,
    chain_id: u64,
    block: BlockEnv,
    tx: TxEnv,
    check: Check,
) -> Result<ExecutionResult, Error> {
    transact(&mut evm(state, chain_id, block, check), tx)
}

/// Executes a block's transactions, each on what the ones before it left. What they change stays in the EVM's journal until the block
/// is over: the state takes it in once, instead of after each of them.
pub(crate) struct Executor(Evm<State>);

impl Executor {
    pub(crate) fn new(state: State, chain_id: u64, block: BlockEnv) -> Self {
        Self(evm(state, chain_id, block, Check::All))
    }

    /// The account's next nonce after what was executed so far.
    pub(crate) fn nonce(&self, account: Address) -> u64 {
        let journal = &self.0.ctx.journaled_state;
        let changed = journal.inner.state.get(&account).map(|account| account.info.nonce);
        changed.unwrap_or_else(|| journal.database.0.nonce(account))
    }

    /// The state after what was executed so far.
    pub(crate) fn into_state(mut self) -> State {
        let changes = self.0.finalize();
        let mut state = self.0.ctx.journaled_state.database.0;
        state.commit(changes);
        state
    }

    /// Executes a transaction and keeps what it changes; one that is refused changes nothing.
    pub(crate) fn execute(&mut self, tx: TxEnv, check: Check) -> Result<ExecutionResult, Error> {
        self.0.ctx.cfg.disable_eip3607 = check != Check::All;
        transact(&mut self.0, tx)
    }
}

/// The output of a call, or why there is none.
pub(crate) fn output(result: ExecutionResult) -> Result<Bytes, Error> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => {
            let reason = alloy::sol_types::decode_revert_reason(&output);
            let reason = reason.map(|reason| reason.strip_prefix("revert: ").unwrap_or(&reason).to_owned());
            let reason = reason.filter(|reason| !reason.is_empty() && reason != "revert:");
            Err(Error::Reverted { data: output, reason })
        }
        ExecutionResult::Halt { reason, .. } => Err(Error::Halted(format!("{reason:?}"))),
    }
}

/// A transaction of `caller` as the EVM takes it.
pub fn tx_env(caller: Address, tx: &impl Transaction) -> TxEnv {
    TxEnv {
        tx_type: tx.ty(),
        caller,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        authorization_list: tx.authorization_list().unwrap_or_default().iter().cloned().map(Either::Left).collect(),
        ..TxEnv::default()
    }
}

/// A block as the EVM takes it; blobs cost the least.
pub fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or(0),
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 }),
        ..BlockEnv::default()
    }
}

/// A call as the EVM takes it.
pub(crate) fn call_env(call: TransactionRequest, chain_id: u64, gas_limit: u64) -> TxEnv {
    let authorizations = call.authorization_list.unwrap_or_default();
    let tx_type = match (authorizations.is_empty(), call.gas_price, &call.access_list) {
        (false, ..) => 4,
        (true, None, _) => 2,
        (true, Some(_), Some(_)) => 1,
        (true, Some(_), None) => 0,
    };
    TxEnv {
        tx_type,
        caller: call.from.unwrap_or_default(),
        gas_limit,
        gas_price: call.gas_price.or(call.max_fee_per_gas).unwrap_or(0),
        kind: call.to.unwrap_or(TxKind::Create),
        value: call.value.unwrap_or_default(),
        data: call.input.into_input().unwrap_or_default(),
        nonce: call.nonce.unwrap_or(0),
        chain_id: Some(chain_id),
        access_list: call.access_list.unwrap_or_default(),
        gas_priority_fee: call.gas_price.is_none().then(|| call.max_priority_fee_per_gas.unwrap_or(0)),
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
        ..TxEnv::default()
    }
}
