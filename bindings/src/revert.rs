//! What a contract's refusal means, in words.

use alloy::{primitives::Bytes, sol_types::SolInterface};

use crate::abi;

/// A decoded custom error of one of the contracts.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "short-lived")]
pub enum Revert {
    /// Of `JobRegistry`.
    Jobs(abi::JobRegistry::JobRegistryErrors),
    /// Of `JobRules`.
    Rules(abi::JobRules::JobRulesErrors),
    /// Of `ReplicaRegistry`.
    Replicas(abi::ReplicaRegistry::ReplicaRegistryErrors),
    /// Of `Disputes`.
    Disputes(abi::Disputes::DisputesErrors),
    /// Of `ProviderRegistry`.
    Providers(abi::ProviderRegistry::ProviderRegistryErrors),
    /// Of `Escrow`.
    Escrow(abi::Escrow::EscrowErrors),
    /// Of `ConunToken`.
    Token(abi::ConunToken::ConunTokenErrors),
    /// Of `Deployment`.
    Deployment(abi::Deployment::DeploymentErrors),
}

impl Revert {
    /// Decodes revert data; `None` if it is no custom error of these contracts.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let jobs = abi::JobRegistry::JobRegistryErrors::abi_decode(data).map(Self::Jobs);
        jobs.or_else(|_| abi::ProviderRegistry::ProviderRegistryErrors::abi_decode(data).map(Self::Providers))
            .or_else(|_| abi::JobRules::JobRulesErrors::abi_decode(data).map(Self::Rules))
            .or_else(|_| abi::ReplicaRegistry::ReplicaRegistryErrors::abi_decode(data).map(Self::Replicas))
            .or_else(|_| abi::Disputes::DisputesErrors::abi_decode(data).map(Self::Disputes))
            .or_else(|_| abi::Escrow::EscrowErrors::abi_decode(data).map(Self::Escrow))
            .or_else(|_| abi::ConunToken::ConunTokenErrors::abi_decode(data).map(Self::Token))
            .or_else(|_| abi::Deployment::DeploymentErrors::abi_decode(data).map(Self::Deployment))
            .ok()
    }

    /// Name and values, as in Solidity: `FreeStakeTooSmall { free: 0, need: 5 }`.
    pub fn describe(&self) -> String {
        let debug = match self {
            Self::Jobs(error) => format!("{error:?}"),
            Self::Rules(error) => format!("{error:?}"),
            Self::Replicas(error) => format!("{error:?}"),
            Self::Disputes(error) => format!("{error:?}"),
            Self::Providers(error) => format!("{error:?}"),
            Self::Escrow(error) => format!("{error:?}"),
            Self::Token(error) => format!("{error:?}"),
            Self::Deployment(error) => format!("{error:?}"),
        };
        // `Variant(Variant { .. })`: the inner part says it all.
        match debug.split_once('(') {
            Some((_, inner)) => inner.strip_suffix(')').unwrap_or(inner).to_owned(),
            None => debug,
        }
    }
}

/// The text of a revert: a custom error of ours, a `require` string, a panic, or the raw bytes.
pub fn describe(data: &Bytes) -> String {
    if let Some(revert) = Revert::decode(data) {
        return revert.describe();
    }
    match alloy::sol_types::decode_revert_reason(data) {
        Some(reason) => reason,
        None if data.is_empty() => "no reason given".to_owned(),
        None => format!("unknown error {data}"),
    }
}
