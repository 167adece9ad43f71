//! The contracts' interfaces as alloy types, made from the checked-in artifacts.
//!
//! Each contract is a module (`JobRegistry::Job`, `JobRegistry::JobPosted`, `JobRegistry::new(address, provider)` ...).

#![allow(missing_docs, reason = "generated; the contracts' NatSpec documents it")]
#![allow(clippy::all, reason = "generated")]

use alloy::sol;

macro_rules! contract {
    ($name:ident, $path:literal) => {
        sol!(
            #[sol(rpc, all_derives, extra_derives(serde::Serialize, serde::Deserialize))]
            $name,
            $path
        );
    };
}

contract!(ConunToken, "artifacts/ConunToken.json");
contract!(Deployment, "artifacts/Deployment.json");
contract!(Disputes, "artifacts/Disputes.json");
contract!(Escrow, "artifacts/Escrow.json");
contract!(JobRegistry, "artifacts/JobRegistry.json");
contract!(JobRules, "artifacts/JobRules.json");
contract!(ProviderRegistry, "artifacts/ProviderRegistry.json");
contract!(ReplicaRegistry, "artifacts/ReplicaRegistry.json");
contract!(Reputation, "artifacts/Reputation.json");
