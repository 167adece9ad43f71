//! What an account can pay with: ether for gas, tokens in the Escrow and outside, and permits for the latter.

use alloy::{
    primitives::{Address, U256, utils::parse_units},
    providers::{DynProvider, Provider},
    signers::{SignerSync, local::PrivateKeySigner},
    sol,
    sol_types::{SolStruct, eip712_domain},
};
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Escrow},
};

sol! {
    /// EIP-2612's signed message.
    struct Permit {
        address owner;
        address spender;
        uint256 value;
        uint256 nonce;
        uint256 deadline;
    }
}

/// Tokens (or ether) as people write them, `12.5`, in wei. None for anything else, also for more than 18 decimals: nothing
/// is rounded.
pub fn parse_tokens(text: &str) -> Option<U256> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 18 {
        return None;
    }
    parse_units(text, 18).ok().map(Into::into)
}

/// An account's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Funds {
    /// Wei of ether.
    pub(crate) ether: U256,
    /// Token wei in the account.
    pub(crate) tokens: U256,
    /// Token wei free in the Escrow.
    pub(crate) available: U256,
}

impl Funds {
    pub(crate) async fn read(
        provider: &DynProvider,
        contracts: &Contracts,
        account: Address,
    ) -> Result<Self, alloy::contract::Error> {
        let held = Escrow::new(contracts.escrow, provider).balanceOf(account).call().await?;
        Ok(Self {
            ether: provider.get_balance(account).await.map_err(alloy::contract::Error::TransportError)?,
            tokens: ConunToken::new(contracts.token, provider).balanceOf(account).call().await?,
            available: U256::from(held.available),
        })
    }

    /// Everything that a lock in the Escrow could draw on.
    pub(crate) fn total(&self) -> U256 {
        self.tokens.saturating_add(self.available)
    }
}

/// A signature (v, r, s) by which the Escrow may take `value` token wei of `signer`'s until the block time `deadline`.
pub(crate) async fn permit(
    provider: &DynProvider,
    contracts: &Contracts,
    signer: &PrivateKeySigner,
    value: U256,
    deadline: U256,
) -> Result<(u8, alloy::primitives::B256, alloy::primitives::B256), alloy::contract::Error> {
    let token = ConunToken::new(contracts.token, provider);
    let domain = token.eip712Domain().call().await?;
    let nonce = token.nonces(signer.address()).call().await?;
    let domain = eip712_domain! {
        name: domain.name,
        version: domain.version,
        chain_id: contracts.chain_id,
        verifying_contract: contracts.token,
    };
    let message = Permit { owner: signer.address(), spender: contracts.escrow, value, nonce, deadline };
    let signature =
        signer.sign_hash_sync(&message.eip712_signing_hash(&domain)).expect("a key in memory signs any hash");
    Ok((27 + u8::from(signature.v()), signature.r().into(), signature.s().into()))
}
