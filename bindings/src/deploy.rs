//! Puts the contracts on a chain: CREATE2 addresses known before, nothing deployed twice, resumable.
//!
//! Arachnid's factory (the same address on most chains) creates `Deployment` from its init code and settings;
//! `Deployment` creates the parts, whose init code takes no arguments, so that each part's address follows from the
//! settings alone and the parts know each other without an owner or a set-up call.

use std::{collections::BTreeMap, path::Path};

use alloy::{
    consensus::constants::KECCAK_EMPTY,
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, TxHash, U256, address, aliases::U96, keccak256},
    providers::{DynProvider, Provider},
    rpc::types::{Filter, TransactionRequest},
    sol_types::{SolCall, SolEvent, SolValue},
    transports::{RpcError, TransportErrorKind},
};
use serde::Serialize;

use crate::{
    Contracts, DeployedPart, Record, RecordError,
    abi::{self, Deployment, Deployment::Settings},
};

/// Arachnid's deterministic deployment proxy: calldata is salt ‖ init code.
/// <https://github.com/Arachnid/deterministic-deployment-proxy>
pub const CREATE2_FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");

/// One token: 10^18 wei of it.
pub const TOKEN: u128 = 1_000_000_000_000_000_000;

/// Init code that is deployed instead of what is built in, by contract name: a change of a contract, tried before it is adopted. Its ABI
/// must be the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherCode(BTreeMap<&'static str, Bytes>);

impl OtherCode {
    /// Reads `NAME.json` of each contract from a folder, as forge writes them; what is not there stays as it is built in.
    ///
    /// # Errors
    /// A sentence for the user: if there is none at all, or one that is no artifact.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut code = BTreeMap::new();
        for name in parts().map(|(name, _)| name).into_iter().chain(["Deployment"]) {
            let path = folder.join(name).with_extension("json");
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
            };
            let artifact: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| format!("{} is no JSON: {error}", path.display()))?;
            let object = artifact["bytecode"]["object"].as_str().and_then(|object| object.parse::<Bytes>().ok());
            let object = object.filter(|object| !object.is_empty());
            code.insert(name, object.ok_or_else(|| format!("{} has no bytecode.object in hex", path.display()))?);
        }
        if code.is_empty() {
            return Err(format!("{} holds no contract's artifact, such as Escrow.json", folder.display()));
        }
        Ok(Self(code))
    }

    fn of<'a>(&'a self, name: &str, built_in: &'a Bytes) -> &'a Bytes {
        self.0.get(name).unwrap_or(built_in)
    }
}

/// The parts in the order of the contract's enum `Part`, with their init code.
fn parts() -> [(&'static str, &'static Bytes); 8] {
    [
        ("ConunToken", &abi::ConunToken::BYTECODE),
        ("Escrow", &abi::Escrow::BYTECODE),
        ("ProviderRegistry", &abi::ProviderRegistry::BYTECODE),
        ("JobRegistry", &abi::JobRegistry::BYTECODE),
        ("Reputation", &abi::Reputation::BYTECODE),
        ("ReplicaRegistry", &abi::ReplicaRegistry::BYTECODE),
        ("Disputes", &abi::Disputes::BYTECODE),
        ("JobRules", &abi::JobRules::BYTECODE),
    ]
}

/// Settings for a real network. Supply: 10^8 tokens to `token_holder`. No arbiter: challenges come with a court.
pub fn standard_settings(token_holder: Address) -> Settings {
    Settings {
        tokenHolder: token_holder,
        tokenSupply: U256::from(100_000_000u128 * TOKEN),
        minStake: U96::from(100 * TOKEN),
        exitDelaySeconds: u40(15 * 86_400),
        maxCommitmentSeconds: u40(14 * 86_400),
        successorDelayBlocks: u40(25),
        expiryBondBps: 1_000,
        auditFloorBps: 5_000,
        faultyBps: 2_000,
        feeBps: 100,
        // A hundredth of a token: what 1 token of work burns, and what makes one vote a passed check.
        checkFee: U96::from(TOKEN / 100),
        arbiter: Address::ZERO,
        rulingSeconds: u40(7 * 86_400),
        challengeBond: U96::from(50 * TOKEN),
        demandSeconds: u40(86_400),
        demandBond: U96::from(5 * TOKEN),
    }
}

