//! What one transaction did: calls, events, storage, each by its name.

use std::{collections::HashMap, fmt};

use alloy::{
    eips::BlockNumberOrTag,
    network::TransactionResponse,
    primitives::{Address, B256, Bytes, Log, U256, hex, keccak256},
    providers::{DynProvider, Provider},
    rpc::types::Transaction,
    sol_types::{SolEventInterface, SolInterface},
};
use conun_bindings::{Contracts, abi, revert};
use revm::{
    Inspector,
    bytecode::opcode,
    context_interface::{ContextTr, JournalTr},
    database::CacheDB,
    interpreter::{
        CallInputs, CallOutcome, CreateInputs, CreateOutcome, Interpreter,
        interpreter_types::{InputsTr, Jumps, MemoryTr},
    },
    primitives::hardfork::SpecId,
    state::EvmState,
};
use serde::Serialize;

use crate::{
    Error,
    block::Chain,
    report::name,
    state::{Before, Known},
};

/// A call, and what happened within it, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Who calls.
    pub from: Address,
    /// Whose code runs.
    pub to: Address,
    /// Its contract and function with arguments, if it is CONUN's; else the data.
    pub what: String,
    /// Ether, wei.
    pub value: U256,
    /// Gas used, that of inner calls included; of the outermost call without what a transaction costs at least.
    pub gas: u64,
    /// Why it failed, if it did.
    pub failed: Option<String>,
    /// What happened within.
    pub steps: Vec<Step>,
}

/// Something that happened within a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Another call.
    Call(Call),
    /// An event, by its name and with its fields if it is CONUN's.
    Event(String),
    /// A slot that was written.
    Write {
        /// Contract, variable and keys if they are known, else the slot.
        slot: String,
        /// Before.
        from: U256,
        /// After.
        to: U256,
    },
}

/// A transaction's trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Which.
    pub transaction: B256,
    /// In which block.
    pub block: u64,
    /// All its gas.
    pub gas: u64,
    /// Whether it succeeded.
    pub success: bool,
    /// The call that it is.
    pub call: Call,
}

/// Variables of the contracts, by contract and slot (contracts/README.md, Storage).
const VARIABLES: [(&str, u64, &str); 12] = [
    ("Escrow", 0, "balances"),
    ("Escrow", 1, "burnable"),
    ("ProviderRegistry", 0, "providers"),
    ("JobRegistry", 0, "slots"),
    ("JobRegistry", 1, "formers"),
    ("JobRegistry", 2, "parents"),
    ("ReplicaRegistry", 0, "ballots"),
    ("ReplicaRegistry", 1, "replicas"),
    ("ReplicaRegistry", 2, "parents"),
    ("Disputes", 0, "cases"),
    ("Disputes", 1, "disputes"),
    ("Disputes", 2, "lostBy"),
];

/// Slots from the beginning of a mapping's value that still count as its.
const VALUE_SLOTS: u64 = 4;

/// Executes the block of a transaction up to it, and watches it.
///
/// # Errors
/// If the endpoint fails, does not know the transaction, or keeps no state that old.
pub async fn trace(provider: &DynProvider, contracts: Contracts, hash: B256, spec: SpecId) -> Result<Trace, Error> {
    let found = provider.get_transaction_by_hash(hash).await?;
    let number = found.and_then(|tx| tx.block_number).ok_or(Error::NoTransaction(hash))?;
    let at = BlockNumberOrTag::Number(number);
    let block = provider.get_block_by_number(at).full().await?.ok_or(Error::NoBlock(number))?;
    let header = &block.header.inner;
    let before = Before::new(Known::default(), Some(provider.clone()), number.saturating_sub(1));
    let mut chain = Chain { db: CacheDB::new(before), chain_id: contracts.chain_id, spec, lenient: false };
    chain.begin(header)?;
    let transactions = block.transactions.as_transactions().unwrap_or_default();
    let at = transactions.iter().position(|tx| tx.tx_hash() == hash).ok_or(Error::NoTransaction(hash))?;
    for tx in &transactions[..at] {
        chain.execute(header, tx)?;
    }
    let mut watch = Watch::new(contracts, &transactions[at]);
    let done = chain.watch(header, &transactions[at], &mut watch)?;
    Ok(Trace { transaction: hash, block: number, gas: done.gas, success: done.success, call: watch.end() })
}

/// Collects what happens.
pub(crate) struct Watch {
    contracts: Contracts,
    open: Vec<Call>,
    ended: Option<Call>,
    /// Keys and mappings' slots by the slot that their hash is.
    hashed: HashMap<U256, (B256, U256)>,
    sender: Address,
    /// The slot that the current step writes: contract, slot, value before if the transaction has looked at it, value after.
    written: Option<(Address, U256, Option<U256>, U256)>,
}

impl Watch {
    fn new(contracts: Contracts, tx: &Transaction) -> Self {
        Self { contracts, open: Vec::new(), ended: None, hashed: HashMap::new(), sender: tx.from(), written: None }
    }

