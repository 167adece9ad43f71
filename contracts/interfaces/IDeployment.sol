// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice The constants of a deployment.
struct Settings {
    /// Receives the whole token supply.
    address tokenHolder;
    /// Token supply, token wei, below 2^88.
    uint256 tokenSupply;
    /// Least stake of a registration, token wei.
    uint96 minStake;
    /// Seconds between a provider's exit request and its exit; longer than maxCommitmentSeconds.
    uint40 exitDelaySeconds;
    /// Most that a job's lease and window may last together, seconds.
    uint40 maxCommitmentSeconds;
    /// Blocks before the next lease of an expired batch may submit; until then its former holder still may.
    uint40 successorDelayBlocks;
    /// Share of a batch's worst-case price that the first expiry burns, in 1/10,000; it doubles with each expiry.
    uint16 expiryBondBps;
    /// Audit share that a lease's stake assumes at least, in 1/10,000: the lock is worst-case price x (1 - a) / a.
    uint16 auditFloorBps;
    /// Assumed share of bad providers, in 1/10,000, below a half: what a vote's odds start from ({Odds}).
    uint16 faultyBps;
    /// Share of what a vote's winners are paid that the requester pays on top, burned, in 1/10,000.
    uint16 feeBps;
    /// Least fee, token wei, that makes an agreeing vote a passed check.
    uint96 checkFee;
    /// Decides challenges ({IArbiter}); zero for none.
    address arbiter;
    /// Seconds after a result's window that the arbiter has to rule.
    uint40 rulingSeconds;
    /// Bond of a challenge, token wei.
    uint96 challengeBond;
    /// Seconds that a provider has to answer a demand.
    uint40 demandSeconds;
    /// Bond of a demand, token wei: pays for the answer's gas.
    uint96 demandBond;
}

/// @notice The parts of a deployment.
enum Part {
    Token,
    Escrow,
    ProviderRegistry,
    JobRegistry,
    Reputation,
    ReplicaRegistry,
    Disputes,
    JobRules
}

/// @title One set of contracts that know each other
/// @notice Knows the init code hash of each part and so its CREATE2 address before it exists; parts read their settings and
/// each other's addresses from here while they are constructed. Anyone may deploy a part, only the one right code fits.
interface IDeployment {
    /// A part is there now.
    event PartDeployed(Part indexed part, address at);

    /// The init code given for a part is not the one that this deployment was made for; keccak256 of both.
    error WrongInitCode(Part part, bytes32 have, bytes32 need);
    /// A setting is out of its range; `reason` says which, and what the range is.
    error InvalidSettings(string reason);

    /// @notice Deploys `part` from its init code (which takes no constructor arguments).
    function deploy(Part part, bytes calldata initCode) external returns (address at);
    /// @notice Where a part is, or will be once it is deployed.
    function addressOf(Part part) external view returns (address);
    /// @notice The constants of this deployment.
    function settings() external view returns (Settings memory);
}