/// Settings for a devnet: as [`standard_settings`], with delays that a person can wait for.
pub fn devnet_settings(token_holder: Address) -> Settings {
    Settings {
        exitDelaySeconds: u40(7_200),
        maxCommitmentSeconds: u40(3_600),
        successorDelayBlocks: u40(3),
        rulingSeconds: u40(1_800),
        demandSeconds: u40(600),
        ..standard_settings(token_holder)
    }
}

fn u40(value: u64) -> alloy::primitives::Uint<40, 1> {
    alloy::primitives::Uint::from(value)
}

/// One contract to deploy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Contract name.
    pub name: &'static str,
    /// Where it will be.
    pub address: Address,
    /// CREATE2 salt.
    pub salt: B256,
    /// keccak256 of the init code with constructor arguments.
    pub init_code_hash: B256,
    /// What is called to create it.
    pub to: Address,
    /// With which calldata.
    #[serde(skip)]
    pub calldata: Bytes,
}

/// What a deployment will be, worked out without a chain.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Constants of the deployment.
    pub settings: Settings,
    /// In the order of sending.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The plan for `settings` and a `salt` of choice (equal settings and salt give equal addresses on every chain).
    pub fn new(settings: Settings, salt: B256) -> Self {
        Self::with_code(settings, salt, &OtherCode::default())
    }

    /// The same, with `other` code where there is some.
    pub fn with_code(settings: Settings, salt: B256, other: &OtherCode) -> Self {
        let parts = parts().map(|(name, code)| (name, other.of(name, code)));
        let hashes = parts.map(|(_, code)| keccak256(code));
        let init_code =
            [&other.of("Deployment", &Deployment::BYTECODE)[..], &(settings.clone(), hashes).abi_encode_params()]
                .concat();
        let deployment = CREATE2_FACTORY.create2_from_code(salt, &init_code);
        let mut steps = vec![Step {
            name: "Deployment",
            address: deployment,
            salt,
            init_code_hash: keccak256(&init_code),
            to: CREATE2_FACTORY,
            calldata: [salt.as_slice(), &init_code].concat().into(),
        }];
        steps.extend(parts.into_iter().zip(hashes).zip(0u8..).map(|(((name, code), hash), part)| Step {
            name,
            address: deployment.create2(B256::ZERO, hash),
            salt: B256::ZERO,
            init_code_hash: hash,
            to: deployment,
            calldata: Deployment::deployCall { part, initCode: code.clone() }.abi_encode().into(),
        }));
        Self { settings, steps }
    }

    fn address(&self, name: &str) -> Address {
        self.steps.iter().find(|step| step.name == name).map(|step| step.address).expect("every part has a step")
    }

    /// The addresses, with `block` as the first block of an index.
    pub fn contracts(&self, chain_id: u64, block: u64) -> Contracts {
        Contracts {
            chain_id,
            block,
            deployment: self.address("Deployment"),
            token: self.address("ConunToken"),
            escrow: self.address("Escrow"),
            providers: self.address("ProviderRegistry"),
            jobs: self.address("JobRegistry"),
            reputation: self.address("Reputation"),
            replicas: self.address("ReplicaRegistry"),
            disputes: self.address("Disputes"),
            rules: self.address("JobRules"),
        }
    }
}

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Progress {
    /// The contract was already there.
    Present {
        /// Contract name.
        name: &'static str,
        /// Its address.
        address: Address,
    },
    /// It is not there; `gas` is what creating it would take, where that can be estimated (the parts only once
    /// `Deployment` is there).
    Missing {
        /// Contract name.
        name: &'static str,
        /// Its address.
        address: Address,
        /// Estimated gas.
        gas: Option<u64>,
    },
    /// It was created.
    Created {
        /// Contract name.
        name: &'static str,
        /// Its address.
        address: Address,
        /// The transaction.
        transaction: TxHash,
        /// Gas it used.
        gas: u64,
    },
}