    /// The outermost call.
    fn end(self) -> Call {
        let nothing = Call {
            from: self.sender,
            to: Address::ZERO,
            what: "nothing was called".to_owned(),
            value: U256::ZERO,
            gas: 0,
            failed: None,
            steps: Vec::new(),
        };
        self.ended.unwrap_or(nothing)
    }

    fn name(&self, address: Address) -> String {
        name(&self.contracts, address).map_or_else(|| address.to_string(), str::to_owned)
    }

    fn step(&mut self, step: Step) {
        if let Some(call) = self.open.last_mut() {
            call.steps.push(step);
        }
    }

    fn begin(&mut self, from: Address, to: Address, value: U256, what: String) {
        self.open.push(Call { from, to, what, value, gas: 0, failed: None, steps: Vec::new() });
    }

    fn close(&mut self, gas: u64, failed: Option<String>) {
        let Some(mut call) = self.open.pop() else { return };
        (call.gas, call.failed) = (gas, failed);
        match self.open.last_mut() {
            Some(outer) => outer.steps.push(Step::Call(call)),
            None => self.ended = Some(call),
        }
    }

    /// `Escrow.balances[0x7099...]`, and the number of the value's slot if it has several.
    fn variable(&self, contract: Address, slot: U256) -> String {
        let name = self.name(contract);
        let variable = |base: U256| {
            VARIABLES.iter().find(|(of, at, _)| *of == name && U256::from(*at) == base).map(|(.., variable)| *variable)
        };
        if let Some(variable) = variable(slot) {
            return format!("{name}.{variable}");
        }
        for offset in 0..VALUE_SLOTS {
            let (mut base, mut keys) = (slot.wrapping_sub(U256::from(offset)), String::new());
            while let Some((key, mapping)) = self.hashed.get(&base) {
                keys = format!("[{}]{keys}", short_key(key));
                base = *mapping;
            }
            if let Some(variable) = variable(base).filter(|_| !keys.is_empty()) {
                let part = if offset == 0 { String::new() } else { format!(" + {offset}") };
                return format!("{name}.{variable}{keys}{part}");
            }
        }
        format!("{name} slot {slot:#x}")
    }
}

/// A key as people write it: a number, an address, or all of it.
fn short_key(key: &B256) -> String {
    match key.iter().position(|byte| *byte != 0) {
        None => "0".to_owned(),
        Some(24..) => U256::from_be_bytes(key.0).to_string(),
        Some(12..24) => Address::from_word(*key).to_string(),
        Some(_) => key.to_string(),
    }
}

/// A call of CONUN's by function and arguments.
fn called(contract: &str, input: &[u8]) -> Option<String> {
    fn decoded<C: SolInterface + fmt::Debug>(input: &[u8]) -> Option<String> {
        C::abi_decode(input).ok().map(|call| format!("{call:?}"))
    }
    let call = match contract {
        "ConunToken" => decoded::<abi::ConunToken::ConunTokenCalls>(input),
        "Deployment" => decoded::<abi::Deployment::DeploymentCalls>(input),
        "Disputes" => decoded::<abi::Disputes::DisputesCalls>(input),
        "Escrow" => decoded::<abi::Escrow::EscrowCalls>(input),
        "JobRegistry" => decoded::<abi::JobRegistry::JobRegistryCalls>(input),
        "JobRules" => decoded::<abi::JobRules::JobRulesCalls>(input),
        "ProviderRegistry" => decoded::<abi::ProviderRegistry::ProviderRegistryCalls>(input),
        "ReplicaRegistry" => decoded::<abi::ReplicaRegistry::ReplicaRegistryCalls>(input),
        "Reputation" => decoded::<abi::Reputation::ReputationCalls>(input),
        _ => None,
    }?;
    Some(inner(&call).to_owned())
}

/// An event of CONUN's by name and fields.
fn emitted(contract: &str, log: &Log) -> Option<String> {
    fn decoded<E: SolEventInterface + fmt::Debug>(log: &Log) -> Option<String> {
        E::decode_log(log).ok().map(|event| format!("{:?}", event.data))
    }
    let event = match contract {
        "ConunToken" => decoded::<abi::ConunToken::ConunTokenEvents>(log),
        "Deployment" => decoded::<abi::Deployment::DeploymentEvents>(log),
        "Disputes" => decoded::<abi::Disputes::DisputesEvents>(log),
        "Escrow" => decoded::<abi::Escrow::EscrowEvents>(log),
        "JobRegistry" => decoded::<abi::JobRegistry::JobRegistryEvents>(log),
        "ProviderRegistry" => decoded::<abi::ProviderRegistry::ProviderRegistryEvents>(log),
        "ReplicaRegistry" => decoded::<abi::ReplicaRegistry::ReplicaRegistryEvents>(log),
        _ => None,
    }?;
    Some(inner(&event).to_owned())
}

