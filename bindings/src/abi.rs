//! The contracts' interfaces as alloy types, made from the checked-in artifacts, and what foreign contracts are asked.
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

sol! {
    /// A list of members, as any token (EIP-20) or collection of membership cards (EIP-721) is: who has some is a member.
    #[sol(rpc)]
    interface MemberList {
        function balanceOf(address account) external view returns (uint256 balance);
    }
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