/// Why a deployment stopped. What is deployed stays; running it again goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The RPC endpoint failed.
    #[error("the RPC endpoint failed: {0}")]
    Rpc(#[from] RpcError<TransportErrorKind>),
    /// The chain has no CREATE2 factory.
    #[error(
        "chain {0} has no CREATE2 factory at {CREATE2_FACTORY}: send 0.01 ether to 0x3fab184622dc19b6109349b94811493bf45362 and \
         publish its pre-signed transaction (https://github.com/Arachnid/deterministic-deployment-proxy), then run again"
    )]
    NoFactory(u64),
    /// The arbiter is no contract.
    #[error(
        "the arbiter {arbiter} has no code on chain {chain_id}: it is called as a contract, so that every challenge would fail; \
         deploy it first, or do without one; nothing was sent"
    )]
    ArbiterWithoutCode {
        /// Its address.
        arbiter: Address,
        /// The chain.
        chain_id: u64,
    },
    /// A transaction reverted.
    #[error("creating {name} in transaction {transaction} failed: {reason}")]
    Reverted {
        /// Contract name.
        name: &'static str,
        /// The transaction.
        transaction: TxHash,
        /// Decoded, where the chain tells.
        reason: String,
    },
    /// Something else is at the address.
    #[error("{address} holds other code than {name}: choose another --salt")]
    WrongCode {
        /// Contract name.
        name: &'static str,
        /// Its address.
        address: Address,
    },
    /// The record belongs to another chain or other settings.
    #[error(
        "{path} records another deployment (chain, settings, salt or contract version differ): move it away or give another --deployment"
    )]
    OtherRecord {
        /// The file.
        path: String,
    },
    /// The record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What is there and what is missing; sends nothing.
///
/// # Errors
/// If the RPC endpoint fails, the chain lacks the factory, other code is at an address, or none at the arbiter's.
pub async fn inspect(provider: &DynProvider, from: Address, plan: &Plan) -> Result<Vec<Progress>, Error> {
    require_factory(provider).await?;
    require_arbiter(provider, plan).await?;
    let mut states = Vec::new();
    for step in &plan.steps {
        let (name, address) = (step.name, step.address);
        states.push(if is_there(provider, step).await? {
            Progress::Present { name, address }
        } else {
            let request =
                TransactionRequest::default().with_from(from).with_to(step.to).with_input(step.calldata.clone());
            // The parts cannot be estimated before `Deployment` is there: a call to no code succeeds and says nothing.
            let estimable = step.to == CREATE2_FACTORY || matches!(states.first(), Some(Progress::Present { .. }));
            let gas = if estimable { Some(provider.estimate_gas(request).await?) } else { None };
            Progress::Missing { name, address, gas }
        });
    }
    Ok(states)
}

/// Deploys what is missing of `plan` from the account `from` (whose wallet `provider` holds), writing the record at `path`,
/// if given, after every step.
///
/// # Errors
/// See [`Error`]; deploying again resumes.
pub async fn deploy(
    provider: &DynProvider,
    from: Address,
    plan: &Plan,
    path: Option<&Path>,
    mut progress: impl FnMut(&Progress),
) -> Result<Contracts, Error> {
    require_factory(provider).await?;
    require_arbiter(provider, plan).await?;
    let chain_id = provider.get_chain_id().await?;
    let mut record = open_record(chain_id, from, plan, path)?;
    for step in &plan.steps {
        let (name, address) = (step.name, step.address);
        let mut sent = record.contracts.get(name).and_then(|part| part.transaction);
        if let Some(transaction) = sent
            && provider.get_transaction_by_hash(transaction).await?.is_none()
        {
            sent = None; // dropped from the pool, or the chain was reset
        }
        let there = is_there(provider, step).await?;
        if !there && sent.is_none() {
            let request =
                TransactionRequest::default().with_from(from).with_to(step.to).with_input(step.calldata.clone());
            let transaction = *provider.send_transaction(request).await?.tx_hash();
            sent = Some(transaction);
            note(&mut record, step, sent, None, path)?;
        }
        let mut block = None;
        match sent {
            Some(transaction) => {
                let receipt = mined(provider, transaction).await?;
                if !receipt.status() || !is_there(provider, step).await? {
                    return Err(Error::Reverted { name, transaction, reason: "the chain gave no reason".to_owned() });
                }
                block = receipt.block_number;
                if there {
                    progress(&Progress::Present { name, address });
                } else {
                    progress(&Progress::Created { name, address, transaction, gas: receipt.gas_used });
                }
            }
            None => progress(&Progress::Present { name, address }),
        }
        if sent.is_none()
            && let Some((transaction, at)) = find_creation(provider, plan, step).await
        {
            (sent, block) = (Some(transaction), Some(at));
        }
        note(&mut record, step, sent, block, path)?;
    }
    let first = record.contracts.values().filter_map(|part| part.block).min().unwrap_or(0);
    Ok(plan.contracts(chain_id, first))
}

async fn require_factory(provider: &DynProvider) -> Result<(), Error> {
    if provider.get_code_at(CREATE2_FACTORY).await?.is_empty() {
        return Err(Error::NoFactory(provider.get_chain_id().await?));
    }
    Ok(())
}

