//! What a deployment's settings mean for those who work under them.

use alloy::primitives::{Address, U256};

use crate::abi::Deployment::Settings;

/// The settings that decide about stake, votes and records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Least stake, token wei.
    pub min_stake: U256,
    /// Audit share that a lease's stake assumes at least, in 1/10,000.
    pub audit_floor_bps: u16,
    /// Assumed share of bad providers, in 1/10,000.
    pub faulty_bps: u16,
    /// Share of what agreeing votes are paid that is burned on top, in 1/10,000.
    pub fee_bps: u16,
    /// Least fee, token wei, that makes an agreeing vote a passed check.
    pub check_fee: U256,
    /// Who decides challenges; zero for nobody.
    pub arbiter: Address,
}

impl From<&Settings> for Rules {
    fn from(settings: &Settings) -> Self {
        Self {
            min_stake: U256::from(settings.minStake),
            audit_floor_bps: settings.auditFloorBps,
            faulty_bps: settings.faultyBps,
            fee_bps: settings.feeBps,
            check_fee: U256::from(settings.checkFee),
            arbiter: settings.arbiter,
        }
    }
}
