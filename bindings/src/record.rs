//! `deployments/<chain id>.json`: what was deployed where, in which transaction, from which code.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use alloy::primitives::{Address, B256, TxHash};
use serde::{Deserialize, Serialize};

use crate::abi::Deployment::Settings;

/// Addresses of one deployment: what every client needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contracts {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Block from which an index has to read; nothing happened before.
    pub block: u64,
    /// `Deployment`, which knows the others and the settings.
    pub deployment: Address,
    /// `ConunToken`.
    pub token: Address,
    /// `Escrow`.
    pub escrow: Address,
    /// `ProviderRegistry`.
    pub providers: Address,
    /// `JobRegistry`.
    pub jobs: Address,
    /// `Reputation`.
    pub reputation: Address,
    /// `ReplicaRegistry`.
    pub replicas: Address,
    /// `Disputes`.
    pub disputes: Address,
    /// `JobRules`.
    pub rules: Address,
}

/// One contract of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeployedPart {
    /// Its CREATE2 address.
    pub address: Address,
    /// Transaction that created it; `null` if it was there before and no log tells.
    pub transaction: Option<TxHash>,
    /// Block of that transaction; `null` while it is not mined.
    pub block: Option<u64>,
    /// CREATE2 salt.
    pub salt: B256,
    /// keccak256 of the init code with its constructor arguments.
    pub init_code_hash: B256,
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The account that sent the transactions.
    pub deployer: Address,
    /// Constants of the deployment.
    pub settings: Settings,
    /// Solidity compiler: version and settings.
    pub compiler: serde_json::Value,
    /// Contracts by name.
    pub contracts: BTreeMap<String, DeployedPart>,
}

/// Why a record cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There is no such file.
    #[error("no deployment is recorded at {0}: give the right file with --deployment, or deploy with `conun deploy`")]
    Missing(PathBuf),
    /// The file cannot be read or written.
    #[error("cannot access the deployment record {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a deployment record.
    #[error("{path} is not a deployment record: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it stopped being one.
        source: serde_json::Error,
    },
    /// A contract is missing from the record.
    #[error("the deployment recorded at {path} lacks {part}: finish it with `conun deploy --broadcast`")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// Name of the contract.
        part: &'static str,
    },
}

impl Record {
    /// Reads `path`.
    ///
    /// # Errors
    /// If the file is missing, unreadable or something else.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RecordError::Missing(path.to_owned()),
            _ => RecordError::Io { path: path.to_owned(), source },
        })?;
        serde_json::from_slice(&bytes).map_err(|source| RecordError::Malformed { path: path.to_owned(), source })
    }

    /// Writes `path` whole or not at all, and makes its folder.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let io_error = |source| RecordError::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(io_error)?;
        let part = path.with_extension("json.part");
        let text = serde_json::to_string_pretty(self).expect("a record has string keys only");
        std::fs::write(&part, text + "\n").and_then(|()| std::fs::rename(&part, path)).map_err(io_error)
    }

    /// The addresses, if every contract is deployed.
    ///
    /// # Errors
    /// If a contract is missing or not yet mined; `path` is for the message.
    pub fn contracts(&self, path: &Path) -> Result<Contracts, RecordError> {
        let part = |part: &'static str| {
            let found = self.contracts.get(part).filter(|found| found.transaction.is_none() || found.block.is_some());
            found.ok_or_else(|| RecordError::Incomplete { path: path.to_owned(), part })
        };
        Ok(Contracts {
            chain_id: self.chain_id,
            block: part("Deployment")?.block.unwrap_or(0),
            deployment: part("Deployment")?.address,
            token: part("ConunToken")?.address,
            escrow: part("Escrow")?.address,
            providers: part("ProviderRegistry")?.address,
            jobs: part("JobRegistry")?.address,
            reputation: part("Reputation")?.address,
            replicas: part("ReplicaRegistry")?.address,
            disputes: part("Disputes")?.address,
            rules: part("JobRules")?.address,
        })
    }
}

impl Contracts {
    /// Reads the addresses from a deployment record.
    ///
    /// # Errors
    /// As [`Record::read`] and [`Record::contracts`].
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        Record::read(path)?.contracts(path)
    }
}