async fn require_arbiter(provider: &DynProvider, plan: &Plan) -> Result<(), Error> {
    let arbiter = plan.settings.arbiter;
    if arbiter.is_zero() || !provider.get_code_at(arbiter).await?.is_empty() {
        return Ok(());
    }
    Err(Error::ArbiterWithoutCode { arbiter, chain_id: provider.get_chain_id().await? })
}

/// Whether the step's own code is at its address. CREATE2 binds address to init code, so any code there is the right one,
/// unless the chain was tampered with; the length is compared all the same.
async fn is_there(provider: &DynProvider, step: &Step) -> Result<bool, Error> {
    let code = provider.get_code_at(step.address).await?;
    if code.is_empty() || keccak256(&code) == KECCAK_EMPTY {
        return Ok(false);
    }
    let expected = match step.name {
        "Deployment" => &Deployment::DEPLOYED_BYTECODE,
        "ConunToken" => &abi::ConunToken::DEPLOYED_BYTECODE,
        "Escrow" => &abi::Escrow::DEPLOYED_BYTECODE,
        "ProviderRegistry" => &abi::ProviderRegistry::DEPLOYED_BYTECODE,
        "JobRegistry" => &abi::JobRegistry::DEPLOYED_BYTECODE,
        "ReplicaRegistry" => &abi::ReplicaRegistry::DEPLOYED_BYTECODE,
        "Disputes" => &abi::Disputes::DEPLOYED_BYTECODE,
        "JobRules" => &abi::JobRules::DEPLOYED_BYTECODE,
        _ => &abi::Reputation::DEPLOYED_BYTECODE,
    };
    // Immutables are zero in the artifact: every other byte has to agree.
    let same =
        code.len() == expected.len() && code.iter().zip(expected.iter()).all(|(have, want)| have == want || *want == 0);
    if same { Ok(true) } else { Err(Error::WrongCode { name: step.name, address: step.address }) }
}

async fn mined(provider: &DynProvider, transaction: TxHash) -> Result<alloy::rpc::types::TransactionReceipt, Error> {
    loop {
        if let Some(receipt) = provider.get_transaction_receipt(transaction).await? {
            return Ok(receipt);
        }
        tokio::time::sleep(provider.client().poll_interval()).await;
    }
}

/// Transaction and block that created a part, from `Deployment`'s log, where the endpoint serves it.
async fn find_creation(provider: &DynProvider, plan: &Plan, step: &Step) -> Option<(TxHash, u64)> {
    let event = Deployment::PartDeployed::SIGNATURE_HASH;
    let filter = Filter::new().address(plan.address("Deployment")).event_signature(event).from_block(0);
    let logs = provider.get_logs(&filter).await.ok()?;
    let log = logs
        .iter()
        .find(|log| Deployment::PartDeployed::decode_log(&log.inner).is_ok_and(|event| event.at == step.address))?;
    Some((log.transaction_hash?, log.block_number?))
}

fn open_record(chain_id: u64, deployer: Address, plan: &Plan, path: Option<&Path>) -> Result<Record, Error> {
    let compiler: serde_json::Value =
        serde_json::from_str(include_str!("../artifacts/compiler.json")).unwrap_or_default();
    let fresh = Record { chain_id, deployer, settings: plan.settings.clone(), compiler, contracts: BTreeMap::new() };
    let Some(path) = path else { return Ok(fresh) };
    let old = match Record::read(path) {
        Err(RecordError::Missing(_)) => return Ok(fresh),
        read => read?,
    };
    let same = |step: &Step| old.contracts.get(step.name).is_none_or(|part| part.address == step.address);
    if old.chain_id == chain_id && plan.steps.iter().all(same) {
        return Ok(Record { deployer: old.deployer, contracts: old.contracts, ..fresh });
    }
    Err(Error::OtherRecord { path: path.display().to_string() })
}

fn note(
    record: &mut Record,
    step: &Step,
    transaction: Option<TxHash>,
    block: Option<u64>,
    path: Option<&Path>,
) -> Result<(), Error> {
    let old = record.contracts.get(step.name);
    let part = DeployedPart {
        address: step.address,
        transaction: transaction.or(old.and_then(|part| part.transaction)),
        block: block.or(old.and_then(|part| part.block)),
        salt: step.salt,
        init_code_hash: step.init_code_hash,
    };
    record.contracts.insert(step.name.to_owned(), part);
    if let Some(path) = path {
        record.write(path)?;
    }
    Ok(())
}