/// `lease(leaseCall { .. })` without the variant around it: `leaseCall { .. }`.
fn inner(debug: &str) -> &str {
    debug.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')')).unwrap_or(debug)
}

/// What a slot held before the transaction, and what it holds now, if the transaction has looked at it.
fn value<CTX>(context: &CTX, contract: Address, slot: U256) -> Option<(U256, U256)>
where
    CTX: ContextTr<Journal: JournalTr<State = EvmState>>,
{
    let slot = context.journal().evm_state().get(&contract)?.storage.get(&slot)?;
    Some((slot.original_value(), slot.present_value()))
}

impl<CTX: ContextTr<Journal: JournalTr<State = EvmState>>> Inspector<CTX> for Watch {
    fn step(&mut self, interpreter: &mut Interpreter, context: &mut CTX) {
        let stack = interpreter.stack.data();
        match interpreter.bytecode.opcode() {
            // How the slot of a mapping's value is made: the key, then the mapping's slot.
            opcode::KECCAK256 => {
                let [.., length, offset] = stack[..] else { return };
                if length != U256::from(64) {
                    return;
                }
                let Ok(offset) = usize::try_from(offset) else { return };
                if interpreter.memory.size() < offset.saturating_add(64) {
                    return;
                }
                let bytes = interpreter.memory.slice(offset..offset + 64).to_vec();
                let (key, mapping) = (B256::from_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
                self.hashed.insert(keccak256(&bytes).into(), (key, mapping));
            }
            opcode::SSTORE => {
                let [.., to, slot] = stack[..] else { return };
                let contract = interpreter.input.target_address();
                // Reading a slot that was not read yet here would make the transaction cheaper.
                let from = value(context, contract, slot).map(|(_, present)| present);
                self.written = Some((contract, slot, from, to));
            }
            _ => {}
        }
    }

    fn step_end(&mut self, _: &mut Interpreter, context: &mut CTX) {
        let Some((contract, slot, from, to)) = self.written.take() else { return };
        // One that was read by this step alone was what it was before the transaction.
        let Some(from) = from.or_else(|| value(context, contract, slot).map(|(original, _)| original)) else { return };
        if from != to {
            let slot = self.variable(contract, slot);
            self.step(Step::Write { slot, from, to });
        }
    }

    fn log(&mut self, _: &mut CTX, log: Log) {
        let contract = self.name(log.address);
        let event = emitted(&contract, &log).map(|event| format!("{contract}.{event}"));
        let raw = || format!("{contract} {:?} {}", log.topics(), hex::encode_prefixed(&log.data.data));
        self.step(Step::Event(event.unwrap_or_else(raw)));
    }

    fn call(&mut self, context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let contract = self.name(inputs.bytecode_address);
        let data: Bytes = inputs.input.bytes(context);
        let raw = || format!("{contract} {}", hex::encode_prefixed(&data));
        let what = called(&contract, &data).map_or_else(raw, |call| format!("{contract}.{call}"));
        let value = inputs.value.transfer().unwrap_or_default();
        self.begin(inputs.caller, inputs.bytecode_address, value, what);
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        let result = &outcome.result;
        let failed = (!result.is_ok()).then(|| reason(&result.output, format!("{:?}", result.result)));
        self.close(result.gas.total_gas_spent(), failed);
    }

    fn create(&mut self, _: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.begin(
            inputs.caller(),
            Address::ZERO,
            inputs.value(),
            format!("a new contract, {} bytes", inputs.init_code().len()),
        );
        None
    }

    fn create_end(&mut self, _: &mut CTX, _: &CreateInputs, outcome: &mut CreateOutcome) {
        if let (Some(call), Some(address)) = (self.open.last_mut(), outcome.address) {
            call.to = address;
        }
        let result = &outcome.result;
        let failed = (!result.is_ok()).then(|| reason(&result.output, format!("{:?}", result.result)));
        self.close(result.gas.total_gas_spent(), failed);
    }
}

/// Why a call failed, in the contract's words.
fn reason(output: &Bytes, otherwise: String) -> String {
    if output.is_empty() { otherwise } else { revert::describe(output) }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.success { "succeeded" } else { "failed" };
        writeln!(f, "transaction {} in block {}: {outcome}, {} gas", self.transaction, self.block, self.gas)?;
        self.call.show(f, 0)
    }
}

impl Call {
    fn show(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        writeln!(f, "{indent}{} [{} gas]", self.what, self.gas)?;
        for step in &self.steps {
            match step {
                Step::Call(call) => call.show(f, depth + 1)?,
                Step::Event(event) => writeln!(f, "{indent}  event {event}")?,
                Step::Write { slot, from, to } => writeln!(f, "{indent}  {slot}: {from:#x} -> {to:#x}")?,
            }
        }
        match &self.failed {
            Some(reason) => writeln!(f, "{indent}  failed: {reason}"),
            None => Ok(()),
        }
    }
}
